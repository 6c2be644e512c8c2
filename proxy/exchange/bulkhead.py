"""Bounded places: a slow provider fills its own and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Full(Exception):
    """No place came free in time, or too many wait for one already."""


class Bulkhead:
    """At most ``places`` at once; at most as many again wait, for a bounded time."""

    def __init__(self, places: int) -> None:
        self._free = asyncio.Semaphore(places)
        self._waiting = 0
        self._waiting_max = places

    @asynccontextmanager
    async def place(self, seconds_max: float) -> AsyncIterator[None]:
        """Hold a place. Raises :class:`Full`."""
        if self._free.locked():
            await self._wait(seconds_max)
        else:
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()

    async def _wait(self, seconds_max: float) -> None:
        if self._waiting >= self._waiting_max:
            raise Full
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds_max):
                await self._free.acquire()
        except TimeoutError:
            raise Full from None
        finally:
            self._waiting -= 1
