"""How far it is: one line redrawn on a terminal, a line a second elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final, TextIO

_REDRAWN_SECONDS: Final = 0.1
_LINE_SECONDS: Final = 1.0
_ERASE: Final = "\r\x1b[2K"


class Progress:
    """Shows lines on one stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._began = time.monotonic()

    async def show(self, now: Callable[[], str]) -> None:
        """Show what *now* says until cancelled."""
        while True:
            await asyncio.sleep(_REDRAWN_SECONDS if self._is_terminal else _LINE_SECONDS)
            self._write(now(), is_passing=self._is_terminal)

    def say(self, text: str) -> None:
        """Say something that stays."""
        self._write(text, is_passing=False)

    def clear(self) -> None:
        """Leave no half line behind."""
        if self._is_terminal:
            self._stream.write(_ERASE)
            self._stream.flush()

    def _write(self, text: str, *, is_passing: bool) -> None:
        line = f"{time.monotonic() - self._began:6.1f} s  {text}"
        self._stream.write((_ERASE if self._is_terminal else "") + line + ("" if is_passing else "\n"))
        self._stream.flush()


def progress_line(purchases: int, services: Mapping[str, object], sandbox: Mapping[str, object]) -> str:
    """The line, from the last reports of services and sandbox."""
    if not services:
        return "starting"
    sent, reached = services.get("sent"), sandbox.get("requests")
    parts = [f"{services.get('done', 0)}/{purchases} purchases"]
    if isinstance(sent, Mapping):
        parts.append(f"{sum(sent.values())} requests sent")
    if isinstance(reached, Mapping):
        parts += [f"{name} got {count}" for name, count in reached.items()]
    return ", ".join(parts)
