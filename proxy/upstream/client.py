"""The Upstream port: one call, one send, whatever happens.

Nothing here repeats anything: no second try on a connection that turned out dead, no redirect, no decompression. How
far a send got is judged by what was written. Before :meth:`Connection.write_first` is called every failure is
``unsent``; from that call on it is ``sent``, whatever the exception says, for a connection that breaks doesn't tell
whether the provider acted first. (A TLS 1.3 server refuses a client certificate only after the request left; a client
that sorts failures by exception type calls that a failed connection.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from proxy.core.ports import Clock, Outgoing, Phase, Reply, Route, SendFailed
from proxy.upstream.answer import Head
from proxy.upstream.connect import Connector
from proxy.upstream.connection import Connection, Failure
from proxy.upstream.pool import IdlePool
from proxy.upstream.reply import ReceivedReply
from proxy.upstream.request import LAST_CHUNK, Wire, chunk, encode

SLICE_BYTES: Final = 64 * 1024
"""How much of a large body is written at once: what an early answer or a deadline can't call back."""


class SingleSendClient:
    """Sends over HTTP/1.1, on connections of its own. Belongs to one event loop.

    ``idle_per_route_max`` and ``idle_max`` bound the connections kept for later; those in use are for the caller to
    bound, so the phase ``BUSY`` never comes from here.
    """

    def __init__(self, clock: Clock, *, idle_per_route_max: int = 100, idle_max: int = 1000) -> None:
        self._clock = clock
        self._connector = Connector()
        self._pool = IdlePool(clock, per_route_max=idle_per_route_max, total_max=idle_max)

    def __repr__(self) -> str:
        return f"<SingleSendClient {self._pool!r}>"

    async def send(
        self,
        outgoing: Outgoing,
        route: Route,
        *,
        deadline: float,
        connect_seconds_max: float,
        fresh: bool,
        body_idle_seconds_max: float | None = None,
    ) -> Reply:
        """Send *outgoing* once and wait for the head of the final answer, as the port says.

        Raises SendFailed, or ValueError for a request that must not go on any wire; then nothing was opened.
        A caller that is cancelled leaves a closed connection.
        """
        wire = encode(outgoing)
        if route.scheme not in ("http", "https"):
            raise ValueError(f"not a scheme that can be sent to: {route.scheme!r}")
        connection = None if fresh else self._pool.take(route)
        if connection is None:
            connection = await self._open(route, min(connect_seconds_max, self._seconds_left(deadline)))
        try:
            # From the look at the connection, in the pool or when it was opened, to the first write: no await.
            reader = connection.expect(wire.method, deadline - self._clock.boot())
            head = await self._exchange(wire, connection, deadline)
        except BaseException:
            connection.close()
            raise
        if body_idle_seconds_max is not None and not reader.complete:
            connection.wait_for_each_piece(body_idle_seconds_max)
        return ReceivedReply(head, reader, connection, partial(self._release, route=route, is_closing=wire.closing))

    async def close(self) -> None:
        """Close idle connections, and keep none from now on."""
        await self._pool.close()

    async def _open(self, route: Route, seconds: float) -> Connection:
        connection = await self._connector.connect(route, seconds=seconds)
        if connection.is_untouched():
            return connection
        # A server that closed, or spoke, before it was asked anything. It was asked nothing.
        failure = connection.failure or Failure("closed", "the server closed or spoke before it was asked")
        connection.close()
        raise SendFailed(Phase.TLS if route.scheme == "https" else Phase.CONNECT, failure.kind, failure.detail)

    async def _exchange(self, wire: Wire, connection: Connection, deadline: float) -> Head:
        body = wire.body
        first = wire.head + body[:SLICE_BYTES] if isinstance(body, bytes) else wire.head
        self._seconds_left(deadline)  # the last thing before the first byte
        connection.write_first(first)
        if isinstance(body, bytes):
            await _write_rest(connection, body)
            head = await connection.head()
        else:
            writer = asyncio.create_task(_write_stream(connection, wire, body))
            try:
                head = await connection.head()
            finally:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
        if head is None:
            failure = connection.failure or Failure("closed", "the connection is gone")
            raise SendFailed(Phase.WAIT if connection.request_written else Phase.WRITE, failure.kind, failure.detail)
        return head

    def _release(self, connection: Connection, head: Head, *, route: Route, is_closing: bool) -> None:
        if connection.rest():
            if is_closing:
                connection.close()
            else:
                self._pool.give(route, connection, head.idle_seconds)

    def _seconds_left(self, deadline: float) -> float:
        seconds = deadline - self._clock.boot()
        if seconds <= 0:
            raise SendFailed(Phase.DEADLINE, "timeout", "the attempt's deadline passed before anything was written")
        return seconds


async def _write_rest(connection: Connection, body: bytes) -> None:
    rest = memoryview(body)[SLICE_BYTES:]
    while rest:
        if not await connection.has_room():
            return
        connection.write(rest[:SLICE_BYTES])
        rest = rest[SLICE_BYTES:]
    connection.request_written = connection.failure is None


async def _write_stream(connection: Connection, wire: Wire, body: AsyncIterator[bytes]) -> None:
    """Write a streamed body, until cancelled: nobody wants the rest of it after an answer or a failure.

    A stream that breaks off, or isn't as long as promised, ends the connection.
    """
    count = 0
    try:
        async for piece in body:
            count += len(piece)
            if wire.length is not None and count > wire.length:
                break
            if piece:
                connection.write(chunk(piece) if wire.chunked else piece)
            await connection.has_room()
        if wire.length is not None and count != wire.length:
            connection.fail("protocol", f"a body that was to have {wire.length} bytes had {count} or more")
            return
        if wire.chunked:
            connection.write(LAST_CHUNK)
        connection.request_written = connection.failure is None
    except Exception as error:  # noqa: BLE001 - whatever the caller's stream raises cuts the request short; send() tells
        connection.fail("error", f"the request's body broke off: {error!r}")
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
