"""A ledger in one SQLite file: WAL, ``synchronous=FULL``, one writing thread and one reading thread.

One process serves it, held by a lock file. A new ledger is made beside its place and moved there whole, so that a crash
never leaves half of one.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event

from proxy.core.ports import Clock, LedgerUnavailable
from proxy.ledger import sqlite_files, statements
from proxy.ledger.clock import WallClock
from proxy.ledger.meta import Meta, load_meta
from proxy.ledger.schema import SchemaState, check_state, read_state, upgrade_on
from proxy.ledger.sealing import Keyring
from proxy.ledger.store import Failure, LedgerRefused

VERSION_MIN: Final = (3, 35, 0)
"""RETURNING."""

BUSY_SECONDS: Final = 5.0
"""A command-line reader never blocks the writer in WAL mode; a backup tool may, for a moment."""

CHECKED_BYTES_MAX: Final = 64 * 1024 * 1024
"""A ledger up to this size is checked whole when it is opened; it takes about as long as reading the file."""

T = TypeVar("T")


class SqliteStore:
    """Implements :class:`proxy.ledger.store.Store`. Made by :func:`open_store`."""

    def __init__(self, path: Path, clock: WallClock, keyring: Keyring, *, lock: sqlite_files.Lock | None) -> None:
        self.statements = statements.SQLITE
        self.clock = clock
        self.keyring = keyring
        self.warnings: tuple[str, ...] = ()
        self.path = path
        self._lock = lock
        self._writer = _Worker(path, "write")
        self._reader = _Worker(path, "read")
        self._watch: sqlite_files.Watch | None = None

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path}>"

    @property
    def engines(self) -> tuple[sa.Engine, sa.Engine]:
        """The writing and the reading engine."""
        return self._writer.engine, self._reader.engine

    async def start(self) -> None:
        """Connect; from then on, refuse to work where the files are not those that are open."""
        if self._lock is not None:
            await self.write(_nothing)
        await self.read(_nothing)
        self._watch = sqlite_files.Watch(self.path)

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """See the protocol."""
        return await self._writer.run(lambda connection: self._guarded(connection, work))

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """See the protocol."""
        return await self._reader.run(lambda connection: self._guarded(connection, work))

    def failure(self, error: BaseException) -> Failure:
        """See the protocol. In doubt it is a row's: looking for it costs a few commits more."""
        if not isinstance(error, sa.exc.DBAPIError):
            return Failure.STORE if isinstance(error, (OSError, LedgerUnavailable)) else Failure.ROW
        told = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
        return Failure.ROW if isinstance(error.orig, told) else Failure.STORE

    async def close(self) -> None:
        """See the protocol. The last connection to close folds the log into the file."""
        await self._reader.close()
        await self._writer.close()
        if self._lock is not None:
            self._lock.release()

    def _guarded(self, connection: sa.Connection, work: Callable[[sa.Connection], T]) -> T:
        """Run *work* in a transaction, between two looks at the files: a commit into a deleted file is none."""
        if self._watch is not None:
            self._watch.check()
        with connection.begin():
            result = work(connection)
        if self._watch is not None:
            self._watch.check()
        return result


class _Worker:
    """A thread with a connection of its own."""

    def __init__(self, path: Path, purpose: str) -> None:
        self.engine = _engine(path, writes=purpose == "write")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"ledger-{purpose}")
        self._connection: sa.Connection | None = None

    async def run(self, work: Callable[[sa.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    def _run(self, work: Callable[[sa.Connection], T]) -> T:
        if self._connection is None:
            self._connection = self.engine.connect()
        return work(self._connection)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self.engine.dispose()


async def open_store(path: Path, clock: Clock, keyring: Keyring, *, serves: bool) -> tuple[SqliteStore, Meta]:
    """Open the ledger at *path*, without symbolic links; one that *serves* locks it, and makes or upgrades it where needed.

    Raises :class:`LedgerRefused`.
    """
    if sqlite3.sqlite_version_info < VERSION_MIN:
        raise LedgerRefused(f"SQLite {sqlite3.sqlite_version} is too old: {'.'.join(map(str, VERSION_MIN))} is needed")
    lock: sqlite_files.Lock | None = None
    try:
        sqlite_files.check_place(path)
        lock = sqlite_files.Lock(path) if serves else None
        meta = await asyncio.get_running_loop().run_in_executor(None, _prepare, path, serves, keyring)
        store = SqliteStore(path, WallClock(clock, mark=meta.mark), keyring, lock=lock)
        await store.start()
    except BaseException as error:
        if lock is not None:
            lock.release()
        if isinstance(error, OSError):
            raise LedgerRefused(f"the ledger at {path} cannot be opened: {error}") from error
        raise
    return store, meta


def read_state_of(path: Path) -> SchemaState:
    """The schema state of the file at *path*, which exists. Raises :class:`LedgerRefused`."""
    sqlite_files.check_remains(path)
    engine = _engine(path, writes=False)
    try:
        with engine.begin() as connection:
            return read_state(connection)
    except sa.exc.DatabaseError as error:
        raise LedgerRefused(f"{path} cannot be read as a ledger: {error.orig}") from error
    finally:
        engine.dispose()


def _nothing(connection: sa.Connection) -> None:
    connection.exec_driver_sql("SELECT 1 FROM meta").all()


def _prepare(path: Path, serves: bool, keyring: Keyring) -> Meta:  # noqa: FBT001 - handed to an executor, which takes no keywords
    """Make *path* a ledger that this program can use, and read what it knows of itself."""
    sqlite_files.check_remains(path)
    if not path.exists():
        if not serves:
            raise LedgerRefused(f"there is no ledger at {path}")
        _make(path, keyring)
    engine = _engine(path, writes=serves)
    try:
        with engine.connect() as connection:
            if serves:
                _check_content(connection, path)
                _execute_raw(connection, "PRAGMA secure_delete=ON")  # secrets that get sealed now stay nowhere in clear
            with connection.begin():
                state = read_state(connection)
                if state is SchemaState.ABSENT:
                    raise LedgerRefused(f"{path} is a database, but not a ledger of this program")
                if serves and state is SchemaState.BEHIND:
                    upgrade_on(connection)
                check_state(connection)
                return load_meta(connection, keyring, serves=serves)
    except sa.exc.DatabaseError as error:
        raise LedgerRefused(f"{path} cannot be read as a ledger: {error.orig}; restore it from a backup") from error
    finally:
        engine.dispose()


def _make(path: Path, keyring: Keyring) -> None:
    """Make a new ledger beside *path*, whole, and move it there."""
    draft = path.with_name(path.name + ".making")
    for suffix in ("", "-wal", "-shm", "-journal"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL, 0o600))  # it holds secrets and answers; its log gets the same mode
    engine = _engine(draft, writes=True, is_new=True)
    try:
        with engine.begin() as connection:
            upgrade_on(connection)
            load_meta(connection, keyring, serves=True)
        with engine.connect() as connection:
            _execute_raw(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        engine.dispose()
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _check_content(connection: sa.Connection, path: Path) -> None:
    if path.stat().st_size > CHECKED_BYTES_MAX:
        return
    found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    connection.rollback()
    if found != "ok":
        raise LedgerRefused(f"{path} is damaged ({found}): restore it from a backup")


def _engine(path: Path, *, writes: bool, is_new: bool = False) -> sa.Engine:
    """An engine whose transactions begin as what they are: the driver would begin them late, and deferred."""
    url = sa.URL.create("sqlite", database=str(path))
    engine = sa.create_engine(
        url,
        poolclass=sa.pool.StaticPool,
        hide_parameters=True,
        connect_args={"isolation_level": None, "timeout": BUSY_SECONDS, "check_same_thread": False},
    )
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _: object) -> None:
        _configure(connection, path, writes=writes, is_new=is_new)

    @event.listens_for(engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        _execute_raw(connection, begin)

    return engine


def _execute_raw(connection: sa.Connection, statement: str) -> None:
    """Run *statement* outside of SQLAlchemy's transactions."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute(statement)
        cursor.fetchall()
    finally:
        cursor.close()


def _configure(connection: sqlite3.Connection, path: Path, *, writes: bool, is_new: bool) -> None:
    cursor = connection.cursor()
    (mode,) = cursor.execute("PRAGMA journal_mode=WAL" if is_new else "PRAGMA journal_mode").fetchone()
    if mode != "wal":
        raise LedgerRefused(
            f"{path} has journal mode {mode}: a ledger has a write-ahead log (WAL), so this is none of ours"
        )
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA fullfsync=1")  # macOS: fsync alone leaves the drive's cache
    if not writes:
        cursor.execute("PRAGMA query_only=1")
    cursor.close()
