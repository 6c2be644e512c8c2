"""An answer as bytes: status line, headers as they are, and where the body ends. Pure (RFC 9112).

What a provider said is passed on in its order, case and repetition; nothing is added but our own headers. Only framing
is ours, since it ends at each connection: a body of bytes gets its true ``Content-Length``, a stream keeps the one it
came with, or goes in chunks, or to HTTP/1.0 until the connection closes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from proxy.core.model import Headers

LAST_CHUNK: Final = b"0\r\n\r\n"

_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to be written. ``phrase`` None stands for the usual one."""

    status: int
    headers: Headers
    body: bytes | AsyncIterator[bytes]
    phrase: bytes | None = None


@dataclass(frozen=True, slots=True)
class Framed:
    """An answer ready to be written: ``head`` with its empty line, then ``body``, in chunks if ``chunked``.

    ``length`` is what the head promises of a streamed body, None where it promises nothing. ``is_last``: the connection
    must close after it.
    """

    head: bytes
    body: bytes | AsyncIterator[bytes]
    length: int | None = None
    chunked: bool = False
    is_last: bool = False


def frame(answer: Answer, *, method: str, is_http_10: bool, keep_alive: bool) -> Framed:
    """Frame *answer* for a caller's request with *method*."""
    headers, body = answer.headers, answer.body
    length: int | None = None
    chunked = False
    if method == "HEAD" or answer.status in (204, 304):
        # Content-Length tells what a GET would have brought; after 204 it must not stand (RFC 9110 8.6).
        if answer.status == 204:
            headers = _without_length(headers)
        elif isinstance(body, bytes) and body:  # a problem of our own: nobody has said its length yet
            headers = _with_length(headers, len(body))
        body = b""
    elif isinstance(body, bytes):
        headers = _with_length(headers, len(body))
    else:
        length = _length(headers)
        if length is None:
            headers = _without_length(headers)
            chunked, keep_alive = not is_http_10, keep_alive and not is_http_10
    lines = [b"HTTP/1.1 %d %b\r\n" % (answer.status, _phrase(answer))]
    lines += [b"%b: %b\r\n" % header for header in headers]
    if chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    if is_http_10 and keep_alive:
        lines.append(b"Connection: keep-alive\r\n")
    elif not is_http_10 and not keep_alive:
        lines.append(b"Connection: close\r\n")
    lines.append(b"\r\n")
    return Framed(b"".join(lines), body, length, chunked, is_last=not keep_alive)


def chunk(piece: bytes) -> bytes:
    """*piece*, not empty, as one chunk (RFC 9112 7.1)."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _phrase(answer: Answer) -> bytes:
    return _PHRASES.get(answer.status, b"") if answer.phrase is None else answer.phrase


def _is_length(name: bytes) -> bool:
    return len(name) == 14 and name.lower() == b"content-length"


def _length(headers: Headers) -> int | None:
    values = [value for name, value in headers if _is_length(name)]
    return int(values[0]) if len(values) == 1 and values[0].isdigit() else None


def _without_length(headers: Headers) -> Headers:
    return tuple(header for header in headers if not _is_length(header[0]))


def _with_length(headers: Headers, length: int) -> Headers:
    """*headers* with exactly this length, in the place where one stood."""
    text = str(length).encode()
    places = [index for index, (name, _) in enumerate(headers) if _is_length(name)]
    if not places:
        return (*headers, (b"Content-Length", text))
    return tuple(
        (name, text) if index == places[0] else (name, value)
        for index, (name, value) in enumerate(headers)
        if index not in places[1:]
    )
