"""A request as the bytes that go on the wire.

Everything that could make two requests out of one, or end a header early, is refused here with ValueError, before
anything is opened: line breaks and NUL anywhere, names that are no tokens, a body length that is said twice or wrongly.
Names keep their case and order, values their bytes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from proxy.core.model import Headers
from proxy.core.ports import Outgoing

BODYLESS: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"})
"""Methods that say nothing by having no body: no ``Content-Length: 0`` is added to them (RFC 9110 8.6)."""

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 5.6.2
_NO_TARGET: Final = re.compile(rb"[\x00-\x20\x7f]")
_NO_VALUE: Final = re.compile(rb"[\r\n\x00]")  # RFC 9110 5.5: what no field value may hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A request ready to be written: *head* with its empty line, then *body*.

    ``length`` is what Content-Length promises of a streamed body; ``chunked`` says that the stream is to be framed.
    A body of bytes is already framed. ``closing`` is true if the request asks the server to close the connection.
    """

    method: str
    head: bytes
    body: bytes | AsyncIterator[bytes]
    length: int | None = None
    chunked: bool = False
    closing: bool = False


@dataclass(slots=True)
class _Framing:
    """What the caller's headers say about the body and the connection."""

    length: int | None = None
    chunked: bool = False
    closing: bool = False
    hosts: int = 0


def encode(outgoing: Outgoing) -> Wire:
    """Turn *outgoing* into bytes. Raises ValueError for what must not go on any wire."""
    method = outgoing.method.encode("ascii", "replace")
    if _TOKEN.fullmatch(method) is None or method == b"CONNECT":
        raise ValueError(f"not a method that can be sent: {outgoing.method!r}")
    # Listeners decode a raw target as UTF-8 with surrogates for stray bytes; this is the way back.
    target = outgoing.target.encode("utf-8", "surrogateescape")
    if not target or _NO_TARGET.search(target):
        raise ValueError("a target with a space or a control character, or none")
    framing = _framing(outgoing.headers)
    added = b""
    body = outgoing.body
    if isinstance(body, bytes):
        if framing.chunked:
            body = chunk(body) + LAST_CHUNK if body else LAST_CHUNK
        elif framing.length is None:
            added = b"" if not body and outgoing.method in BODYLESS else b"Content-Length: %d\r\n" % len(body)
        elif framing.length != len(body):
            raise ValueError(f"Content-Length says {framing.length}, the body has {len(body)} bytes")
    elif framing.length is None and not framing.chunked:
        framing.chunked = True
        added = b"Transfer-Encoding: chunked\r\n"
    lines = b"".join([b"%b: %b\r\n" % header for header in outgoing.headers])
    head = b"%b %b HTTP/1.1\r\n%b%b\r\n" % (method, target, lines, added)
    return Wire(
        method=outgoing.method,
        head=head,
        body=body,
        length=framing.length,
        chunked=framing.chunked,
        closing=framing.closing,
    )


LAST_CHUNK: Final = b"0\r\n\r\n"


def chunk(piece: bytes) -> bytes:
    """*piece*, not empty, as one chunk (RFC 9112 7.1)."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _framing(headers: Headers) -> _Framing:
    framing = _Framing()
    for name, value in headers:
        if _TOKEN.fullmatch(name) is None:
            raise ValueError(f"not a header name: {name!r}")
        if _NO_VALUE.search(value):
            raise ValueError(f"a line break or NUL in the value of {name!r}")
        match name.lower():
            case b"host":
                framing.hosts += 1
            case b"content-length":
                if framing.length is not None or not value.isdigit():
                    raise ValueError("more than one Content-Length, or one that is no number")
                framing.length = int(value)
            case b"transfer-encoding":
                if framing.chunked or value.lower() != b"chunked":
                    raise ValueError("a Transfer-Encoding other than chunked")
                framing.chunked = True
            case b"upgrade":
                raise ValueError("Upgrade is not forwarded")
            case b"connection":
                framing.closing = framing.closing or b"close" in tokens(value)
            case _:
                pass
    if framing.chunked and framing.length is not None:
        raise ValueError("both Content-Length and Transfer-Encoding")
    if framing.hosts != 1:
        raise ValueError(f"{framing.hosts} Host headers")
    return framing


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, in lower case."""
    return [member.strip(b" \t").lower() for member in value.split(b",")]
