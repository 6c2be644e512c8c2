"""The ledger on a SQL database: the port's methods over two batchers, one for writes and one for reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import sqlalchemy as sa

from proxy.core.model import Entry, KeyHash
from proxy.core.ports import Claim, Landed, LedgerUnavailable, Write
from proxy.core.states import IllegalTransition
from proxy.ledger.batcher import Batcher, Limits
from proxy.ledger.guard import ClaimKind, Contradiction, kind_of
from proxy.ledger.meta import Meta
from proxy.ledger.rows import Packed, claim_row, pack, record_row, touch_row
from proxy.ledger.schema import check_state
from proxy.ledger.store import Failure, Store, read_time, unavailable
from proxy.ledger.transaction import (
    ClaimOperation,
    ExpireOperation,
    Operation,
    Outcome,
    RecordOperation,
    Result,
    TouchOperation,
    Transaction,
    read_latest,
)

WRITES: Final = Limits(count=1000, weight=16 * 1024 * 1024, stall_seconds=5.0)
READS: Final = Limits(count=128, weight=0, stall_seconds=5.0)
"""An answer may be a MiB: so many at once are held in memory."""

SPLIT_SECONDS_MAX: Final = 10.0
"""A batch that fails is looked through for the row that fails it for so long; then the rest of it is given up."""

_NOT_WRITTEN: Final = "the ledger cannot be written"
_AGAIN_MAX: Final = 5
_INLINE_BYTES_MAX: Final = 64 * 1024
"""Up to this size compressing and sealing an answer takes less time than handing it to a thread would be worth."""


def _ignore(*_: object) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What a ledger tells beside its answers, as plain calls. They must not block or raise."""

    on_contradiction: Callable[[Contradiction], None] = _ignore
    on_illegal: Callable[[IllegalTransition], None] = _ignore  # a bug of ours; nothing was written
    on_commit: Callable[[float, int], None] = _ignore  # seconds that a batch took, and the operations in it
    on_unreadable: Callable[[str, str], None] = _ignore  # entry whose answer can't be read, and why; on any thread


class SqlLedger:
    """The durable record on SQLite or PostgreSQL. Implements :class:`proxy.core.ports.Ledger`."""

    def __init__(self, store: Store, meta: Meta, hooks: Hooks, *, read_lanes: int = 1) -> None:
        reads = Limits(count=READS.count, weight=READS.weight, stall_seconds=READS.stall_seconds, lanes=read_lanes)
        self.store = store
        self.meta = meta
        self._hooks = hooks
        self._closed = False
        self._writes: Batcher[Operation, Result] = Batcher(self._commit, WRITES, name="writes")
        self._reads: Batcher[KeyHash, Entry | None] = Batcher(self._read, reads, name="reads")

    def __repr__(self) -> str:
        return f"<SqlLedger {self.store!r}: {self._writes!r}, {self._reads!r}>"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What weakens the ledger's promises here, in sentences."""
        return self.store.warnings

    def now(self) -> int:
        """See the port."""
        return self.store.clock.now()

    async def read(self, key_hash: KeyHash) -> Entry | None:
        """See the port."""
        return await self._reads.submit(key_hash, may_drop=True)

    async def poll(self, key_hashes: Collection[KeyHash]) -> Mapping[KeyHash, Entry]:
        """See the port."""
        keys = list(key_hashes)
        found = await asyncio.gather(*(self._reads.submit(key, may_drop=True) for key in keys))
        return {key: entry for key, entry in zip(keys, found, strict=True) if entry is not None}

    async def claim(self, claim: Claim) -> Landed:
        """See the port."""
        row = claim_row(claim) if kind_of(claim) is ClaimKind.FIRST else None
        return _landed(await self._writes.submit(ClaimOperation(claim, row), may_drop=True))

    async def record(self, write: Write) -> Landed:
        """See the port."""
        packed = await self._pack(write)
        operation = RecordOperation(write, record_row(write), packed)
        return _landed(await self._writes.submit(operation, weight=len(packed[2]) if packed is not None else 0))

    async def touch(self, key_hash: KeyHash, generation: int) -> None:
        """See the port."""
        await self._writes.submit(TouchOperation(key_hash, touch_row(key_hash, generation)), may_drop=True)

    async def expire_leases(self, limit: int) -> int:
        """See the port."""
        count = await self._writes.submit(ExpireOperation(limit), may_drop=True)
        assert isinstance(count, int)  # what an expiry answers
        return count

    async def ping(self) -> None:
        """Read from the database. Raises :class:`LedgerUnavailable` if that fails, or if the schema is not ours."""
        try:
            await self.store.read(self._look)
        except Exception as error:
            raise unavailable("the ledger cannot be read", error) from error

    async def close(self) -> None:
        """Finish what was asked and give the database back. Safe to call twice."""
        if not self._closed:
            self._closed = True
            await self._writes.close()
            await self._reads.close()
            await self.store.close()

    def _look(self, connection: sa.Connection) -> None:
        check_state(connection)
        read_time(connection, self.store.statements, self.store.clock)

    async def _pack(self, write: Write) -> Packed | None:
        answer = write.answer
        if answer is None:
            return None
        work = partial(pack, answer, write.key_hash, write.generation, keyring=self.store.keyring)
        return work() if len(answer.body) <= _INLINE_BYTES_MAX else await asyncio.to_thread(work)

    # -- batches ------------------------------------------------------------------------------------------------------

    async def _commit(self, operations: Sequence[Operation]) -> list[Result | BaseException]:
        began = time.monotonic()
        answers = await self._commit_within(operations, began + SPLIT_SECONDS_MAX)
        self._hooks.on_commit(time.monotonic() - began, len(operations))
        return answers

    async def _commit_within(self, operations: Sequence[Operation], until: float) -> list[Result | BaseException]:
        """Commit *operations*, or find those that can't be: a batch that one row fails runs again without it.

        Which row that is, is known where it was worked on by itself; else the batch is halved until the row is alone.
        """
        answers: list[Result | BaseException] = [None] * len(operations)
        left = list(range(len(operations)))
        told: Sequence[Result | BaseException]
        again, lost = 0, False
        while left:
            tried = _Tried(self.store, [operations[index] for index in left])
            try:
                outcome = await self.store.write(tried)
            except Exception as error:  # noqa: BLE001 - the store says what it means
                failure = self.store.failure(error)
                if failure is Failure.AGAIN and again < _AGAIN_MAX:
                    again += 1
                    continue
                if failure is Failure.LOST and not lost:
                    lost = True
                    continue
                may_split = failure is Failure.ROW and len(left) > 1 and time.monotonic() < until
                if may_split and tried.suspect is not None:
                    answers[left.pop(tried.suspect)] = unavailable(_NOT_WRITTEN, error)
                    continue
                if may_split:
                    told = await self._commit_halves(tried.operations, until)
                else:
                    told = [unavailable(_NOT_WRITTEN, error) for _ in left]
            else:
                self._tell(outcome)
                told = outcome.results
            for index, answer in zip(left, told, strict=True):
                answers[index] = answer
            break
        return answers

    async def _commit_halves(self, operations: Sequence[Operation], until: float) -> list[Result | BaseException]:
        middle = len(operations) // 2
        return [
            *await self._commit_within(operations[:middle], until),
            *await self._commit_within(operations[middle:], until),
        ]

    def _tell(self, outcome: Outcome) -> None:
        if outcome.mark is not None:
            self.store.clock.marked(outcome.mark)
        for contradiction in outcome.contradictions:
            self._hooks.on_contradiction(contradiction)
        for problem in outcome.illegal:
            self._hooks.on_illegal(problem)

    async def _read(self, keys: Sequence[KeyHash]) -> list[Entry | BaseException | None]:
        store = self.store
        latest = partial(read_latest, statements=store.statements, keys=frozenset(keys), keyring=store.keyring)
        for is_last in (False, True):
            try:
                rows = await store.read(latest)
            except Exception as error:  # noqa: BLE001 - the store says what it means
                if is_last or store.failure(error) is not Failure.LOST:
                    return [unavailable("the ledger cannot be read", error) for _ in keys]
            else:
                return [rows.get(key) for key in keys]
        raise AssertionError("unreachable")


class _Tried:
    """A batch as work for the store, which remembers where it failed."""

    __slots__ = ("_store", "operations", "suspect")

    def __init__(self, store: Store, operations: Sequence[Operation]) -> None:
        self._store = store
        self.operations = operations
        self.suspect: int | None = None

    def __call__(self, connection: sa.Connection) -> Outcome:
        transaction = Transaction(connection, self._store)
        try:
            return transaction.run(self.operations)
        finally:
            self.suspect = transaction.suspect


def _landed(result: Result) -> Landed:
    assert isinstance(result, Landed)  # what a claim and a record answer
    return result


__all__ = ["READS", "WRITES", "Hooks", "LedgerUnavailable", "SqlLedger"]
