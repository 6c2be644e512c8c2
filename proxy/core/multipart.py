"""``multipart/form-data`` taken apart without copying it: where each part's bytes are (RFC 2046 5.1, RFC 7578)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from python_multipart.multipart import parse_options_header

PARTS_MAX: Final = 1_000
"""Parts of one body. Forms of people have tens."""

BOUNDARY_MAX: Final = 70
"""RFC 2046 5.1.1."""

HEAD_MAX: Final = 8_192
"""Bytes of one part's head."""


class MultipartInvalid(ValueError):
    """The body is not what its ``Content-Type`` says; the message tells why, without quoting it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part. ``start`` and ``end`` bound its content in the body; a part without a file name is a field."""

    name: str
    filename: str | None
    content_type: str | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Multipart:
    """A whole body. ``close`` is where the closing delimiter's dashes begin."""

    boundary: bytes
    parts: tuple[Part, ...]
    close: int


def read_multipart(body: bytes, content_type: str) -> Multipart:
    """Take *body* apart. Raises :class:`MultipartInvalid`."""
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 0 < len(boundary) <= BOUNDARY_MAX:
        raise MultipartInvalid("its Content-Type has no boundary")
    dashes = b"--" + boundary
    at, after = _delimiter(body, dashes, 0)
    parts: list[Part] = []
    while not _is_closing(body, at, dashes):
        if len(parts) == PARTS_MAX:
            raise MultipartInvalid(f"more than {PARTS_MAX} parts")
        start = after
        # The line break before a delimiter belongs to it; it may be the one that ends the line before.
        at, after = _delimiter(body, dashes, start - 2)
        parts.append(_part(body, start, at - 2))
    return Multipart(boundary, tuple(parts), at)


def write_part(boundary: bytes, name: str, value: str) -> bytes:
    """A field as a part, from its delimiter to its last line break. Raises ValueError if it can't be one."""
    if b"--" + boundary in value.encode():
        raise ValueError("the value holds the boundary")
    escaped = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    head = f'Content-Disposition: form-data; name="{escaped}"'
    return b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, head.encode(), value.encode())


def _delimiter(body: bytes, dashes: bytes, start: int) -> tuple[int, int]:
    """Where the next delimiter's dashes begin, and where what follows its line begins."""
    at = start - 1
    while (at := body.find(dashes, at + 1)) >= 0:
        if at > 0 and body[at - 2 : at] != b"\r\n":
            continue
        if _is_closing(body, at, dashes):
            return at, len(body)
        end = body.find(b"\r\n", at)
        if end >= 0 and not body[at + len(dashes) : end].strip(b" \t"):
            return at, end + 2
    raise MultipartInvalid("its closing boundary is missing")


def _is_closing(body: bytes, at: int, dashes: bytes) -> bool:
    after = at + len(dashes)
    return body[after : after + 2] == b"--"


def _part(body: bytes, start: int, end: int) -> Part:
    if body[start : start + 2] == b"\r\n":
        raise MultipartInvalid("a part has no name")
    head_end = body.find(b"\r\n\r\n", start, end)
    if head_end < 0:
        raise MultipartInvalid("the head of a part has no end")
    if head_end - start > HEAD_MAX:
        raise MultipartInvalid(f"the head of a part has more than {HEAD_MAX} bytes")
    headers: dict[str, str] = {}
    for line in body[start:head_end].decode("utf-8", "surrogateescape").split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon or name.lower() in headers:
            raise MultipartInvalid("the head of a part is malformed")
        headers[name.lower()] = value.strip()
    name_, filename = _names(headers.get("content-disposition", ""))
    return Part(name_, filename, headers.get("content-type"), head_end + 4, end)


def _names(disposition: str) -> tuple[str, str | None]:
    # The library reads headers as latin-1; names in forms are UTF-8.
    readable = disposition.encode("utf-8", "surrogateescape").decode("latin-1")
    _, options = parse_options_header(readable)
    name = options.get(b"name")
    if name is None:
        raise MultipartInvalid("a part has no name")
    filename = options.get(b"filename")
    return _text(name), None if filename is None else _text(filename)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
