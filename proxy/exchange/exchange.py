"""The story of a deduplicated request: decide, claim, send, record, answer; and ask again where that is safe.

An attempt runs in a task of its own: a caller that goes away doesn't stop it. In one process only one request at a time
claims under a key; equal ones share its outcome without asking the ledger.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from proxy.core import decide, settle
from proxy.core.arrival import Prepared, Secrets
from proxy.core.decide import Arrival, Decision, Kind
from proxy.core.drafts import draft
from proxy.core.keys import KeyInvalid
from proxy.core.model import SECOND_US, Entry, KeyHash
from proxy.core.outgoing import CannotPlace
from proxy.core.policy import LedgerRules
from proxy.core.ports import (
    Checkpoints,
    Clock,
    Ids,
    Ledger,
    LedgerUnavailable,
    Observer,
    Upstream,
    Write,
)  # fmt: skip
from proxy.core.reasons import Reason
from proxy.core.settle import Moment
from proxy.core.states import Event, Evidence
from proxy.exchange import refusals
from proxy.exchange.attempt import Attempts, Finished
from proxy.exchange.bulkhead import Bulkhead, Full
from proxy.exchange.claims import Claims, Late
from proxy.exchange.settling import Again, Settling
from proxy.exchange.sightings import Sightings
from proxy.exchange.told import Problem, Told, from_row, is_answer_of_row
from proxy.exchange.waiting import Watch

_KNOWN_KEYS_MAX: Final = 65_536
"""Keys seen lately, as a hint whether to read before claiming; never a source of truth."""

_ROUNDS_MAX: Final = 8
"""How often a request looks again after losing a claim, before it is told to come back."""


@dataclass(frozen=True, slots=True)
class Call:
    """A deduplicated request and how long it will wait for another's attempt, in seconds."""

    prepared: Prepared
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class _Running:
    """This process's claim or attempt under a key. ``done`` gives None when the claim was lost."""

    fingerprint: str
    credential: str | None
    done: asyncio.Future[Finished | None]


class Exchange:
    """Runs deduplicated requests against one ledger."""

    def __init__(
        self, *, ledger: Ledger, upstream: Upstream, clock: Clock, ids: Ids, checkpoints: Checkpoints, observer: Observer,
        rules: LedgerRules, secrets: Secrets, watch: Watch, chance: Callable[[], float],
    ) -> None:  # fmt: skip
        self.secrets = secrets
        self._sightings = Sightings(clock)
        self._ledger = ledger
        self._clock = clock
        self._ids = ids
        self._checkpoints = checkpoints
        self._observer = observer
        self._rules = rules
        self._watch = watch
        self._running: dict[KeyHash, _Running] = {}
        self._draining = asyncio.Event()
        self._known: OrderedDict[KeyHash, None] = OrderedDict()
        self._bulkheads: dict[str, Bulkhead] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._attempts = Attempts(
            ledger=ledger, upstream=upstream, clock=clock, checkpoints=checkpoints, observer=observer, rules=rules,
            spawn=self._spawn_quietly,
        )  # fmt: skip
        self._claims = Claims(ledger, self._attempts, self._spawn_quietly)
        self._settling = Settling(
            clock=clock, chance=chance, draining=self._draining, moment=self._moment, once=self._once,
            row_told=self._waiter_told,
        )  # fmt: skip

    async def run(self, call: Call) -> Told:
        """Answer one request."""
        prepared = call.prepared
        until = self._clock.boot() + call.wait_seconds
        try:
            entry = await self._read(prepared.key_hash) if self._is_known(prepared.key_hash) else None
            for _ in range(_ROUNDS_MAX):
                # No await between asking for a running attempt and _begin registering one: that is the single flight.
                running = self._running.get(prepared.key_hash)
                if running is not None and _is_same(running, prepared):
                    step = await self._join(call, running, until)
                else:
                    step = await self._decide(call, entry, running, until)
                if not isinstance(step, Again):
                    return refusals.named(prepared, step)
                entry = step.entry
        except LedgerUnavailable:
            return refusals.named(prepared, refusals.ledger_down())
        return refusals.named(prepared, refusals.still_running(entry))

    async def drain(self, seconds_max: float) -> int:
        """Let running attempts end; cancel what has not ended in time. Tells how many were cancelled."""
        self._draining.set()
        if not self._tasks:
            return 0
        _, late = await asyncio.wait(self._tasks, timeout=seconds_max)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    async def _decide(self, call: Call, entry: Entry | None, running: _Running | None, until: float) -> Told | Again:
        """One round: decide on the row as last read, and act. *running* is an attempt of another request's meaning."""
        prepared = call.prepared
        decision = decide.on_arrival(entry, self._arrival(prepared), prepared.operation)
        if decision.kind in (Kind.CLAIM, Kind.RECLAIM, Kind.RESEND):
            if running is None:
                return await self._begin(call, entry, decision)
            if await self._until_done(running, until):
                return Again(await self._read(prepared.key_hash))
            return refusals.still_running(entry)
        assert entry is not None  # every other decision is made on a row
        if decision.kind is Kind.EXPIRE:
            await self._ledger.record(_lease_over(entry))
            return Again(await self._read(prepared.key_hash))
        self._touch(prepared, entry)
        if decision.kind is Kind.WAIT:
            return await self._wait(call, entry, until)
        if decision.kind is Kind.REFUSE and decision.reason is Reason.KEY_REUSED:
            return refusals.key_reused()
        if decision.kind is Kind.REFUSE and decision.reason is Reason.PROVIDER_BUSY:
            return refusals.told_to_wait(prepared, entry, decision, self._rules.retention_entry_us)
        self._observer.duplicate_prevented(prepared.provider.id, prepared.operation.id)
        return from_row(
            entry, operation=prepared.operation, retention_us=self._rules.retention_entry_us, why=decision.reason,
            seconds=decision.seconds,
        )  # fmt: skip

    async def _begin(self, call: Call, entry: Entry | None, decision: Decision) -> Told | Again:
        """Claim and send, in a task that outlives the caller. It learns of the first attempt, then of settling in its wait."""
        prepared = call.prepared
        if self._draining.is_set():
            return refusals.draining()
        done: asyncio.Future[Finished | None] = asyncio.get_running_loop().create_future()
        self._running[prepared.key_hash] = _Running(prepared.fingerprint, prepared.credential, done)
        first: asyncio.Future[Finished | None] = asyncio.get_running_loop().create_future()
        task = self._spawn(self._claim_and_send(call, entry, decision, done, first))
        early: Finished | None = None
        try:
            early = await asyncio.shield(first)
            async with asyncio.timeout(call.wait_seconds if early is not None else None):
                return await asyncio.shield(task)
        except TimeoutError:
            assert early is not None  # only settling is bounded
            return early.told
        except asyncio.CancelledError:
            if not task.cancelled():
                raise  # the caller went away; the task goes on
            return refusals.cut_short(prepared)

    async def _claim_and_send(
        self, call: Call, entry: Entry | None, decision: Decision, done: asyncio.Future[Finished | None],
        first: asyncio.Future[Finished | None],
    ) -> Told | Again:  # fmt: skip
        prepared = call.prepared
        finished: Finished | None = None
        try:
            step = await self._once(prepared, entry, decision)
            if isinstance(step, Again):
                return step
            finished = step
            first.set_result(step)
            finished = await self._settling.settle(prepared, step, call.wait_seconds)
            return finished.told
        except Full:
            return await self._busy(prepared)
        except CannotPlace as problem:
            return refusals.cannot_place(prepared, str(problem))
        except KeyInvalid as problem:
            return refusals.key_invalid(str(problem))
        except Late:
            return refusals.ledger_down()
        finally:
            del self._running[prepared.key_hash]
            done.set_result(finished)
            if not first.done():
                first.set_result(None)

    async def _once(self, prepared: Prepared, entry: Entry | None, decision: Decision) -> Finished | Again:
        """One attempt: a place, a claim, a send. Raises Full, CannotPlace, KeyInvalid, Late: nothing was sent then."""
        async with self._place(prepared):
            self._know(prepared.key_hash)
            deadline = self._deadline(prepared, entry, decision)
            after_quiet = entry is None or settle.is_after_quiet(entry, self._moment())
            claim, outgoing = draft(prepared, entry, decision, token=self._ids.token(), now=self._ledger.now())
            landed = await self._claims.claim(prepared, claim)
            if landed.entry is not None:
                self._sightings.note(landed.entry)
            if not landed.landed:
                return Again(landed.entry)
            assert landed.entry is not None  # a claim that landed is a row
            await self._checkpoints.reach("after_claim")
            finished = await self._attempts.run(
                prepared, landed.entry, outgoing, deadline=deadline, after_quiet=after_quiet
            )
            if finished.entry is not None:
                self._sightings.note(finished.entry)
            return finished

    # -- duplicates -----------------------------------------------------------------------------------------------------

    async def _join(self, call: Call, running: _Running, until: float) -> Told | Again:
        """Share the outcome of this process's running attempt."""
        prepared = call.prepared
        if not await self._until_done(running, until):
            return refusals.still_running(None)
        finished = running.done.result()
        if finished is None and self._draining.is_set():
            return refusals.cut_short(prepared)
        if finished is None:  # its claim was lost, or it was refused a place
            return Again(await self._read(prepared.key_hash))
        self._observer.duplicate_prevented(prepared.provider.id, prepared.operation.id)
        if finished.entry is not None and is_answer_of_row(finished.entry):
            return self._waiter_told(prepared, finished.entry)
        return refusals.second_hand(finished.told)

    async def _until_done(self, running: _Running, until: float) -> bool:
        try:
            async with asyncio.timeout(max(until - self._clock.boot(), 0)):
                await asyncio.shield(running.done)
        except TimeoutError:
            return False
        return True

    async def _wait(self, call: Call, entry: Entry, until: float) -> Told | Again:
        """Wait for an attempt of another process."""
        prepared = call.prepared
        if await self._watch.until_changed(entry, max(until - self._clock.boot(), 0)) is None:
            return refusals.still_running(entry)
        row = await self._read(prepared.key_hash)
        if row is None:
            raise LedgerUnavailable("the entry is gone from the ledger")
        if row.attempt.token != entry.attempt.token or not is_answer_of_row(row):
            return Again(row)  # another attempt, perhaps of a corrected request: decide anew
        self._observer.duplicate_prevented(prepared.provider.id, prepared.operation.id)
        return self._waiter_told(prepared, row)

    def _waiter_told(self, prepared: Prepared, row: Entry) -> Told:
        return from_row(row, operation=prepared.operation, retention_us=self._rules.retention_entry_us, waited=True,
            why=settle.why_ambiguous(prepared.operation, prepared.native),
        )  # fmt: skip

    def _touch(self, prepared: Prepared, entry: Entry) -> None:
        if decide.is_touch_due(entry, decide.window_us(entry.key, prepared.operation), self._ledger.now()):
            self._spawn_quietly(self._ledger.touch(entry.key_hash, entry.generation))

    async def _busy(self, prepared: Prepared) -> Problem:
        """No place was free. Nothing was claimed, so the row, if there is one, is another request's."""
        return refusals.busy(prepared, await self._read(prepared.key_hash))

    def _deadline(self, prepared: Prepared, entry: Entry | None, decision: Decision) -> float:
        """When the attempt must have begun to be written, and ended: a boot clock reading, taken before its claim.

        A re-send must also leave while the provider is sure to remember the key.
        """
        boot = self._clock.boot()
        deadline = boot + prepared.operation.timeout.total_seconds
        if decision.kind is Kind.RESEND and entry is not None and prepared.native is not None:
            until = settle.remembered_until(entry, prepared.operation, prepared.native)
            if until is not None:
                deadline = min(deadline, boot + (until - self._ledger.now()) / SECOND_US)
        return deadline

    # -- bookkeeping ----------------------------------------------------------------------------------------------------

    def _arrival(self, prepared: Prepared) -> Arrival:
        return Arrival(
            fingerprint=prepared.fingerprint, credential=prepared.credential, native=prepared.native,
            moment=self._moment(by_caller=True),
        )  # fmt: skip

    def _moment(self, *, by_caller: bool = False) -> Moment:
        return Moment(
            now=self._ledger.now(), boot=self._clock.boot(), first_read=self._sightings.first_read, by_caller=by_caller
        )

    async def _read(self, key_hash: KeyHash) -> Entry | None:
        entry = await self._ledger.read(key_hash)
        if entry is not None:
            self._sightings.note(entry)
        return entry

    def _place(self, prepared: Prepared) -> Any:
        provider = prepared.provider
        bulkhead = self._bulkheads.setdefault(provider.id, Bulkhead(provider.concurrency))
        return bulkhead.place(prepared.operation.timeout.connect_seconds)

    def _is_known(self, key_hash: KeyHash) -> bool:
        if key_hash not in self._known:
            return False
        self._known.move_to_end(key_hash)
        return True

    def _know(self, key_hash: KeyHash) -> None:
        self._known[key_hash] = None
        if len(self._known) > _KNOWN_KEYS_MAX:
            self._known.popitem(last=False)

    def _spawn(self, work: Coroutine[Any, Any, Told | Again]) -> asyncio.Task[Told | Again]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _spawn_quietly(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        problem = None if task.cancelled() else task.exception()
        if problem is not None and not isinstance(problem, LedgerUnavailable):
            # A touch may be lost; what must be written retries by itself. Anything else is a bug and must be seen.
            context = {"message": "work in the background failed", "exception": problem, "task": task}
            task.get_loop().call_exception_handler(context)


def _is_same(running: _Running, prepared: Prepared) -> bool:
    return running.fingerprint == prepared.fingerprint and running.credential == prepared.credential


def _lease_over(entry: Entry) -> Write:
    evidence = Evidence(event=Event.LEASE_EXPIRED, token=entry.attempt.token, reason=Reason.LEASE_EXPIRED)
    return Write(entry.key_hash, entry.generation, evidence)
