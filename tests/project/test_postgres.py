"""The PostgreSQL that tests get is real, fresh, and can be stopped where a test needs that."""

from __future__ import annotations

import signal
import subprocess
import sys

import asyncpg
import pytest

from tests.support.postgres import Postgres, start_server


async def test_each_test_gets_an_empty_database(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
        await connection.execute("CREATE TABLE t (i int)")
    finally:
        await connection.close()


async def test_a_stopped_server_refuses_and_a_started_one_has_its_data_again(own_postgres: Postgres) -> None:
    connection = await asyncpg.connect(own_postgres.url)
    await connection.execute("CREATE TABLE t AS SELECT 7 AS i")
    own_postgres.stop(signal.SIGQUIT)
    await connection.close(timeout=1)
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncpg.connect(own_postgres.url)
    own_postgres.start()
    connection = await asyncpg.connect(own_postgres.url)
    assert await connection.fetchval("SELECT i FROM t") == 7
    await connection.close()


def test_the_server_goes_when_the_process_it_works_for_is_killed() -> None:
    mortal = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    server = start_server(works_for=mortal.pid)
    mortal.kill()
    mortal.wait()
    assert server.keeper is not None
    assert server.keeper.wait(timeout=30) == 0
    assert server.data is not None
    assert not server.data.exists()


async def test_a_server_comes_from_the_wheel_where_none_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_POSTGRES_FROM", "wheel")
    server = start_server()
    try:
        connection = await asyncpg.connect(server.url)
        assert connection.get_server_version().major == 18
        await connection.close()
    finally:
        server.close()
