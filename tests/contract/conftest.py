"""Ledgers for the contract suite: each test gets an empty one of each kind."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from proxy.ledger import upgrade
from tests.contract.ledgers import DATABASES, ENGINES, Bench, opened
from tests.support.postgres import Postgres


@pytest.fixture(scope="session")
def ledger_database(postgres: Postgres) -> Iterator[str]:
    """The URL of a ledger on PostgreSQL, one for each worker: making a database takes longer than most tests."""
    url = postgres.create_database()
    asyncio.run(upgrade(url))
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def ledger_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger's file, to copy from."""
    path = tmp_path_factory.mktemp("empty") / "ledger.db"
    asyncio.run(upgrade(f"sqlite:///{path}"))
    return path


@pytest.fixture
def ledger_url(ledger_database: str, ledger_file: Path, tmp_path: Path) -> Callable[[str], Awaitable[str]]:
    """Gives the URL of an empty ledger, by engine."""

    async def url_of(engine: str) -> str:
        if engine == "postgresql":
            connection = await asyncpg.connect(ledger_database)
            await connection.execute(
                "TRUNCATE entry, answer, history; UPDATE meta SET value = '0' WHERE name = 'clock'"
            )
            await connection.close()
            return ledger_database
        if engine == "sqlite":
            shutil.copy(ledger_file, tmp_path / "ledger.db")
            return f"sqlite:///{tmp_path}/ledger.db"
        return ""

    return url_of


@pytest.fixture(params=ENGINES)
async def bench(request: pytest.FixtureRequest, ledger_url: Callable[[str], Awaitable[str]]) -> AsyncIterator[Bench]:
    """An empty ledger of each kind."""
    async with opened(request.param, await ledger_url(request.param)) as found:
        yield found


@pytest.fixture(params=DATABASES)
async def database(request: pytest.FixtureRequest, ledger_url: Callable[[str], Awaitable[str]]) -> AsyncIterator[Bench]:
    """An empty ledger on each database."""
    async with opened(request.param, await ledger_url(request.param)) as found:
        yield found


@pytest.fixture
async def on_postgresql(ledger_url: Callable[[str], Awaitable[str]]) -> AsyncIterator[Bench]:
    """An empty ledger on PostgreSQL."""
    async with opened("postgresql", await ledger_url("postgresql")) as found:
        yield found


@pytest.fixture
async def on_sqlite(ledger_url: Callable[[str], Awaitable[str]]) -> AsyncIterator[Bench]:
    """An empty ledger on SQLite."""
    async with opened("sqlite", await ledger_url("sqlite")) as found:
        yield found
