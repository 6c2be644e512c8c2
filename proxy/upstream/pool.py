"""Idle connections: kept briefly, few, and handed out only if nothing happened to them.

A reused connection that the server just closed makes a harmless call look ambiguous, so idle connections live shorter
than any server keeps them, and one is handed out only after it was looked at (:meth:`Connection.is_untouched`). The
caller writes without awaiting anything in between.
"""

from __future__ import annotations

import asyncio
from collections import deque

from proxy.core.ports import Clock, Route
from proxy.upstream.connection import Connection

SWEEP_SECONDS = 1.0
"""How often connections that rested too long are closed. They are never handed out, swept or not."""


class IdlePool:
    """Idle connections by route; times are the clock's boot seconds, which go on while the machine sleeps."""

    def __init__(self, clock: Clock, *, per_route_max: int, total_max: int) -> None:
        self._clock = clock
        self._per_route_max = per_route_max
        self._total_max = total_max
        self._idle: dict[Route, deque[tuple[Connection, float]]] = {}
        self._count = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<IdlePool {self._count} idle to {len(self._idle)} routes>"

    def __len__(self) -> int:
        return self._count

    def take(self, route: Route) -> Connection | None:
        """The connection that rested least and is untouched; what is found unusable on the way is closed."""
        waiting = self._idle.get(route)
        now = self._clock.boot()
        while waiting:
            connection, good_until = waiting.pop()
            self._count -= 1
            if now < good_until and connection.is_untouched():
                return connection
            connection.close()
        return None

    def give(self, route: Route, connection: Connection, idle_seconds: int | None) -> None:
        """Keep *connection*, at rest, for as long as the route allows and the server said; else close it.

        A server that closes after ``idle_seconds`` began to count earlier than we do, so a second less is believed.
        """
        seconds = route.idle_seconds_max if idle_seconds is None else min(route.idle_seconds_max, idle_seconds - 1)
        waiting = self._idle.get(route, ())
        if self._is_closed or seconds <= 0 or len(waiting) >= self._per_route_max or self._count >= self._total_max:
            connection.close()
            return
        self._idle.setdefault(route, deque()).append((connection, self._clock.boot() + seconds))
        self._count += 1
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    async def close(self) -> None:
        """Close all idle connections, wait until they are, and keep none from now on."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        connections = [connection for waiting in self._idle.values() for connection, _ in waiting]
        self._idle.clear()
        self._count = 0
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.wait_closed()

    def _sweep(self) -> None:
        now = self._clock.boot()
        for route, waiting in list(self._idle.items()):
            kept: deque[tuple[Connection, float]] = deque()
            for connection, good_until in waiting:
                if now < good_until and connection.is_untouched():
                    kept.append((connection, good_until))
                else:
                    connection.close()
            self._count += len(kept) - len(waiting)
            if kept:
                self._idle[route] = kept
            else:
                del self._idle[route]
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep) if self._count else None
