"""The simulator is worth its runs only if it sees a broken rule: each is taken out, and must be found."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from proxy.core import outcome, settle, states
from proxy.core.model import Entry, Status
from proxy.core.outcome import Outcome
from proxy.core.reasons import Reason
from proxy.core.states import Event, Evidence
from proxy.ledger import guard
from tests.simulation.test_histories import run, violations
from tests.simulation.world import Kind

SEEDS_MAX = 2000
Patch = Callable[[pytest.MonkeyPatch], None]


def no_quiet_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settle, "seconds_to_quiet", lambda *_, **__: 0.0)


def a_timeout_is_a_no(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outcome, "of_failure", lambda *_: Outcome(Event.NOT_SENT, Reason.NOT_SENT))


def a_no_speaks_for_all(patch: pytest.MonkeyPatch) -> None:
    def closes_all(entry: Entry, what: Evidence, past: Any, now: int) -> Entry | None:
        del past, now
        if what.token not in {attempt.token for attempt in entry.open}:
            return None
        return replace(entry, status=Status.NOT_EXECUTED, open=(), upstream_status=what.upstream_status)

    patch.setattr(states, "_SETTLE", {**states._SETTLE, Event.TURNED_AWAY: closes_all, Event.NOT_SENT: closes_all})


def an_attempt_begins_whatever_the_row_says(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guard, "may_begin_next", lambda *_: True)


def a_server_error_is_a_no(patch: pytest.MonkeyPatch) -> None:
    judge = outcome._by_status

    def lenient(status: int, **how: Any) -> tuple[Event, Reason]:
        return (Event.TURNED_AWAY, Reason.TURNED_AWAY) if status >= 500 else judge(status, **how)

    patch.setattr(outcome, "_by_status", lenient)


def a_lease_that_is_over_is_a_no(patch: pytest.MonkeyPatch) -> None:
    def gone(entry: Entry, what: Evidence, past: Any, now: int) -> Entry | None:
        del past
        if what.token != entry.attempt.token or now < entry.lease_until:
            return None
        return replace(entry, status=Status.NOT_EXECUTED, open=())

    patch.setattr(states, "_SETTLE", {**states._SETTLE, Event.LEASE_EXPIRED: gone})
    table = {
        **states.TABLE,
        Status.IN_FLIGHT: {**states.TABLE[Status.IN_FLIGHT], Event.LEASE_EXPIRED: frozenset(Status)},
    }
    patch.setattr(states, "TABLE", table)


BROKEN: dict[str, tuple[Patch, Kind, bool]] = {
    "quiet time": (no_quiet_time, "stored", False),
    "a timeout proves nothing": (a_timeout_is_a_no, "blind", False),
    "a no speaks of its own attempt": (a_no_speaks_for_all, "stored", True),
    "an attempt begins only on the row it was decided on": (an_attempt_begins_whatever_the_row_says, "stored", False),
    "a server error proves nothing": (a_server_error_is_a_no, "blind", False),
    "a dead holder proves nothing": (a_lease_that_is_over_is_a_no, "blind", False),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_rule_that_is_taken_out_is_missed(rule: str, seed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, kind, locks = BROKEN[rule]
    patch(monkeypatch)
    first = random.Random(seed).randrange(2**32)

    for number in range(first, first + SEEDS_MAX):
        if violations(run(number, kind, locks=locks)):
            return
    pytest.fail(f"{SEEDS_MAX} histories from seed {first} were fine without the rule: {rule}")
