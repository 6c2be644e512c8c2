"""What callers are told, what is sent, and what the ledger says, when things go wrong at each step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from proxy.core.model import Executed, Status
from proxy.core.policy import Matcher, OutcomeRule, StatusMatch, Store
from proxy.core.ports import Phase, SendFailed
from proxy.core.problems import status_of
from proxy.core.reasons import Reason
from proxy.exchange import claims as module
from proxy.exchange.told import Passed, Problem, Told
from tests.core.builders import compile_expression, computed_key, native
from tests.exchange.stage import DAY_US, Answered, Stage, stage

COMPUTED = ("method", 'headers."idempotency-key"')
"""Two parts make a computed key of what would alone be a given one."""


def shown(told: Told) -> tuple[int, str | None, bool]:
    """Status, executed and sent, as the wire will say them."""
    facts = told.facts
    status = told.status if isinstance(told, Passed) else status_of(told.reason, sent=facts.sent)
    return status, facts.executed, facts.sent


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0.005)


async def test_a_duplicate_is_answered_from_the_ledger() -> None:
    played = stage()
    first, second = await played.ask(), await played.ask()

    assert (shown(first), shown(second)) == ((200, "yes", True), (200, "yes", False))
    assert isinstance(second, Passed)
    assert (second.body, second.facts.replayed, second.facts.reason) == (b'{"id": 1}', True, Reason.REPLAYED)
    assert len(played.provider.sent) == 1


async def test_a_caller_that_goes_away_does_not_stop_its_call() -> None:
    played = stage()
    played.provider.gate.clear()
    asked = asyncio.create_task(played.ask())
    await until(lambda: len(played.provider.sent) == 1)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    played.provider.gate.set()

    second = await played.ask()
    assert shown(second) == (200, "yes", False)
    assert len(played.provider.sent) == 1


async def test_equal_requests_share_one_send_and_one_answer() -> None:
    played = stage()
    played.provider.gate.clear()
    asked = [asyncio.create_task(played.ask()) for _ in range(50)]
    await until(lambda: len(played.provider.sent) == 1)
    played.provider.gate.set()
    told = await asyncio.gather(*asked)

    assert sorted(shown(each)[2] for each in told) == [False] * 49 + [True]
    assert {each.body for each in told if isinstance(each, Passed)} == {b'{"id": 1}'}
    assert len(played.provider.sent) == 1


async def test_waiters_of_a_429_get_it_and_only_later_requests_are_sent() -> None:
    played = stage()
    played.provider.script = [Answered(429)]
    played.provider.gate.clear()
    asked = [asyncio.create_task(played.ask()) for _ in range(20)]
    await until(lambda: len(played.provider.sent) == 1)
    played.provider.gate.set()
    told = await asyncio.gather(*asked)
    later = await played.ask()

    assert {shown(each)[:2] for each in told} == {(429, "no")}
    assert not any(each.facts.replayed for each in told)
    assert shown(later) == (200, "yes", True)
    assert len(played.provider.sent) == 2


async def test_a_waiter_of_a_lost_answer_is_told_409_where_the_first_is_told_504() -> None:
    played = stage()
    played.provider.script = [SendFailed(Phase.WAIT, "reset", "gone")]
    played.provider.gate.clear()
    asked = [asyncio.create_task(played.ask()) for _ in range(2)]
    await until(lambda: len(played.provider.sent) == 1)
    played.provider.gate.set()
    told = await asyncio.gather(*asked)

    assert sorted(shown(each) for each in told) == [(409, "unknown", False), (504, "unknown", True)]


async def test_a_wait_that_is_over_is_a_409_and_sends_nothing() -> None:
    played = stage()
    played.provider.gate.clear()
    asked = asyncio.create_task(played.ask())
    await until(lambda: len(played.provider.sent) == 1)

    second = await played.ask(wait=0.05)

    assert isinstance(second, Problem)
    assert (second.reason, shown(second), second.retry_after) == (Reason.IN_PROGRESS, (409, "unknown", False), 1.0)
    played.provider.gate.set()
    await asked


async def test_another_body_under_a_key_that_is_being_claimed_waits_for_the_claim_and_is_refused() -> None:
    played = stage()
    played.ledger.claims.clear()
    first = asyncio.create_task(played.ask())
    await asyncio.sleep(0.01)
    second = asyncio.create_task(played.ask(body=b'{"amount": 2}'))
    await asyncio.sleep(0.01)
    played.ledger.claims.set()

    assert shown(await first) == (200, "yes", True)
    told = await second
    assert isinstance(told, Problem)
    assert (told.reason, shown(told)) == (Reason.KEY_REUSED, (422, "unknown", False))
    assert len(played.provider.sent) == 1


async def test_two_callers_with_one_key_are_two_calls_under_two_outgoing_keys() -> None:
    played = stage(native=native())
    await played.ask(caller="shop")
    await played.ask(caller="till")

    keys = {dict(outgoing.headers)[b"Idempotency-Key"] for outgoing in played.provider.sent}
    assert len(keys) == 2


async def test_a_ledger_that_cannot_claim_sends_nothing() -> None:
    played = stage()
    played.ledger.failing = {"claim"}
    told = await played.ask()

    assert isinstance(told, Problem)
    assert (told.reason, shown(told)) == (Reason.LEDGER_UNAVAILABLE, (503, "unknown", False))
    assert played.provider.sent == []


async def test_a_claim_acknowledged_too_late_is_closed_as_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLAIM_SECONDS_MAX", 0.05)
    played = stage()
    played.ledger.claims.clear()
    told = await played.ask()
    assert isinstance(told, Problem)
    assert (told.reason, played.provider.sent) == (Reason.LEDGER_UNAVAILABLE, [])
    played.ledger.claims.set()

    await until(lambda: _status(played) is Status.NOT_EXECUTED)
    retried = await played.ask()
    assert shown(retried) == (200, "yes", True)
    assert len(played.provider.sent) == 1


async def test_an_outcome_that_cannot_be_recorded_is_passed_on_and_recorded_later() -> None:
    played = stage()
    played.ledger.failing = {"record"}
    told = await played.ask()
    assert (shown(told), told.facts.recorded) == ((200, "unknown", True), False)
    played.ledger.failing = set()

    await until(lambda: _status(played) is Status.SUCCEEDED)
    assert shown(await played.ask()) == (200, "yes", False)


async def test_a_no_that_is_not_durable_is_not_told() -> None:
    played = stage()
    played.ledger.failing = {"record"}
    played.provider.script = [Answered(402)]

    told = await played.ask()

    assert (shown(told), told.facts.recorded) == ((402, "unknown", True), False)


async def test_the_providers_retry_after_is_obeyed() -> None:
    played = stage()
    played.provider.script = [Answered(429, headers=((b"Retry-After", b"30"),))]
    await played.ask()
    second = await played.ask()
    assert isinstance(second, Problem)
    assert (second.reason, shown(second)) == (Reason.PROVIDER_BUSY, (503, "no", False))
    assert second.retry_after is not None
    assert 29 < second.retry_after <= 30
    played.clock.ahead += 31

    assert shown(await played.ask()) == (200, "yes", True)
    assert len(played.provider.sent) == 2


async def test_no_free_place_is_told_and_nothing_is_claimed() -> None:
    played = stage(concurrency=1)
    played.provider.gate.clear()
    asked = [asyncio.create_task(played.ask(f"k{n}")) for n in range(3)]
    await until(lambda: any(task.done() for task in asked))
    told = next(task.result() for task in asked if task.done())

    assert isinstance(told, Problem)
    assert (told.reason, shown(told)) == (Reason.PROVIDER_BUSY, (503, "no", False))
    played.provider.gate.set()
    await asyncio.gather(*asked)


async def test_an_answer_too_large_to_keep_streams_to_the_first_and_leaves_a_tombstone() -> None:
    played = stage(max_stored_answer=10)
    large = Answered(pieces=(b"x" * 8, b"y" * 8, b"z" * 8))
    played.provider.script = [large]
    first, second = await played.ask(), await played.ask()

    assert isinstance(first, Passed)
    assert not isinstance(first.body, bytes)
    assert b"".join([piece async for piece in first.body]) == b"x" * 8 + b"y" * 8 + b"z" * 8
    await first.close()
    assert large.closed == 1
    assert isinstance(second, Problem)
    assert (second.reason, shown(second)) == (Reason.ANSWER_NOT_STORED, (409, "yes", False))


async def test_a_body_that_breaks_off_is_passed_up_to_where_it_broke() -> None:
    played = stage()
    played.provider.script = [Answered(pieces=(b"half",), breaks=True)]
    first, second = await played.ask(), await played.ask()

    assert isinstance(first, Passed)
    assert not isinstance(first.body, bytes)
    stream = aiter(first.body)
    assert (await anext(stream), shown(first)) == (b"half", (200, "yes", True))
    with pytest.raises(SendFailed):
        await anext(stream)
    assert shown(second) == (409, "yes", False)


async def test_a_rule_that_must_read_a_body_too_large_to_read_is_ambiguous() -> None:
    rule = OutcomeRule(Matcher(StatusMatch(codes=frozenset({200})), compile_expression("body.error")), "rejected")
    played = stage(max_stored_answer=4, outcomes=(rule,))
    told = await played.ask()

    assert (shown(told), told.facts.reason) == ((200, "unknown", True), Reason.ANSWER_UNREADABLE)


async def test_rules_see_which_attempt_they_judge() -> None:
    rule = OutcomeRule(Matcher(StatusMatch(codes=frozenset({409})), compile_expression("attempt > `1`")), "succeeded")
    played = stage(outcomes=(rule,))
    played.provider.script = [Answered(409), Answered(409)]

    assert shown(await played.ask()) == (409, "no", True)
    assert shown(await played.ask()) == (409, "yes", True)


async def test_a_drain_that_cuts_an_attempt_short_leaves_it_ambiguous_and_says_so() -> None:
    played = stage()
    played.provider.gate.clear()
    asked = asyncio.create_task(played.ask())
    await until(lambda: len(played.provider.sent) == 1)

    cut = await played.exchange.drain(0.05)

    assert cut == 1
    assert shown(await asked) == (504, "unknown", True)
    assert _status(played) is Status.AMBIGUOUS


async def test_a_drain_lets_attempts_end() -> None:
    played = stage()
    played.provider.gate.clear()
    asked = asyncio.create_task(played.ask())
    await until(lambda: len(played.provider.sent) == 1)
    draining = asyncio.create_task(played.exchange.drain(5))
    await asyncio.sleep(0.01)
    played.provider.gate.set()

    assert (await draining, shown(await asked)) == (0, (200, "yes", True))


async def test_a_window_that_is_over_makes_a_new_call_under_a_new_outgoing_key() -> None:
    played = stage(native=native(), key=computed_key(*COMPUTED, window_us=3_600_000_000))
    await played.ask()
    played.clock.ahead += 3_599
    again = await played.ask()
    await until(lambda: len(played.ledger.touched) == 1)
    played.clock.ahead += 3_600
    new = await played.ask()

    assert (shown(again), shown(new)) == ((200, "yes", False), (200, "yes", True))
    keys = {dict(outgoing.headers)[b"Idempotency-Key"] for outgoing in played.provider.sent}
    assert len(keys) == 2
    assert new.facts.entry is not None
    assert new.facts.entry.endswith("-2")


async def test_the_last_request_is_kept_to_a_hundredth_of_the_window() -> None:
    played = stage(key=computed_key(*COMPUTED, window_us=100_000_000))
    await played.ask()
    for _ in range(5):
        await played.ask()
    assert played.ledger.touched == []
    played.clock.ahead += 1.5
    await played.ask()
    await until(lambda: len(played.ledger.touched) == 1)
    await played.ask()

    assert len(played.ledger.touched) == 1


async def test_a_callers_own_key_has_no_window() -> None:
    """A retry a day later is the same call, also where the rule has a window for the keys that it computes."""
    played = stage(native=native(), window_us=1_000_000)
    first = await played.ask()
    played.clock.ahead += 86_400
    later = await played.ask()
    other = await played.ask(body=b'{"amount": 2}')

    assert (shown(first), shown(later), shown(other)) == (
        (200, "yes", True),
        (200, "yes", False),
        (422, "unknown", False),
    )
    assert later.facts.expires is not None
    assert first.facts.expires is not None
    assert first.facts.expires - played.ledger.now() > 80 * DAY_US


@pytest.mark.parametrize(
    "value",
    [
        b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        b"Mon, 01 Jan 2024 00:00:00 +99999999999999999999",
        b"soon",
        b"-5",
        b"",
    ],
)
async def test_an_odd_retry_after_is_no_retry_after(value: bytes) -> None:
    played = stage()
    played.provider.script = [Answered(429, headers=((b"Retry-After", value),))]

    assert shown(await played.ask()) == (429, "no", True)
    assert shown(await played.ask()) == (200, "yes", True)


async def test_a_bug_after_the_send_is_told_as_unknown_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks in judging an answer, the attempt may have left."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    seen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    monkeypatch.setattr("proxy.exchange.attempt.outcome.of_answer", broken)
    played = stage()

    assert shown(await played.ask()) == (504, "unknown", True)
    assert _status(played) is Status.AMBIGUOUS
    assert [type(context["exception"]) for context in seen] == [ZeroDivisionError]


@pytest.mark.parametrize("keep", ["none", "full"])
async def test_waiters_of_an_answer_that_is_not_kept_get_its_status(keep: Any) -> None:
    """Not our own 502: the provider was reached and said no."""
    played = stage(max_stored_answer=4, store=Store(answer=keep))
    played.provider.script = [Answered(400, pieces=(b"much too large",))]
    played.provider.gate.clear()
    asked = [asyncio.create_task(played.ask()) for _ in range(3)]
    await until(lambda: len(played.provider.sent) == 1)
    played.provider.gate.set()
    told = await asyncio.gather(*asked)

    assert {shown(each)[:2] for each in told} == {(400, "no")}
    assert len(played.provider.sent) == 1


async def test_what_stays_unknown_is_never_sent_again() -> None:
    played = stage()
    played.provider.script = [Answered(500)]
    first = await played.ask()
    played.clock.ahead += 10**7
    later = [await played.ask() for _ in range(3)]

    assert shown(first) == (500, "unknown", True)
    assert {shown(each) for each in later} == {(409, "unknown", False)}
    assert later[0].facts.executed is Executed.UNKNOWN
    assert len(played.provider.sent) == 1


def _status(played: Stage) -> Status | None:
    rows = list(played.ledger._rows.values())
    return rows[0].entry.status if rows else None
