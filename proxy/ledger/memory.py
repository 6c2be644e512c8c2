"""The ledger as dictionaries: the same rules without a database, for tests. It forgets everything with its process."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from proxy.core.model import Entry, KeyHash, Status, StoredAnswer
from proxy.core.ports import Claim, Clock, Landed, Write
from proxy.core.reasons import Reason
from proxy.core.states import Event, Evidence, IllegalTransition
from proxy.ledger import guard
from proxy.ledger.clock import WallClock
from proxy.ledger.guard import ClaimKind, Trace
from proxy.ledger.meta import Meta
from proxy.ledger.sql import Hooks


@dataclass(slots=True)
class _Row:
    entry: Entry
    superseded: bool = False
    answer: tuple[StoredAnswer, Status] | None = None


class MemoryLedger:
    """Implements :class:`proxy.core.ports.Ledger`."""

    def __init__(self, clock: Clock, *, hooks: Hooks | None = None) -> None:
        self.meta = Meta(
            key_secret=secrets.token_bytes(32), fingerprint_secret=secrets.token_bytes(32),
            incarnation=secrets.token_hex(16), mark=0,
        )  # fmt: skip
        self.warnings: tuple[str, ...] = ()
        self._clock = WallClock(clock)
        self._hooks = hooks or Hooks()
        self._rows: dict[tuple[KeyHash, int], _Row] = {}
        self._latest: dict[KeyHash, int] = {}
        self._history: dict[tuple[KeyHash, int], list[Trace]] = defaultdict(list)

    def now(self) -> int:
        """See the port."""
        return self._clock.now()

    async def read(self, key_hash: KeyHash) -> Entry | None:
        """See the port."""
        await asyncio.sleep(0)
        return self._read(key_hash)

    async def poll(self, key_hashes: Collection[KeyHash]) -> Mapping[KeyHash, Entry]:
        """See the port."""
        await asyncio.sleep(0)
        found = {key_hash: self._read(key_hash) for key_hash in key_hashes}
        return {key_hash: entry for key_hash, entry in found.items() if entry is not None}

    async def claim(self, claim: Claim) -> Landed:
        """See the port."""
        await asyncio.sleep(0)
        entry = self._begin(claim)
        if entry is not None:
            return Landed(True, entry)
        row = self._read(claim.entry.key_hash)
        return Landed(guard.is_own(row, claim), row)

    async def record(self, write: Write) -> Landed:
        """See the port."""
        await asyncio.sleep(0)
        return self._record(write)

    async def touch(self, key_hash: KeyHash, generation: int) -> None:
        """See the port."""
        await asyncio.sleep(0)
        if row := self._rows.get((key_hash, generation)):
            row.entry = replace(row.entry, last_request_at=max(row.entry.last_request_at, self.now()))

    async def expire_leases(self, limit: int) -> int:
        """See the port."""
        await asyncio.sleep(0)
        now = self.now()
        running = (row.entry for row in self._rows.values() if row.entry.status is Status.IN_FLIGHT)
        due = sorted((entry for entry in running if entry.lease_until <= now), key=lambda entry: entry.lease_until)
        return sum(self._record(_lease_over(entry)).landed for entry in due[:limit])

    async def ping(self) -> None:
        """Memory always answers."""
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Nothing to give back."""
        await asyncio.sleep(0)

    def history(self, entry: Entry) -> tuple[Trace, ...]:
        """The history of *entry*, oldest first."""
        return tuple(self._history[entry.key_hash, entry.generation])

    def _read(self, key_hash: KeyHash) -> Entry | None:
        generation = self._latest.get(key_hash)
        return None if generation is None else self._whole(self._rows[key_hash, generation])

    @staticmethod
    def _whole(row: _Row) -> Entry:
        if row.answer is None or not guard.is_readable(row.entry, *row.answer):
            return row.entry
        return replace(row.entry, answer=row.answer[0])

    def _begin(self, claim: Claim) -> Entry | None:
        draft, now = claim.entry, self.now()
        kind = guard.kind_of(claim)
        before = self._rows.get((draft.key_hash, draft.generation - int(kind is ClaimKind.NEXT_GENERATION)))
        if kind is ClaimKind.FIRST:
            if draft.key_hash in self._latest:
                return None
            return self._insert(guard.begun(claim, now))
        if before is None or before.superseded:
            return None
        if kind is ClaimKind.NEXT_GENERATION:
            if not guard.may_supersede(before.entry, claim, now):
                return None
            before.superseded = True
            return self._insert(guard.begun(claim, now))
        if not guard.may_begin_next(before.entry, claim):
            return None
        archived = guard.archived(before.entry, claim.event, now=now, reason=draft.reason)
        before.entry = guard.begun(claim, now, before.entry)
        self._history[draft.key_hash, draft.generation].append(archived)
        return before.entry

    def _insert(self, entry: Entry) -> Entry:
        self._rows[entry.key_hash, entry.generation] = _Row(entry)
        self._latest[entry.key_hash] = entry.generation
        return entry

    def _record(self, write: Write) -> Landed:
        row = self._rows.get((write.key_hash, write.generation))
        if row is None:
            return Landed(False, None)
        before = self._whole(row)
        history = self._history[write.key_hash, write.generation]
        traces = [trace for trace in history if trace.token == write.evidence.token]
        try:
            verdict = guard.judge(before, write, now=self.now(), traces=traces)
        except IllegalTransition as problem:
            self._hooks.on_illegal(problem)
            return Landed(False, before)
        if verdict.trace is not None and not self._is_ordinary(before, write):
            history.append(verdict.trace)
        if verdict.contradiction is not None:
            self._hooks.on_contradiction(verdict.contradiction)
        if verdict.drops_answer:
            row.answer = None
        if verdict.stores_answer and write.answer is not None:
            row.answer = (write.answer, verdict.entry.status)
        row.entry = replace(verdict.entry, answer=None)
        return Landed(verdict.landed, verdict.entry)

    @staticmethod
    def _is_ordinary(before: Entry, write: Write) -> bool:
        """What leaves no trace: the outcome of the only open attempt of an entry in flight."""
        return (
            before.status is Status.IN_FLIGHT
            and before.open == (before.attempt,)
            and write.evidence.token == before.attempt.token
            and write.evidence.event in guard.ORDINARY
        )


def _lease_over(entry: Entry) -> Write:
    evidence = Evidence(event=Event.LEASE_EXPIRED, token=entry.attempt.token, reason=Reason.LEASE_EXPIRED)
    return Write(entry.key_hash, entry.generation, evidence)
