"""What a claim guarantees, on every ledger. Negative cases first."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from proxy.core.model import FINAL, Status
from proxy.core.ports import Claim
from proxy.core.states import Event
from tests.contract.ledgers import (
    HOUR,
    LEASE,
    QUIET,
    Bench,
    answer,
    claim,
    new_key,
    new_token,
    next_generation,
    opened,
    reclaim,
    write,
)

FINISH = {
    Status.SUCCEEDED: Event.ANSWERED,
    Status.REJECTED: Event.DECLINED,
    Status.NOT_EXECUTED: Event.TURNED_AWAY,
    Status.AMBIGUOUS: Event.ANSWER_LOST,
}


async def begun(bench: Bench, status: Status = Status.IN_FLIGHT, **fields):
    """An entry in *status*, as the ledger returned it."""
    landed = await bench.ledger.claim(claim(**fields))
    assert landed.landed
    if status is Status.IN_FLIGHT:
        return landed.entry
    written = await bench.ledger.record(write(landed.entry, FINISH[status]))
    assert written.landed and written.entry.status is status
    return written.entry


@pytest.mark.parametrize("status", list(Status))
async def test_a_first_claim_loses_against_any_row_and_learns_it(bench, status):
    entry = await begun(bench, status)
    landed = await bench.ledger.claim(claim(entry.key_hash))
    assert not landed.landed
    assert landed.entry == entry == await bench.ledger.read(entry.key_hash)


async def test_of_forty_concurrent_claims_one_wins_and_all_learn_its_row(bench):
    key_hash = new_key()
    landed = await asyncio.gather(*(bench.ledger.claim(claim(key_hash)) for _ in range(40)))
    assert sum(one.landed for one in landed) == 1
    assert len({one.entry.attempt.token for one in landed}) == 1


async def test_claims_of_different_keys_all_land(bench):
    landed = await asyncio.gather(*(bench.ledger.claim(claim()) for _ in range(100)))
    assert all(one.landed for one in landed)


async def test_a_claim_is_read_back_as_it_was_drafted_with_the_ledgers_times(bench):
    wish = claim(scope=("a", "", "ü\U0001f600"), key="g:\"k'", credential=None, fingerprint_frozen=True)
    now = bench.ledger.now()
    landed = await bench.ledger.claim(wish)
    at = landed.entry.created_at
    assert 0 <= at - now < 5_000_000
    attempt = replace(wish.entry.attempt, claimed_at=at, quiet_at=at + QUIET)
    expected = replace(
        wish.entry, attempt=attempt, open=(attempt,), lease_until=at + LEASE, created_at=at, updated_at=at,
        last_request_at=at, first_sent_at=at,
    )  # fmt: skip
    assert landed.landed
    assert landed.entry == expected == await bench.ledger.read(wish.entry.key_hash)


async def test_a_claim_repeated_with_its_own_token_has_landed(bench):
    wish = claim()
    first = await bench.ledger.claim(wish)
    again = await bench.ledger.claim(wish)
    assert again == first


async def test_a_claim_repeated_after_its_attempt_ended_has_not_landed(bench):
    wish = claim()
    landed = await bench.ledger.claim(wish)
    ended = await bench.ledger.record(write(landed.entry, Event.NOT_SENT))
    again = await bench.ledger.claim(wish)
    assert not again.landed
    assert again.entry == ended.entry


# -- the next attempt -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.NOT_EXECUTED])
async def test_only_what_was_not_executed_is_attempted_again(bench, status):
    entry = await begun(bench, status)
    wish = reclaim(replace(entry, status=Status.NOT_EXECUTED, open=()))
    landed = await bench.ledger.claim(wish)
    assert not landed.landed
    assert landed.entry == entry


async def test_a_next_attempt_decided_on_an_older_one_loses(bench):
    first = await begun(bench, Status.NOT_EXECUTED)
    second = await bench.ledger.claim(reclaim(first))
    ended = await bench.ledger.record(write(second.entry, Event.NOT_SENT))
    stale = await bench.ledger.claim(reclaim(first))
    assert not stale.landed
    assert stale.entry == ended.entry


async def test_a_next_attempt_of_a_key_without_a_row_loses(bench):
    entry = replace(claim().entry, status=Status.NOT_EXECUTED, open=())
    landed = await bench.ledger.claim(reclaim(entry))
    assert (landed.landed, landed.entry) == (False, None)


async def test_of_forty_concurrent_next_attempts_one_wins(bench):
    entry = await begun(bench, Status.NOT_EXECUTED)
    landed = await asyncio.gather(*(bench.ledger.claim(reclaim(entry)) for _ in range(40)))
    assert sum(one.landed for one in landed) == 1
    assert {one.entry.attempt.number for one in landed} == {2}


async def test_a_next_attempt_keeps_what_it_must_and_gets_new_times(bench):
    entry = await begun(bench, Status.NOT_EXECUTED)
    bench.clock.advance(HOUR)
    wish = reclaim(entry, fingerprint="1:bb", credential=None)
    landed = await bench.ledger.claim(wish)
    at = landed.entry.updated_at
    attempt = replace(wish.entry.attempt, claimed_at=at, quiet_at=at + QUIET)
    expected = replace(
        wish.entry, attempt=attempt, open=(attempt,), lease_until=at + LEASE, updated_at=at, last_request_at=at,
        created_at=entry.created_at, first_sent_at=entry.first_sent_at, fingerprint="1:bb", credential=None,
    )  # fmt: skip
    assert landed.landed
    assert at >= entry.created_at + HOUR
    assert landed.entry == expected == await bench.ledger.read(entry.key_hash)


async def test_a_new_outgoing_key_counts_its_first_send_anew(bench):
    entry = await begun(bench, Status.NOT_EXECUTED)
    bench.clock.advance(HOUR)
    landed = await bench.ledger.claim(reclaim(entry, outgoing_key="out-revised", revision=3))
    assert landed.entry.first_sent_at == landed.entry.updated_at >= entry.first_sent_at + HOUR


async def test_the_answer_of_the_attempt_before_is_not_that_of_the_next(bench):
    entry = await begun(bench)
    busy = answer(1, 429, b"later")
    told = await bench.ledger.record(write(entry, Event.TURNED_AWAY, answer=busy, upstream_status=429))
    assert (await bench.ledger.read(entry.key_hash)).answer == busy
    second = await bench.ledger.claim(reclaim(told.entry))
    assert second.entry.answer is None
    assert (await bench.ledger.read(entry.key_hash)).answer is None
    lost = await bench.ledger.record(write(second.entry, Event.ANSWER_LOST))
    assert lost.entry.answer is None
    assert (await bench.ledger.read(entry.key_hash)).answer is None


async def test_a_next_attempt_archives_the_one_before(bench):
    entry = await begun(bench, Status.NOT_EXECUTED)
    landed = await bench.ledger.claim(reclaim(entry))
    assert await bench.history(landed.entry) == ["reclaimed"]


# -- the next generation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [status for status in Status if status not in FINAL])
async def test_a_generation_that_is_not_final_is_not_followed(bench, status):
    entry = await begun(bench, status)
    bench.clock.advance(2 * HOUR)
    landed = await bench.ledger.claim(next_generation(entry))
    assert not landed.landed
    assert landed.entry == entry


@pytest.mark.parametrize("status", sorted(FINAL))
async def test_a_final_generation_is_followed_once_its_window_is_over(bench, status):
    entry = await begun(bench, status)
    bench.clock.advance(HOUR - 20_000_000)
    assert not (await bench.ledger.claim(next_generation(entry))).landed
    bench.clock.advance(20_000_000)
    landed = await bench.ledger.claim(next_generation(entry))
    assert landed.landed
    assert (landed.entry.generation, landed.entry.attempt.number) == (2, 1)
    assert await bench.ledger.read(entry.key_hash) == landed.entry


async def test_a_later_request_moves_the_end_of_the_window_on(bench):
    entry = await begun(bench, Status.SUCCEEDED)
    bench.clock.advance(HOUR // 2)
    await bench.ledger.touch(entry.key_hash, 1)
    bench.clock.advance(HOUR // 2 + 1_000_000)
    assert not (await bench.ledger.claim(next_generation(entry))).landed
    bench.clock.advance(HOUR // 2)
    assert (await bench.ledger.claim(next_generation(entry))).landed


async def test_a_next_generation_decided_on_an_older_attempt_loses(bench):
    entry = await begun(bench, Status.NOT_EXECUTED)
    second = await bench.ledger.claim(reclaim(entry))
    ended = await bench.ledger.record(write(second.entry, Event.ANSWERED))
    bench.clock.advance(2 * HOUR)
    assert not (await bench.ledger.claim(next_generation(entry))).landed
    assert (await bench.ledger.claim(next_generation(ended.entry))).landed


async def test_a_next_generation_without_a_window_loses(bench):
    entry = await begun(bench, Status.SUCCEEDED)
    bench.clock.advance(2 * HOUR)
    wish = next_generation(entry)
    assert not (await bench.ledger.claim(Claim(wish.entry, LEASE, QUIET, wish.event, after=wish.after))).landed


async def test_of_forty_concurrent_next_generations_one_wins(bench):
    entry = await begun(bench, Status.SUCCEEDED)
    bench.clock.advance(2 * HOUR)
    landed = await asyncio.gather(*(bench.ledger.claim(next_generation(entry)) for _ in range(40)))
    assert sum(one.landed for one in landed) == 1
    assert {one.entry.generation for one in landed} == {2}


async def test_a_generation_that_was_followed_is_never_attempted_again(bench):
    entry = await begun(bench, Status.NOT_EXECUTED)
    bench.clock.advance(2 * HOUR)
    second = await bench.ledger.claim(next_generation(entry))
    landed = await bench.ledger.claim(reclaim(entry))
    assert not landed.landed
    assert landed.entry == second.entry


async def test_a_next_attempt_and_a_next_generation_at_once_end_as_one_of_them(bench):
    for _ in range(10):
        entry = await begun(bench, Status.NOT_EXECUTED)
        bench.clock.advance(2 * HOUR)
        wishes = [wish(entry) for wish in (reclaim, next_generation) * 5]
        landed = await asyncio.gather(*(bench.ledger.claim(wish) for wish in wishes))
        assert sum(one.landed for one in landed) == 1


async def test_a_followed_generation_still_takes_evidence_and_keeps_its_rows(bench):
    entry = await begun(bench, Status.NOT_EXECUTED)
    bench.clock.advance(2 * HOUR)
    second = await bench.ledger.claim(next_generation(entry))
    late = await bench.ledger.record(write(entry, Event.ANSWERED))
    assert late.landed and late.entry.generation == 1 and late.entry.status is Status.SUCCEEDED
    assert await bench.ledger.read(entry.key_hash) == second.entry


async def test_a_first_generation_does_not_come_back_beside_a_later_one(database):
    """A purge may have removed generation 1, and with it the row that the primary key guards."""
    entry = await begun(database, Status.SUCCEEDED)
    database.clock.advance(2 * HOUR)
    second = await database.ledger.claim(next_generation(entry))
    await database.execute("DELETE FROM entry WHERE generation = 1")
    landed = await database.ledger.claim(claim(entry.key_hash))
    assert not landed.landed
    assert landed.entry == second.entry


# -- two processes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["first", "next attempt", "next generation"])
async def test_two_processes_on_one_database_have_one_winner(on_postgresql, kind):
    here = on_postgresql
    async with opened("postgresql", here.url) as there:
        there.clock.advance(2 * HOUR)
        here.clock.advance(2 * HOUR)
        for _ in range(10):
            if kind == "first":
                key_hash = new_key()
                wishes = [claim(key_hash) for _ in range(20)]
            else:
                entry = await begun(here, Status.NOT_EXECUTED)
                here.clock.advance(2 * HOUR)
                there.clock.advance(2 * HOUR)
                wishes = [(reclaim if kind == "next attempt" else next_generation)(entry) for _ in range(20)]
            turns = zip(wishes, [here.ledger, there.ledger] * 10, strict=True)
            landed = await asyncio.gather(*(ledger.claim(wish) for wish, ledger in turns))
            assert sum(one.landed for one in landed) == 1
            assert len({one.entry.attempt.token for one in landed}) == 1


async def test_crosswise_batches_of_two_processes_all_come_through(on_postgresql):
    """Whatever locks wait for each other, each claim and each outcome gets its answer."""
    here = on_postgresql
    async with opened("postgresql", here.url) as there:
        entries = [await begun(here, Status.NOT_EXECUTED) for _ in range(20)]
        for _ in range(5):
            wishes = [reclaim(entry) for entry in entries]
            forth = asyncio.gather(*(here.ledger.claim(wish) for wish in wishes))
            back = asyncio.gather(*(there.ledger.claim(reclaim(entry)) for entry in reversed(entries)))
            won = [one.entry for one in (*await forth, *await back) if one.landed]
            assert len(won) == 20
            ends = [there.ledger.record(write(entry, Event.NOT_SENT)) for entry in won]
            entries = [landed.entry for landed in await asyncio.gather(*ends)]
            assert {entry.status for entry in entries} == {Status.NOT_EXECUTED}


async def test_the_same_token_claims_one_key_only(bench):
    token = new_token()
    first = claim()
    attempt = replace(first.entry.attempt, token=token)
    one = await bench.ledger.claim(claim(attempt=attempt, open=(attempt,)))
    two = await bench.ledger.claim(claim(attempt=attempt, open=(attempt,)))
    assert one.landed and two.landed and one.entry.key_hash != two.entry.key_hash
