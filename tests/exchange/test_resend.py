"""Asking again under the same native key: within the caller's wait, and on its own retry."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from proxy.core.model import Status
from proxy.core.ports import Phase, SendFailed
from proxy.core.reasons import Reason
from proxy.exchange.attempt import Finished
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
    """The request did leave once: a re-send that didn't unsays nothing."""
    played = settling()
    refused = SendFailed(Phase.CONNECT, "refused", "refused")
    played.provider.script = [LOST, *[refused for _ in range(9)]]

    told = await played.ask(wait=0.5)

    assert shown(told) == (504, "unknown", True)
    assert len(played.provider.sent) > 1
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


async def test_settling_does_not_keep_the_caller_longer_than_its_wait() -> None:
    """A re-send may hang; it goes on, and who asks later gets its outcome."""
    played = settling()
    hangs = asyncio.Event()
    played.provider.script = [LOST, hangs]
    began = played.clock.boot()

    told = await played.ask(wait=0.4)

    assert shown(told) == (504, "unknown", True)
    assert played.clock.boot() - began < 1
    hangs.set()
    assert shown(await played.ask())[:2] == (200, "yes")
    assert len(played.provider.sent) == 2


async def test_a_drain_ends_settling_and_begins_nothing() -> None:
    played = settling()
    played.provider.script = [LOST for _ in range(20)]
    asked = [asyncio.create_task(played.ask(wait=30)) for _ in range(5)]
    await until(lambda: len(played.provider.sent) == 2)

    cut = await played.exchange.drain(5)
    sent = len(played.provider.sent)
    told = await asyncio.gather(*asked)

    assert cut == 0
    assert {shown(each)[1] for each in told} == {"unknown"}
    late = await played.ask("k2")
    assert isinstance(late, Problem)
    assert (late.reason, len(played.provider.sent)) == (Reason.DRAINING, sent)


async def test_a_drain_that_cuts_the_first_off_answers_those_who_waited_for_it() -> None:
    played = settling()
    played.provider.gate.clear()
    asked = [asyncio.create_task(played.ask(wait=30)) for _ in range(5)]
    await until(lambda: len(played.provider.sent) == 1)

    assert await played.exchange.drain(0.05) == 1
    told = await asyncio.gather(*asked)

    assert {shown(each)[:2] for each in told} == {(504, "unknown")}
    assert len(played.provider.sent) == 1


async def test_a_failure_whose_body_was_cut_off_by_a_drain_is_known_to_be_one() -> None:
    """Else the provider would be asked again, and run it anew."""
    played = settling(native=native(locks=True, failures="rerun"))
    played.provider.script = [Answered(500, hold=asyncio.Event())]
    asked = asyncio.create_task(played.ask())
    await until(lambda: ("after_send", ()) in played.observer.seen)

    assert await played.exchange.drain(0.05) == 1
    await asked
    assert (row(played).status, row(played).upstream_status) == (Status.AMBIGUOUS, 500)


async def test_a_key_that_somebody_else_used_is_held() -> None:
    """In progress on the very first attempt: asking again would give us the other's answer."""
    played = settling(native=native(locks=True, in_progress=(matcher(409),)))
    played.provider.script = [Answered(409)]
    first, second = await played.ask(), await played.ask()

    assert shown(first) == (409, "unknown", True)
    assert isinstance(second, Problem)
    assert (second.reason, len(played.provider.sent)) == (Reason.NOTHING_CAN_TELL, 1)


async def test_waiters_are_told_as_the_sender_that_nothing_can_tell() -> None:
    played = stage()
    played.provider.script = [LOST]
    played.provider.gate.clear()
    asked = [asyncio.create_task(played.ask()) for _ in range(3)]
    await until(lambda: len(played.provider.sent) == 1)
    played.provider.gate.set()
    told = await asyncio.gather(*asked)

    assert {each.reason for each in told if isinstance(each, Problem)} == {Reason.NOTHING_CAN_TELL}


async def test_what_overtook_a_call_must_be_the_same_call() -> None:
    """A corrected request may have taken the key: its answer is not this caller's."""
    played = settling()
    played.provider.script = [LOST]
    first = await played.ask(wait=0)
    prepared = played.prepared("k1")
    done = replace(row(played), status=Status.SUCCEEDED, open=())
    before = Finished(first, row(played))
    overtaken = played.exchange._settling._overtaken

    assert overtaken(prepared, before, replace(done, fingerprint="1:other")) is before
    assert overtaken(prepared, before, replace(done, credential="other")) is before
    assert overtaken(prepared, before, done) is not before
