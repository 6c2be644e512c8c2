"""The data listener's HTTP, on aiohttp's low-level server. The only file here that knows aiohttp.

aiohttp reads (its C parser is llhttp, not lenient); what is written is ours to the byte. What this relies on, beyond
documented API, and what ``tests/http`` holds:

* A handler may return any :class:`web.StreamResponse`; aiohttp calls ``prepare``, ``write_eof`` and ``keep_alive`` on it.
* ``request.writer.write`` passes bytes through as they are while no headers were handed to it.
* :meth:`web.RequestHandler.handle_error` makes the answer to what the parser refuses.
* A body whose framing breaks in the middle leaves its reader waiting for more. :meth:`Connection.data_received` sees the
  parser's refusal at the end of the queue of messages, and ends the wait.

A caller that goes away cancels its handler; what must go on by then runs in a task of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11

from proxy.core.reasons import Reason
from proxy.server.framing import LAST_CHUNK, Framed, chunk
from proxy.server.incoming import BodyBroken, BodyTooLarge

BODY_IDLE_SECONDS: Final = 30.0
"""How long a caller may take between two pieces of its body; nginx's client_body_timeout is 60."""

WRITE_STALL_SECONDS: Final = 60.0
"""How long a caller may take nothing of an answer; nginx's send_timeout."""

IDLE_SECONDS: Final = 75.0
"""How long a connection may rest between requests, and a head may take to arrive; nginx's keepalive_timeout."""

LINGER_SECONDS: Final = 5.0
"""How long what is left of a refused body is read away, so that the answer is not lost in a reset (RFC 9112 9.6)."""

LINE_BYTES_MAX: Final = 16 * 1024
"""One request line, one header field. Node stops at 16 KiB for a whole head."""

HEADERS_MAX: Final = 128
"""Header lines; Apache's limit is 100."""

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

CONNECTIONS_MAX: Final = 10_000
"""Callers' connections of one process; each costs about 20 KiB."""

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refuse = Callable[[web.BaseRequest, str], web.StreamResponse]
"""Makes the answer to a request that could not be read; the text says why."""


class Written(web.StreamResponse):
    """An answer that our own bytes make up; what the handler has not written itself is in *data*."""

    def __init__(self, *, keep_alive: bool, data: bytes = b"") -> None:
        super().__init__()
        self._persists = keep_alive
        self._data = data

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may carry another request."""
        return self._persists

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write what is left to write."""
        if self._data:
            await request.writer.write(self._data)
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing: the bytes end by themselves."""


class Connection(web.RequestHandler):
    """One caller's connection. ``body`` is the request body being read, if any."""

    def __init__(self, server: Listener, **settings: Any) -> None:
        super().__init__(server, **settings)
        self.body: RequestBody | None = None
        self._refuse = server.refuse

    def data_received(self, data: bytes) -> None:
        """End the wait for a body whose framing just turned out to be broken."""
        super().data_received(data)
        if self.body is not None and self._messages:
            refused = getattr(self._messages[-1][0], "exc", None)
            if refused is not None:
                self.body.breaks(first_line(str(refused)))

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what the parser refused; the connection ends with it."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        if status == 500:
            logging.getLogger(__name__).error("the handler failed", exc_info=exc)
        return self._refuse(request, first_line(message or "") if status < 500 else "")

    def log_exception(self, *args: Any, **_: Any) -> None:
        """Quiet: what a caller does to its connection is told by the log of requests."""
        logging.getLogger(__name__).debug("connection: %s", args[:1])


class Listener(web.Server):
    """Makes a :class:`Connection` for each caller that connects."""

    def __init__(self, handle: Handle, *, refuse: Refuse) -> None:
        super().__init__(handle, handler_cancellation=True)
        self.refuse = refuse
        self._open = 0

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Count it; one too many is closed unheard."""
        super().connection_made(handler, transport)
        self._open += 1
        if self._open > CONNECTIONS_MAX:
            transport.abort()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Count it."""
        self._open -= 1
        super().connection_lost(handler, exc)

    def __call__(self) -> Connection:
        """Called by the event loop for a new connection."""
        return Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
        )


class RequestBody:
    """A request's body, as :class:`proxy.server.incoming.Body` says."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self.length = _length(request)
        self.failure: BodyBroken | None = None
        self._is_awaited = request.version == HttpVersion11 and _expects_continue(request.headers)

    @property
    def is_whole(self) -> bool:
        """Whether its last byte has arrived, so that another request can follow."""
        return self._request.content.is_eof()

    def breaks(self, detail: str) -> None:
        """Called when no more of it can be read."""
        if not self.is_whole:
            self._request.content.set_exception(web.RequestPayloadError(detail))

    async def read(self, size_max: int) -> bytes:
        """As the protocol says."""
        if self.length is not None and self.length > size_max:
            raise BodyTooLarge
        pieces: list[bytes] = []
        size = 0
        async for piece in self.stream():
            size += len(piece)
            if size > size_max:
                raise BodyTooLarge
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def stream(self) -> AsyncIterator[bytes]:
        """As the protocol says."""
        content = self._request.content
        connection = cast("Connection", self._request.protocol)
        if self.length == 0:
            return
        await self._welcome()
        connection.body = self
        try:
            while not content.at_eof():
                async with asyncio.timeout(BODY_IDLE_SECONDS):
                    piece = await content.readany()
                if piece:
                    yield piece
        except TimeoutError:
            detail = f"Nothing of the body came for {BODY_IDLE_SECONDS:g} seconds."
            raise self._broken(detail, Reason.REQUEST_INCOMPLETE) from None
        except web.RequestPayloadError as problem:
            raise self._broken(f"The body is not framed as HTTP says: {problem}.", Reason.REQUEST_INVALID) from None
        except (ConnectionError, RuntimeError) as problem:  # aiohttp: RuntimeError where the connection is gone already
            self.failure = BodyBroken("The connection ended before the body did.", is_gone=True)
            raise self.failure from problem
        finally:
            connection.body = None

    def _broken(self, detail: str, reason: Reason) -> BodyBroken:
        self.failure = BodyBroken(detail, reason=reason)
        return self.failure

    async def _welcome(self) -> None:
        """Tell a caller that waits to be asked for its body to send it (RFC 9110 10.1.1)."""
        if self._is_awaited:
            self._is_awaited = False
            writer = self._request.writer
            await writer.write(_CONTINUE)
            writer.output_size = 0  # an interim answer leaves the final one free


async def write(request: web.BaseRequest, framed: Framed) -> Written:
    """Write an answer. One that breaks off ends with its connection, so that nobody takes it for a whole one."""
    if isinstance(framed.body, bytes):
        return Written(keep_alive=not framed.is_last, data=framed.head + framed.body)
    try:
        await _write(request, framed.head)
        async with aclosing(_pieces(framed, framed.body)) as pieces:
            async for piece in pieces:
                await _write(request, piece)
    except BaseException:
        abort(request)
        raise
    return Written(keep_alive=not framed.is_last)


async def _pieces(framed: Framed, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The pieces of a streamed body as they go on the wire. Raises ConnectionError where it isn't as long as it said."""
    count = 0
    async for piece in body:
        count += len(piece)
        if framed.length is not None and count > framed.length:
            raise ConnectionAbortedError("the answer is longer than it said")
        if piece:
            yield chunk(piece) if framed.chunked else piece
    if framed.length not in (None, count):
        raise ConnectionAbortedError("the answer is shorter than it said")
    if framed.chunked:
        yield LAST_CHUNK


def abort(request: web.BaseRequest) -> None:
    """Cut the connection, with a reset where the system allows."""
    if request.transport is not None:
        request.transport.abort()


async def _write(request: web.BaseRequest, data: bytes) -> None:
    """Write, and wait while the caller takes less than comes."""
    async with asyncio.timeout(WRITE_STALL_SECONDS):
        await request.writer.write(data)


def first_line(text: str) -> str:
    """The first line of what the parser says; the rest shows the bytes that it choked on."""
    return next((line.strip().rstrip(":") for line in text.splitlines() if line.strip()), "")


def _length(request: web.BaseRequest) -> int | None:
    if not request.body_exists:
        return 0
    return request.content_length


def _expects_continue(headers: Mapping[str, str]) -> bool:
    return headers.get("Expect", "").strip().lower() == "100-continue"
