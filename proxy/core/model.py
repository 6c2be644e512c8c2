"""Frozen values that travel through the proxy.

Ledger times are integers: microseconds since the Unix epoch by the *ledger's* clock (protocol: one clock judges leases,
windows and retention). Durations end in their unit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import NewType

Headers = tuple[tuple[bytes, bytes], ...]
"""Header lines in order, names as received; a repeated header is repeated here."""

KeyHash = NewType("KeyHash", str)
"""32 hex digits: keyed digest of an identity, the ledger's primary key."""

Token = NewType("Token", str)
"""32 hex digits, random, fresh for every attempt; every write about the attempt names it."""

SECOND_US = 1_000_000


@unique
class Status(StrEnum):
    """What the ledger knows of an entry (contract section 3)."""

    IN_FLIGHT = "in_flight"  # claimed; an attempt may be on the wire
    SUCCEEDED = "succeeded"  # the provider did it
    REJECTED = "rejected"  # the provider gave a final no
    NOT_EXECUTED = "not_executed"  # proven: nothing happened; the next request is sent
    AMBIGUOUS = "ambiguous"  # may or may not have happened; only evidence leaves this


FINAL = frozenset({Status.SUCCEEDED, Status.REJECTED, Status.NOT_EXECUTED})

REPLAYED = frozenset({Status.SUCCEEDED, Status.REJECTED})
"""Final for good: the stored answer is every duplicate's."""


@unique
class Executed(StrEnum):
    """``Dedup-Executed``: did the call take effect, as far as the ledger row says."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@unique
class Mode(StrEnum):
    """How an operation is treated."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class Request:
    """A caller's request, already assigned to a provider.

    ``target`` is the raw origin-form target (path and query, byte for byte as received) relative to the provider's
    base URL. ``body`` is the whole body; bypassed requests, which stream, carry ``b""`` here.
    """

    method: str
    host: str
    target: str
    headers: Headers
    body: bytes
    caller: str

    @property
    def path(self) -> str:
        """The raw path, percent-encoding untouched; ``/`` for a target that has none (RFC 9110 4.2.3)."""
        return self.target.partition("?")[0] or "/"

    @property
    def query(self) -> str:
        """The raw query without its question mark; empty if there is none."""
        return self.target.partition("?")[2]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider answered. ``complete`` is false when the body broke off or outgrew what may be stored."""

    status: int
    headers: Headers
    body: bytes
    complete: bool = True
    reason: bytes = b""


@unique
class Kept(StrEnum):
    """How much of an answer the ledger keeps."""

    FULL = "full"
    STATUS = "status"  # status and headers; duplicates get them with an empty body
    TOMBSTONE = "tombstone"  # only that there was one: too large, broken off or withheld


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as the ledger keeps it, for replays and for waiters in other processes."""

    status: int
    headers: Headers
    body: bytes
    kept: Kept
    attempt: int


@dataclass(frozen=True, slots=True)
class Identity:
    """What may take effect once. Each part by its stable id; ``key`` is prefixed ``g:`` (given) or ``c:`` (computed)."""

    provider: str
    caller: str
    scope: tuple[str, ...]
    operation: str
    key: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One send. ``claimed_at`` and ``quiet_at`` are ledger times; by ``quiet_at`` nothing of it can still take effect."""

    number: int
    token: Token
    claimed_at: int
    quiet_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The ledger's row for one identity and generation. Changed only by :mod:`proxy.core.states`."""

    key_hash: KeyHash
    generation: int
    provider: str
    caller: str
    scope: tuple[str, ...]
    operation: str
    key: str  # as in Identity; a computed key is only ever a digest
    fingerprint: str
    fingerprint_frozen: bool = False  # not_executed was concluded, not told by the attempt itself
    credential: str | None = None  # keyed digest
    outgoing_key: str | None = None
    born_at: int | None = None  # part of a windowed key's derivation, nothing else
    revision: int = 0  # of the outgoing key
    revise: bool = False  # the provider stored a failure under this revision: the next attempt needs another
    status: Status
    reason: str
    assumed: bool = False  # succeeded by rule, without evidence
    resolved_by: str | None = None  # the person whose word this status is
    attempt: Attempt  # the latest
    open: tuple[Attempt, ...]  # attempts that may have left and are not accounted for, oldest first
    lease_until: int
    created_at: int
    updated_at: int
    last_request_at: int
    first_sent_at: int
    retry_at: int | None = None  # the provider's last Retry-After for this key
    upstream_status: int | None = None
    answer: StoredAnswer | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """The public id. It names the primary key, so that a look-up by id needs no index of its own."""
        return f"{self.key_hash}-{self.generation}"

    @property
    def doubt(self) -> bool:
        """True while some attempt may have left and is not accounted for, and none is known to run."""
        return bool(self.open)

    @property
    def executed(self) -> Executed:
        """What may be said of the key (protocol section 4)."""
        if self.status is Status.SUCCEEDED and not self.assumed:
            return Executed.YES
        if self.status in (Status.REJECTED, Status.NOT_EXECUTED):
            return Executed.NO
        return Executed.UNKNOWN
