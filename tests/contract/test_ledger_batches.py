"""Group commit: what shares a statement and a commit, and what a bad row costs the others."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
import sqlalchemy as sa

from proxy.core.model import Status
from proxy.core.ports import LedgerUnavailable
from proxy.core.states import Event
from proxy.ledger import guard, sql
from proxy.ledger.batcher import Batcher, Limits
from tests.contract.ledgers import HOUR, SECOND, Bench, answer, claim, new_key, reclaim, write
from tests.contract.test_ledger_claims import begun


class Work:
    """Counts statements, by their name in :class:`Statements`, and commits of a ledger's engines."""

    def __init__(self, bench: Bench) -> None:
        self.done: Counter[str] = Counter()
        statements = bench.ledger.store.statements
        names = ("claim", "record", "touch", "read", "lock", "answer", "now", "mark")
        self._names = {getattr(statements, name): name for name in names}
        for engine in bench.ledger.store.engines:
            sa.event.listen(engine, "before_cursor_execute", self._statement)
            sa.event.listen(engine, "commit", self._commit)

    def _statement(self, _connection, _cursor, statement, *_rest) -> None:
        self.done[self._names.get(statement, statement)] += 1

    def _commit(self, _connection) -> None:
        self.done["commit"] += 1

    def take(self) -> dict[str, int]:
        done, self.done = dict(self.done), Counter()
        return done


async def test_a_batch_of_first_requests_is_one_statement_and_one_commit_for_each_half(database):
    await begun(database)  # connects
    work = Work(database)
    claims = await asyncio.gather(*(database.ledger.claim(claim()) for _ in range(50)))
    assert work.take() == {"claim": 1, "commit": 1}
    await asyncio.gather(*(database.ledger.record(write(one.entry, Event.ANSWERED, answer=answer())) for one in claims))
    assert work.take() == {"record": 1, "answer": 1, "commit": 1}


async def test_reads_that_queue_are_one_statement_and_nothing_is_written(database):
    entries = [await begun(database, Status.SUCCEEDED) for _ in range(20)]
    await database.ledger.read(entries[0].key_hash)
    work = Work(database)
    await asyncio.gather(*(database.ledger.read(entry.key_hash) for entry in entries for _ in range(3)))
    found = work.take()
    found.pop("commit", None)  # SQLite ends a reading transaction too; it costs nothing
    assert found == {"read": 1}


async def test_touches_that_queue_are_one_statement(database):
    entries = [await begun(database, Status.SUCCEEDED) for _ in range(20)]
    work = Work(database)
    await asyncio.gather(*(database.ledger.touch(entry.key_hash, 1) for entry in entries))
    assert work.take() == {"touch": 1, "commit": 1}


async def test_claims_and_outcomes_share_a_commit(database):
    entries = [await begun(database) for _ in range(3)]
    work = Work(database)
    await asyncio.gather(
        *(database.ledger.record(write(entry, Event.ANSWERED)) for entry in entries),
        *(database.ledger.claim(claim()) for _ in range(3)),
    )
    assert work.take() == {"claim": 1, "record": 1, "commit": 1}


async def test_the_clocks_mark_is_stored_at_most_once_a_second(database):
    database.clock.advance(HOUR)
    await begun(database)
    work = Work(database)
    await begun(database)
    assert work.take() == {"claim": 1, "commit": 1}
    database.clock.advance(2 * SECOND)
    await begun(database)
    reading = {"now": 1} if database.engine == "postgresql" else {}
    assert work.take() == {"claim": 1, "mark": 1, **reading, "commit": 1}


async def test_what_queues_while_a_batch_runs_is_the_next_batch(database):
    first = asyncio.create_task(database.ledger.claim(claim()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the first has begun
    rest = [asyncio.create_task(database.ledger.claim(claim())) for _ in range(30)]
    await asyncio.gather(first, *rest)
    assert database.told.batches == [1, 30]


# -- a bad row --------------------------------------------------------------------------------------------------------


def poisoned() -> object:
    """A claim that passes every check here and that the database refuses: a column that must not be null is."""
    return claim(provider=None)


async def test_a_poison_row_fails_alone(database):
    wishes = [claim() for _ in range(20)]
    wishes.insert(7, poisoned())
    told = await asyncio.gather(*(database.ledger.claim(wish) for wish in wishes), return_exceptions=True)
    assert isinstance(told[7], LedgerUnavailable)
    assert all(one.landed for index, one in enumerate(told) if index != 7)
    for wish in wishes[:7] + wishes[8:]:
        assert await database.ledger.read(wish.entry.key_hash) is not None


async def test_several_poison_rows_fail_alone_among_outcomes(database):
    entries = [await begun(database) for _ in range(10)]
    wishes = [write(entry, Event.ANSWERED, answer=answer()) for entry in entries]
    for index in (0, 4, 9):
        wishes[index] = replace(wishes[index], evidence=replace(wishes[index].evidence, reason=None))
    told = await asyncio.gather(*(database.ledger.record(wish) for wish in wishes), return_exceptions=True)
    failed = [index for index, one in enumerate(told) if isinstance(one, LedgerUnavailable)]
    assert failed == [0, 4, 9]
    for index, entry in enumerate(entries):
        row = await database.ledger.read(entry.key_hash)
        assert row.status is (Status.IN_FLIGHT if index in failed else Status.SUCCEEDED)


async def test_rows_that_fail_by_themselves_are_each_left_out(database, monkeypatch):
    """Rows that are worked on one by one are known by their place: nothing is halved, and the others land."""
    entries = [await begun(database, Status.AMBIGUOUS) for _ in range(5)]
    original = guard.judge

    def judge(entry, wish, **rest):
        if entry.key_hash in (entries[1].key_hash, entries[3].key_hash):
            raise TypeError("a bug")
        return original(entry, wish, **rest)

    monkeypatch.setattr(guard, "judge", judge)
    wishes = [write(entry, Event.ANSWERED) for entry in entries]
    told = await asyncio.gather(*(database.ledger.record(wish) for wish in wishes), return_exceptions=True)
    assert [isinstance(one, LedgerUnavailable) for one in told] == [False, True, False, True, False]
    found = await database.ledger.poll([entry.key_hash for entry in entries])
    assert [found[entry.key_hash].status is Status.SUCCEEDED for entry in entries] == [True, False, True, False, True]


async def test_what_no_ledger_can_keep_is_refused_before_it_queues(database):
    for bad in (claim(key="g:\ud800"), claim(revision=2**70)):
        with pytest.raises(LedgerUnavailable, match="cannot keep"):
            await database.ledger.claim(bad)


async def test_text_that_postgresql_cannot_hold_fails_alone(on_postgresql):
    told = await asyncio.gather(
        on_postgresql.ledger.claim(claim()), on_postgresql.ledger.claim(claim(scope=("\x00",), caller="a\x00b")),
        return_exceptions=True,
    )  # fmt: skip
    assert told[0].landed
    assert isinstance(told[1], LedgerUnavailable)


async def test_an_error_never_tells_what_was_written(database):
    with pytest.raises(LedgerUnavailable) as caught:
        await database.ledger.claim(claim(provider=None, key="g:secret-of-the-caller"))
    assert "secret-of-the-caller" not in str(caught.value)


async def test_one_key_that_another_process_holds_locked_fails_alone(on_postgresql):
    """Someone holds a row locked and does not let go: that key's claim fails, the others' land."""
    import asyncpg

    stuck = await begun(on_postgresql, Status.NOT_EXECUTED)
    holder = await asyncpg.connect(on_postgresql.url)
    try:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("SELECT * FROM entry WHERE key_hash = $1 FOR UPDATE", stuck.key_hash)
        told = await asyncio.gather(
            on_postgresql.ledger.claim(reclaim(stuck)), *(on_postgresql.ledger.claim(claim()) for _ in range(3)),
            return_exceptions=True,
        )  # fmt: skip
        assert isinstance(told[0], LedgerUnavailable)
        assert all(one.landed for one in told[1:])
        await transaction.rollback()
    finally:
        await holder.close()
    assert (await on_postgresql.ledger.claim(reclaim(stuck))).landed


# -- giving up --------------------------------------------------------------------------------------------------------


async def test_a_claim_given_up_before_its_batch_began_is_never_made(database):
    wish = claim()
    task = asyncio.create_task(database.ledger.claim(wish))
    await asyncio.sleep(0)
    task.cancel()
    await begun(database)
    assert await database.ledger.read(wish.entry.key_hash) is None


async def test_an_outcome_given_up_is_recorded_all_the_same(database):
    entry = await begun(database)
    task = asyncio.create_task(database.ledger.record(write(entry, Event.ANSWERED)))
    await asyncio.sleep(0)
    task.cancel()
    await begun(database)
    assert (await database.ledger.read(entry.key_hash)).status is Status.SUCCEEDED


async def test_closing_finishes_what_was_asked(database):
    tasks = [asyncio.create_task(database.ledger.claim(claim())) for _ in range(10)]
    await asyncio.sleep(0)
    await database.ledger.close()
    assert all(one.landed for one in await asyncio.gather(*tasks))
    with pytest.raises(LedgerUnavailable, match="closed"):
        await database.ledger.claim(claim())


# -- the batcher alone ------------------------------------------------------------------------------------------------

SMALL = Limits(count=3, weight=10, stall_seconds=60)


async def run_on(batcher: Batcher, *asked: tuple[int, int]) -> list[object]:
    futures = [batcher.submit(number, weight=weight) for number, weight in asked]
    return await asyncio.gather(*futures, return_exceptions=True)


@pytest.mark.parametrize(
    ("weights", "batches"),
    [
        ([0, 0, 0, 0], [[0, 1, 2], [3]]),
        ([5, 5, 5], [[0, 1], [2]]),
        ([99, 1, 1], [[0], [1, 2]]),
        ([1, 99, 1], [[0], [1], [2]]),
    ],
)
async def test_a_batch_is_bounded_by_number_and_weight(weights, batches):
    seen: list[list[int]] = []

    async def run(asked):
        seen.append(list(asked))
        return list(asked)

    await run_on(Batcher(run, SMALL, name="test"), *enumerate(weights))
    assert seen == batches


async def test_what_the_runner_raises_reaches_everybody_and_the_next_batch_runs():
    async def run(asked):
        if 1 in asked:
            raise ValueError("no")
        return list(asked)

    batcher = Batcher(run, SMALL, name="test")
    told = await run_on(batcher, (1, 0), (2, 0))
    assert [type(one) for one in told] == [ValueError, ValueError]
    assert await run_on(batcher, (3, 0)) == [3]


async def test_something_submitted_as_a_lane_ends_is_not_left_behind():
    """Between the end of a lane and the loop's noticing, a submission must find or start one."""

    async def run(asked):
        return list(asked)

    batcher = Batcher(run, SMALL, name="test")
    again: list[asyncio.Future[int]] = []
    for number in range(50):
        batcher.submit(number).add_done_callback(lambda done: again.append(batcher.submit(1000 + done.result())))
        while len(again) <= number:
            await asyncio.sleep(0)
        assert await asyncio.wait_for(again[number], 1) == 1000 + number


async def test_a_batch_that_stalls_is_told_to_all_who_wait_and_then_refused_at_once():
    let_go = asyncio.Event()
    begun_batches: list[list[int]] = []

    async def run(asked):
        begun_batches.append(list(asked))
        await let_go.wait()
        return list(asked)

    batcher = Batcher(run, Limits(count=1, weight=0, stall_seconds=0.05), name="test")
    running, queued = batcher.submit(1), batcher.submit(2, may_drop=True)
    kept = batcher.submit(3)
    for future in (running, queued, kept):
        with pytest.raises(LedgerUnavailable, match="no answer"):
            await future
    with pytest.raises(LedgerUnavailable, match="has not answered"):
        batcher.submit(4)
    let_go.set()
    await batcher.close()
    assert begun_batches == [[1], [3]]


async def test_the_queue_is_bounded(monkeypatch):
    monkeypatch.setattr("proxy.ledger.batcher.QUEUE_MAX", 2)

    async def run(asked):
        return list(asked)

    batcher = Batcher(run, SMALL, name="test")
    futures = [batcher.submit(1), batcher.submit(2)]
    with pytest.raises(LedgerUnavailable, match="wait for the ledger"):
        batcher.submit(3)
    assert await asyncio.gather(*futures) == [1, 2]


async def test_a_batch_where_every_row_is_bad_is_given_up_in_time(database, monkeypatch):
    monkeypatch.setattr(sql, "SPLIT_SECONDS_MAX", 0.0)
    told = await asyncio.gather(*(database.ledger.claim(poisoned()) for _ in range(30)), return_exceptions=True)
    assert all(isinstance(one, LedgerUnavailable) for one in told)
    assert (await database.ledger.claim(claim(new_key()))).landed
