"""How the demo's own processes speak with the story: JSON lines out, and an end when the input ends."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

REPORT_SECONDS: Final = 0.2


async def report_until(end: Awaitable[Any], now: Callable[[], dict[str, object]]) -> None:
    """Write what *now* says, at once, then several times a second, and a last time at *end*."""
    ending = asyncio.ensure_future(end)
    try:
        while not ending.done():
            _write(now())
            await asyncio.wait((ending,), timeout=REPORT_SECONDS)
        await ending
    finally:
        ending.cancel()
    _write(now())


async def stdin_closed() -> None:
    """Return when whoever started this process has let go of it, or is gone."""
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    class _End(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
            closed.set()

    transport, _ = await loop.connect_read_pipe(_End, sys.stdin)
    try:
        await closed.wait()
    finally:
        transport.close()


def _write(report: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(report, separators=(",", ":")) + "\n")
    sys.stdout.flush()
