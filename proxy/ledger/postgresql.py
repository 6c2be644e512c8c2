"""A ledger on PostgreSQL 14 or newer, through asyncpg, with a small pool for writes and another for reads.

The statements run in the same synchronous code as on SQLite, by ``run_sync``. Nothing relies on what a session remembers, so a
pooler in transaction mode may stand between; one is noticed by its process ids, and then no statement is kept prepared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from proxy.core.ports import Clock, LedgerUnavailable
from proxy.ledger import statements
from proxy.ledger.clock import DatabaseClock
from proxy.ledger.meta import Meta, load_meta
from proxy.ledger.schema import check_state
from proxy.ledger.sealing import Keyring
from proxy.ledger.store import Failure, LedgerRefused, read_time

VERSION_MIN: Final = 14
CONNECT_SECONDS_MAX: Final = 3.0
COMMAND_SECONDS_MAX: Final = 5.0
BATCH_SECONDS_MAX: Final = 8.0
"""From asking for a connection to the acknowledged commit; then the connection is given up and the batch run again."""

WRITE_CONNECTIONS: Final = 2  # one batch at a time, and the one that is being given up
READ_LANES: Final = 2
READ_CONNECTIONS: Final = READ_LANES + 2  # and the admin API's

_SHARED_SETTINGS: Final = {"application_name": "dedup-proxy"}
_SESSION_SETTINGS: Final = {
    **_SHARED_SETTINGS,
    "jit": "off",
    # Another process is stuck on this key: fail this key, not the batch behind it. Above deadlock_timeout (1 s), so that a
    # deadlock is told as one, and the batch run again.
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "5s",  # we are stuck: let the others go on
}
# A batch joins a few rows to a table by its primary key. PostgreSQL takes them for a hundred, and would rather scan a table of
# some ten thousand rows; and where it was small when a statement was first planned, keep that plan until the next ANALYZE.
# Reads may scan, for counts.
_JOIN_SETTINGS: Final = {"enable_hashjoin": "off", "enable_mergejoin": "off"}
_WRITE_SETTINGS: Final = {**_JOIN_SETTINGS, "enable_seqscan": "off"}
_READ_SETTINGS: Final = {**_JOIN_SETTINGS, "plan_cache_mode": "force_custom_plan"}

_ABOUT: Final = """
SELECT pg_backend_pid() AS pid, current_setting('server_version_num')::int / 10000 AS version,
       pg_is_in_recovery() AS standby, current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('fsync') AS fsync, current_setting('synchronous_standby_names') AS standby_names,
       (SELECT count(*) FROM pg_stat_replication) AS replicas
"""

T = TypeVar("T")


class PostgresqlStore:
    """Implements :class:`proxy.ledger.store.Store`. Made by :func:`open_store`."""

    def __init__(
        self, dsn: str, clock: DatabaseClock, keyring: Keyring, *, pooled: bool, warnings: tuple[str, ...]
    ) -> None:  # fmt: skip
        self.statements = statements.POSTGRESQL
        self.clock = clock
        self.keyring = keyring
        self.warnings = warnings
        self.pooled = pooled
        self._writes = _engine(dsn, pooled=pooled, size=WRITE_CONNECTIONS, settings=_WRITE_SETTINGS)
        # Reads are single statements: no transaction is needed, except to hold a pooler to one server connection.
        isolation = None if pooled else "AUTOCOMMIT"
        self._reads = _engine(dsn, pooled=pooled, size=READ_CONNECTIONS, settings=_READ_SETTINGS, isolation=isolation)

    def __repr__(self) -> str:
        return f"<PostgresqlStore{' behind a pooler' if self.pooled else ''}>"

    @property
    def engines(self) -> tuple[sa.Engine, sa.Engine]:
        """The writing and the reading engine."""
        return self._writes.sync_engine, self._reads.sync_engine

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """See the protocol."""
        return await _run(self._writes, work, self.failure)

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """See the protocol."""
        return await _run(self._reads, work, self.failure)

    def failure(self, error: BaseException) -> Failure:
        """See the protocol. By SQLSTATE, whose first two characters are its class (PostgreSQL, appendix A)."""
        if isinstance(error, LedgerUnavailable):
            return Failure.STORE
        if isinstance(error, (OSError, TimeoutError, asyncio.CancelledError)):
            return Failure.LOST
        if not isinstance(error, sa.exc.DBAPIError):
            return Failure.ROW
        state = getattr(error.orig, "sqlstate", None)
        if state is None:
            is_value = isinstance(getattr(error.orig, "__cause__", None), (asyncpg.DataError, ValueError))
            return Failure.ROW if is_value and not error.connection_invalidated else Failure.LOST
        if error.connection_invalidated or state[:2] == "08" or state in ("57P01", "57P02", "57P03"):
            return Failure.LOST
        if state in ("40001", "40P01"):  # serialization, deadlock
            return Failure.AGAIN
        is_row = state[:2] in ("22", "23", "54") or state == "55P03"  # data, constraint, limit; lock not available
        return Failure.ROW if is_row else Failure.STORE

    async def close(self) -> None:
        """See the protocol."""
        await self._writes.dispose()
        await self._reads.dispose()


async def open_store(
    dsn: str, clock: Clock, keyring: Keyring, *, serves: bool, offset: Callable[[], int] | None = None
) -> tuple[PostgresqlStore, Meta]:
    """Open the ledger at *dsn*, which must be at the right schema.

    Raises :class:`LedgerRefused`, and :class:`LedgerUnavailable` where the server can't be reached.
    """
    about, pooled = await _ask(dsn)
    if about["version"] < VERSION_MIN:
        raise LedgerRefused(f"PostgreSQL {about['version']} is too old: {VERSION_MIN} is needed")
    if about["standby"]:
        raise LedgerRefused("the database is a standby: a ledger needs the primary")
    ledger_clock = DatabaseClock(clock) if offset is None else DatabaseClock(clock, offset=offset)
    store = PostgresqlStore(dsn, ledger_clock, keyring, pooled=pooled, warnings=_warnings(about))
    try:
        await store.read(check_state)
        loading = partial(load_meta, keyring=keyring, serves=serves)
        meta = await (store.write if serves else store.read)(loading)
        await store.read(lambda connection: read_time(connection, store.statements, ledger_clock))
    except BaseException as error:
        await store.close()
        if isinstance(error, sa.exc.DBAPIError):
            raise LedgerUnavailable(f"the ledger cannot be read: {error.orig}") from error
        raise
    return store, meta


async def run_in_transaction(dsn: str, work: Callable[[sa.Connection], T]) -> T:
    """Run *work*, which may change the schema, in one transaction that takes as long as it takes."""
    _, pooled = await _ask(dsn)
    engine = _engine(dsn, pooled=pooled, size=1, settings={"lock_timeout": "0"}, command_seconds_max=None)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


async def _ask(dsn: str) -> tuple[Any, bool]:
    """What the server says of itself, and whether a pooler stands between."""
    try:
        connection = await asyncpg.connect(
            dsn, timeout=CONNECT_SECONDS_MAX, command_timeout=COMMAND_SECONDS_MAX, statement_cache_size=0
        )
    except ValueError:  # its text may hold the password
        raise LedgerRefused("the ledger's URL is not a valid PostgreSQL URL") from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise LedgerUnavailable(f"the database cannot be reached: {type(error).__name__}: {error}") from error
    try:
        async with connection.transaction():
            about = await connection.fetchrow(_ABOUT)
        return about, about["pid"] != connection.get_server_pid()
    finally:
        await connection.close()


def _warnings(about: Any) -> tuple[str, ...]:
    found: list[str] = []
    if about["synchronous_commit"] == "off":
        found.append(
            "synchronous_commit is off: a crash of the database can forget what was sent, and it is sent again"
        )
    if about["fsync"] == "off":
        found.append("fsync is off: a crash of the database's machine can destroy the ledger")
    if about["replicas"] and not about["standby_names"]:
        found.append(
            "there are replicas but synchronous_standby_names is empty: a fail-over can forget what was sent last, "
            "and it is sent again"
        )
    return tuple(found)


def _engine(
    dsn: str, *, pooled: bool, size: int, settings: dict[str, str], isolation: str | None = None,
    command_seconds_max: float | None = COMMAND_SECONDS_MAX,
) -> AsyncEngine:  # fmt: skip
    async def connect() -> Any:
        return await asyncpg.connect(
            dsn,
            timeout=CONNECT_SECONDS_MAX,
            command_timeout=command_seconds_max,
            statement_cache_size=0,  # SQLAlchemy keeps its own
            server_settings=_SHARED_SETTINGS if pooled else {**_SESSION_SETTINGS, **settings},
        )

    # Behind a pooler a statement prepared earlier may be unknown to the server connection of the next transaction, and one
    # left behind may be in the way: use the unnamed one, within a transaction, every time.
    prepared: dict[str, Any] = (
        {"prepared_statement_cache_size": 0, "prepared_statement_name_func": str} if pooled else {}
    )
    engine = create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"async_creator_fn": connect, **prepared},
        pool_size=size,
        max_overflow=0,
        pool_timeout=COMMAND_SECONDS_MAX,
        hide_parameters=True,
        **({"isolation_level": isolation} if isolation is not None else {}),
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _connected(connection: Any, _: object) -> None:
        _refuse_standby(connection)

    return engine


def _refuse_standby(connection: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean")
    (is_read_only,) = cursor.fetchone()
    cursor.close()
    connection.rollback()
    if is_read_only:
        raise LedgerUnavailable("the database is read-only or a standby: a ledger needs the primary")


async def _run(
    engine: AsyncEngine, work: Callable[[sa.Connection], T], failure: Callable[[BaseException], Failure]
) -> T:
    async with asyncio.timeout(BATCH_SECONDS_MAX):
        connection = await _connect(engine)
        try:
            transaction = await connection.begin()
            try:
                result = await connection.run_sync(work)
                await transaction.commit()
            except BaseException as error:
                if failure(error) is Failure.LOST:
                    await connection.invalidate()
                else:
                    await transaction.rollback()
                raise
            return result
        finally:
            await connection.close()


async def _connect(engine: AsyncEngine) -> AsyncConnection:
    """A connection from the pool. Nothing has been asked of it yet, so failing here leaves no doubt."""
    try:
        return await engine.connect()
    except LedgerUnavailable:
        raise
    except (OSError, sa.exc.SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        cause = getattr(error, "orig", None) or error
        raise LedgerUnavailable(f"the database cannot be reached: {type(cause).__name__}: {cause}") from error
