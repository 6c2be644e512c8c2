"""Asking again under the same native key: within the caller's wait, and on its own retry."""

from __future__ import annotations

import asyncio
from typing import Any

from proxy.core.model import Status
from proxy.core.ports import Phase, SendFailed
from proxy.core.reasons import Reason
from proxy.exchange.told import Passed, Problem
from tests.core.builders import matcher, native
from tests.exchange.stage import Answered, Stage, stage
from tests.exchange.test_exchange import shown, until

LOST = SendFailed(Phase.WAIT, "reset", "gone")


def settling(**rule: Any) -> Stage:
    key = rule.pop("native", native(locks=True))
    return stage(native=key, settle_by=("resend",), quiet_seconds=1.0, **rule)


def keys(played: Stage) -> list[bytes]:
    return [dict(outgoing.headers)[b"Idempotency-Key"] for outgoing in played.provider.sent]


def row(played: Stage) -> Any:
    return next(iter(played.ledger._rows.values())).entry


async def test_a_lost_answer_is_asked_for_again_under_the_same_key_and_with_the_same_bytes() -> None:
    played = settling()
    played.provider.script = [LOST, LOST]

    told = await played.ask(body=b'{"amount":  10}')

    assert shown(told) == (200, "yes", True)
    assert len(set(keys(played))) == 1
    assert [outgoing.body for outgoing in played.provider.sent] == [b'{"amount":  10}'] * 3
    assert row(played).attempt.number == 3
    assert shown(await played.ask(body=b'{"amount":  10}')) == (200, "yes", False)


async def test_waiters_share_what_settling_found() -> None:
    played = settling()
    played.provider.script = [LOST]
    played.provider.gate.clear()
    asked = [asyncio.create_task(played.ask()) for _ in range(10)]
    await until(lambda: len(played.provider.sent) == 1)
    played.provider.gate.set()
    told = await asyncio.gather(*asked)

    assert {shown(each)[:2] for each in told} == {(200, "yes")}
    assert len(played.provider.sent) == 2


async def test_a_wait_that_is_too_short_leaves_it_unknown_and_the_callers_retry_settles_it() -> None:
    played = settling()
    played.provider.script = [LOST]
    first = await played.ask(wait=0)
    retried = await played.ask()

    assert (shown(first), shown(retried)) == ((504, "unknown", True), (200, "yes", True))
    assert len(set(keys(played))) == 1


async def test_without_a_lock_nothing_is_sent_again_before_quiet_time() -> None:
    played = settling(native=native())
    played.provider.script = [LOST]
    first = await played.ask(wait=0.3)
    early = await played.ask(wait=0.3)
    assert (shown(first), shown(early)) == ((504, "unknown", True), (409, "unknown", False))
    assert isinstance(early, Problem)
    assert early.reason is Reason.OUTCOME_UNKNOWN
    assert early.retry_after is not None
    assert 0 < early.retry_after <= 3
    assert len(played.provider.sent) == 1
    played.clock.ahead += 3.1

    assert shown(await played.ask()) == (200, "yes", True)
    assert len(set(keys(played))) == 1


async def test_a_no_from_in_front_says_nothing_of_the_first_attempt() -> None:
    played = settling()
    played.provider.script = [LOST, *[Answered(429) for _ in range(9)]]

    told = await played.ask(wait=0.5)

    assert shown(told) == (429, "unknown", True)
    assert row(played).status is Status.AMBIGUOUS


async def test_a_no_from_behind_the_key_after_quiet_time_speaks_for_all() -> None:
    behind = native(behind_key=(matcher(402),))
    played = settling(native=behind)
    played.provider.script = [LOST, Answered(402)]
    await played.ask(wait=0)
    played.clock.ahead += 3.1

    assert shown(await played.ask()) == (402, "no", True)
    assert row(played).status is Status.REJECTED


async def test_a_no_from_behind_the_key_before_quiet_time_does_not() -> None:
    behind = native(locks=True, behind_key=(matcher(402),))
    played = settling(native=behind)
    played.provider.script = [LOST, *[Answered(402) for _ in range(9)]]

    told = await played.ask(wait=0.3)

    assert shown(told) == (402, "unknown", True)


async def test_a_key_still_in_progress_is_asked_about_until_it_is_done() -> None:
    key = native(locks=True, in_progress=(matcher(409),))
    played = settling(native=key)
    played.provider.script = [LOST, Answered(409), Answered(409), Answered()]

    assert shown(await played.ask()) == (200, "yes", True)
    assert len(played.provider.sent) == 4
    assert not [seen for seen in played.observer.seen if seen[0] == "contradicted"]


async def test_a_stored_failure_is_not_asked_again() -> None:
    played = settling(native=native(locks=True, failures="stored"))
    played.provider.script = [Answered(500)]
    first, second = await played.ask(), await played.ask()

    assert (shown(first), shown(second)) == ((500, "unknown", True), (409, "unknown", False))
    assert isinstance(second, Problem)
    assert second.reason is Reason.NOTHING_CAN_TELL
    assert len(played.provider.sent) == 1


async def test_a_forgotten_key_is_never_sent_again() -> None:
    played = settling(native=native(locks=True, retention_us=10_000_000))
    played.provider.script = [LOST]
    await played.ask(wait=0)
    played.clock.ahead += 7.1  # retention less total and quiet time

    told = await played.ask()
    assert isinstance(told, Problem)
    assert (told.reason, shown(told)) == (Reason.RETENTION_OVER, (409, "unknown", False))
    assert len(played.provider.sent) == 1


async def test_a_refused_connection_while_settling_leaves_the_doubt() -> None:
    played = settling()
    refused = SendFailed(Phase.CONNECT, "refused", "refused")
    played.provider.script = [LOST, *[refused for _ in range(9)]]

    told = await played.ask(wait=0.3)

    assert shown(told)[1] == "unknown"
    assert row(played).status is Status.AMBIGUOUS
    assert [attempt.number for attempt in row(played).open] == [1]


async def test_a_success_closes_every_attempt() -> None:
    played = settling()
    played.provider.script = [LOST]
    told = await played.ask()

    assert isinstance(told, Passed)
    assert row(played).open == ()


async def test_a_ledger_that_fails_while_settling_sends_nothing_more() -> None:
    played = settling()
    played.provider.script = [LOST]
    asked = asyncio.create_task(played.ask())
    await until(lambda: len(played.provider.sent) == 1)
    played.ledger.failing = {"claim"}

    assert shown(await asked) == (504, "unknown", True)
    assert len(played.provider.sent) == 1
