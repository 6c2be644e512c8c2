"""Migrations make exactly what is declared, and a program refuses a schema that is not its own."""

from __future__ import annotations

import re
from pathlib import Path

import alembic.autogenerate
import alembic.migration
import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

import migrations
from proxy.core.model import Kept, Status
from proxy.ledger import LedgerRefused, SchemaState, open_ledger, postgresql, sqlite, state, tables, upgrade
from proxy.ledger.schema import REVISIONS
from tests.contract.ledgers import TurnedClock, claim, opened


async def run_on(url: str, work):
    """*work* on a connection to *url*, in a transaction."""
    if url.startswith("postgresql"):
        return await postgresql.run_in_transaction(url, work)
    engine = sqlite._engine(Path(url.removeprefix("sqlite:///")), writes=True)
    with engine.begin() as connection:
        result = work(connection)
    engine.dispose()
    return result


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request, tmp_path):
    """A URL where no ledger is yet."""
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else f"sqlite:///{tmp_path}/new.db"


def test_the_programs_revisions_are_those_of_the_scripts():
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert tuple(reversed([revision.revision for revision in script.walk_revisions()])) == REVISIONS


async def test_migrated_is_declared(empty_url):
    await upgrade(empty_url)

    def differences(connection):
        context = alembic.migration.MigrationContext.configure(connection, opts={"compare_server_default": True})
        return alembic.autogenerate.compare_metadata(context, tables.metadata)

    assert await run_on(empty_url, differences) == []


def as_made(connection: sa.Connection) -> set[str]:
    """What Alembic's comparison doesn't look at as well: checks, primary keys' names, partial indexes, options."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").scalars()
    else:
        rows = connection.exec_driver_sql(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL "
            "SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE connamespace = 'public'::regnamespace UNION ALL "
            "SELECT relname || ' ' || coalesce(reloptions::text, '') FROM pg_class "
            "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        ).scalars()
    found = {re.sub(r"\s+", " ", row.replace('"', "")) for row in rows}
    return {row for row in found if "alembic" not in row}


async def test_migrated_is_declared_down_to_checks_and_partial_indexes(empty_url, tmp_path, request):
    await upgrade(empty_url)
    migrated = await run_on(empty_url, as_made)
    if empty_url.startswith("postgresql"):
        declared_url = request.getfixturevalue("postgres").create_database()
    else:
        declared_url = f"sqlite:///{tmp_path}/declared.db"
        made = sa.create_engine(declared_url)
        with made.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=wal")
        made.dispose()
    await run_on(declared_url, tables.metadata.create_all)
    declared = await run_on(declared_url, as_made)
    assert migrated == declared
    assert len(migrated) >= 7


@pytest.mark.parametrize(("table", "name", "values"), [("entry", "status", Status), ("answer", "kept", Kept)])
def test_the_checks_name_the_values_of_the_core(table, name, values):
    (check,) = [c for c in tables.metadata.tables[table].constraints if isinstance(c, sa.CheckConstraint)]
    assert set(re.findall(r"'(\w+)'", str(check.sqltext))) == {value.value for value in values}
    assert str(check.sqltext).startswith(f"{name} IN (")


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_the_database_refuses_a_status_that_is_none(engine, ledger_url):
    async with opened(engine, await ledger_url(engine)) as bench:
        await bench.ledger.claim(claim())
        with pytest.raises(sa.exc.IntegrityError):
            await bench.execute("UPDATE entry SET status = 'expired'")


async def test_the_state_of_a_schema_is_told(empty_url):
    assert await state(empty_url) is SchemaState.ABSENT
    await upgrade(empty_url)
    assert await state(empty_url) is SchemaState.CURRENT
    await upgrade(empty_url)
    assert await state(empty_url) is SchemaState.CURRENT
    await run_on(empty_url, lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    assert await state(empty_url) is SchemaState.AHEAD


async def test_a_schema_of_a_newer_program_is_refused_by_serving_and_by_upgrading(empty_url):
    await upgrade(empty_url)
    await run_on(empty_url, lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    for opening in (open_ledger(empty_url, TurnedClock()), upgrade(empty_url)):
        with pytest.raises(LedgerRefused, match="newer"):
            await opening


async def test_on_postgresql_serving_refuses_a_schema_that_is_behind(postgres_url, monkeypatch):
    await upgrade(postgres_url)
    monkeypatch.setattr("proxy.ledger.schema.REVISIONS", ("0001", "0002"))
    assert await state(postgres_url) is SchemaState.BEHIND
    with pytest.raises(LedgerRefused, match="dedup-proxy migrate"):
        await open_ledger(postgres_url, TurnedClock())


async def test_a_ping_notices_a_schema_that_changed(on_postgresql):
    await on_postgresql.ledger.ping()
    await on_postgresql.execute("UPDATE alembic_version SET version_num = '9999'")
    try:
        with pytest.raises(LedgerRefused, match="newer"):
            await on_postgresql.ledger.ping()
    finally:
        await on_postgresql.execute("UPDATE alembic_version SET version_num = '0001'")


def test_alembic_is_not_loaded_by_serving():
    """It takes as long to load as all the rest of the ledger."""
    import subprocess
    import sys

    program = "import proxy.ledger, sys; print('alembic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
