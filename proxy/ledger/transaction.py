"""One batch of writes in one transaction.

First claims, ordinary outcomes, their answers and touches are one statement each for the whole batch. What is out of the
ordinary goes one by one after them: the row is locked, :mod:`proxy.ledger.guard` judges, a guarded update follows. Within each
step keys are sorted, so that two processes rarely wait for each other crosswise; where they do, the database ends one and
that batch runs again.

Everything here may run twice: a batch whose COMMIT was not acknowledged is run again, and each operation recognises its
own earlier effect by its attempt token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from proxy.core.model import FINAL, Entry, KeyHash, Token
from proxy.core.ports import Claim, Landed, Write
from proxy.core.reasons import Reason
from proxy.core.states import Event, Evidence, IllegalTransition
from proxy.ledger import guard, tables
from proxy.ledger.clock import LedgerClock
from proxy.ledger.guard import ClaimKind, Contradiction, Trace
from proxy.ledger.rows import (
    Packed,
    changed_columns,
    columns_of,
    entry_from_row,
    entry_with_answer,
    hex32,
    json_keys,
    json_rows,
    trace_columns,
    trace_from_row,
)
from proxy.ledger.sealing import Keyring
from proxy.ledger.statements import Statements
from proxy.ledger.store import Store, read_time


@dataclass(frozen=True, slots=True)
class ClaimOperation:
    """A claim; *row* is its JSON row if it is a first one."""

    claim: Claim
    row: bytes | None


@dataclass(frozen=True, slots=True)
class RecordOperation:
    """Evidence; *row* is its JSON row if the ordinary update may do, *packed* its answer as columns."""

    write: Write
    row: bytes | None
    packed: Packed | None


@dataclass(frozen=True, slots=True)
class TouchOperation:
    """A later request under an entry."""

    key_hash: KeyHash
    row: bytes


@dataclass(frozen=True, slots=True)
class ExpireOperation:
    """Leases that are over, at most *limit*."""

    limit: int


Operation = ClaimOperation | RecordOperation | TouchOperation | ExpireOperation
Result = Landed | int | None


@dataclass(slots=True)
class Outcome:
    """What a transaction did: a result for each operation, and what is to be told once it is durable."""

    results: list[Result]
    contradictions: list[Contradiction] = field(default_factory=list)
    illegal: list[IllegalTransition] = field(default_factory=list)
    mark: int | None = None


class Transaction:
    """Runs operations on a connection that is in a transaction; the caller commits."""

    def __init__(self, connection: sa.Connection, store: Store) -> None:
        self._connection = connection
        self._sql: Statements = store.statements
        self._clock: LedgerClock = store.clock
        self._keyring: Keyring = store.keyring
        self._seen = 0  # the latest ledger time told in this transaction
        self.suspect: int | None = None  # the operation that runs by itself; None within a statement for several

    def run(self, operations: Sequence[Operation]) -> Outcome:
        """Do all *operations*. Raises what the database raises; then nothing of them must be committed."""
        self._outcome = Outcome([None] * len(operations))
        claims = [(i, op) for i, op in enumerate(operations) if isinstance(op, ClaimOperation)]
        records = [(i, op) for i, op in enumerate(operations) if isinstance(op, RecordOperation)]
        lost = self._first_claims(claims)
        slow = self._ordinary_records(records)
        self._touch([op for op in operations if isinstance(op, TouchOperation)])
        lost += self._other_claims(claims)
        for index, record in sorted(slow, key=lambda item: (item[1].write.key_hash, item[1].write.generation)):
            self.suspect = index
            self._outcome.results[index] = self._judge(record.write, record.packed)
            self.suspect = None
        for index, op in enumerate(operations):
            if isinstance(op, ExpireOperation):
                self._outcome.results[index] = self._expire(op.limit)
        self._tell_losers(lost)
        self._store_mark()
        return self._outcome

    # -- one statement for the whole batch ----------------------------------------------------------------------------

    def _first_claims(self, claims: Iterable[tuple[int, ClaimOperation]]) -> list[tuple[int, Claim]]:
        """Insert first claims, one for each key; give back those that lost."""
        first: dict[str, tuple[int, ClaimOperation]] = {}
        lost: list[tuple[int, Claim]] = []
        for index, op in claims:
            if op.row is None:
                continue
            if op.claim.entry.key_hash in first:
                lost.append((index, op.claim))
            else:
                first[op.claim.entry.key_hash] = (index, op)
        landed = self._told(
            self._sql.claim, "created_at", [op.row for _, (_, op) in sorted(first.items()) if op.row is not None]
        )
        created = {hex32(key_hash): created_at for key_hash, created_at in landed}
        for key_hash, (index, op) in first.items():
            if key_hash in created:
                self._outcome.results[index] = Landed(True, guard.begun(op.claim, created[key_hash]))
            else:
                lost.append((index, op.claim))
        return lost

    def _ordinary_records(self, records: Iterable[tuple[int, RecordOperation]]) -> list[tuple[int, RecordOperation]]:
        """Update what is in flight with one open attempt; give back what that was not the case for."""
        first: dict[tuple[KeyHash, int], tuple[int, RecordOperation]] = {}
        rest: list[tuple[int, RecordOperation]] = []
        for index, op in records:
            place = (op.write.key_hash, op.write.generation)
            if op.row is None or place in first:
                rest.append((index, op))
            else:
                first[place] = (index, op)
        updated = self._told(
            self._sql.record, "updated_at", [op.row for _, (_, op) in sorted(first.items()) if op.row is not None]
        )
        entries = {(entry.key_hash, entry.generation): entry for entry in map(entry_from_row, updated)}
        answers: list[tuple[Any, ...]] = []
        for place, (index, op) in first.items():
            entry = entries.get(place)
            if entry is None:
                rest.append((index, op))
                continue
            answer = op.write.answer
            if answer is not None and op.packed is not None and guard.keeps(entry, answer):
                answers.append(_answer_row(entry, op.packed))
                entry = replace(entry, answer=answer)
            self._outcome.results[index] = Landed(True, entry)
        self._store_answers(answers)
        return rest

    def _touch(self, touches: Sequence[TouchOperation]) -> None:
        self._told(self._sql.touch, "last_request_at", [op.row for op in sorted(touches, key=lambda op: op.key_hash)])

    def _told(self, statement: str, time: str, rows: Sequence[bytes]) -> Sequence[Any]:
        """Run *statement* on *rows* and take note of the ledger time that it wrote into the column *time*."""
        if not rows:
            return ()
        stamp = self._clock.stamp()
        returned = self._connection.exec_driver_sql(statement, (json_rows(rows), *stamp)).all()
        if returned:
            at = getattr(returned[0], time)  # the same for all of them
            self._clock.observe(at, stamp)
            self._seen = max(self._seen, at)
        return returned

    def _store_answers(self, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            self._connection.exec_driver_sql(self._sql.answer, self._sql.answer_parameters(rows))

    def _tell_losers(self, lost: Sequence[tuple[int, Claim]]) -> None:
        """Answer the claims that did not land from the row that is there; our own, landed before, has landed."""
        if not lost:
            return
        wanted = {claim.entry.key_hash for _, claim in lost}
        rows = read_latest(self._connection, self._sql, wanted, keyring=self._keyring)
        for index, claim in lost:
            row = rows.get(claim.entry.key_hash)
            self._outcome.results[index] = Landed(guard.is_own(row, claim), row)

    def _store_mark(self) -> None:
        if self._seen and self._clock.is_mark_due(self._seen):
            self._now()  # a clock that stepped back is noticed here, at the latest
            self._connection.exec_driver_sql(self._sql.mark, (str(self._seen), self._seen))
            self._outcome.mark = self._seen

    # -- one by one ---------------------------------------------------------------------------------------------------

    def _other_claims(self, claims: Iterable[tuple[int, ClaimOperation]]) -> list[tuple[int, Claim]]:
        lost: list[tuple[int, Claim]] = []
        others = [(index, op.claim) for index, op in claims if op.row is None]
        for index, claim in sorted(others, key=lambda item: item[1].entry.key_hash):
            begin = self._next_attempt if guard.kind_of(claim) is ClaimKind.NEXT_ATTEMPT else self._next_generation
            self.suspect = index
            entry = begin(claim)
            self.suspect = None
            if entry is None:
                lost.append((index, claim))
            else:
                self._outcome.results[index] = Landed(True, entry)
        return lost

    def _next_attempt(self, claim: Claim) -> Entry | None:
        """See :func:`guard.may_begin_next`. ``superseded`` is asked too: a newer generation locks the row before it is judged."""
        row = self._lock(claim.entry.key_hash, claim.entry.generation)
        if row is None or not guard.may_begin_next(row, claim):
            return None
        now = self._now()
        entry = guard.begun(claim, now, row)
        table = tables.entry.c
        still = (table.token == claim.after, table.status == row.status.value, table.superseded.is_(False))
        if not self._update(entry, *still, **changed_columns(entry)):
            return None
        self._trace(entry, guard.archived(row, claim.event, now=now, reason=entry.reason))
        return entry

    def _next_generation(self, claim: Claim) -> Entry | None:
        """See :func:`guard.may_supersede`."""
        row = self._lock(claim.entry.key_hash, claim.entry.generation - 1)
        if row is None or claim.window_us is None:
            return None
        now = self._now()
        table = tables.entry.c
        where = (
            table.token == claim.after,
            table.status.in_([status.value for status in FINAL]),
            table.last_request_at <= now - claim.window_us,
            table.superseded.is_(False),
        )
        if not self._update(row, *where, superseded=True):
            return None
        entry = guard.begun(claim, now)
        self._connection.execute(sa.insert(tables.entry), {**columns_of(entry), "superseded": False})
        return entry

    def _expire(self, limit: int) -> int:
        table = tables.entry.c
        due = (
            sa.select(table.key_hash, table.generation, table.token)
            .where(table.status == sa.literal_column("'in_flight'"), table.lease_until <= self._now())
            .order_by(table.lease_until)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        landed = 0
        for key_hash, generation, token in self._connection.execute(due).all():
            evidence = Evidence(event=Event.LEASE_EXPIRED, token=Token(hex32(token)), reason=Reason.LEASE_EXPIRED)
            landed += self._judge(Write(KeyHash(hex32(key_hash)), generation, evidence), None).landed
        return landed

    def _judge(self, write: Write, packed: Packed | None) -> Landed:
        """Apply evidence the long way: lock, judge, write, and keep a trace."""
        row = self._lock(write.key_hash, write.generation)
        if row is None:
            return Landed(False, None)
        traces = self._traces(row, write.evidence.token)
        try:
            verdict = guard.judge(row, write, now=self._now(), traces=traces)
        except IllegalTransition as problem:
            self._outcome.illegal.append(problem)
            return Landed(False, row)
        if verdict.contradiction is not None:
            self._outcome.contradictions.append(verdict.contradiction)
        after = verdict.entry
        if verdict.landed and verdict.trace is not None:
            table = tables.entry.c
            still = (table.token == row.attempt.token, table.status == row.status.value)
            if not self._update(after, *still, **changed_columns(after)):
                raise RuntimeError(f"entry {row.id} changed while it was locked")
        if verdict.trace is not None:
            self._trace(after, verdict.trace)
        if verdict.drops_answer:
            answers = tables.answer.c
            self._connection.execute(sa.delete(tables.answer).where(*_is(answers, after)))
        if verdict.stores_answer and packed is not None:
            self._store_answers([_answer_row(after, packed)])
        return Landed(verdict.landed, after)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _lock(self, key_hash: KeyHash, generation: int) -> Entry | None:
        row = self._connection.exec_driver_sql(self._sql.lock, (key_hash, generation)).first()
        return None if row is None else entry_with_answer(row, self._keyring)

    def _now(self) -> int:
        """Ledger time. Read after a lock was taken, since waiting for it takes time."""
        at = read_time(self._connection, self._sql, self._clock)
        self._seen = max(self._seen, at)
        return at

    def _update(self, entry: Entry, *where: sa.ColumnElement[bool], **values: Any) -> bool:
        statement = sa.update(tables.entry).where(*_is(tables.entry.c, entry), *where).values(**values)
        return self._connection.execute(statement).rowcount == 1

    def _traces(self, entry: Entry, token: Token) -> list[Trace]:
        history = tables.history.c
        rows = self._connection.execute(
            sa.select(tables.history).where(*_is(history, entry), history.token == token).order_by(history.seq)
        )
        return [trace_from_row(row) for row in rows.mappings()]

    def _trace(self, entry: Entry, trace: Trace) -> None:
        history = tables.history.c
        last = sa.select(sa.func.coalesce(sa.func.max(history.seq), 0)).where(*_is(history, entry))
        seq = self._connection.execute(last).scalar_one() + 1
        self._connection.execute(sa.insert(tables.history), trace_columns(entry, trace, seq))


def read_latest(
    connection: sa.Connection, statements: Statements, keys: Iterable[KeyHash], *, keyring: Keyring
) -> dict[KeyHash, Entry]:
    """The latest generation of each of *keys*, with its answer, in one statement."""
    rows = connection.exec_driver_sql(statements.read, (json_keys(sorted(keys)),))
    return {entry.key_hash: entry for entry in (entry_with_answer(row, keyring) for row in rows.all())}


def _is(columns: sa.ColumnCollection[str, sa.Column[Any]], entry: Entry) -> tuple[sa.ColumnElement[bool], ...]:
    return columns.key_hash == entry.key_hash, columns.generation == entry.generation


def _answer_row(entry: Entry, packed: Packed) -> tuple[Any, ...]:
    return (entry.key_hash, entry.generation, *packed, entry.status.value, entry.updated_at)
