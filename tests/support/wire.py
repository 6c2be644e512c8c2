"""Reading HTTP/1.1 requests from a socket by hand, so that a test sees what really came and can misbehave as it likes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

HEAD_BYTES_MAX = 256 * 1024


class BrokenRequest(Exception):
    """The connection ended, or went wrong, inside a request. ``received`` is how many bytes of it had come."""

    def __init__(self, detail: str, received: int) -> None:
        super().__init__(detail)
        self.received = received


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head; header names in lower case, in order, repeated ones repeated."""

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]
    raw: bytes

    def get(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), None)

    def get_all(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key == name]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query without its question mark."""
        return self.target.partition("?")[2]

    @property
    def keeps_alive(self) -> bool:
        """Whether the client would send another request on this connection."""
        tokens = {token.strip().lower() for value in self.get_all("connection") for token in value.split(",")}
        return "close" not in tokens and (self.version == "HTTP/1.1" or "keep-alive" in tokens)


async def read_head(reader: asyncio.StreamReader, already: bytes = b"") -> Head:
    """Read one head; *already* are bytes of it that were read before. Raises :class:`BrokenRequest`."""
    raw = already
    while b"\r\n\r\n" not in raw:
        try:
            raw += await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            raise BrokenRequest("the connection ended inside the head", len(raw) + len(error.partial)) from error
        except (asyncio.LimitOverrunError, ConnectionError) as error:
            raise BrokenRequest(str(error), len(raw)) from error
        if len(raw) > HEAD_BYTES_MAX:
            raise BrokenRequest("the head is too long", len(raw))
    lines = raw[: raw.index(b"\r\n\r\n")].decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3:
        raise BrokenRequest(f"not a request line: {lines[0]!r}", len(raw))
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BrokenRequest(f"not a header line: {line!r}", len(raw))
        headers.append((name.lower(), value.strip(" \t")))
    return Head(parts[0], parts[1], parts[2], tuple(headers), raw)


async def read_body(reader: asyncio.StreamReader, head: Head) -> bytes:
    """Read the body that *head* announces. Raises :class:`BrokenRequest`."""
    try:
        if (head.get("transfer-encoding") or "").lower() == "chunked":
            return await _read_chunked(reader)
        return await reader.readexactly(int(head.get("content-length") or "0"))
    except asyncio.IncompleteReadError as error:
        raise BrokenRequest("the connection ended inside the body", len(head.raw) + len(error.partial)) from error
    except (ValueError, ConnectionError) as error:
        raise BrokenRequest(str(error), len(head.raw)) from error


async def _read_chunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if size == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass  # trailers
            return body
        body += await reader.readexactly(size)
        await reader.readexactly(2)
