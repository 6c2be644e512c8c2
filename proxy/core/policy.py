"""Compiled rules: what a configuration means, frozen. Made by :mod:`proxy.config`, never parsed here.

A request meets a provider (by prefix or host), then the provider's first operation that matches; what no operation
matches falls to the provider's ``unmatched`` rule, which is itself an :class:`Operation`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from proxy.core.expressions import Expression
from proxy.core.keys import KeyRule
from proxy.core.lookup import Lookup
from proxy.core.model import Headers, Mode
from proxy.core.ports import Route

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110 9.2.1. Passed as bypassed unless an operation names the method."""

UNMATCHED = "unmatched"
"""Name and id of the rule for requests that no operation matches."""

ANSWER_NAMES = frozenset(
    {
        "type", "title", "status", "detail", "instance", "provider", "operation", "key", "entry", "entry_status", "executed",
        "sent", "reason", "retryable",
    }
)  # fmt: skip
"""What ``{...}`` in a provider's ``answers`` may stand for: members of the problem document (contract section 6)."""

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def normal_path(path: str) -> str:
    """*path* as patterns are compared with it: escaped unreserved characters decoded, other escapes in upper case.

    RFC 3986 6.2.2. An escaped slash stays escaped, so that a segment never falls apart into two.
    """
    return _ESCAPE.sub(_normal_escape, path) if "%" in path else path


def _normal_escape(match: re.Match[str]) -> str:
    character = chr(int(match[0][1:], 16))
    return character if character in _UNRESERVED else match[0].upper()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value goes in a request.

    ``name`` is a header, a query parameter, a dotted body path, or with ``field`` a literal form or multipart field.
    """

    where: Literal["header", "body", "query", "field"]
    name: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """``METHOD PATH`` of an operation. ``{name}`` is one segment, ``**`` the rest."""

    method: str  # upper case, or "*"
    path: re.Pattern[str]
    text: str


@dataclass(frozen=True, slots=True)
class StatusMatch:
    """Which statuses a rule speaks of. Empty ``codes`` and ``classes`` mean any; ``none`` means that no answer came."""

    codes: frozenset[int] = frozenset()
    classes: frozenset[int] = frozenset()  # 4 for 4xx
    none: bool = False

    def matches(self, status: int | None) -> bool:
        """Whether *status* (None: no answer) is spoken of."""
        if status is None:
            return self.none
        if not self.codes and not self.classes:
            return not self.none
        return status in self.codes or status // 100 in self.classes


@dataclass(frozen=True, slots=True)
class Matcher:
    """Recognises an answer by status and, optionally, an expression over it."""

    status: StatusMatch
    when: Expression | None = None


@dataclass(frozen=True, slots=True)
class OutcomeRule:
    """An operation's own ``outcomes`` line; ``outcome`` is succeeded, rejected, not_executed or ambiguous."""

    match: Matcher
    outcome: Literal["succeeded", "rejected", "not_executed", "ambiguous"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """The provider's own idempotency key (contract section 7.3)."""

    place: Place | None  # None: natural or hook
    hook: str | None = None
    natural: bool = False
    format: Literal["raw", "uuid", "hex32"] = "uuid"
    max_length: int | None = None
    retention_us: int | None  # None: forever; counted from the first send
    locks: bool = False
    failures: Literal["stored", "rerun", "resumed"] = "rerun"
    in_progress: tuple[Matcher, ...] = ()
    mismatch: tuple[Matcher, ...] = ()
    behind_key: tuple[Matcher, ...] = ()
    ignored_when: Expression | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. ``total`` bounds an attempt from before its claim to the end of the answer's body."""

    connect_seconds: float = 5.0
    total_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Store:
    """What of a call is kept in the ledger."""

    request: Literal["until_final", "never"] = "until_final"
    answer: Literal["full", "status", "none"] = "full"
    redact: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """What a provider's SDK wants to see in the proxy's own answers. Strings may hold ``{detail}``-like members."""

    members: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """How one kind of request is deduplicated."""

    id: str
    name: str
    was: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    when: Expression | None = None
    mode: Mode = Mode.ENFORCE
    key: KeyRule
    scope: tuple[Expression, ...] = ()
    credential: Expression | None = None
    fingerprint_ignore: tuple[str, ...] = ()  # dotted paths: body.sent_at, params.x
    native: Native | None = None
    tag: Place | None = None
    outcomes: tuple[OutcomeRule, ...] = ()
    body_type: Literal["json", "form", "xml", "text", "any"] = "json"
    wait_seconds: float = 10.0
    timeout: Timeouts = Timeouts()
    quiet_seconds: float = (
        60.0  # settle.request_life, or the look-up's absent_after: after the deadline, nothing lives on
    )
    lookup: Lookup | None = None  # None too where settle.by leaves it out
    can_look_up: bool = False  # whether there is a `lookup`
    settle_by: tuple[str, ...] = ()
    resend_seconds: float = (
        900.0  # settle.resend_for: the proxy's own initiative to re-send ends this long after the claim
    )
    store: Store = Store()
    answers: Answers = Answers()
    path_in_identity: bool = False  # `unmatched: protect` puts method and path into the operation part of the identity
    key_passes: bool = False  # the caller's key header goes on to the provider unchanged
    later: Mapping[str, Any] = field(
        default_factory=dict
    )  # parsed and valid, its effect not built yet (suspect, facts, ...)

    def matches(self, method: str, path: str) -> bool:
        """Whether a request line is this operation's; ``when`` is asked separately, on the request document."""
        path = normal_path(path)
        return any(p.method in (method, "*") and p.path.fullmatch(path) is not None for p in self.patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An external API."""

    id: str
    name: str
    was: tuple[str, ...] = ()
    scheme: Literal["http", "https"]
    host: str  # of base_url, lower case, without port
    port: int
    base_path: str  # of base_url, without trailing slash: "" or "/v3"
    hosts: tuple[str, ...] = ()  # lower case; one leading "*." allowed
    route: Route
    connect_to: str | None = None
    mode: Mode = Mode.ENFORCE
    operations: tuple[Operation, ...] = ()
    unmatched: Operation | Literal["pass", "refuse"]
    auth_headers: Headers = field(default=(), repr=False)
    concurrency: int = 100
    timeout: Timeouts = Timeouts()
    answers: Answers = Answers()
    signed: Literal["sigv4"] | None = None  # requests whose host and path are signed: not for prefix mode
    later: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A service that sends. ``tokens`` are compared in constant time and never shown."""

    id: str
    name: str
    was: tuple[str, ...] = ()
    tokens: tuple[str, ...] = field(default=(), repr=False)
    networks: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    providers: tuple[str, ...] | None = None  # names; None: all
    concurrency: int | None = None
    later: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRules:
    """Where the ledger is and how long it remembers."""

    url: str = field(repr=False)  # may hold a password
    retention_entry_us: int | None
    retention_answer_us: int | None
    max_stored_answer: int  # bytes
    encryption_keys: tuple[bytes, ...] = field(default=(), repr=False)  # 32 bytes each, newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTls:
    """TLS on the data listener: paths of PEM files. Certificates of ``client_ca_file``'s authority may name callers."""

    cert_file: str
    key_file: str
    client_ca_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRules:
    """The listeners."""

    listen: tuple[str, int]
    admin_listen: tuple[str, int]
    tls: ListenerTls | None = None
    workers: int = 1
    max_request_body: int  # bytes
    drain_seconds: float
    allow_anonymous: bool = False
    hosts: tuple[str, ...] = ()
    admin_tokens: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)  # name -> (token, role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A whole configuration, compiled."""

    server: ServerRules
    ledger: LedgerRules
    providers: Mapping[str, Provider]  # by name
    callers: tuple[Caller, ...] = ()
    warnings: tuple[str, ...] = ()  # parsed, valid, without effect yet; printed by `check`

    def by_host(self, host: str) -> Provider | None:
        """The provider that owns *host* (lower case, no port): exact names before ``*.`` patterns, longest first."""
        wild: tuple[int, Provider] | None = None
        for provider in self.providers.values():
            for pattern in provider.hosts:
                if pattern == host:
                    return provider
                if pattern.startswith("*.") and host.endswith(pattern[1:]) and (wild is None or len(pattern) > wild[0]):
                    wild = (len(pattern), provider)
        return wild[1] if wild else None
