"""The question of a look-up: what its expressions see of the call, and the request they make.

Of the original request only so much is there as was kept: a caller who waits brings all of it, the ledger may have its
line and headers, or nothing. What is gone fails when it is read, so that the look-up could not be asked; it is never
null, which would leave a parameter out and widen the search.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final, cast
from urllib.parse import quote

from proxy.core.bodies import read_body
from proxy.core.documents import REQUEST_NAMES, Document, header_values, request_document
from proxy.core.expressions import Expression, ExpressionFailed, yields
from proxy.core.json_text import canonical_json, number_text
from proxy.core.lookup import CouldNotAsk, Lookup, Unaskable
from proxy.core.model import Answer, Entry, Headers, Request
from proxy.core.reasons import Reason

CALL_NAMES: Final = frozenset({"key", "outgoing_key", "first_sent_at", "last_sent_at", "facts", "response"})
"""What look-up expressions see beside the request."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VISIBLE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_JSON: Final = (b"Content-Type", b"application/json")


@dataclass(frozen=True, slots=True)
class LookupRequest:
    """The question as it goes out. ``target`` is relative to the provider's base URL, like a caller's.

    Whoever sends it adds ``Host``, the length and the provider's own ``auth``.
    """

    method: str
    target: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """The call that is looked for. Times are ledger times in microseconds.

    ``request`` is None where nothing of it was kept; ``has_body`` is false where its body was not. ``response`` is the
    last answer that came back, if any did.
    """

    request: Request | None = field(repr=False)
    has_body: bool = True
    caller: str
    fingerprint: str
    attempt: int
    doubt: bool
    key: str
    outgoing_key: str | None
    first_sent_at: int
    last_sent_at: int
    facts: Mapping[str, object] = field(default_factory=dict, repr=False)
    response: Answer | None = field(default=None, repr=False)

    @classmethod
    def of_entry(
        cls, entry: Entry, *, request: Request | None, has_body: bool = True,
        facts: Mapping[str, object] | None = None, response: Answer | None = None,
    ) -> Sought:  # fmt: skip
        """What the ledger knows of *entry*, with what was kept of its request and answer."""
        return cls(
            request=request,
            has_body=has_body,
            caller=entry.caller,
            fingerprint=entry.fingerprint,
            attempt=entry.attempt.number,
            doubt=len(entry.open) > 1,
            key=entry.key[2:],
            outgoing_key=entry.outgoing_key,
            first_sent_at=entry.first_sent_at,
            last_sent_at=entry.attempt.claimed_at,
            facts=facts or {},
            response=response,
        )


class Gone(ExpressionFailed):
    """An expression reads a part of the request that was not kept."""


class CallDocument(Document):
    """The call as look-up expressions see it: the request's names, ``request``, and :data:`CALL_NAMES`."""

    names = REQUEST_NAMES | CALL_NAMES | {"request"}

    def __init__(self, sought: Sought) -> None:
        self.sought: Final = sought
        self._request: Final = _KeptRequest(sought)

    def __getitem__(self, name: str) -> object:
        match name:
            case "request":
                return self._request
            case "key" | "outgoing_key" | "facts":
                return getattr(self.sought, name)
            case "first_sent_at" | "last_sent_at":
                return _text_of_moment(getattr(self.sought, name))
            case "response":
                return self._response
            case _:
                return self._request[name]

    @cached_property
    def _response(self) -> object:
        answer = self.sought.response
        if answer is None:
            return None
        body = read_body(answer.body, answer.headers).value if answer.complete else None
        return {"status": answer.status, "headers": header_values(answer.headers), "body": body}


def build(lookup: Lookup, sought: Sought) -> LookupRequest | CouldNotAsk:
    """The request that asks about *sought*, or why it can't be made. Nothing is asked whose answer could not be judged."""
    call = CallDocument(sought)
    try:
        our_values(lookup, call)
        query, is_query_whole = _query(lookup, call)
        body, is_body_whole = _body(lookup, call)
        if not (lookup.where or (is_query_whole and is_body_whole)):
            return CouldNotAsk(Reason.LOOKUP_FAILED, "a part of the search is left out, and no `where` checks the rest")
        headers = _headers(lookup, call, has_body=bool(body))
        target = _path(lookup, call) + (f"?{query}" if query else "")
    except Unaskable as why:
        return why.verdict
    return LookupRequest(lookup.method, target, headers, body)


def our_values(lookup: Lookup, call: CallDocument) -> tuple[object, ...]:
    """Our side of ``where``. Raises :class:`Unaskable`: where ours is absent nothing could match, which proves nothing."""
    values = tuple(ask(condition.ours, call, "`where`") for condition in lookup.where)
    if not all(map(yields, values)):
        raise Unaskable(Reason.LOOKUP_FAILED, "`where` compares with something that this call does not have")
    return values


def ask(expression: Expression, document: object, where: str) -> object:
    """The value of *expression*, which stands in *where*. Raises :class:`Unaskable` if it fails."""
    try:
        return expression.search(cast("Mapping[str, object]", document))  # a candidate may be any JSON value
    except Gone as problem:
        raise Unaskable(Reason.REQUEST_UNREADABLE, f"{where} reads {problem}, which was not kept") from None
    except ExpressionFailed as problem:
        raise Unaskable(Reason.LOOKUP_FAILED, f"{where} failed: {problem}", failed_expressions=1) from None


def scalar_text(value: object) -> str | None:
    """A text, number or truth value as text; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return number_text(value) if isinstance(value, (int, float)) else None


def header_lines(name: str, value: object) -> Headers:
    """A header with *value*: a line for each of a list's, none for null. Raises :class:`Unaskable` where it can't be one."""
    lines = []
    for each in value if isinstance(value, list) else [value]:
        if each is None:
            continue
        text = scalar_text(each)
        if text is None or _VISIBLE.fullmatch(text) is None:
            raise Unaskable(Reason.LOOKUP_FAILED, f"header {name} has a value that no header can hold")
        lines.append((name.encode("ascii"), text.encode("ascii")))
    return tuple(lines)


class _KeptRequest(Document):
    """What is under ``request``."""

    names = REQUEST_NAMES

    def __init__(self, sought: Sought) -> None:
        self._sought: Final = sought
        self._shown: Final = (
            None
            if sought.request is None
            else request_document(
                sought.request, fingerprint=sought.fingerprint, attempt=sought.attempt, doubt=sought.doubt
            )
        )

    def __getitem__(self, name: str) -> object:
        if name not in REQUEST_NAMES:
            raise KeyError(name)
        if name in ("caller", "fingerprint", "attempt", "doubt"):
            return getattr(self._sought, name)
        if self._shown is None:
            raise Gone(f"the request's {name}")
        if name in ("body", "graphql") and not self._sought.has_body:
            raise Gone("the request's body")
        return self._shown[name]


def _text_of_moment(moment_us: int) -> str:
    """RFC 3339, to the microsecond, as everywhere in the ledger API."""
    return (_EPOCH + timedelta(microseconds=moment_us)).replace(tzinfo=None).isoformat() + "Z"


def _path(lookup: Lookup, call: CallDocument) -> str:
    pieces: list[str] = []
    for part in lookup.path:
        if isinstance(part, str):
            pieces.append(part)
            continue
        text = scalar_text(ask(part, call, "the path"))
        if not text:
            raise Unaskable(Reason.LOOKUP_FAILED, "a part of the path has no value")
        pieces.append(_encoded(text))
    path = "".join(pieces)
    if any(segment in (".", "..") for segment in path.split("/")):
        raise Unaskable(Reason.LOOKUP_FAILED, "a part of the path would lead to another path")
    return path


def _query(lookup: Lookup, call: CallDocument) -> tuple[str, bool]:
    """The query, and whether every parameter is in it."""
    pairs: list[str] = []
    is_whole = True
    for name, expression in lookup.query:
        value = ask(expression, call, f"query parameter {name}")
        given = [each for each in (value if isinstance(value, list) else [value]) if each is not None]
        is_whole = is_whole and bool(given)
        for each in given:
            text = scalar_text(each)
            if text is None:
                raise Unaskable(Reason.LOOKUP_FAILED, f"query parameter {name} is no text or number")
            pairs.append(f"{_encoded(name)}={_encoded(text)}")
    return "&".join(pairs), is_whole


def _headers(lookup: Lookup, call: CallDocument, *, has_body: bool) -> Headers:
    headers: list[tuple[bytes, bytes]] = []
    for name, expression in lookup.headers:
        headers += header_lines(name, ask(expression, call, f"header {name}"))
    if has_body and not any(name.lower() == b"content-type" for name, _ in headers):
        headers.append(_JSON)
    return tuple(headers)


def _body(lookup: Lookup, call: CallDocument) -> tuple[bytes, bool]:
    """The body, and whether every member is in it."""
    if not lookup.body:
        return b"", True
    root: dict[str, object] = {}
    is_whole = True
    for path, expression in lookup.body:
        value = ask(expression, call, f"body.{'.'.join(path)}")
        if value is None:
            is_whole = False
            continue
        *inner, last = path
        branch = root
        for name in inner:
            below = branch.setdefault(name, {})
            assert isinstance(below, dict)  # no name leads to a value and through it: checked with the configuration
            branch = below
        branch[last] = value
    try:
        return canonical_json(root).encode(), is_whole
    except (TypeError, UnicodeEncodeError, ExpressionFailed):
        raise Unaskable(Reason.LOOKUP_FAILED, "the body has a value that JSON can't hold") from None


def _encoded(text: str) -> str:
    """Percent-encoded: only unreserved characters stay (RFC 3986 2.3)."""
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise Unaskable(Reason.LOOKUP_FAILED, "a value is no text that UTF-8 can hold") from None
