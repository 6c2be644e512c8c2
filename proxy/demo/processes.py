"""Children of the story. However the story ends, they end: each has a group of its own, which is killed, and dies with us."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

STOP_SECONDS_MAX: Final = 15.0
_TAIL_LINES: Final = 15
_PR_SET_PDEATHSIG: Final = 1


class ChildFailed(Exception):
    """A process of the demo did not start, or ended before its time. The message ends with what it last said."""


class Child:
    """A running process. ``report`` is the last JSON line it wrote."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.report: dict[str, Any] = {}
        self._process = process
        self._log = log
        self._reading = asyncio.create_task(self._read(), name=f"reports of {name}")

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    @property
    def exit_status(self) -> int | None:
        """How it ended; negative: by that signal; None: it has not."""
        return self._process.returncode

    async def kill(self) -> None:
        """``kill -9`` its whole group, and see it gone."""
        self.kill_at_once()
        await self._gone()

    def kill_at_once(self) -> None:
        """``kill -9`` its whole group, without waiting."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def ended(self) -> int:
        """Wait until it ends by itself, and give its exit status."""
        return await self._end(lambda: None)

    async def terminate(self) -> int:
        """Ask it to end by SIGTERM, and give its exit status."""
        return await self._end(self._process.terminate)

    async def let_go(self) -> int:
        """Ask it to end by closing its standard input, and give its exit status."""
        return await self._end(self._close_input)

    def failed(self, what: str) -> ChildFailed:
        """The exception that says *what* about it, with the end of its log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        return ChildFailed("\n".join([f"{self.name} {what}", *(f"    {line}" for line in lines)]))

    async def _end(self, ask: Callable[[], None]) -> int:
        with contextlib.suppress(ProcessLookupError):
            ask()
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await self._gone()
        except TimeoutError:
            await self.kill()
            raise self.failed(f"did not end within {STOP_SECONDS_MAX:.0f} seconds") from None
        status = self._process.returncode
        return 1 if status is None else status

    async def _gone(self) -> None:
        await self._process.wait()
        await asyncio.wait((self._reading,), timeout=1)
        self._reading.cancel()
        self._close_input()

    def _close_input(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _read(self) -> None:
        """Take in its reports, and pass everything else on to its log."""
        if self._process.stdout is None:
            return
        with self._log.open("ab") as log:
            async for line in self._process.stdout:
                try:
                    self.report = json.loads(line)
                except ValueError:
                    log.write(line)
                    log.flush()


class Children:
    """Starts children; on the way out kills those that are left."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for child in self._started:  # first all, then wait: whoever interrupts the waiting leaves nothing behind
            child.kill_at_once()
        for child in self._started:
            await child.kill()

    async def start(self, name: str, *arguments: str, reports: bool) -> Child:
        """Run ``python ARGUMENTS``. What it writes goes to a log in the directory, but for reports on its output.

        It imports what we import, and nothing from the working directory: there may be another ``proxy`` there.
        """
        log = self._directory / f"{name}.log"
        with log.open("ab") as written:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                *arguments,
                stdin=asyncio.subprocess.PIPE if reports else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if reports else written,
                stderr=written,
                env={**os.environ, "PYTHONPATH": _importing_the_same()},
                start_new_session=True,
                preexec_fn=_dying_with(os.getpid()),
            )  # fmt: skip
        child = Child(name, process, log)
        self._started.append(child)
        return child


def _importing_the_same() -> str:
    root = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))


def _dying_with(parent: int) -> Callable[[], None] | None:
    """What a child does first, so that not even a ``kill -9`` of the story leaves it behind. Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def die_with_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return die_with_parent
