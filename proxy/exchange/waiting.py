"""Duplicates that wait.

In one process all of them share the running attempt's future. For an attempt of another process, one poll per process
asks for all keys waited for, with jittered backoff; a waiter holds no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.core.model import Entry, KeyHash, Status, Token
from proxy.core.ports import Ledger, LedgerUnavailable

_POLL_SECONDS_MIN = 0.02
_POLL_SECONDS_MAX = 1.0


@dataclass(eq=False, slots=True)
class _Waiter:
    key_hash: KeyHash
    token: Token
    done: asyncio.Future[Entry | None]


@dataclass(slots=True)
class Watch:
    """Waits for other processes' attempts."""

    ledger: Ledger
    jitter: Callable[[], float]
    _waiters: set[_Waiter] = field(default_factory=set)
    _poller: asyncio.Task[None] | None = None
    _pause: float = _POLL_SECONDS_MIN

    async def until_changed(self, entry: Entry, seconds_max: float) -> Entry | None:
        """The row once attempt *entry.attempt* is no longer in flight; None when the time is over before that."""
        waiter = _Waiter(entry.key_hash, entry.attempt.token, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        self._pause = _POLL_SECONDS_MIN
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="watch other processes' attempts")
        try:
            async with asyncio.timeout(seconds_max):
                return await waiter.done
        except TimeoutError:
            return None
        finally:
            self._waiters.discard(waiter)

    async def close(self) -> None:
        """Stop polling."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def _poll(self) -> None:
        while self._waiters:
            await asyncio.sleep(self._pause * (0.5 + self.jitter()))
            self._pause = min(self._pause * 1.5, _POLL_SECONDS_MAX)
            try:
                rows = await self.ledger.poll({waiter.key_hash for waiter in self._waiters})
            except LedgerUnavailable:
                continue  # waiters run into their own time limit
            for waiter in tuple(self._waiters):
                self._tell(waiter, rows.get(waiter.key_hash))

    @staticmethod
    def _tell(waiter: _Waiter, row: Entry | None) -> None:
        changed = row is None or row.attempt.token != waiter.token or row.status is not Status.IN_FLIGHT
        if changed and not waiter.done.done():
            waiter.done.set_result(row)
