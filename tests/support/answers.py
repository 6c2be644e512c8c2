"""What the fake provider's answers look like on the wire."""

from __future__ import annotations

import http
import json
from dataclasses import dataclass, replace
from typing import Final

from tests.support.behaviour import Behaviour, Content

Lines = tuple[tuple[str, str], ...]

_JSON: Final = ("content-type", "application/json")
_LOCATION: Final = ("location", "/somewhere/else")
_BODILESS: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as a provider stores it under a key: all but what becomes of the connection."""

    status: int
    headers: Lines
    body: bytes
    is_replay: bool = False

    @classmethod
    def error(cls, status: int, code: str, message: str) -> Answer:
        """An error document."""
        body = json.dumps({"error": {"code": code, "message": message}}).encode()
        return cls(status, (_JSON, ("x-behind-key", "true")), body)

    def as_replay(self) -> Answer:
        """The same answer, told again."""
        return replace(self, headers=(*self.headers, ("idempotent-replayed", "true")), is_replay=True)

    def encode(self, step: Behaviour, *, with_body: bool) -> tuple[bytes, bytes]:
        """Head (with what goes before it) and body as bytes."""
        lines = list(self.headers)
        body = self.body if with_body else b""
        if self.status in _BODILESS:
            body = b""
        elif step.chunked:
            lines.append(("transfer-encoding", "chunked"))
            body = _chunked(body) if with_body else b""
        else:
            lines.append(("content-length", str(len(self.body))))
        if step.close:
            lines.append(("connection", "close"))
        phrase = http.HTTPStatus(self.status).phrase if self.status in set(http.HTTPStatus) else "Whatever"
        before = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" if step.hints else b""
        head = f"HTTP/1.1 {self.status} {phrase}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines)
        return before + head.encode("latin-1") + b"\r\n", body


def render(method: str, intent: str, step: Behaviour, *, effect_id: str | None, is_behind_key: bool) -> Answer:
    """The answer of one step. ``effect_id`` is in the body, so that equal answers mean the same effect."""
    lines: list[tuple[str, str]] = []
    body = b""
    match step.content:
        case Content.HUGE:
            lines.append(("content-type", "application/octet-stream"))
            body = b"x" * step.huge_bytes
        case Content.GARBAGE_GZIP:
            lines += [_JSON, ("content-encoding", "gzip")]
            body = b"\x1f\x8b this is no gzip"
        case Content.HTML:
            lines.append(("content-type", "text/html"))
            body = b"<!doctype html><title>Bad gateway</title>"
        case Content.EMPTY:
            pass
        case Content.JSON:
            lines.append(_JSON)
            body = json.dumps({"id": effect_id, "intent": intent, "status": step.status, "method": method}).encode()
    if step.cookies:
        lines += [("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2; Path=/")]
    if step.retry_after is not None:
        lines.append(("retry-after", str(step.retry_after)))
    if 300 <= step.status < 400 and step.status != 304:
        lines.append(_LOCATION)
    if is_behind_key:
        lines.append(("x-behind-key", "true"))
    return Answer(step.status, tuple(lines), body)


def _chunked(body: bytes) -> bytes:
    half = max(1, len(body) // 2)
    pieces = [piece for piece in (body[:half], body[half:]) if piece]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
