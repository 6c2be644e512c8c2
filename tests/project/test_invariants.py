"""The checker of the invariants finds each kind of lie, and finds none in an honest history."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest

from tests.support.invariants import check, hold
from tests.support.observations import Observation, observe
from tests.support.provider import Kind, Provider, Settings, serving

PAID = Observation(
    intent="i1",
    key="i1",
    asked_at=100.0,
    answered_at=101.0,
    status=200,
    executed="yes",
    sent="yes",
    entry="e1",
    entry_status="succeeded",
    meaning="pay 10",
    body_sha256="paid",
)
REPLAY = replace(PAID, number=2, asked_at=102.0, answered_at=102.1, sent="no", is_replay=True)
UNKNOWN = replace(PAID, status=504, executed="unknown", entry_status="ambiguous", is_problem=True, body_sha256="?")
REFUSED = replace(PAID, status=429, executed="no", entry_status="not_executed", body_sha256="later")
UNANSWERED = replace(PAID, status=None, executed=None, sent=None, entry=None, entry_status=None, body_sha256=None)

EFFECT = {"type": "effect", "at": 100.6, "received_at": 100.5, "seq": 1, "intent": "i1", "key": "K", "request": 1}
REQUEST = {"type": "request", "at": 100.5, "received_at": 100.5, "intent": "i1", "key": "K", "request": 1}
ANSWER = {"type": "answer", "at": 100.7, "intent": "i1", "key": "K", "request": 1, "status": 200}
ROW = {"id": "e1", "key": "i1", "generation": 1, "status": "succeeded", "executed": "yes", "attempts": 1,
       "created_at": "1970-01-01T00:01:40.400000Z"}  # fmt: skip


def later(record: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The same record of another request."""
    moved = {name: record[name] + seconds for name in ("at", "received_at") if name in record}
    return {**record, **moved, "request": 2}


@dataclass(frozen=True, slots=True)
class History:
    """What the three parties say; by default an honest story of one payment and one replay."""

    log: list[dict[str, Any]] = field(default_factory=lambda: [REQUEST, EFFECT, ANSWER])
    seen: list[Observation] = field(default_factory=lambda: [PAID, REPLAY])
    rows: list[dict[str, Any]] = field(default_factory=lambda: [ROW])
    options: dict[str, Any] = field(default_factory=dict)

    def broken(self) -> set[str]:
        return {found.invariant for found in check(self.log, self.seen, self.rows, **self.options)}


NO_ROW = {**ROW, "status": "not_executed", "executed": "no"}
OPEN_ROW = {**ROW, "status": "ambiguous", "executed": "unknown"}

LIES: dict[str, tuple[str, History]] = {
    "it was done twice": (
        "I1",
        History(
            log=[REQUEST, EFFECT, later(REQUEST, 1), later(EFFECT, 1), ANSWER],
            seen=[UNKNOWN],
            rows=[{**OPEN_ROW, "attempts": 2}],
        ),
    ),
    "yes, and it was never done": ("I2", History(log=[REQUEST, ANSWER])),
    "yes, before it was done": ("I2", History(log=[REQUEST, {**EFFECT, "at": 101.5}, ANSWER])),
    "yes, and it was done twice": (
        "I2",
        History(log=[REQUEST, EFFECT, later(REQUEST, 0.1), later(EFFECT, 0.1), ANSWER], rows=[{**ROW, "attempts": 2}]),
    ),
    "the ledger says yes, and it was never done": ("I2", History(log=[REQUEST, ANSWER], seen=[UNKNOWN])),
    "no, and it was done": ("I3", History(seen=[REFUSED], rows=[OPEN_ROW])),
    "no, and the attempt of then took effect later": (
        "I3",
        History(log=[REQUEST, {**EFFECT, "at": 109.0}, ANSWER], seen=[REFUSED], rows=[OPEN_ROW]),
    ),
    "no, while an earlier attempt was open": (
        "I3",
        History(
            seen=[UNKNOWN, replace(REFUSED, number=2, asked_at=103.0, answered_at=104.0)],
            rows=[{**OPEN_ROW, "attempts": 2}],
        ),
    ),
    "no, and it was sent again though nobody asked": (
        "I3",
        History(
            log=[REQUEST, ANSWER, later(REQUEST, 5), later(EFFECT, 5)],
            seen=[REFUSED],
            rows=[{**OPEN_ROW, "attempts": 2}],
        ),
    ),
    "the ledger says no, and it was done": ("I3", History(seen=[UNKNOWN], rows=[NO_ROW])),
    "nothing was sent, they say, and it arrived": (
        "I3",
        History(log=[REQUEST], seen=[replace(UNKNOWN, sent="no")], rows=[OPEN_ROW]),
    ),
    "two stored answers": ("I4", History(seen=[PAID, REPLAY, replace(REPLAY, number=3, body_sha256="other")])),
    "a stored answer that the first never got": ("I4", History(seen=[PAID, replace(REPLAY, status=201)])),
    "a replay to another caller": ("I4", History(seen=[PAID, replace(REPLAY, caller="somebody else")])),
    "a replay to another request": ("I4", History(seen=[PAID, replace(REPLAY, meaning="pay 20")])),
    "it arrived, and the ledger knows nothing": ("I5", History(seen=[UNANSWERED], rows=[])),
    "it arrived before the claim": (
        "I5",
        History(rows=[{**ROW, "created_at": "1970-01-01T00:01:40.600000+00:00"}]),
    ),
    "it arrived before the claim, in microseconds": ("I5", History(rows=[{**ROW, "created_at": 100_600_000}])),
    "it arrived more often than the ledger has attempts": (
        "I5",
        History(log=[REQUEST, later(REQUEST, 0.1), EFFECT, ANSWER]),
    ),
    "a success that no answer tells of": ("I6", History(log=[REQUEST, EFFECT], seen=[UNKNOWN])),
    "a no that no answer tells of": ("I6", History(log=[REQUEST], seen=[UNKNOWN], rows=[NO_ROW])),
    "an ambiguous entry that is gone": (
        "I6",
        History(options={"earlier": [{**OPEN_ROW, "key": "i0"}]}),
    ),
    "a success that is one no more": (
        "I6",
        History(seen=[UNKNOWN], rows=[OPEN_ROW], options={"earlier": [ROW]}),
    ),
    "an answer without a word on whether it was done": ("I8", History(seen=[replace(PAID, executed=None)])),
    "an answer of no entry, no problem, no exception": (
        "I8",
        History(seen=[replace(PAID, entry=None), replace(REPLAY, entry=None)]),
    ),
    "an entry that the ledger doesn't have": ("I8", History(seen=[replace(PAID, entry="e9")])),
    "a thing that nobody asked for": ("I8", History(seen=[], rows=[ROW])),
}

HONEST: dict[str, History] = {
    "one payment, one replay": History(),
    "a client that got no answer, and its retry": History(seen=[UNANSWERED, REPLAY]),
    "an unclear outcome": History(log=[REQUEST, EFFECT], seen=[UNKNOWN], rows=[OPEN_ROW]),
    "a refusal, then a retry that was sent": History(
        log=[REQUEST, ANSWER, later(REQUEST, 5), later(EFFECT, 5), later(ANSWER, 5)],
        seen=[REFUSED, replace(PAID, number=2, asked_at=105.0, answered_at=106.0)],
        rows=[{**ROW, "attempts": 2}],
    ),
    "a refusal told late, while another client's retry was already sent": History(
        log=[REQUEST, ANSWER, later(REQUEST, 1), later(EFFECT, 1), later(ANSWER, 1)],
        seen=[
            replace(REFUSED, answered_at=110.0),
            replace(PAID, number=2, asked_at=101.2, answered_at=102.0),
        ],
        rows=[{**ROW, "attempts": 2}],
    ),
    "twice, by a named person's decision": History(
        log=[REQUEST, EFFECT, later(REQUEST, 1), later(EFFECT, 1), ANSWER],
        seen=[UNKNOWN],
        rows=[{**ROW, "attempts": 2}],
        options={"excused": {"i1"}},
    ),
    "a first answer that could not be recorded": History(
        seen=[replace(PAID, is_recorded=False, body_sha256="first"), REPLAY]
    ),
    "a rule that stores only the status": History(
        seen=[PAID, replace(REPLAY, body_sha256="empty")], options={"keeps_body": False}
    ),
    "an unprotected call, done twice": History(
        log=[REQUEST, EFFECT, later(REQUEST, 1), later(EFFECT, 1)],
        seen=[replace(PAID, entry=None, executed="unknown", entry_status="unprotected")],
        rows=[],
    ),
    "a server that records effects only": History(log=[EFFECT]),
    "a key that two callers use": History(
        log=[REQUEST, EFFECT, ANSWER, *({**record, "intent": "i2"} for record in (REQUEST, EFFECT, ANSWER))],
        seen=[
            replace(PAID, key="k", caller="a", entry=None, is_problem=True),
            replace(PAID, intent="i2", key="k", caller="b", entry=None, is_problem=True),
        ],
        rows=[{**ROW, "key": "g:k", "caller": "a"}, {**ROW, "key": "g:k", "caller": "b", "id": "e2"}],
    ),
    "reading": History(log=[{**REQUEST, "method": "GET"}], seen=[], rows=[]),
}


@pytest.mark.parametrize(("invariant", "history"), LIES.values(), ids=LIES)
def test_a_lie_is_found(invariant: str, history: History) -> None:
    assert invariant in history.broken()


@pytest.mark.parametrize("history", HONEST.values(), ids=HONEST)
def test_an_honest_history_has_no_lie(history: History) -> None:
    assert history.broken() == set()


def test_each_invariant_has_a_lie_of_its_own() -> None:
    alone = {invariant for invariant, history in LIES.values() if history.broken() == {invariant}}
    assert alone == {"I1", "I2", "I3", "I4", "I5", "I6", "I8"}


def test_a_violation_tells_the_story_in_order() -> None:
    with pytest.raises(AssertionError) as failure:
        hold([REQUEST, EFFECT, ANSWER], [REFUSED], [OPEN_ROW])
    assert str(failure.value) == (
        "I3 (no is true) broken for i1: client request 1 was told no of an attempt that took effect\n"
        "       +0.000s  client request 1 began (key i1)\n"
        "       +0.500s  provider received request 1 (key K)\n"
        "       +0.600s  provider did it: effect 1 (key K)\n"
        "       +0.700s  provider answered request 1: 200\n"
        "       +1.000s  client request 1 was answered: status 429, executed=no, sent=yes, not_executed\n"
        "       ledger   id=e1 key=i1 generation=1 status=ambiguous executed=unknown attempts=1"
    )


async def test_a_proxy_that_only_forwards_is_caught_on_a_real_provider() -> None:
    """A client that retries a dropped answer without any protection: the records of a real run show the duplicate."""
    async with serving(Settings(kind=Kind.BLIND)) as provider, aiohttp.ClientSession() as session:
        seen = [await _ask(session, provider, number) for number in (1, 2)]
    row = {**ROW, "attempts": 2, "created_at": seen[0].asked_at * 1e6}
    assert {found.invariant for found in check(provider.log.records, seen, [row])} == {"I1", "I2"}


async def _ask(session: aiohttp.ClientSession, provider: Provider, number: int) -> Observation:
    asked_at = time.time()
    told = [("Dedup-Executed", "yes"), ("Dedup-Sent", "yes"), ("Dedup-Entry", "e1"), ("Dedup-Status", "succeeded")]
    try:
        async with session.post(f"{provider.url}/?behave=effect,drop|ok", headers={"X-Intent": "i1"}) as answer:
            return observe(
                "i1", number=number, asked_at=asked_at, status=answer.status, headers=told, body=await answer.read()
            )
    except (aiohttp.ClientError, asyncio.IncompleteReadError):
        return observe("i1", number=number, asked_at=asked_at)
