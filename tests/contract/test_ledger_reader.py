"""What people can ask of a ledger."""

from __future__ import annotations

import pytest

from proxy.core.model import Status
from proxy.core.ports import LedgerUnavailable
from proxy.core.states import Event
from proxy.ledger import Ambiguous, CursorInvalid, Filter, Reader
from tests.contract.ledgers import HOUR, MINUTE, SECOND, Bench, answer, claim, reclaim, write
from tests.contract.test_ledger_claims import begun


@pytest.fixture
def reader(database: Bench) -> Reader:
    return Reader(database.ledger.store)


EVERYTHING = Filter()


async def pages(reader: Reader, wanted: Filter = EVERYTHING, **options) -> list[list[str]]:
    """All pages of a listing, as keys."""
    found, cursor = [], None
    while True:
        page = await reader.entries(wanted, cursor=cursor, **options)
        found.append([entry.key for entry in page.entries])
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


async def test_entries_come_newest_first_in_pages(database, reader):
    for number in range(5):
        database.clock.advance(MINUTE)
        await begun(database, key=f"g:{number}")
    assert await pages(reader, limit=2) == [["g:4", "g:3"], ["g:2", "g:1"], ["g:0"]]
    assert await pages(reader, limit=2, order="oldest") == [["g:0", "g:1"], ["g:2", "g:3"], ["g:4"]]
    assert await pages(reader, limit=5) == [["g:4", "g:3", "g:2", "g:1", "g:0"]]


async def test_entries_of_one_instant_are_each_listed_once(database, reader):
    import asyncio

    await asyncio.gather(*(database.ledger.claim(claim(key=f"g:{number}")) for number in range(20)))
    listed = [key for page in await pages(reader, limit=3) for key in page]
    assert sorted(listed) == sorted(f"g:{number}" for number in range(20))


async def test_entries_that_arrive_meanwhile_move_nothing(database, reader):
    for number in range(4):
        database.clock.advance(MINUTE)
        await begun(database, key=f"g:{number}")
    first = await reader.entries(Filter(), limit=2)
    database.clock.advance(MINUTE)
    await begun(database, key="g:new")
    rest = await reader.entries(Filter(), limit=2, cursor=first.next_cursor)
    assert [entry.key for entry in rest.entries] == ["g:1", "g:0"]


@pytest.mark.parametrize("cursor", ["", "x", "é", "bm8", "W10", "WzEsMiwzLDRd"])
async def test_a_cursor_that_no_listing_gave_out_is_invalid(reader, cursor):
    with pytest.raises(CursorInvalid):
        await reader.entries(Filter(), cursor=cursor)


async def test_a_cursor_of_the_other_order_is_invalid(database, reader):
    for _ in range(2):
        await begun(database)
    cursor = (await reader.entries(Filter(), limit=1)).next_cursor
    with pytest.raises(CursorInvalid):
        await reader.entries(Filter(), limit=1, order="oldest", cursor=cursor)


async def test_the_limit_is_kept_within_bounds(database, reader):
    for _ in range(3):
        await begun(database)
    assert len((await reader.entries(Filter(), limit=-5)).entries) == 1
    assert len((await reader.entries(Filter(), limit=10**9)).entries) == 3


async def test_each_filter_finds_its_own(database, reader):
    started = database.ledger.now()
    odd = await begun(
        database,
        Status.REJECTED,
        provider="pay",
        operation="charge",
        caller="shop",
        key="g:odd",
        outgoing_key="out-odd",
    )
    database.clock.advance(HOUR)
    await begun(database, key="g:even")
    later = started + HOUR // 2
    for wanted in (
        Filter(provider="pay"), Filter(operation="charge"), Filter(caller="shop"), Filter(status=Status.REJECTED),
        Filter(reason="declined"), Filter(key="g:odd"), Filter(outgoing_key="out-odd"), Filter(until=later),
        Filter(unchanged_since=later), Filter(since=started, until=later, provider="pay", status=Status.REJECTED),
    ):  # fmt: skip
        assert await pages(reader, wanted) == [["g:odd"]], wanted
    assert await pages(reader, Filter(since=later)) == [["g:even"]]
    assert await pages(reader, Filter(provider="pay", status=Status.SUCCEEDED)) == [[]]
    assert await pages(reader, Filter(since=odd.created_at, until=odd.created_at)) == [[]]


async def test_what_a_filter_holds_is_never_read_as_sql(database, reader):
    await begun(database)
    assert await pages(reader, Filter(provider="' OR 1=1 --")) == [[]]


async def test_an_entry_is_found_by_its_id_with_its_attempts_and_history(database, reader):
    first = await begun(database)
    told = await database.ledger.record(write(first, Event.TURNED_AWAY, upstream_status=429, answer=answer(1, 429)))
    second = await database.ledger.claim(reclaim(told.entry))
    lost = await database.ledger.record(write(second.entry, Event.ANSWER_LOST, answer=answer(2, 500)))
    found = await reader.entry(first.id)
    assert found.entry == lost.entry
    assert found.entry.answer == answer(2, 500)
    assert [(one.number, one.token, one.status, one.reason, one.is_open) for one in found.attempts] == [
        (1, first.attempt.token, Status.NOT_EXECUTED, "turned-away", False),
        (2, second.entry.attempt.token, Status.AMBIGUOUS, "answer-lost", True),
    ]
    assert [(one.claimed_at, one.quiet_at) for one in found.attempts] == [
        (entry.attempt.claimed_at, entry.attempt.quiet_at) for entry in (first, second.entry)
    ]
    (trace,) = found.history
    assert (trace.event, trace.attempt, trace.to_status) == ("reclaimed", 1, Status.IN_FLIGHT)
    assert trace.detail["upstream_status"] == 429


@pytest.mark.parametrize("wrong", ["", "x", "0" * 32, "0" * 32 + "-", "0" * 32 + "-x", "Z" * 32 + "-1", "0" * 32 + "-1",
                                   "0" * 32 + "-99999999999999999999", "0" * 32 + "-\u00b2"])  # fmt: skip
async def test_an_id_that_names_nothing_finds_nothing(reader, wrong):
    assert await reader.entry(wrong) is None


async def test_entries_are_counted_by_provider_and_status(database, reader):
    for provider, status in [("a", Status.SUCCEEDED), ("a", Status.SUCCEEDED), ("b", Status.AMBIGUOUS)]:
        await begun(database, status, provider=provider)
    assert await reader.counts() == {("a", Status.SUCCEEDED): 2, ("b", Status.AMBIGUOUS): 1}


async def test_the_oldest_ambiguous_counts_from_the_latest_attempts_claim(database, reader):
    """Not from the first claim, nor from the latest look-up."""
    entry = await begun(database, Status.NOT_EXECUTED)
    database.clock.advance(HOUR)
    landed = await database.ledger.claim(reclaim(entry))
    await database.ledger.record(write(landed.entry, Event.ANSWER_LOST))
    database.clock.advance(HOUR)
    await database.ledger.record(write(landed.entry, Event.FOUND_PENDING))
    await begun(database, Status.AMBIGUOUS)
    assert await reader.oldest_ambiguous() == [Ambiguous("mailer", landed.entry.attempt.claimed_at)]


async def test_a_ledger_that_cannot_be_read_is_unavailable_to_readers_too(on_sqlite):
    from pathlib import Path

    await begun(on_sqlite)
    Path(on_sqlite.url.removeprefix("sqlite:///")).unlink()
    with pytest.raises(LedgerUnavailable, match="was deleted"):
        await Reader(on_sqlite.ledger.store).counts()


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Filter(), "ix_entry_created"),
        (Filter(since=5 * SECOND), "ix_entry_created"),
        (Filter(status=Status.AMBIGUOUS, unchanged_since=5), "ix_entry_ambiguous"),
    ],
)
async def test_the_usual_listings_go_by_an_index(on_sqlite, wanted, index):
    import sqlalchemy as sa

    seen = []
    sa.event.listen(on_sqlite.ledger.store.engines[1], "before_cursor_execute", lambda *a: seen.append((a[2], a[3])))
    await Reader(on_sqlite.ledger.store).entries(wanted)
    statement, parameters = seen[-1]
    plan = await on_sqlite.ledger.store.read(
        lambda connection: connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    )
    assert index in str(plan)
