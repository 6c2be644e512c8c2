"""The ledger for people: listings, one entry with what became of it, counts. Reads only."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeVar

import orjson
import sqlalchemy as sa

from proxy.core.model import Entry, KeyHash, Status, Token
from proxy.core.states import SENDS
from proxy.ledger import tables
from proxy.ledger.guard import Trace
from proxy.ledger.meta import Meta
from proxy.ledger.rows import ANSWER_COLUMNS, ENTRY_COLUMNS, entry_from_row, entry_with_answer, hex32, trace_from_row
from proxy.ledger.sealing import Keyring
from proxy.ledger.store import unavailable

LIMIT_MAX: Final = 1000
HISTORY_MAX: Final = 1000
"""Of one entry's history, the latest rows: a key that is retried against a provider that is down gets one for each try."""

T = TypeVar("T")
_ENTRY: Final = tuple(tables.entry.c[name] for name in ENTRY_COLUMNS)
_ANSWER: Final = tuple(tables.answer.c[name].label(f"answer_{name}") for name in ANSWER_COLUMNS)
_ORDER: Final = (tables.entry.c.created_at, tables.entry.c.key_hash, tables.entry.c.generation)


class CursorInvalid(ValueError):
    """A cursor that no listing gave out, or one of a listing in the other order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which entries; what is None doesn't matter. Times are ledger times.

    ``since`` and ``until`` bound the time of the first claim (from, before); ``unchanged_since`` is the latest time at which
    the status may have been written.
    """

    provider: str | None = None
    operation: str | None = None
    caller: str | None = None
    status: Status | None = None
    reason: str | None = None
    key: str | None = None
    outgoing_key: str | None = None
    since: int | None = None
    until: int | None = None
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """One page. Entries come without their answers."""

    entries: Sequence[Entry]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLog:
    """One attempt and what became of it, as far as the ledger still knows."""

    number: int
    token: Token
    claimed_at: int | None
    quiet_at: int | None
    is_open: bool
    status: Status  # of the entry when the next attempt began, or now
    reason: str


@dataclass(frozen=True, slots=True)
class Details:
    """An entry with its stored answer, its attempts and its history, both oldest first."""

    entry: Entry
    attempts: Sequence[AttemptLog]
    history: Sequence[Trace]


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """A provider's oldest entry in doubt: when its latest attempt was claimed."""

    provider: str
    claimed_at: int


class _Reads(Protocol):
    @property
    def keyring(self) -> Keyring: ...

    async def read(self, work: Callable[[sa.Connection], T]) -> T: ...


class Reader:
    """Reads a ledger beside whoever writes it. Every method may raise ``LedgerUnavailable``."""

    def __init__(
        self, store: _Reads, close: Callable[[], Awaitable[None]] | None = None, *, meta: Meta | None = None
    ) -> None:  # fmt: skip
        self.meta = meta
        """What the ledger knows of itself, where it was opened for this reader."""
        self._store = store
        self._close = close

    async def close(self) -> None:
        """Give the database back, if it was opened for this reader."""
        if self._close is not None:
            await self._close()

    async def entries(
        self,
        wanted: Filter,
        *,
        limit: int = 100,
        order: Literal["newest", "oldest"] = "newest",
        cursor: str | None = None,
    ) -> Listing:
        """A page of entries by the time of their first claim. Newest first, entries that arrive meanwhile move nothing.

        *limit* is cut to 1 to :data:`LIMIT_MAX`. Raises :class:`CursorInvalid`.
        """
        limit = min(max(limit, 1), LIMIT_MAX)
        newest = order == "newest"
        query = sa.select(*_ENTRY).where(*_conditions(wanted)).limit(limit + 1)
        query = query.order_by(*(column.desc() if newest else column for column in _ORDER))
        if cursor is not None:
            place = _read_cursor(cursor, order)
            literals = [sa.literal(value, column.type) for value, column in zip(place, _ORDER, strict=True)]
            here, there = sa.tuple_(*_ORDER), sa.tuple_(*literals)
            query = query.where(here < there if newest else here > there)
        rows = await self._read(lambda connection: connection.execute(query).all())
        entries = [entry_from_row(tuple(row)) for row in rows]
        if len(entries) <= limit:
            return Listing(entries, None)
        return Listing(entries[:limit], _write_cursor(entries[limit - 1], order))

    async def entry(self, entry_id: str) -> Details | None:
        """The entry with that public id; None if there is none."""
        key_hash, _, generation = entry_id.partition("-")
        if not (len(key_hash) == 32 and set(key_hash) <= set("0123456789abcdef") and generation.isdecimal()):
            return None
        if len(generation) > 9:  # more than the column holds
            return None
        place = KeyHash(key_hash), int(generation)
        return await self._read(lambda connection: _details(connection, *place, keyring=self._store.keyring))

    async def latest(self, key_hash: KeyHash) -> Entry | None:
        """The latest generation under *key_hash*, without its answer; None if there is none."""
        columns = tables.entry.c
        query = sa.select(*_ENTRY).where(columns.key_hash == key_hash).order_by(columns.generation.desc()).limit(1)
        row = await self._read(lambda connection: connection.execute(query).first())
        return None if row is None else entry_from_row(tuple(row))

    async def counts(self) -> dict[tuple[str, Status], int]:
        """How many entries each provider has in each status. Looks at every entry."""
        columns = tables.entry.c
        query = sa.select(columns.provider, columns.status, sa.func.count()).group_by(columns.provider, columns.status)
        rows = await self._read(lambda connection: connection.execute(query).all())
        return {(provider, Status(status)): count for provider, status, count in rows}

    async def oldest_ambiguous(self) -> list[Ambiguous]:
        """Each provider's oldest entry in doubt."""
        columns = tables.entry.c
        query = (
            sa.select(columns.provider, sa.func.min(columns.claimed_at))
            .where(_status_is(Status.AMBIGUOUS))
            .group_by(columns.provider)
            .order_by(columns.provider)
        )
        rows = await self._read(lambda connection: connection.execute(query).all())
        return [Ambiguous(provider, claimed_at) for provider, claimed_at in rows]

    async def _read(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            return await self._store.read(work)
        except Exception as error:
            raise unavailable("the ledger cannot be read", error) from error


def _conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    columns = tables.entry.c
    equal = {
        columns.provider: wanted.provider,
        columns.operation: wanted.operation,
        columns.caller: wanted.caller,
        columns.reason: wanted.reason,
        columns.key: wanted.key,
        columns.outgoing_key: wanted.outgoing_key,
    }
    conditions: list[sa.ColumnElement[bool]] = [column == value for column, value in equal.items() if value is not None]
    if wanted.status is not None:
        conditions.append(_status_is(wanted.status))
    if wanted.since is not None:
        conditions.append(columns.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(columns.created_at < wanted.until)
    if wanted.unchanged_since is not None:
        conditions.append(columns.updated_at <= wanted.unchanged_since)
    return conditions


def _status_is(status: Status) -> sa.ColumnElement[bool]:
    """Said as a literal, so that the planner sees that a partial index holds what is asked for."""
    return tables.entry.c.status == sa.literal_column(f"'{status.value}'")


def _details(connection: sa.Connection, key_hash: KeyHash, generation: int, *, keyring: Keyring) -> Details | None:
    columns, answers, history = tables.entry.c, tables.answer.c, tables.history.c
    same = sa.and_(answers.key_hash == columns.key_hash, answers.generation == columns.generation)
    query = sa.select(*_ENTRY, *_ANSWER).select_from(tables.entry.outerjoin(tables.answer, same))
    row = connection.execute(query.where(columns.key_hash == key_hash, columns.generation == generation)).first()
    if row is None:
        return None
    entry = entry_with_answer(tuple(row), keyring)
    past = sa.select(tables.history).where(history.key_hash == key_hash, history.generation == generation)
    rows = connection.execute(past.order_by(history.seq.desc()).limit(HISTORY_MAX)).mappings().all()
    traces = [trace_from_row(found) for found in reversed(rows)]
    return Details(entry, _attempts(entry, traces), traces)


def _attempts(entry: Entry, traces: Sequence[Trace]) -> list[AttemptLog]:
    """Attempts that others came after, from the history rows of those, and the latest from the entry itself."""
    begun = {event.value for event in SENDS}
    still_open = {attempt.token for attempt in entry.open}
    log = [
        AttemptLog(
            number=trace.attempt, token=trace.token, claimed_at=trace.detail.get("claimed_at"),
            quiet_at=trace.detail.get("quiet_at"), is_open=trace.token in still_open, status=trace.from_status,
            reason=trace.detail.get("reason", trace.reason),
        )
        for trace in traces
        if trace.event in begun
    ]  # fmt: skip
    latest = entry.attempt
    log.append(
        AttemptLog(
            number=latest.number, token=latest.token, claimed_at=latest.claimed_at, quiet_at=latest.quiet_at,
            is_open=latest.token in still_open, status=entry.status, reason=entry.reason,
        )
    )  # fmt: skip
    return log


def _write_cursor(entry: Entry, order: str) -> str:
    place = [order, entry.created_at, entry.key_hash, entry.generation]
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def _read_cursor(cursor: str, order: str) -> tuple[Any, ...]:
    try:
        place = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        told, created_at, key_hash, generation = place
        if told == order and isinstance(created_at, int) and isinstance(generation, int) and len(hex32(key_hash)) == 32:
            int(key_hash, 16)
            return created_at, key_hash, generation
    except (binascii.Error, orjson.JSONDecodeError, ValueError, TypeError, AttributeError):
        pass
    raise CursorInvalid("this cursor is not one that a listing in this order gave out")
