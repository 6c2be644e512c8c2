"""From a URL to a ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from proxy.core.ports import Clock
from proxy.ledger import postgresql, sqlite, sqlite_files
from proxy.ledger.meta import Meta
from proxy.ledger.reader import Reader
from proxy.ledger.schema import SchemaState, read_state, upgrade_on
from proxy.ledger.sealing import Keyring
from proxy.ledger.sql import Hooks, SqlLedger
from proxy.ledger.store import LedgerRefused, Store

_POSTGRESQL: Final = ("postgresql://", "postgres://")
_SQLITE: Final = "sqlite:///"


async def open_ledger(
    url: str, clock: Clock, *, hooks: Hooks | None = None, encryption_keys: Sequence[bytes] = (),
    clock_offset: Callable[[], int] | None = None,
) -> SqlLedger:  # fmt: skip
    """Open the ledger at *url* for serving: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``postgresql://...``.

    A SQLite ledger is made where there is none, upgraded where it is behind, and locked. *encryption_keys* are 32 bytes each,
    newest first; the ledger's secrets get sealed with the newest. *clock_offset* is added to a PostgreSQL server's clock, in
    microseconds: a test steps it.

    Raises :class:`LedgerRefused` where the ledger can't be used as it is, ``LedgerUnavailable`` where it can't be reached.
    """
    hooks = hooks or Hooks()
    keyring = Keyring(encryption_keys, hooks.on_unreadable)
    store, meta = await _open(url, clock, keyring, serves=True, offset=clock_offset)
    lanes = postgresql.READ_LANES if isinstance(store, postgresql.PostgresqlStore) else 1
    return SqlLedger(store, meta, hooks, read_lanes=lanes)


async def open_reader(url: str, clock: Clock, *, encryption_keys: Sequence[bytes] = ()) -> Reader:
    """Open the ledger at *url* to read from it, beside whoever serves it. Nothing is made, upgraded, sealed or locked.

    Raises as :func:`open_ledger`.
    """
    store, meta = await _open(url, clock, Keyring(encryption_keys), serves=False)
    return Reader(store, store.close, meta=meta)


def is_served(url: str) -> bool:
    """Whether a process serves the SQLite ledger at *url* now, so that commands go through it. False for PostgreSQL."""
    return not url.startswith(_POSTGRESQL) and sqlite_files.is_locked(_path(url))


async def upgrade(url: str, *, encryption_keys: Sequence[bytes] = ()) -> None:
    """Bring the ledger's schema to the revision that this program needs; make the ledger where there is none.

    Safe to repeat. A SQLite ledger must not be in use. Raises as :func:`open_ledger`.
    """
    if url.startswith(_POSTGRESQL):
        await postgresql.run_in_transaction(url, _upgrade_if_needed)
    else:
        store, _ = await sqlite.open_store(_path(url), _NoClock(), Keyring(encryption_keys), serves=True)
        await store.close()


async def state(url: str) -> SchemaState:
    """The state of the schema at *url*. Raises as :func:`open_ledger`."""
    if url.startswith(_POSTGRESQL):
        return await postgresql.run_in_transaction(url, read_state)
    path = _path(url)
    if not path.exists():
        return SchemaState.ABSENT
    return await asyncio.to_thread(sqlite.read_state_of, path)


class _NoClock:
    """For a ledger that is opened and closed at once, so that nobody asks the time."""

    def boot(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0


async def _open(
    url: str, clock: Clock, keyring: Keyring, *, serves: bool, offset: Callable[[], int] | None = None
) -> tuple[Store, Meta]:
    if url.startswith(_POSTGRESQL):
        return await postgresql.open_store(url, clock, keyring, serves=serves, offset=offset)
    return await sqlite.open_store(_path(url), clock, keyring, serves=serves)


def _path(url: str) -> Path:
    """The file that a SQLite URL names. Raises :class:`LedgerRefused`; the message never repeats a URL with a password."""
    name, _, query = url.removeprefix(_SQLITE).partition("?")
    if not url.startswith(_SQLITE):
        kind = url.partition(":")[0] if ":" in url else "nothing"
        raise LedgerRefused(f"a ledger's URL begins with sqlite:/// or postgresql://; this one names {kind}")
    if query:
        raise LedgerRefused("a SQLite ledger's URL takes no parameters")
    if not name or name == ":memory:":
        raise LedgerRefused("a ledger in memory would forget what was sent: name a file, such as sqlite:///dedup.db")
    return Path(name).resolve()  # a link that is turned elsewhere later must not move the lock


def _upgrade_if_needed(connection: sa.Connection) -> None:
    found = read_state(connection)
    if found is SchemaState.AHEAD:
        raise LedgerRefused("the ledger's schema is newer than this program: run the newer version")
    if found is not SchemaState.CURRENT:
        upgrade_on(connection)
