"""A TCP proxy that spoils connections on purpose. It knows bytes, not HTTP.

The names of the toxics are those of Shopify's toxiproxy, plus ``DropAnswer``, the fault this project is about: the request
arrives and is acted on, its answer doesn't come back. Which toxics a connection gets is chosen per connection::

    async with fault_proxy(provider.port, [DropAnswer(), (Latency(ms=50), Slicer(size=3))]) as proxy:
        ...  # the first connection loses its first answer, the second is slow and sliced, later ones are sound

Instead of a list, a function of the connection's number (from 1) may choose. Bytes are counted in both directions.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

PIECE_BYTES_MAX = 65536


class Way(Enum):
    """Which way bytes flow."""

    UP = "from the client"
    DOWN = "to the client"


class LinkCut(Exception):
    """A toxic ended the connection."""


@dataclass(slots=True)
class Link:
    """One client connection and its connection to the server."""

    number: int
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    exchanges: int = 0  # bursts from the client so far, each after something came back
    bytes_up: int = 0
    bytes_down: int = 0
    _last: Way = Way.DOWN

    def saw(self, way: Way, data: bytes) -> None:
        """Count."""
        if way is Way.UP:
            self.bytes_up += len(data)
            self.exchanges += self._last is Way.DOWN
        else:
            self.bytes_down += len(data)
        self._last = way

    def reset(self) -> None:
        """End it with a TCP reset towards the client. Raises :class:`LinkCut`."""
        sock: socket.socket = self.client.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.transport.abort()
        raise LinkCut

    def close(self) -> None:
        """End it in order. Raises :class:`LinkCut`."""
        raise LinkCut


class Toxic(Protocol):
    """What is done to the bytes that flow one way."""

    def spoil(self, pieces: AsyncIterator[bytes], way: Way, link: Link) -> AsyncIterator[bytes]:
        """Pass *pieces* on, or not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Each piece waits, both ways or one."""

    ms: int
    way: Way | None = None

    async def spoil(self, pieces: AsyncIterator[bytes], way: Way, link: Link) -> AsyncIterator[bytes]:
        async for piece in pieces:
            if self.way in (None, way):
                await asyncio.sleep(self.ms / 1000)
            yield piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeout:
    """Nothing gets through (one way, or both) and nobody is told; ``close_ms`` after the first byte it is closed."""

    way: Way | None = None
    close_ms: int | None = None

    async def spoil(self, pieces: AsyncIterator[bytes], way: Way, link: Link) -> AsyncIterator[bytes]:
        async for piece in pieces:
            if self.way not in (None, way):
                yield piece
            elif self.close_ms is not None:
                await asyncio.sleep(self.close_ms / 1000)
                link.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetPeer:
    """A TCP reset once ``after_bytes`` of the client's bytes have come; they are passed on first if ``forward``."""

    after_bytes: int = 1
    forward: bool = False

    async def spoil(self, pieces: AsyncIterator[bytes], way: Way, link: Link) -> AsyncIterator[bytes]:
        async for piece in pieces:
            due = way is Way.UP and link.bytes_up >= self.after_bytes
            if not due or self.forward:
                yield piece
            if due:
                link.reset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Slicer:
    """Pieces of at most ``size`` bytes, ``delay_ms`` apart."""

    size: int
    delay_ms: int = 0
    way: Way | None = None

    async def spoil(self, pieces: AsyncIterator[bytes], way: Way, link: Link) -> AsyncIterator[bytes]:
        async for piece in pieces:
            step = self.size if self.way in (None, way) else len(piece)
            for start in range(0, len(piece), step):
                yield piece[start : start + step]
                await asyncio.sleep(self.delay_ms / 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitData:
    """So many bytes one way, then the connection is closed."""

    bytes_max: int
    way: Way = Way.DOWN

    async def spoil(self, pieces: AsyncIterator[bytes], way: Way, link: Link) -> AsyncIterator[bytes]:
        left = self.bytes_max
        async for piece in pieces:
            if way is not self.way:
                yield piece
                continue
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                link.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowClose:
    """An end is passed on only after a while."""

    ms: int

    async def spoil(self, pieces: AsyncIterator[bytes], way: Way, link: Link) -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield piece
        await asyncio.sleep(self.ms / 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class DropAnswer:
    """The ``nth`` exchange's request goes through; its answer is swallowed and the client gets a reset."""

    nth: int = 1

    async def spoil(self, pieces: AsyncIterator[bytes], way: Way, link: Link) -> AsyncIterator[bytes]:
        async for piece in pieces:
            if way is Way.DOWN and link.exchanges >= self.nth:
                link.reset()
            yield piece


Toxics = Toxic | Sequence[Toxic] | None
Plan = Sequence[Toxics] | Callable[[int], Toxics]


@dataclass(slots=True)
class FaultProxy:
    """A listener on loopback that connects on to ``host:target_port``."""

    target_port: int
    plan: Plan = ()
    host: str = "127.0.0.1"
    port: int = 0
    links: list[Link] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def connections(self) -> int:
        """How many connections came in."""
        return len(self.links)

    async def enable(self) -> None:
        """Listen; after :meth:`disable` on the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def disable(self) -> None:
        """Refuse new connections and cut those there are."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _toxics(self, number: int) -> Sequence[Toxic]:
        if callable(self.plan):
            chosen = self.plan(number)
        else:
            chosen = self.plan[number - 1] if number <= len(self.plan) else None
        if chosen is None:
            return ()
        return chosen if isinstance(chosen, Sequence) else (chosen,)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            server_reader, server = await asyncio.open_connection(self.host, self.target_port)
        except OSError:
            client.close()
            return
        link = Link(len(self.links) + 1, client, server)
        self.links.append(link)
        toxics = self._toxics(link.number)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, server, Way.UP, link, toxics))
                group.create_task(_pump(server_reader, client, Way.DOWN, link, toxics))
        except* (LinkCut, ConnectionError):
            pass  # this link's end is the point
        finally:
            client.close()
            server.close()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way, link: Link, toxics: Sequence[Toxic]
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        while piece := await reader.read(PIECE_BYTES_MAX):
            link.saw(way, piece)
            yield piece

    stream: AsyncIterator[bytes] = pieces()
    for toxic in toxics:
        stream = toxic.spoil(stream, way, link)
    async for piece in stream:
        writer.write(piece)
        await writer.drain()
    if way is Way.DOWN:
        link.close()  # the server is done, so nothing the client still says can matter
    with contextlib.suppress(OSError):
        writer.write_eof()


@contextlib.asynccontextmanager
async def fault_proxy(target_port: int, plan: Plan = ()) -> AsyncIterator[FaultProxy]:
    """A fault proxy in this loop, in front of a port of loopback."""
    proxy = FaultProxy(target_port, plan)
    await proxy.enable()
    try:
        yield proxy
    finally:
        await proxy.disable()
