"""Effect logs: what a provider did, on disk before it answers. The only witness that the verdict believes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from proxy.demo.observations import read_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Something that happened at a provider.

    ``native_key`` is the idempotency key it came under, None if there was none. ``arrived`` is when the provider had read the
    request, in seconds of the machine's monotonic clock: the same clock as an observation's times.
    """

    provider: str
    intent: str
    effect: str
    native_key: str | None
    arrived: float


class EffectLog:
    """Appends effects. Those that wait while the disk is busy share the next fsync."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self.count = 0

    async def append(self, effect: Effect) -> None:
        """Return once *effect* would survive a power cut."""
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = json.dumps(asdict(effect), separators=(",", ":")).encode() + b"\n"
        self._waiting.append((line, durable))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="effect log")
        await asyncio.shield(durable)
        self.count += 1

    def close(self) -> None:
        """Nothing more happens."""
        self._file.close()

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._write_durably, b"".join(line for line, _ in batch))
            except OSError as problem:
                for _, durable in batch:
                    durable.set_exception(problem)
            else:
                for _, durable in batch:
                    durable.set_result(None)

    def _write_durably(self, lines: bytes) -> None:
        self._file.write(lines)
        self._file.flush()
        os.fsync(self._file.fileno())


def read_effects(path: Path) -> Iterator[Effect]:
    """All effects of a log."""
    for fields in read_lines(path):
        yield Effect(**fields)
