"""The state machine: one table, one function that applies it. Nobody else assigns a status.

Three ideas carry it.

*Attempts are open or accounted for.* An attempt is open from its claim until evidence about it arrives. Doubt is the
set of open attempts. An answer speaks of its own attempt: "nothing happened" closes that one alone, "it happened"
closes all, since the call as a whole then took effect.

*Only evidence leaves* ``in_flight`` *and* ``ambiguous``. A lease that runs out says that the holder is gone, not what it
did, so it leads to ``ambiguous`` and the attempt stays open.

*Every write names entry and attempt token.* :func:`apply` is what a guarded write means; a ledger runs it on the row it
holds locked, or says the same in SQL for the ordinary case (one open attempt, in flight).

From an open attempt no path leads to a new send but through ``resent``, evidence, a person or a named rule: that is a
graph search over :data:`TABLE` in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from proxy.core.model import Attempt, Entry, Status, Token
from proxy.core.reasons import Reason

_NOTHING = Status.NOT_EXECUTED
_IN_FLIGHT = Status.IN_FLIGHT
_AMBIGUOUS = Status.AMBIGUOUS
_SUCCEEDED = Status.SUCCEEDED
_REJECTED = Status.REJECTED


@unique
class Event(StrEnum):
    """What can happen to an entry. The first four begin an attempt, the rest are evidence about one."""

    CLAIMED = "claimed"  # first attempt of a new entry
    RECLAIMED = "reclaimed"  # next attempt, nothing happened so far
    RESENT = "resent"  # next attempt while an earlier one is open, safe under a native key or by nature
    RESENT_BY_POLICY = "resent_by_policy"  # next attempt by `unresolved: resend`: losing is worse than repeating

    ANSWERED = "answered"  # it happened
    DECLINED = "declined"  # a final no
    TURNED_AWAY = "turned_away"  # bytes left, nothing happened
    NOT_SENT = "not_sent"  # no byte left
    ANSWER_LOST = "answer_lost"  # cannot tell
    LEASE_EXPIRED = "lease_expired"  # the holder is gone or stalled

    FOUND = "found"  # a look-up found exactly one effect
    FOUND_REJECTED = "found_rejected"  # a look-up found the call, refused for good
    FOUND_PENDING = "found_pending"  # a look-up found the call, not final yet
    FOUND_SEVERAL = "found_several"  # a look-up found more than one effect
    FOUND_ABSENT = "found_absent"  # a complete look-up after the quiet time found none
    STATED = "stated"  # a statement of the provider lists it
    STATED_ABSENT = "stated_absent"  # a complete statement does not
    ASSUMED = "assumed"  # `unresolved: assume_succeeded`

    RESOLVED_SUCCEEDED = "resolved_as_succeeded"  # a named person's word
    RESOLVED_REJECTED = "resolved_as_rejected"
    RESOLVED_NOT_EXECUTED = "resolved_as_not_executed"
    REOPENED = "reopened"  # that word taken back


SENDS: Final = frozenset({Event.CLAIMED, Event.RECLAIMED, Event.RESENT, Event.RESENT_BY_POLICY})
"""Events that begin an attempt."""

DECIDED: Final = frozenset(
    {
        Event.RESENT_BY_POLICY,
        Event.ASSUMED,
        Event.RESOLVED_SUCCEEDED,
        Event.RESOLVED_REJECTED,
        Event.RESOLVED_NOT_EXECUTED,
        Event.REOPENED,
    }
)
"""Events that stand on a named person's or rule's word instead of evidence."""

PROVES_NOTHING_HAPPENED: Final = frozenset(
    {Event.DECLINED, Event.TURNED_AWAY, Event.NOT_SENT, Event.FOUND_ABSENT, Event.FOUND_REJECTED, Event.STATED_ABSENT}
)
"""Evidence that at least one attempt had no effect."""


def _to(*targets: Status) -> frozenset[Status]:
    return frozenset(targets)


TABLE: Final[Mapping[Status | None, Mapping[Event, frozenset[Status]]]] = MappingProxyType(
    {
        None: {Event.CLAIMED: _to(_IN_FLIGHT, _AMBIGUOUS)},  # ambiguous: born while the ledger is in quarantine
        _IN_FLIGHT: {
            Event.ANSWERED: _to(_SUCCEEDED),
            Event.DECLINED: _to(_REJECTED, _AMBIGUOUS, _IN_FLIGHT),
            Event.TURNED_AWAY: _to(_NOTHING, _AMBIGUOUS, _IN_FLIGHT),
            Event.NOT_SENT: _to(_NOTHING, _AMBIGUOUS, _IN_FLIGHT),
            Event.ANSWER_LOST: _to(_AMBIGUOUS),
            Event.LEASE_EXPIRED: _to(_AMBIGUOUS),
        },
        _AMBIGUOUS: {
            Event.ANSWER_LOST: _to(_AMBIGUOUS),  # changes nothing but what is known of the answer
            Event.ANSWERED: _to(_SUCCEEDED),
            Event.DECLINED: _to(_REJECTED, _AMBIGUOUS),
            Event.TURNED_AWAY: _to(_NOTHING, _AMBIGUOUS),
            Event.NOT_SENT: _to(_NOTHING, _AMBIGUOUS),
            Event.RESENT: _to(_IN_FLIGHT),
            Event.RESENT_BY_POLICY: _to(_IN_FLIGHT),
            Event.FOUND: _to(_SUCCEEDED),
            Event.FOUND_REJECTED: _to(_REJECTED),
            Event.FOUND_PENDING: _to(_AMBIGUOUS),
            Event.FOUND_SEVERAL: _to(_AMBIGUOUS),
            Event.FOUND_ABSENT: _to(_NOTHING),
            Event.STATED: _to(_SUCCEEDED),
            Event.STATED_ABSENT: _to(_NOTHING),
            Event.ASSUMED: _to(_SUCCEEDED),
            Event.RESOLVED_SUCCEEDED: _to(_SUCCEEDED),
            Event.RESOLVED_REJECTED: _to(_REJECTED),
            Event.RESOLVED_NOT_EXECUTED: _to(_NOTHING),
        },
        _NOTHING: {
            Event.RECLAIMED: _to(_IN_FLIGHT),
            Event.ANSWERED: _to(_SUCCEEDED),  # a contradiction: told, counted, alarmed
            Event.REOPENED: _to(_AMBIGUOUS),
        },
        _SUCCEEDED: {Event.REOPENED: _to(_AMBIGUOUS)},
        _REJECTED: {Event.REOPENED: _to(_AMBIGUOUS)},
    }
)


def sources(event: Event) -> frozenset[Status]:
    """States in which *event* is legal: the WHERE clause of its guarded write."""
    return frozenset(status for status, row in TABLE.items() if status is not None and event in row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One event about one attempt.

    ``behind_key`` says that the answer was given after the provider consulted its idempotency keys, ``after_quiet``
    that the attempt was claimed after the quiet time of every earlier one: together they let a no speak for all
    (protocol section 2). ``stores_failure`` says that the provider keeps this failure under the outgoing key.
    """

    event: Event
    token: Token
    reason: Reason
    behind_key: bool = False
    after_quiet: bool = False
    stores_failure: bool = False
    upstream_status: int | None = None
    retry_at: int | None = None
    who: str | None = None


def begin(entry: Entry, event: Event, attempt: Attempt, *, reason: Reason) -> Entry | None:
    """The entry with *attempt* begun by *event*; None where the table does not allow it.

    A new entry is handed in as its own draft: ``claimed`` takes it as it is.
    """
    source = None if event is Event.CLAIMED else entry.status
    if event not in SENDS or event not in TABLE[source]:
        return None
    if event is Event.RECLAIMED and entry.open:
        return None
    if event is Event.CLAIMED:
        return replace(entry, status=_IN_FLIGHT, reason=reason, attempt=attempt, open=(attempt,))
    return replace(
        entry,
        status=_IN_FLIGHT,
        reason=reason,
        attempt=attempt,
        open=(*entry.open, attempt),
        updated_at=attempt.claimed_at,
        retry_at=None,
        revise=False,
        resolved_by=None,
        assumed=False,
        upstream_status=None,
        answer=None,
    )


def apply(entry: Entry, what: Evidence, *, now: int, past: frozenset[Token] = frozenset()) -> Entry | None:
    """The entry after *what*, or None where the guarded write lands on no row.

    *past* holds the tokens of attempts that are already accounted for; late good news from one of them still counts.
    """
    event = what.event
    targets = TABLE[entry.status].get(event)
    if targets is None or event in SENDS:
        return None
    settled = _SETTLE[event](entry, what, past, now)
    if settled is None:
        return None
    if settled.status not in targets:
        raise IllegalTransition(entry.status, event, settled.status)
    return replace(settled, reason=what.reason, updated_at=now)


class IllegalTransition(AssertionError):
    """A transition that the table does not have: a bug here, counted and never written."""

    def __init__(self, source: Status, event: Event, target: Status) -> None:
        super().__init__(f"{source.value} --{event.value}--> {target.value} is not in the table")


_Settle = Callable[[Entry, Evidence, frozenset[Token], int], Entry | None]


def _answered(entry: Entry, what: Evidence, past: frozenset[Token], now: int) -> Entry | None:
    del now
    known = {attempt.token for attempt in entry.open} | {entry.attempt.token} | past
    if what.token not in known:
        return None
    return replace(_learn(entry, what), status=_SUCCEEDED, open=(), retry_at=None, revise=False)


def _no(entry: Entry, what: Evidence, past: frozenset[Token], now: int) -> Entry | None:
    """Nothing happened, says attempt n: close n, or all where the no speaks for all."""
    del past, now
    still_open = tuple(attempt for attempt in entry.open if attempt.token != what.token)
    if len(still_open) == len(entry.open):
        return None
    is_current = what.token == entry.attempt.token
    if is_current and what.behind_key and what.after_quiet and what.event is not Event.NOT_SENT:
        still_open = ()
    if not still_open:
        final = _REJECTED if what.event is Event.DECLINED else _NOTHING
        return replace(_learn(entry, what), status=final, open=())
    if entry.status is _IN_FLIGHT and not is_current:
        return replace(entry, open=still_open)
    return replace(_learn(entry, what), status=_AMBIGUOUS, open=still_open)


def _answer_lost(entry: Entry, what: Evidence, past: frozenset[Token], now: int) -> Entry | None:
    del past, now
    if what.token != entry.attempt.token:
        return None
    if entry.status is _AMBIGUOUS and what.upstream_status in (None, entry.upstream_status):
        return None  # nothing to learn
    return replace(_learn(entry, what), status=_AMBIGUOUS)


def _lease_expired(entry: Entry, what: Evidence, past: frozenset[Token], now: int) -> Entry | None:
    del past
    if what.token != entry.attempt.token or now < entry.lease_until:
        return None
    return replace(entry, status=_AMBIGUOUS)


def _current(target: Status, *, frozen: bool = False, stays_open: bool = False, assumed: bool = False) -> _Settle:
    """Evidence that was sought for the latest attempt and speaks of the call as a whole."""

    def settle(entry: Entry, what: Evidence, past: frozenset[Token], now: int) -> Entry | None:
        del past, now
        if what.token != entry.attempt.token:
            return None
        return replace(
            _learn(entry, what),
            status=target,
            open=entry.open if stays_open else (),
            fingerprint_frozen=entry.fingerprint_frozen or frozen,
            assumed=assumed,
            resolved_by=what.who,
        )

    return settle


def _reopened(entry: Entry, what: Evidence, past: frozenset[Token], now: int) -> Entry | None:
    del past, now
    if what.token != entry.attempt.token or entry.resolved_by is None:
        return None
    return replace(entry, status=_AMBIGUOUS, open=(entry.attempt,), resolved_by=None)


def _learn(entry: Entry, what: Evidence) -> Entry:
    """What an answer tells beside its outcome. Only the latest attempt's is kept."""
    if what.token != entry.attempt.token and what.event is not Event.ANSWERED:
        return entry
    return replace(
        entry, upstream_status=what.upstream_status, retry_at=what.retry_at, revise=entry.revise or what.stores_failure
    )


_SETTLE: Final[Mapping[Event, _Settle]] = MappingProxyType(
    {
        Event.ANSWERED: _answered,
        Event.DECLINED: _no,
        Event.TURNED_AWAY: _no,
        Event.NOT_SENT: _no,
        Event.ANSWER_LOST: _answer_lost,
        Event.LEASE_EXPIRED: _lease_expired,
        Event.FOUND: _current(_SUCCEEDED),
        Event.FOUND_REJECTED: _current(_REJECTED),
        Event.FOUND_PENDING: _current(_AMBIGUOUS, stays_open=True),
        Event.FOUND_SEVERAL: _current(_AMBIGUOUS, stays_open=True),
        Event.FOUND_ABSENT: _current(_NOTHING, frozen=True),
        Event.STATED: _current(_SUCCEEDED),
        Event.STATED_ABSENT: _current(_NOTHING, frozen=True),
        Event.ASSUMED: _current(_SUCCEEDED, assumed=True),
        Event.RESOLVED_SUCCEEDED: _current(_SUCCEEDED),
        Event.RESOLVED_REJECTED: _current(_REJECTED),
        Event.RESOLVED_NOT_EXECUTED: _current(_NOTHING, frozen=True),
        Event.REOPENED: _reopened,
    }
)
