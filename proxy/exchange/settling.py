"""Asking again while the caller waits: the pauses, the re-sends, and what one request is told of several attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from proxy.core import settle
from proxy.core.arrival import Prepared
from proxy.core.decide import Decision, Kind
from proxy.core.model import REPLAYED, Entry, Status
from proxy.core.ports import Clock
from proxy.core.reasons import Reason
from proxy.core.settle import Moment
from proxy.exchange.attempt import Finished
from proxy.exchange.bulkhead import Full
from proxy.exchange.claims import Late
from proxy.exchange.told import Told, is_streaming


@dataclass(frozen=True, slots=True)
class Again:
    """Look again at this row: it stood in the way."""

    entry: Entry | None


class _Now(Protocol):
    def __call__(self, *, by_caller: bool = False) -> Moment: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """Settles what this process's own attempts left unknown.

    ``once`` makes one attempt, ``row_told`` is what a waiter is told of a row. ``draining`` is set once the process is to
    stop: then nothing more is asked.
    """

    clock: Clock
    chance: Callable[[], float]
    draining: asyncio.Event
    moment: _Now
    once: Callable[[Prepared, Entry | None, Decision], Awaitable[Finished | Again]]
    row_told: Callable[[Prepared, Entry], Told]

    async def settle(self, prepared: Prepared, finished: Finished, wait_seconds: float) -> Finished:
        """While the outcome is unknown: ask again under the same key, where that is safe. Begins nothing after the wait."""
        tries, until = 0, self.clock.boot() + wait_seconds
        while (entry := finished.entry) is not None and entry.status is Status.AMBIGUOUS:
            again = settle.may_resend(entry, prepared.operation, prepared.native, self.moment())
            if again.seconds is None or is_streaming(finished.told):
                break  # a streaming caller's answer is that one, whatever it means
            pause = max(again.seconds, settle.pause_seconds(tries, chance=self.chance()))
            if self.clock.boot() + pause >= until or await self._is_draining_within(pause):
                break
            try:
                step = await self.once(
                    prepared, entry, Decision(Kind.RESEND, Reason.RESENT, generation=entry.generation)
                )
            except (Full, Late):
                break  # nothing more was sent; what is known stands
            if isinstance(step, Again):
                return self._overtaken(prepared, finished, step.entry)
            finished, tries = _merged(finished, step), tries + 1
        return finished

    def _overtaken(self, prepared: Prepared, finished: Finished, row: Entry | None) -> Finished:
        """Somebody else settled the entry meanwhile, or is about to: tell what the row says, if it is final."""
        if row is None or row.status not in REPLAYED or not _is_call_of(row, prepared):
            return finished
        told = self.row_told(prepared, row)
        return Finished(replace(told, facts=replace(told.facts, sent=True)), row)

    async def _is_draining_within(self, seconds: float) -> bool:
        """Wait so long, unless the process is told to stop."""
        try:
            async with asyncio.timeout(seconds):
                return await self.draining.wait()
        except TimeoutError:
            return False


def _merged(before: Finished, after: Finished) -> Finished:
    """What one request is told of two attempts. A re-send that never left says nothing new, and unsays nothing."""
    return after if after.told.facts.sent else Finished(before.told, after.entry)


def _is_call_of(row: Entry, prepared: Prepared) -> bool:
    """Whether *row* speaks of the same call: a key may have been taken by a corrected request meanwhile."""
    return row.fingerprint == prepared.fingerprint and row.credential == prepared.credential
