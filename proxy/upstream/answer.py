"""Bytes in, an answer out: what the server said, where it ends, and whether anything came after it. No I/O.

httptools (llhttp, not lenient) reads heads and chunked bodies. Where the head ends, and all framing but chunks, is
decided here, so that every byte is accounted for: a byte too many makes the connection unusable, a byte too few is a
broken answer.

The framing rules are those of RFC 9112 6.3, taken strictly: an answer whose length is said twice is refused, for two
readers could disagree on where it ends.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto, unique
from typing import Final

import httptools

from proxy.core.model import Headers
from proxy.upstream.request import tokens

HEAD_BYTES_MAX: Final = 64 * 1024
"""One head, or one chunked body's framing between two pieces of data. nginx and Apache stop at 8 KiB a line."""

HEADERS_MAX: Final = 200
"""Header lines of one head; Apache's default is 100."""

INTERIM_MAX: Final = 64
"""1xx heads before the final one. A server that reports progress with 102 sends one every 20 s (RFC 2518 10.1)."""

_START: Final = b"HTTP/1."  # llhttp would take RTSP/, ICE/ and empty lines too
_END: Final = b"\r\n\r\n"


class BrokenAnswer(Exception):
    """The server's bytes are not an HTTP/1 answer, or one whose end is not certain."""


@unique
class Framing(Enum):
    """Where a body ends."""

    NONE = auto()  # HEAD, 204, 304
    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()  # at the end of the connection


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a final answer.

    ``persistent`` is what the server says of the connection after this answer; ``idle_seconds`` is how long it means to
    keep it (``Keep-Alive: timeout``), None if it doesn't tell.
    """

    status: int
    reason: bytes
    headers: Headers
    persistent: bool
    idle_seconds: int | None


class _Heard:
    """What the parser reports; it knows nothing of the reader, so that neither keeps the other alive.

    Header lines that come after the head was read are trailers, which nobody looks at.
    """

    __slots__ = ("head_ended", "headers", "message_ended", "pieces", "reason", "surplus")

    def __init__(self) -> None:
        self.reason: list[bytes] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_ended = False
        self.pieces: list[bytes] = []
        self.message_ended = False
        self.surplus = False

    def on_message_begin(self) -> None:
        """At the first byte of a message: the one expected, or one that nobody asked for."""
        self.surplus = self.message_ended

    def on_status(self, part: bytes) -> None:
        """With the reason phrase, in pieces."""
        self.reason.append(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        """With a whole header line; the parser leaves blanks at the end of a value."""
        self.headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """At the end of a head."""
        self.head_ended = True

    def on_body(self, piece: bytes) -> None:
        """With data of a chunk, or of a message that nobody asked for."""
        if not self.message_ended:
            self.pieces.append(piece)

    def on_message_complete(self) -> None:
        """At the end of a chunked body; also at the end of a head that has none."""
        self.message_ended = True


class AnswerReader:
    """Reads the answer to one request made with *method*.

    ``head`` is None until the final head is whole. ``complete`` says that the last byte of the answer is in,
    ``surplus`` that there was a byte after it. ``buffered`` is how many bytes of the body wait to be taken.
    """

    __slots__ = (
        "_framing",
        "_heard",
        "_interim",
        "_left",
        "_method",
        "_overhead",
        "_parser",
        "_pieces",
        "_tail",
        "buffered",
        "complete",
        "head",
        "surplus",
    )

    def __init__(self, method: str) -> None:
        self.head: Head | None = None
        self.complete = False
        self.surplus = False
        self.buffered = 0
        self._method = method
        self._framing = Framing.NONE
        self._pieces: deque[bytes] = deque()
        self._left = 0
        self._interim = 0
        self._begin_head()

    @property
    def is_reusable(self) -> bool:
        """True if the connection stands right behind this answer and the server means to keep it."""
        return (
            self.complete
            and not self.surplus
            and self.head is not None
            and self.head.persistent
            and self._framing is not Framing.CLOSE
        )

    def feed(self, data: bytes) -> None:
        """Take in *data*. Raises BrokenAnswer; nothing may be fed after that."""
        if self.head is None:
            data = self._feed_heads(data)
        if not data:
            return
        if self.complete:
            self.surplus = True
        elif self._framing is Framing.CHUNKED:
            self._feed_chunks(data)
        elif self._framing is Framing.CLOSE:
            self._push(data)
        else:
            self.surplus = len(data) > self._left
            data = data[: self._left]
            self._push(data)
            self._left -= len(data)
            self.complete = self._left == 0

    def feed_end(self) -> bool:
        """The connection ended in order. Tell whether the answer is complete with that."""
        if self.head is not None and self._framing is Framing.CLOSE:
            self.complete = True
        return self.complete

    def take(self) -> bytes:
        """The next piece of the body; empty if none is here now."""
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        self.buffered -= len(piece)
        return piece

    def _begin_head(self) -> None:
        self._heard = _Heard()
        self._parser = httptools.HttpResponseParser(self._heard)
        self._overhead = 0
        self._tail = b""

    def _feed_heads(self, data: bytes) -> bytes:
        """Read interim heads and the final one; give back what follows it."""
        while data and self.head is None:
            self._check_start(data)
            window = self._tail + data
            at = window.find(_END)
            end = len(data) if at < 0 else at + len(_END) - len(self._tail)
            self._overhead += end
            if self._overhead > HEAD_BYTES_MAX:
                raise BrokenAnswer(f"a head of more than {HEAD_BYTES_MAX} bytes")
            self._tail = window[-3:]
            self._parse(data[:end])
            data = data[end:]
            if at >= 0:
                self._end_head()
        return data

    def _check_start(self, data: bytes) -> None:
        seen = self._overhead
        if seen < len(_START):
            part = data[: len(_START) - seen]
            if _START[seen : seen + len(part)] != part:
                raise BrokenAnswer("not an HTTP/1 answer")

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise BrokenAnswer("101 to a request that asked for no upgrade") from None
        except httptools.HttpParserError as error:
            raise BrokenAnswer(str(error)) from error

    def _end_head(self) -> None:
        if not self._heard.head_ended:
            raise BrokenAnswer("a head that ends too early")
        if len(self._heard.headers) > HEADERS_MAX:
            raise BrokenAnswer(f"more than {HEADERS_MAX} headers")
        status = self._parser.get_status_code()
        if status < 100:  # llhttp takes 000; it ends at 101 by itself
            raise BrokenAnswer(f"status {status}")
        if status < 200:
            self._interim += 1
            if self._interim > INTERIM_MAX:
                raise BrokenAnswer(f"more than {INTERIM_MAX} interim answers")
            self._begin_head()
            return
        self.head = self._read_head(status, is_old=self._parser.get_http_version() == "1.0")
        self.complete = self._framing is Framing.NONE or (self._framing is Framing.LENGTH and self._left == 0)
        self._overhead = 0
        self._tail = b""

    def _read_head(self, status: int, *, is_old: bool) -> Head:
        lengths: list[bytes] = []
        codings: list[bytes] = []
        connection: list[bytes] = []
        idle_seconds: int | None = None
        for name, value in self._heard.headers:
            match name.lower():
                case b"content-length":
                    lengths.append(value)
                case b"transfer-encoding":
                    codings += tokens(value)
                case b"connection":
                    connection += tokens(value)
                case b"keep-alive":
                    idle_seconds = _keep_alive_timeout(value)
                case _:
                    pass
        self._framing = self._frame(status, lengths, codings)
        return Head(
            status=status,
            reason=b"".join(self._heard.reason),
            headers=tuple(self._heard.headers),
            persistent=not is_old and b"close" not in connection,
            idle_seconds=idle_seconds,
        )

    def _frame(self, status: int, lengths: list[bytes], codings: list[bytes]) -> Framing:
        if len(lengths) + len(codings) > 1:
            raise BrokenAnswer("more than one Content-Length or Transfer-Encoding")
        if codings and codings != [b"chunked"]:
            raise BrokenAnswer("a transfer coding that was not asked for")
        if self._method == "HEAD" or status in (204, 304):
            return Framing.NONE
        if codings:
            return Framing.CHUNKED
        if lengths:
            self._left = int(lengths[0])  # llhttp lets only digits pass, and no more than 64 bits
            return Framing.LENGTH
        return Framing.CLOSE

    def _push(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.buffered += len(piece)

    def _feed_chunks(self, data: bytes) -> None:
        heard = self._heard
        self._tail = (self._tail + data[-5:])[-5:]
        try:
            self._parse(data)
        except BrokenAnswer:
            if not heard.message_ended:
                raise
            heard.surplus = True
        if heard.pieces:
            self._overhead = 0
            for piece in heard.pieces:
                self._push(piece)
            heard.pieces = []
        else:
            self._overhead += len(data)
        if heard.message_ended:
            self.complete = True
            # llhttp skips line ends after a message. A body ends in two, and what is before those is none.
            self.surplus = heard.surplus or self._tail[0] in b"\r\n"
        elif self._overhead > HEAD_BYTES_MAX:
            raise BrokenAnswer(f"more than {HEAD_BYTES_MAX} bytes of chunk framing without data")


def _keep_alive_timeout(value: bytes) -> int | None:
    for member in tokens(value):
        name, _, number = member.partition(b"=")
        if name.strip() == b"timeout" and number.strip().isdigit() and len(number) < 10:
            return int(number)
    return None
