"""Values as bytes that can be digested: no two different sequences of parts give the same bytes."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

Part = str | bytes | int | None | tuple["Part", ...]
"""What can be packed. A tuple is a part of its own, so that lists of lists stay apart."""


def pack(parts: Iterable[Part]) -> bytes:
    """Each part as its kind, its length, a colon and its bytes (as in netstrings). Text may hold lone surrogates."""
    pieces: list[bytes] = []
    for part in parts:
        if isinstance(part, str):
            kind, content = b"s%d:", part.encode("utf-8", "surrogatepass")
        elif isinstance(part, bytes):
            kind, content = b"b%d:", part
        elif isinstance(part, tuple):
            kind, content = b"t%d:", pack(part)
        elif part is None:
            kind, content = b"n%d:", b""
        else:
            kind, content = b"i%d:", b"%d" % part
        pieces += (kind % len(content), content)
    return b"".join(pieces)


def keyed_digest(secret: bytes, parts: Iterable[Part]) -> str:
    """HMAC-SHA256 of the packed *parts*, as 64 hex digits. The first part should name what is digested."""
    return hmac.new(secret, pack(parts), hashlib.sha256).hexdigest()


def open_digest(parts: Iterable[Part]) -> bytes:
    """SHA-256 of the packed *parts*: for what must come out the same without any secret."""
    return hashlib.sha256(pack(parts)).digest()
