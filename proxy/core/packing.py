"""Values as bytes that can be digested: no two different sequences of parts give the same bytes."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

Part = str | bytes | int | None | tuple["Part", ...]
"""What can be packed. A tuple is a part of its own, so that lists of lists stay apart."""


def pack(parts: Iterable[Part]) -> bytes:
    """Each part with its kind and its length in front. Text may hold lone surrogates."""
    return b"".join(_packed(part) for part in parts)


def keyed_digest(secret: bytes, parts: Iterable[Part]) -> str:
    """HMAC-SHA256 of the packed *parts*, as 64 hex digits. The first part should name what is digested."""
    return hmac.new(secret, pack(parts), hashlib.sha256).hexdigest()


def open_digest(parts: Iterable[Part]) -> bytes:
    """SHA-256 of the packed *parts*: for what must come out the same without any secret."""
    return hashlib.sha256(pack(parts)).digest()


def _packed(part: Part) -> bytes:
    if part is None:
        return b"n"
    if isinstance(part, tuple):
        return _framed(b"t", pack(part))
    if isinstance(part, int):
        return _framed(b"i", b"%d" % part)
    if isinstance(part, bytes):
        return _framed(b"b", part)
    return _framed(b"s", part.encode("utf-8", "surrogatepass"))


def _framed(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(8, "big") + content
