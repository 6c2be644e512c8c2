"""One connection to a provider: what was written on it, what came back, and whether it can carry another request.

The socket is ours, so that it can be asked what the event loop has not seen yet (``MSG_PEEK`` right before a request)
and be written to in the same moment the deadline was read: a transport may queue a first write until the loop turns.
It was made with ``SO_LINGER(1, 0)``, so every end of a connection here is an abort: the kernel drops what it holds.

Failures are values, kept in ``failure``; what they mean is the client's to say. At most one coroutine waits for the
answer and one for room to write.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import Final, cast

from proxy.upstream.answer import AnswerReader, BrokenAnswer, Head

BUFFERED_BYTES_MAX: Final = 256 * 1024
"""Body bytes waiting for a slow reader before the socket is no longer read; one read of asyncio's."""

SALVAGED_BYTES_MAX: Final = 1024 * 1024
"""What is still read from a connection that broke while we wrote."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a connection can't go on: ``kind`` as in :class:`proxy.core.ports.SendFailed`, and a detail for people."""

    kind: str
    detail: str


class Connection(asyncio.Protocol):
    """A connection whose socket is connected; usable once the transport called :meth:`connection_made`."""

    def __init__(self, sock: socket.socket) -> None:
        self.failure: Failure | None = None
        self.request_written = False
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._closed = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._tls: ssl.SSLObject | None = None
        self._reader: AnswerReader | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._used = False
        self._is_over = False
        self._reading_paused = False
        self._writing_paused = False
        self._answer_waiter: asyncio.Future[None] | None = None
        self._room_waiter: asyncio.Future[None] | None = None

    # -- before a request ---------------------------------------------------------------------------------------------

    def is_untouched(self) -> bool:
        """Tell whether no byte and no end came since the last answer: asks the loop's knowledge and the kernel's.

        Not the kernel's on a fresh TLS connection: there session tickets may wait, which are nobody's answer.
        """
        if self._is_over or self._transport is None or self._transport.is_closing():
            return False
        if self._tls is not None and not self._used:
            return True
        try:
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        return False

    def expect(self, method: str, seconds: float) -> AnswerReader:
        """Be ready for the answer to a request with *method*, whole within *seconds*."""
        self._used = True
        self.request_written = False
        self._reader = AnswerReader(method)
        self._deadline = self._loop.call_later(seconds, self.fail, "timeout", "the attempt's deadline passed")
        # The kernel, too, stops delivering about then, should this process be stopped meanwhile.
        milliseconds = min(max(1, int(seconds * 1000)), 2**31 - 1)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        return self._reader

    # -- writing ------------------------------------------------------------------------------------------------------

    def write_first(self, data: bytes) -> None:
        """Write the first bytes of a request, now."""
        if self._tls is not None:
            self.write(data)
            return
        try:
            count = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            count = 0
        except OSError as error:
            self._lose(error)
            return
        if count < len(data):
            self.write(memoryview(data)[count:])

    def write(self, data: bytes | memoryview) -> None:
        """Hand *data* to the transport; nothing if the connection is gone."""
        if self._transport is not None and not self._is_over:
            self._transport.write(data)

    async def has_room(self) -> bool:
        """Wait until more of the request may be written; False if it is not wanted any more."""
        await asyncio.sleep(0)  # a server that takes bytes as fast as they come must not keep the loop from turning
        while self._writing_paused and self._is_waiting_for_head():
            self._room_waiter = self._loop.create_future()
            await self._room_waiter
        return self._is_waiting_for_head()

    def _is_waiting_for_head(self) -> bool:
        return self.failure is None and self._reader is not None and self._reader.head is None

    # -- reading ------------------------------------------------------------------------------------------------------

    async def head(self) -> Head | None:
        """Wait for the head of the final answer; None if the connection failed before."""
        while self._is_waiting_for_head():
            self._answer_waiter = self._loop.create_future()
            await self._answer_waiter
        return None if self._reader is None else self._reader.head

    async def piece(self) -> bytes:
        """Wait for the next piece of the body; empty at its end, and if the connection failed before."""
        reader = self._reader
        if reader is None:
            return b""
        while not reader.buffered and not reader.complete and self.failure is None:
            self._answer_waiter = self._loop.create_future()
            await self._answer_waiter
        piece = reader.take()
        if self._reading_paused and reader.buffered < BUFFERED_BYTES_MAX // 4:
            self._heard_at = self._loop.time()
            self._resume_reading()
        return piece

    def _pause_reading(self) -> None:
        self._reading_paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        self._reading_paused = False
        if self._transport is not None and not self._is_over and not self._transport.is_closing():
            self._transport.resume_reading()

    def wait_for_each_piece(self, seconds: float) -> None:
        """From now on no deadline bounds the answer as a whole, but *seconds* bound each silence of the server."""
        self._stop_clock()
        self._heard_at = self._loop.time()
        self._deadline = self._loop.call_later(seconds, self._end_silence, seconds)

    def _end_silence(self, seconds: float) -> None:
        now = self._loop.time()
        if self._reading_paused:  # it is our reader that is slow
            self._heard_at = now
        left = self._heard_at + seconds - now
        if left <= 0:
            self.fail("timeout", "the server said nothing for too long")
        else:
            self._deadline = self._loop.call_later(left, self._end_silence, seconds)

    # -- after a request ----------------------------------------------------------------------------------------------

    def rest(self) -> bool:
        """End the exchange; tell whether the connection may carry another. If not, it is closed.

        Bytes of this request that the transport still holds would follow the first ones of the next.
        """
        reader, transport = self._reader, self._transport
        if (
            reader is None
            or transport is None
            or not reader.is_reusable
            or not self.request_written
            or transport.get_write_buffer_size()
        ):
            self.close()
            return False
        self._stop_clock()
        self._reader = None
        if self._reading_paused:
            self._resume_reading()
        return True

    def close(self) -> None:
        """Close at once, dropping what was not delivered. Safe to call again."""
        self.fail("closed", "given up")

    def fail(self, kind: str, detail: str) -> None:
        """Close, and keep the reason unless there is one already or the answer is whole."""
        self._end(kind, detail)
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the socket is closed."""
        await asyncio.shield(self._closed)

    def _fail_in_callback(self, kind: str, detail: str) -> None:
        """As :meth:`fail`; asyncio's TLS goes on working after it called us, and can't bear an abort until it returned."""
        self._end(kind, detail)
        if self._transport is not None and self._tls is not None:
            self._loop.call_soon(self._transport.abort)
        elif self._transport is not None:
            self._transport.abort()

    def _end(self, kind: str, detail: str) -> None:
        if self.failure is None and not (self._reader is not None and self._reader.complete):
            self.failure = Failure(kind, detail)
        self._is_over = True
        self._stop_clock()
        self._wake()

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _wake(self) -> None:
        for waiter in (self._answer_waiter, self._room_waiter):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    # -- called by the transport --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called once, after the TLS handshake if there is one."""
        self._transport = cast("asyncio.Transport", transport)
        self._tls = transport.get_extra_info("ssl_object")

    def data_received(self, data: bytes) -> None:
        """Called with bytes, decrypted."""
        if self._reader is None:
            self._fail_in_callback("protocol", "bytes that nobody asked for")
        elif self.failure is None:
            self._heard_at = self._loop.time()
            self._feed(data)
            if self._reader.buffered > BUFFERED_BYTES_MAX and not self._reading_paused:
                self._pause_reading()

    def eof_received(self) -> None:
        """Called when the server ended its side; asyncio's TLS also calls it when the stream was cut."""
        if self._reader is not None and not self._is_cut():
            self._reader.feed_end()
        self._lose(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called once, last."""
        if self._reader is not None and not self._reader.complete and self.failure is None:
            self._salvage()
        self._lose(exc)
        self._transport = None
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        """Called when the transport holds much that the socket didn't take."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Called when that has gone."""
        self._writing_paused = False
        self._wake()

    def _feed(self, data: bytes) -> None:
        if self._reader is not None:
            try:
                self._reader.feed(data)
            except BrokenAnswer as error:
                self._fail_in_callback("protocol", str(error))
            else:
                if self._reader.surplus:
                    self._fail_in_callback("protocol", "bytes after the end of the answer")
                self._wake()

    def _lose(self, error: Exception | None) -> None:
        if error is None:
            self._fail_in_callback("closed", "the server closed the connection")
        elif isinstance(error, TimeoutError):
            self._fail_in_callback("timeout", "the network took nothing for too long")
        elif isinstance(error, ConnectionError):
            self._fail_in_callback("reset", str(error))
        else:
            self._fail_in_callback("error", str(error) or type(error).__name__)

    def _is_cut(self) -> bool:
        """True if a TLS stream ended without close_notify (RFC 9112 9.8): its end may be somebody else's doing."""
        if self._tls is None:
            return False
        try:
            return self._tls.read(1) != b""
        except ssl.SSLZeroReturnError:
            return False
        except ssl.SSLError:
            return True

    def _salvage(self) -> None:
        """Read what a server said before it stopped listening.

        A write fails as soon as the server has closed; asyncio then closes too, though an early answer (413, 401) may
        wait in the socket. uvloop also drops decrypted bytes that a paused reader has not taken.
        """
        left = SALVAGED_BYTES_MAX
        while left > 0 and self._reader is not None and not self._reader.complete and self.failure is None:
            try:
                data = self._sock.recv(65536, socket.MSG_DONTWAIT) if self._tls is None else self._tls.read(65536)
            except (OSError, ValueError):  # nothing more, or the socket is closed already; ssl.SSLError is an OSError
                return
            if not data:
                # In the clear this also follows a reset whose error a failed write has taken: no proof of an end.
                if self._tls is not None:
                    self._reader.feed_end()
                return
            left -= len(data)
            self._feed(data)
