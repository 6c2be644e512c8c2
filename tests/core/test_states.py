"""The state table: what each event does, what it must not do, and the promise as a graph search."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from proxy.core.model import FINAL, Status, Token
from proxy.core.states import DECIDED, PROVES_NOTHING_HAPPENED, SENDS, TABLE, Event, apply, begin, sources
from tests.core.builders import SECOND, START, attempt, entry, evidence

LATE = START + 60 * SECOND
IN_FLIGHT, AMBIGUOUS, SUCCEEDED = Status.IN_FLIGHT, Status.AMBIGUOUS, Status.SUCCEEDED
REJECTED, NOT_EXECUTED = Status.REJECTED, Status.NOT_EXECUTED

# what is told: (status, attempts so far, open ones), event about attempt n, extra -> (status, open ones) or None
CASES = {
    "an answer ends the call": ((IN_FLIGHT, 1, (1,)), (Event.ANSWERED, 1, {}), (SUCCEEDED, ())),
    "a no ends a call that was sent once": ((IN_FLIGHT, 1, (1,)), (Event.DECLINED, 1, {}), (REJECTED, ())),
    "what was turned away did not happen": ((IN_FLIGHT, 1, (1,)), (Event.TURNED_AWAY, 1, {}), (NOT_EXECUTED, ())),
    "what was not sent did not happen": ((IN_FLIGHT, 1, (1,)), (Event.NOT_SENT, 1, {}), (NOT_EXECUTED, ())),
    "a lost answer leaves the attempt open": ((IN_FLIGHT, 1, (1,)), (Event.ANSWER_LOST, 1, {}), (AMBIGUOUS, (1,))),
    "a lease that is over leaves the attempt open": ((IN_FLIGHT, 1, (1,)), (Event.LEASE_EXPIRED, 1, {}), (AMBIGUOUS, (1,))),
    "a later answer speaks for all attempts": ((IN_FLIGHT, 2, (1, 2)), (Event.ANSWERED, 2, {}), (SUCCEEDED, ())),
    "an early attempt's late answer counts": ((IN_FLIGHT, 2, (1, 2)), (Event.ANSWERED, 1, {}), (SUCCEEDED, ())),
    "a no of the second says nothing of the first": ((IN_FLIGHT, 2, (1, 2)), (Event.DECLINED, 2, {}), (AMBIGUOUS, (1,))),
    "refused at the door says nothing of the first": ((IN_FLIGHT, 2, (1, 2)), (Event.TURNED_AWAY, 2, {}), (AMBIGUOUS, (1,))),
    "not sent says nothing of the first": ((IN_FLIGHT, 2, (1, 2)), (Event.NOT_SENT, 2, {}), (AMBIGUOUS, (1,))),
    "a no from behind the key, after quiet time, speaks for all": (
        (IN_FLIGHT, 2, (1, 2)), (Event.DECLINED, 2, {"behind_key": True, "after_quiet": True}), (REJECTED, ())),
    "turned away behind the key, after quiet time, speaks for all": (
        (IN_FLIGHT, 2, (1, 2)), (Event.TURNED_AWAY, 2, {"behind_key": True, "after_quiet": True}), (NOT_EXECUTED, ())),
    "behind the key but too early speaks for itself": (
        (IN_FLIGHT, 2, (1, 2)), (Event.DECLINED, 2, {"behind_key": True}), (AMBIGUOUS, (1,))),
    "after quiet time but in front of the key speaks for itself": (
        (IN_FLIGHT, 2, (1, 2)), (Event.DECLINED, 2, {"after_quiet": True}), (AMBIGUOUS, (1,))),
    "not sent never speaks for all": (
        (IN_FLIGHT, 2, (1, 2)), (Event.NOT_SENT, 2, {"behind_key": True, "after_quiet": True}), (AMBIGUOUS, (1,))),
    "the first's no leaves the second running": ((IN_FLIGHT, 2, (1, 2)), (Event.DECLINED, 1, {}), (IN_FLIGHT, (2,))),
    "the first's lost answer changes nothing": ((IN_FLIGHT, 2, (1, 2)), (Event.ANSWER_LOST, 1, {}), None),
    "the first's lease is not the second's": ((IN_FLIGHT, 2, (1, 2)), (Event.LEASE_EXPIRED, 1, {}), None),
    "a late no settles an ambiguous entry": ((AMBIGUOUS, 1, (1,)), (Event.DECLINED, 1, {}), (REJECTED, ())),
    "a late not-sent settles an ambiguous entry": ((AMBIGUOUS, 1, (1,)), (Event.NOT_SENT, 1, {}), (NOT_EXECUTED, ())),
    "a late answer settles an ambiguous entry": ((AMBIGUOUS, 1, (1,)), (Event.ANSWERED, 1, {}), (SUCCEEDED, ())),
    "one of two open attempts accounted for is not enough": ((AMBIGUOUS, 2, (1, 2)), (Event.DECLINED, 2, {}), (AMBIGUOUS, (1,))),
    "a no of an attempt that is accounted for lands nowhere": ((AMBIGUOUS, 2, (1,)), (Event.DECLINED, 2, {}), None),
    "an answer after not_executed is the truth": ((NOT_EXECUTED, 1, ()), (Event.ANSWERED, 1, {}), (SUCCEEDED, ())),
    "a no after not_executed lands nowhere": ((NOT_EXECUTED, 1, ()), (Event.DECLINED, 1, {}), None),
    "a late failure of an ambiguous attempt is learnt": ((AMBIGUOUS, 1, (1,)), (Event.ANSWER_LOST, 1, {"upstream_status": 500}), (AMBIGUOUS, (1,))),
    "a late nothing teaches nothing": ((AMBIGUOUS, 1, (1,)), (Event.ANSWER_LOST, 1, {}), None),
    "nothing unmakes a success": ((SUCCEEDED, 1, ()), (Event.ANSWERED, 1, {}), None),
    "a no doesn't unmake a success": ((SUCCEEDED, 1, ()), (Event.DECLINED, 1, {}), None),
    "an answer doesn't unmake a rejection": ((REJECTED, 1, ()), (Event.ANSWERED, 1, {}), None),
    "found once is done": ((AMBIGUOUS, 1, (1,)), (Event.FOUND, 1, {}), (SUCCEEDED, ())),
    "found for an earlier attempt lands nowhere": ((AMBIGUOUS, 2, (1, 2)), (Event.FOUND, 1, {}), None),
    "absent for an earlier attempt lands nowhere": ((AMBIGUOUS, 2, (1, 2)), (Event.FOUND_ABSENT, 1, {}), None),
    "found refused is a rejection": ((AMBIGUOUS, 1, (1,)), (Event.FOUND_REJECTED, 1, {}), (REJECTED, ())),
    "found pending stays open": ((AMBIGUOUS, 1, (1,)), (Event.FOUND_PENDING, 1, {}), (AMBIGUOUS, (1,))),
    "found several stays open": ((AMBIGUOUS, 1, (1,)), (Event.FOUND_SEVERAL, 1, {}), (AMBIGUOUS, (1,))),
    "found absent is not executed": ((AMBIGUOUS, 1, (1,)), (Event.FOUND_ABSENT, 1, {}), (NOT_EXECUTED, ())),
    "a person's word counts for the attempt named": ((AMBIGUOUS, 2, (1, 2)), (Event.RESOLVED_SUCCEEDED, 2, {"who": "ops"}), (SUCCEEDED, ())),
    "a person's word on a stale page lands nowhere": ((AMBIGUOUS, 2, (1, 2)), (Event.RESOLVED_NOT_EXECUTED, 1, {"who": "ops"}), None),
    "a person can't decide what still runs": ((IN_FLIGHT, 1, (1,)), (Event.RESOLVED_SUCCEEDED, 1, {"who": "ops"}), None),
    "a look-up says nothing of what still runs": ((IN_FLIGHT, 1, (1,)), (Event.FOUND_ABSENT, 1, {}), None),
    "a send is begun, never applied": ((NOT_EXECUTED, 1, ()), (Event.RECLAIMED, 1, {}), None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_event_does_what_the_table_says(name: str) -> None:
    (status, attempts, is_open), (event, number, extra), expected = CASES[name]
    before = entry(status, attempts=attempts, is_open=is_open)

    after = apply(before, evidence(event, number, **extra), now=LATE)

    told = None if after is None else (after.status, tuple(a.number for a in after.open))
    assert told == expected


def test_a_strangers_token_lands_nowhere() -> None:
    for status in Status:
        for event in Event:
            stranger = replace(evidence(event), token=Token("f" * 32))
            assert apply(entry(status), stranger, now=LATE) is None


def test_a_late_answer_of_an_attempt_long_accounted_for_still_counts_if_the_ledger_knows_its_token() -> None:
    before = entry(NOT_EXECUTED, attempts=3)

    assert apply(before, evidence(Event.ANSWERED, 1), now=LATE) is None
    after = apply(before, evidence(Event.ANSWERED, 1), now=LATE, past=frozenset({attempt(1).token}))
    assert after is not None
    assert after.status is SUCCEEDED


def test_a_lease_that_is_not_over_does_not_expire() -> None:
    before = entry(IN_FLIGHT)

    assert apply(before, evidence(Event.LEASE_EXPIRED), now=before.lease_until - 1) is None
    assert apply(before, evidence(Event.LEASE_EXPIRED), now=before.lease_until) is not None


def test_what_was_concluded_freezes_the_fingerprint_and_what_was_told_does_not() -> None:
    told = apply(entry(AMBIGUOUS), evidence(Event.NOT_SENT), now=LATE)
    concluded = [
        apply(entry(AMBIGUOUS), evidence(event), now=LATE)
        for event in (Event.FOUND_ABSENT, Event.STATED_ABSENT, Event.RESOLVED_NOT_EXECUTED)
    ]

    assert told is not None
    assert not told.fingerprint_frozen
    assert all(after is not None and after.fingerprint_frozen for after in concluded)


def test_only_a_persons_resolution_can_be_reopened() -> None:
    by_person = entry(SUCCEEDED, resolved_by="ops")
    by_evidence = entry(SUCCEEDED)

    reopened = apply(by_person, evidence(Event.REOPENED), now=LATE)
    assert reopened is not None
    assert (reopened.status, reopened.doubt) == (AMBIGUOUS, True)
    assert apply(by_evidence, evidence(Event.REOPENED), now=LATE) is None


def test_an_assumed_success_is_not_a_yes() -> None:
    after = apply(entry(AMBIGUOUS), evidence(Event.ASSUMED), now=LATE)

    assert after is not None
    assert (after.status, after.executed.value) == (SUCCEEDED, "unknown")


def test_a_reclaim_begins_only_where_nothing_is_open() -> None:
    second = attempt(2, at=LATE)

    assert begin(entry(NOT_EXECUTED), Event.RECLAIMED, second, reason=evidence(Event.RECLAIMED).reason) is not None
    for status in (IN_FLIGHT, AMBIGUOUS, SUCCEEDED, REJECTED):
        assert begin(entry(status), Event.RECLAIMED, second, reason=evidence(Event.RECLAIMED).reason) is None
    assert (
        begin(entry(NOT_EXECUTED, is_open=(1,)), Event.RECLAIMED, second, reason=evidence(Event.RECLAIMED).reason)
        is None
    )


def test_a_resend_keeps_the_earlier_attempt_open() -> None:
    after = begin(entry(AMBIGUOUS), Event.RESENT, attempt(2, at=LATE), reason=evidence(Event.RESENT).reason)

    assert after is not None
    assert [a.number for a in after.open] == [1, 2]


def test_sources_are_the_rows_of_the_table() -> None:
    assert sources(Event.RECLAIMED) == {NOT_EXECUTED}
    assert sources(Event.ANSWERED) == {IN_FLIGHT, AMBIGUOUS, NOT_EXECUTED}
    assert sources(Event.CLAIMED) == frozenset()


def test_apply_never_leaves_the_table() -> None:
    """Every reachable combination of status, open attempts and event lands on a target that the table has, or nowhere."""
    for status in Status:
        for size in range(4):
            for is_open in combinations((1, 2, 3), size):
                before = entry(status, attempts=3, is_open=is_open, resolved_by="ops")
                for event in Event:
                    for number in (1, 2, 3):
                        for behind in (False, True):
                            what = evidence(event, number, behind_key=behind, after_quiet=behind)
                            after = apply(before, what, now=LATE)
                            if after is not None:
                                assert after.status in TABLE[status][event]
                                assert not (after.status in FINAL and after.open)


def test_no_path_from_an_open_attempt_to_a_new_send_without_evidence_a_person_or_a_rule() -> None:
    """The promise. Take away what proves or decides, and no send can be reached from in_flight or ambiguous."""
    banned = PROVES_NOTHING_HAPPENED | DECIDED | {Event.RESENT}

    for start in (IN_FLIGHT, AMBIGUOUS):
        assert _sends_within_reach(start, banned=banned) == set()


@pytest.mark.parametrize(
    "event", sorted(PROVES_NOTHING_HAPPENED | {Event.RESENT, Event.RESENT_BY_POLICY, Event.RESOLVED_NOT_EXECUTED})
)
def test_the_search_would_see_a_hole(event: Event) -> None:
    """Each allowed way does lead to a send: the search above is not empty for want of looking."""
    banned = (PROVES_NOTHING_HAPPENED | DECIDED | {Event.RESENT}) - {event}
    reached = _sends_within_reach(AMBIGUOUS, banned=banned)

    assert bool(reached) == (event not in (Event.DECLINED, Event.FOUND_REJECTED))


def _sends_within_reach(start: Status, *, banned: frozenset[Event] | set[Event]) -> set[Event]:
    seen, todo, sends = {start}, [start], set()
    while todo:
        for event, targets in TABLE[todo.pop()].items():
            if event in banned:
                continue
            if event in SENDS:
                sends.add(event)
            todo += [t for t in targets if t not in seen]
            seen |= targets
    return sends
