"""What a caller is told: a provider's answer or a problem of our own, and the facts that go into our headers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from proxy.core import decide
from proxy.core.model import REPLAYED, Entry, Executed, Headers, Kept, Status
from proxy.core.outgoing import end_to_end
from proxy.core.policy import Operation
from proxy.core.problems import PROBLEMS
from proxy.core.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The ``Dedup-*`` headers. ``executed`` speaks of the key, ``sent`` of this request. ``expires`` is ledger time."""

    reason: Reason
    sent: bool
    status: str | None = None
    executed: Executed | None = None
    entry: str | None = None
    expires: int | None = None
    replayed: bool = False
    recorded: bool = True


async def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A provider's answer. A streamed body is closed with ``close``, whoever read how much of it."""

    facts: Facts
    status: int
    headers: Headers
    body: bytes | AsyncIterator[bytes]
    phrase: bytes = b""
    close: Callable[[], Awaitable[None]] = _nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An answer of our own. ``retry_after`` is seconds; it is sent exactly where trying again can help."""

    facts: Facts
    reason: Reason
    detail: str
    retry_after: float | None = None
    provider: str | None = None
    operation: str | None = None
    key: str | None = None
    proxy_status: str | None = None
    operation_rule: Operation | None = None


Told = Passed | Problem


def facts_of(entry: Entry, *, reason: Reason, sent: bool, operation: Operation, retention_us: int | None) -> Facts:
    """The facts that the ledger row tells."""
    return Facts(
        reason=reason,
        sent=sent,
        status=entry.status.value,
        executed=entry.executed,
        entry=entry.id,
        expires=decide.expires_at(entry, decide.window_us(entry.key, operation), retention_us),
    )


def from_row(
    entry: Entry, *, operation: Operation, retention_us: int | None, waited: bool = False,
    why: Reason = Reason.OUTCOME_UNKNOWN, seconds: float | None = None,
) -> Told:  # fmt: skip
    """What a duplicate is told from the ledger row, without a send of its own.

    *why* an ambiguous entry stays so, and in how many *seconds* that may change.
    """
    reason = Reason.WAITED if waited else Reason.REPLAYED
    facts = facts_of(entry, reason=reason, sent=False, operation=operation, retention_us=retention_us)
    answer = entry.answer
    if entry.status in REPLAYED and (answer is None or answer.kept is Kept.TOMBSTONE):
        return Problem(
            facts=replace(facts, reason=Reason.ANSWER_NOT_STORED),
            reason=Reason.ANSWER_NOT_STORED,
            detail=_NOT_STORED[facts.executed or Executed.UNKNOWN],
        )
    if entry.status is Status.AMBIGUOUS and not waited:
        return unknown(facts, why, operation, seconds=seconds)
    if answer is not None and answer.kept is not Kept.TOMBSTONE:
        stored_final = entry.status in REPLAYED
        return Passed(
            facts=replace(facts, replayed=stored_final),
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
        )
    if entry.upstream_status is not None:  # the provider answered, and its answer isn't kept: its status is
        return Passed(facts=facts, status=entry.upstream_status, headers=(), body=b"")
    if entry.status is Status.NOT_EXECUTED:
        return Problem(
            facts=replace(facts, reason=Reason.PROVIDER_UNREACHABLE),
            reason=Reason.PROVIDER_UNREACHABLE,
            detail="Nothing was sent to the provider. Send the same request again.",
            retry_after=1.0,
        )
    return unknown(facts, why, operation, seconds=seconds)


def unknown(facts: Facts, reason: Reason, operation: Operation, *, seconds: float | None = None) -> Problem:
    """The problem that says that nobody knows yet. Trying again helps in so many *seconds*, where that is known."""
    wait = seconds if seconds is not None else operation.timeout.total_seconds
    return Problem(
        facts=replace(facts, reason=reason),
        reason=reason,
        detail=_UNKNOWN[reason],
        retry_after=wait if PROBLEMS[reason].is_retryable else None,
    )


def is_answer_of_row(entry: Entry) -> bool:
    """Whether a waiter can be told something by now."""
    return entry.status is not Status.IN_FLIGHT


def is_streaming(told: Told) -> bool:
    """Whether the one who sent the request gets a body that still comes in."""
    return isinstance(told, Passed) and not isinstance(told.body, bytes)


def storable_headers(headers: Headers) -> Headers:
    """The headers of an answer that may be kept and replayed: end to end, and no credentials.

    Cookies and authentication challenges belong to one exchange; replaying them hands a session to whoever retries.
    """
    return tuple(
        (name, value) for name, value in end_to_end(headers) if name.lower() not in _NEVER_KEPT and not _is_ours(name)
    )


def passed_headers(headers: Headers) -> Headers:
    """The headers of a first answer as the caller gets them; ``Dedup-*`` is ours alone to say."""
    return tuple((_renamed(name), value) for name, value in end_to_end(headers) if not _is_ours(name))


def _is_ours(name: bytes) -> bool:
    return name.lower().startswith(b"dedup-")


def _renamed(name: bytes) -> bytes:
    return b"Dedup-Upstream-Replayed" if name.lower() == b"idempotent-replayed" else name


_NEVER_KEPT = frozenset(
    {b"set-cookie", b"set-cookie2", b"authorization", b"www-authenticate", b"authentication-info",
     b"proxy-authentication-info", b"x-csrf-token", b"x-auth-token", b"idempotent-replayed"}
)  # fmt: skip

_NOT_STORED = {
    Executed.YES: "The call took effect, but its answer was not kept. Don't send it again; ask the provider for its result.",
    Executed.NO: "The provider refused the call for good, but its answer was not kept.",
    Executed.UNKNOWN: "The call is assumed to have taken effect; there is no answer to show.",
}

_UNKNOWN = {
    Reason.OUTCOME_UNKNOWN: "The call may or may not have taken effect. Don't send it under another key; send the same "
    "request again later, or ask for the entry's status.",
    Reason.NOTHING_CAN_TELL: "The call may or may not have taken effect, and nothing but the provider's own records can "
    "tell. A person has to look and resolve the entry; don't send the call under another key.",
    Reason.RETENTION_OVER: "The call may or may not have taken effect, and the provider may have forgotten its key by now, so "
    "that asking again could do it twice. A person has to look and resolve the entry.",
}
