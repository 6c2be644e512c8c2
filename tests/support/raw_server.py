"""A server on raw sockets that does what a script says: the judge of what really went over the wire.

Every connection is handed to the script in a thread of its own, as a :class:`Peer`. Requests are counted here, by the
bytes that arrived, not by anything a client says. ``with RawServer(script) as server`` closes everything at the end and
raises what a script raised.

    def drop_after_reading(peer: Peer) -> None:
        peer.read_request()
        peer.close()
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

LINGER_NONE = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # struct linger {1, 0}: close() resets

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Gone(Exception):
    """The client closed or reset the connection before another request began."""


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One request as it arrived; ``body`` still has its chunk framing if it had one."""

    head: bytes
    body: bytes

    @property
    def line(self) -> bytes:
        """The request line."""
        return self.head.partition(b"\r\n")[0]

    @property
    def header_lines(self) -> list[bytes]:
        """The header lines, as they came."""
        return self.head.rstrip(b"\r\n").split(b"\r\n")[1:]

    def values(self, name: bytes) -> list[bytes]:
        """The values under *name*, any case."""
        pairs = (line.partition(b":") for line in self.header_lines)
        return [value.strip() for key, _, value in pairs if key.lower() == name.lower()]


class Peer:
    """The server's side of one connection."""

    def __init__(self, server: RawServer, sock: socket.socket, number: int) -> None:
        self.number = number
        self.received = 0
        self._server = server
        self._sock = sock
        self._unread = b""

    def read_request(self) -> RawRequest:
        """Read one request whole, and count it. Raises Gone if none comes."""
        head = self.read_head()
        request = RawRequest(head, b"")
        lengths = request.values(b"content-length")
        body = b""
        if lengths:
            body = self._read(int(lengths[0]))
        elif request.values(b"transfer-encoding"):
            body = self._read_through(b"0\r\n\r\n")
        request = RawRequest(head, body)
        self._server.requests.append(request)
        return request

    def read_head(self) -> bytes:
        """Read the head of a request; what follows it stays unread. Counts as a request begun."""
        self._receive_into_unread()
        self._server.begun += 1
        return self._read_through(b"\r\n\r\n")

    def read_rest(self) -> int:
        """Read until the client ends or resets the connection; tell how many bytes came from now on."""
        count = len(self._unread)
        self._unread = b""
        with contextlib.suppress(Gone):
            while True:
                self._receive_into_unread()
                count += len(self._unread)
                self._unread = b""
        return count

    def send(self, data: bytes, *, slices: int | None = None) -> None:
        """Send *data*, in pieces of *slices* bytes if given; a client that went away is no mistake."""
        with contextlib.suppress(ConnectionError):
            if slices is None:
                self._sock.sendall(data)
                return
            for at in range(0, len(data), slices):
                self._sock.sendall(data[at : at + slices])
                time.sleep(0.0005)  # a segment of its own; nothing depends on it being one

    def answer(self, data: bytes = OK) -> RawRequest:
        """Read a request and send *data*."""
        request = self.read_request()
        self.send(data)
        return request

    def end(self) -> None:
        """Send FIN, and go on reading."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        self._sock.close()

    def close(self) -> None:
        """Close: FIN, or RST if something is unread. Over TLS after a close_notify."""
        self.notify()
        self._sock.close()

    def notify(self) -> None:
        """Send a close_notify over TLS, and don't wait for the client's."""
        if isinstance(self._sock, ssl.SSLSocket):
            self._sock.settimeout(0)
            with contextlib.suppress(OSError):
                self._sock.unwrap()
            self._sock.settimeout(None)

    def close_without_notify(self) -> None:
        """Close without the TLS close_notify."""
        self._sock.close()

    def _read(self, count: int) -> bytes:
        while len(self._unread) < count:
            self._receive()
        data, self._unread = self._unread[:count], self._unread[count:]
        return data

    def _read_through(self, end: bytes) -> bytes:
        while end not in self._unread:
            self._receive()
        at = self._unread.index(end) + len(end)
        return self._read(at)

    def _receive_into_unread(self) -> None:
        if not self._unread:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(65536)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        self.received += len(data)
        self._server.received += len(data)
        self._unread += data


Script = Callable[[Peer], None]


def serve_forever(peer: Peer, answer: bytes = OK) -> None:
    """Answer every request on the connection alike."""
    while True:
        peer.answer(answer)


class RawServer:
    """Listens on loopback and plays *script* on each connection.

    ``requests`` are those read whole, ``begun`` counts those whose first byte arrived, ``received`` counts bytes.
    """

    def __init__(
        self,
        script: Script,
        *,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.requests: list[RawRequest] = []
        self.begun = 0
        self.received = 0
        self.connections = 0
        self._script = script
        self._tls = tls
        self._mistakes: list[BaseException] = []
        self._peers: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind((host, 0))
        self._listener.listen(128)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._peers:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=5)
            if thread.is_alive():
                raise AssertionError("a script of the raw server doesn't end")
        for sock in self._peers:
            sock.close()
        if self._mistakes and error is None:
            raise self._mistakes[0]

    async def until(self, happened: Callable[[], bool], *, seconds: float = 5.0) -> None:
        """Wait for something that *happened* tells, which a script in its thread brings about."""
        async with asyncio.timeout(seconds):
            while not happened():
                await asyncio.sleep(0.002)

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._peers.append(sock)
            number = self.connections
            self._start(lambda sock=sock, number=number: self._play(sock, number))  # type: ignore[misc]

    def _play(self, sock: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                self._peers.append(sock)
                sock.do_handshake()
            self._script(Peer(self, sock, number))
        except (Gone, ConnectionError, ssl.SSLError):
            pass
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test that wrote the script is told
            if not self._is_closed:
                self._mistakes.append(error)
        finally:
            sock.close()


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port where connecting hangs: its listener accepts nothing and its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def refused_port() -> int:
    """A port on loopback where nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
