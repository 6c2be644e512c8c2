"""What stands between an SDK and the proxy, and between the proxy and the provider, so that a test can count and hold."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Self

from tests.support.faults import Link, Way

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_DETAIL = re.compile(rb'"detail":("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True, slots=True)
class Gate:
    """A toxic that holds answers back until it is opened."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def spoil(self, pieces: AsyncIterator[bytes], way: Way, link: Link) -> AsyncIterator[bytes]:
        """Requests pass."""
        async for piece in pieces:
            if way is Way.DOWN:
                await self.opened.wait()
            yield piece


@dataclass(slots=True)
class Wire:
    """What went over a relay."""

    up: bytearray = field(default_factory=bytearray)
    down: bytearray = field(default_factory=bytearray)

    @property
    def requests(self) -> int:
        """How many requests there were. No form that a test sends holds the end of a request line."""
        return self.up.count(b" HTTP/1.1\r\n")

    @property
    def details(self) -> list[str]:
        """The ``detail`` members of the problems that came back."""
        return [json.loads(found) for found in _DETAIL.findall(self.down)]


@dataclass(slots=True)
class Relay:
    """A listener that passes bytes on to a port of loopback; its first connection goes over ``first`` where there is one."""

    target_port: int
    wire: Wire
    first: Connection | None = None
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None, "not started"
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve((reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: Connection) -> None:
        server, self.first = self.first, None
        if server is None:
            server = await asyncio.open_connection("127.0.0.1", self.target_port)
        try:
            with contextlib.suppress(ConnectionError):
                await asyncio.gather(self._up(client[0], server[1]), self._down(server[0], client[1]))
        finally:
            client[1].close()
            server[1].close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            self.wire.up += piece
            writer.write(piece)
            await writer.drain()
        writer.write_eof()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            self.wire.down += piece
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
