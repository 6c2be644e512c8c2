"""What a request costs the ledger, counted: statements and commits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.contract.conftest import ledger_database, ledger_file, ledger_url  # noqa: F401 - fixtures
from tests.contract.ledgers import DATABASES, opened
from tests.contract.test_ledger_batches import Work
from tests.exchange.stage import stage

UrlOf = Callable[[str], Awaitable[str]]


@pytest.mark.parametrize("engine", DATABASES)
async def test_a_first_request_is_a_claim_and_a_record_and_a_replay_is_one_read(engine: str, ledger_url: UrlOf) -> None:  # noqa: F811 - the fixture
    """The answer goes into its own table in the record's transaction."""
    async with opened(engine, await ledger_url(engine)) as bench:
        played = stage(ledger=bench.ledger)
        await played.ask("warm")
        work = Work(bench)

        await played.ask("k1")
        first = work.take()
        await played.ask("k1")
        replay = work.take()

    assert first == {"claim": 1, "record": 1, "answer": 1, "commit": 2}
    replay.pop("commit", None)  # SQLite ends a reading transaction too; nothing is written by it
    assert replay == {"read": 1}


@pytest.mark.parametrize("engine", DATABASES)
async def test_requests_that_come_together_share_their_statements(engine: str, ledger_url: UrlOf) -> None:  # noqa: F811 - the fixture
    """Two commits' worth of fsyncs for fifty requests, give or take the batch that was already running."""
    async with opened(engine, await ledger_url(engine)) as bench:
        played = stage(ledger=bench.ledger)
        await played.ask("warm")
        work = Work(bench)
        played.provider.gate.clear()
        asked = [asyncio.create_task(played.ask(f"k{n}")) for n in range(50)]
        async with asyncio.timeout(10):
            while len(played.provider.sent) < 51:
                await asyncio.sleep(0.005)
        claims = work.take()
        played.provider.gate.set()
        await asyncio.gather(*asked)
        records = work.take()

    assert claims["claim"] <= 2
    assert claims["commit"] == claims["claim"]
    assert records["record"] <= 2
    assert records["answer"] == records["commit"] == records["record"]
