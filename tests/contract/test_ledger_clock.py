"""Ledger time never runs backwards, whatever the clocks do."""

from __future__ import annotations

import pytest

from proxy.core.model import Status
from proxy.ledger.clock import DatabaseClock, WallClock
from tests.contract.ledgers import HOUR, LEASE, MINUTE, SECOND, TurnedClock, claim, next_generation, opened, write
from tests.contract.test_ledger_claims import begun

# -- as values --------------------------------------------------------------------------------------------------------


def test_wall_time_that_steps_back_stands_still_until_it_has_caught_up():
    clock = TurnedClock()
    ledger_clock = WallClock(clock)
    before = ledger_clock.now()
    clock.step_wall(-HOUR)
    assert ledger_clock.now() == before
    clock.advance(HOUR + SECOND)
    assert ledger_clock.now() == before + SECOND


def test_wall_time_never_falls_below_the_mark():
    mark = int(TurnedClock().wall() * SECOND) + HOUR
    assert WallClock(TurnedClock(), mark=mark).now() == mark


def test_database_time_is_moved_on_by_the_boot_clock_between_readings():
    clock = TurnedClock()
    ledger_clock = DatabaseClock(clock)
    ledger_clock.observe(5 * HOUR, ledger_clock.stamp())
    clock.advance(MINUTE)
    assert ledger_clock.now() == 5 * HOUR + MINUTE
    clock.step_wall(HOUR)
    assert ledger_clock.now() == 5 * HOUR + MINUTE


def test_database_time_that_steps_back_is_not_taken_for_a_reading():
    """The statement answers with the floor then; time goes on from the last real reading, until there is one again."""
    clock = TurnedClock()
    ledger_clock = DatabaseClock(clock)
    ledger_clock.observe(5 * HOUR, ledger_clock.stamp())
    clock.advance(MINUTE)
    told = ledger_clock.now()
    stamp = ledger_clock.stamp()
    ledger_clock.observe(stamp[-1], stamp)
    assert ledger_clock.now() == told
    clock.advance(MINUTE)
    assert ledger_clock.now() == told + MINUTE
    stamp = ledger_clock.stamp()
    ledger_clock.observe(stamp[-1], stamp, reading=4 * HOUR)
    clock.advance(MINUTE)
    assert ledger_clock.now() == told + MINUTE
    clock.advance(HOUR + 2 * MINUTE)
    assert ledger_clock.now() == told + 2 * MINUTE


def test_a_boot_clock_that_is_fast_does_not_carry_ledger_time_away():
    """What it got ahead by between two readings is waited for, not built upon."""
    clock = TurnedClock()
    ledger_clock = DatabaseClock(clock)
    ledger_clock.observe(HOUR, ledger_clock.stamp())
    real = HOUR
    for _ in range(100):
        clock.advance(MINUTE + SECOND)
        real += MINUTE
        ledger_clock.now()
        stamp = ledger_clock.stamp()
        ledger_clock.observe(max(real, stamp[-1]), stamp, reading=real)
    assert real <= ledger_clock.now() <= real + 2 * SECOND


def test_a_slower_database_clock_is_followed_without_stepping_back():
    clock = TurnedClock()
    ledger_clock = DatabaseClock(clock)
    ledger_clock.observe(HOUR, ledger_clock.stamp())
    clock.advance(MINUTE)
    early = ledger_clock.stamp()  # taken before time was told again
    told = ledger_clock.now()
    ledger_clock.observe(told - SECOND, early)
    assert ledger_clock.now() == told
    clock.advance(2 * SECOND)
    assert ledger_clock.now() == told + SECOND


def test_a_mark_is_due_a_second_after_the_last():
    ledger_clock = WallClock(TurnedClock(), mark=10 * SECOND)
    assert not ledger_clock.is_mark_due(11 * SECOND - 1)
    assert ledger_clock.is_mark_due(11 * SECOND)
    ledger_clock.marked(11 * SECOND)
    assert not ledger_clock.is_mark_due(11 * SECOND)


# -- in ledgers -------------------------------------------------------------------------------------------------------


async def test_entries_never_get_older_times_when_the_clock_steps_back(bench):
    first = await begun(bench)
    bench.clock.step_wall(-24 * HOUR)
    second = await begun(bench)
    assert second.created_at >= first.created_at
    assert bench.ledger.now() >= second.created_at


async def test_a_lease_does_not_end_sooner_or_twice_when_the_clock_steps_back(bench):
    entry = await begun(bench)
    bench.clock.step_wall(-24 * HOUR)
    assert await bench.ledger.expire_leases(10) == 0
    bench.clock.step_wall(24 * HOUR + LEASE)
    assert await bench.ledger.expire_leases(10) == 1
    assert (await bench.ledger.read(entry.key_hash)).status is Status.AMBIGUOUS


async def test_a_window_is_not_over_because_the_clock_stepped_back_and_forth(bench):
    entry = await begun(bench, Status.SUCCEEDED)
    bench.clock.step_wall(-24 * HOUR)
    assert not (await bench.ledger.claim(next_generation(entry))).landed
    bench.clock.step_wall(24 * HOUR)
    assert not (await bench.ledger.claim(next_generation(entry))).landed


async def test_ledger_time_outlives_the_process(database):
    """A later process whose clock is behind goes on from the stored mark."""
    database.clock.advance(HOUR)
    entry = await begun(database)
    assert database.engine == "sqlite" or database.ledger.store.clock._marked
    await database.ledger.close()
    lagging = TurnedClock()
    async with opened(database.engine, database.url, lagging) as later:
        assert later.ledger.now() >= entry.created_at - SECOND
        second = await later.ledger.claim(claim())
        assert second.entry.created_at >= entry.created_at - SECOND


async def test_the_mark_of_one_process_holds_for_another(on_postgresql):
    """A server's clock that steps back does so for all; who has not seen it before goes by the mark."""
    async with opened("postgresql", on_postgresql.url) as there:
        on_postgresql.clock.advance(HOUR)
        ahead = await begun(on_postgresql)
        on_postgresql.clock.step_wall(-HOUR)
        behind = await begun(there)
        assert behind.created_at >= ahead.created_at - SECOND


async def test_now_is_close_to_what_the_ledger_writes(bench):
    before = bench.ledger.now()
    entry = await begun(bench)
    assert 0 <= entry.created_at - before < 10 * SECOND
    assert 0 <= bench.ledger.now() - entry.created_at < 10 * SECOND


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.AMBIGUOUS])
async def test_evidence_is_written_with_ledger_time(bench, status):
    from proxy.core.states import Event

    entry = await begun(bench)
    bench.clock.advance(MINUTE)
    event = Event.ANSWERED if status is Status.SUCCEEDED else Event.ANSWER_LOST
    landed = await bench.ledger.record(write(entry, event))
    assert MINUTE <= landed.entry.updated_at - entry.created_at < MINUTE + 10 * SECOND
