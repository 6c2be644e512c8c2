"""What a write means, as values: shared by every ledger, so that none has rules of its own.

The state machine is :mod:`proxy.core.states`. Here is only what a ledger adds to it: the times of a claim, the one update that
is said in SQL, what the history keeps, when a repeated write counts as landed, and which late evidence contradicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Any, Final

from proxy.core.model import FINAL, Attempt, Entry, KeyHash, Status, StoredAnswer, Token
from proxy.core.ports import Claim, Write
from proxy.core.reasons import Reason
from proxy.core.states import SENDS, TABLE, Event, Evidence, apply, sources

CONTRADICTION: Final = "contradiction"
"""The event of a history row that changed nothing: evidence against a final entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One row of the history.

    *attempt* and *token* are those the event speaks of; where a new attempt began, those of the attempt it came after, so
    that the tokens of past attempts stay known.
    """

    at: int
    event: str
    attempt: int
    token: Token
    from_status: Status
    to_status: Status
    reason: str
    who: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Evidence against a final entry, or a late success of an attempt that was thought to have done nothing."""

    entry: Entry
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a write on a row that is held locked."""

    landed: bool
    entry: Entry  # as it now is, with its answer
    trace: Trace | None = None
    contradiction: Contradiction | None = None
    stores_answer: bool = False
    drops_answer: bool = False


# -- claims -----------------------------------------------------------------------------------------------------------


@unique
class ClaimKind(StrEnum):
    """Which guard a claim needs."""

    FIRST = "first"  # no row under the key
    NEXT_ATTEMPT = "next_attempt"  # this generation's latest attempt did nothing, or may be repeated
    NEXT_GENERATION = "next_generation"  # the generation before is final and its window over


def kind_of(claim: Claim) -> ClaimKind:
    """The guard that *claim* needs. A generation begins with attempt 1."""
    if claim.after is None:
        return ClaimKind.FIRST
    return ClaimKind.NEXT_GENERATION if claim.event is Event.CLAIMED else ClaimKind.NEXT_ATTEMPT


def begun(claim: Claim, now: int, before: Entry | None = None) -> Entry:
    """The row that *claim* makes at *now*; *before* is the row whose next attempt it is.

    The provider's memory of an outgoing key counts from its first send, so that time starts anew with a new key.
    """
    draft = claim.entry
    attempt = replace(draft.attempt, claimed_at=now, quiet_at=now + claim.quiet_us)
    is_same_key = before is not None and before.outgoing_key == draft.outgoing_key
    return replace(
        draft,
        attempt=attempt,
        open=(*(before.open if before is not None else ()), attempt),
        lease_until=now + claim.lease_us,
        created_at=before.created_at if before is not None else now,
        updated_at=now,
        last_request_at=now,
        first_sent_at=before.first_sent_at if before is not None and is_same_key else now,
        answer=None,
    )


def may_begin_next(row: Entry, claim: Claim) -> bool:
    """Whether *row* is still what the decision to begin another attempt was made on."""
    if row.status not in sources(claim.event) or row.attempt.token != claim.after:
        return False
    return claim.event is not Event.RECLAIMED or not row.open


def may_supersede(row: Entry, claim: Claim, now: int) -> bool:
    """Whether the generation *row* is over, so that *claim* may begin the next one."""
    if claim.window_us is None or row.status not in FINAL or row.attempt.token != claim.after:
        return False
    return row.last_request_at + claim.window_us <= now


def is_own(row: Entry | None, claim: Claim) -> bool:
    """Whether *row* is *claim* itself, landed earlier, with its acknowledgement lost on the way."""
    return (
        row is not None
        and row.generation == claim.entry.generation
        and row.attempt.token == claim.entry.attempt.token
        and row.status is Status.IN_FLIGHT
    )


def archived(row: Entry, event: Event, *, now: int, reason: str) -> Trace:
    """The history row of a next attempt: what the one before it came to."""
    detail = {
        "claimed_at": row.attempt.claimed_at,
        "quiet_at": row.attempt.quiet_at,
        "reason": row.reason,
        "upstream_status": row.upstream_status,
        "retry_at": row.retry_at,
    }
    return Trace(
        at=now,
        event=event.value,
        attempt=row.attempt.number,
        token=row.attempt.token,
        from_status=row.status,
        to_status=Status.IN_FLIGHT,
        reason=reason,
        detail={name: value for name, value in detail.items() if value is not None},
    )


# -- evidence ---------------------------------------------------------------------------------------------------------


def _ordinary() -> Mapping[Event, tuple[Status, bool]]:
    """Ask the state machine what each event does to an entry in flight whose only open attempt is the latest."""
    attempt = Attempt(1, Token("0" * 32), 0, 0)
    entry = Entry(
        key_hash=KeyHash("0" * 32), generation=1, provider="", caller="", scope=(), operation="", key="", fingerprint="",
        status=Status.IN_FLIGHT, reason="", attempt=attempt, open=(attempt,), lease_until=0, created_at=0, updated_at=0,
        last_request_at=0, first_sent_at=0,
    )  # fmt: skip
    found: dict[Event, tuple[Status, bool]] = {}
    for event in TABLE[Status.IN_FLIGHT]:
        if event is not Event.LEASE_EXPIRED:
            after = apply(entry, Evidence(event=event, token=attempt.token, reason=Reason.RULE), now=0)
            if after is not None:
                found[event] = (after.status, bool(after.open))
    return MappingProxyType(found)


ORDINARY: Final = _ordinary()
"""Event to (status, is the attempt still open), where the entry is in flight and only its latest attempt is open.

These are the updates that a batch makes in one statement. A lease's end is not among them: it is judged by time.
"""

_AGAINST: Final[Mapping[Status, frozenset[Event]]] = MappingProxyType(
    {
        Status.SUCCEEDED: frozenset({Event.DECLINED, Event.FOUND_REJECTED, Event.FOUND_ABSENT, Event.STATED_ABSENT}),
        Status.REJECTED: frozenset({Event.ANSWERED, Event.FOUND, Event.STATED}),
        Status.NOT_EXECUTED: frozenset({Event.FOUND, Event.STATED}),
    }
)
_AGAINST_ONLY_ATTEMPT: Final = frozenset({Event.TURNED_AWAY, Event.NOT_SENT})
"""These speak of one attempt, so they contradict a success only where there was no other."""


def judge(entry: Entry, write: Write, *, now: int, traces: Sequence[Trace]) -> Verdict:
    """What *write* does to *entry*; *traces* is the history of the attempt that it names.

    Raises :class:`proxy.core.states.IllegalTransition`.
    """
    evidence = write.evidence
    after = apply(entry, evidence, now=now, past=frozenset(trace.token for trace in traces))
    if after is not None:
        return _landed(entry, after, write, now=now, traces=traces)
    if _is_repeated(entry, evidence, traces):
        return Verdict(landed=True, entry=entry)
    if _contradicts(entry, evidence, traces):
        told = Contradiction(entry, evidence)
        detail = {**_detail(evidence), "event": evidence.event.value}
        if any(trace.event == CONTRADICTION and dict(trace.detail) == detail for trace in traces):
            return Verdict(landed=False, entry=entry)
        trace = _trace(entry, entry, evidence, now=now, traces=traces)
        return Verdict(False, entry, replace(trace, event=CONTRADICTION, detail=detail), told)
    return Verdict(landed=False, entry=entry)


def keeps(entry: Entry, answer: StoredAnswer) -> bool:
    """Whether *answer* belongs to what *entry* now says: it is its latest attempt's, or one that was final for the call."""
    if entry.status is Status.IN_FLIGHT:
        return False
    return answer.attempt == entry.attempt.number or entry.status in (Status.SUCCEEDED, Status.REJECTED)


def is_readable(entry: Entry, answer: StoredAnswer, outcome: str) -> bool:
    """Whether a stored *answer* is the entry's: the status has not changed since it came, and no later attempt began."""
    return outcome == entry.status and keeps(entry, answer)


def _landed(entry: Entry, after: Entry, write: Write, *, now: int, traces: Sequence[Trace]) -> Verdict:
    evidence = write.evidence
    is_late = evidence.event is Event.ANSWERED and evidence.token not in {attempt.token for attempt in entry.open}
    stores = write.answer is not None and keeps(after, write.answer)
    drops = evidence.event is Event.REOPENED  # a person's word is taken back, and the answer given with it
    still = entry.answer if after.status is entry.status and not drops else None
    return Verdict(
        landed=True,
        entry=replace(after, answer=write.answer if stores else still),
        trace=_trace(entry, after, evidence, now=now, traces=traces),
        contradiction=Contradiction(entry, evidence) if is_late else None,
        stores_answer=stores,
        drops_answer=drops,
    )


def _is_repeated(entry: Entry, evidence: Evidence, traces: Sequence[Trace]) -> bool:
    """Whether *entry* already says exactly this: the write landed before, and its acknowledgement was lost."""
    if evidence.event in SENDS:
        return False
    status, _ = ORDINARY.get(evidence.event, (None, False))
    said = (entry.status, entry.attempt.token, entry.reason, entry.upstream_status)
    if said == (status, evidence.token, evidence.reason, evidence.upstream_status):
        return True
    written = (evidence.event.value, entry.status, evidence.reason, evidence.who)
    return any((trace.event, trace.to_status, trace.reason, trace.who) == written for trace in traces)


def _contradicts(entry: Entry, evidence: Evidence, traces: Sequence[Trace]) -> bool:
    known = {entry.attempt.token, *(trace.token for trace in traces)}
    if evidence.token not in known:
        return False
    if evidence.event in _AGAINST.get(entry.status, frozenset()):
        return True
    return entry.status is Status.SUCCEEDED and entry.attempt.number == 1 and evidence.event in _AGAINST_ONLY_ATTEMPT


def _trace(before: Entry, after: Entry, evidence: Evidence, *, now: int, traces: Sequence[Trace]) -> Trace:
    numbers = {trace.token: trace.attempt for trace in traces}
    numbers |= {attempt.token: attempt.number for attempt in (*before.open, before.attempt)}
    return Trace(
        at=now,
        event=evidence.event.value,
        attempt=numbers[evidence.token],
        token=evidence.token,
        from_status=before.status,
        to_status=after.status,
        reason=evidence.reason,
        who=evidence.who,
        detail=_detail(evidence),
    )


def _detail(evidence: Evidence) -> dict[str, Any]:
    names = ("behind_key", "after_quiet", "stores_failure", "upstream_status", "retry_at")
    return {name: value for name in names if (value := getattr(evidence, name))}
