"""Named places between claim and answer, and what a test may have happen there.

``DEDUP_CHECKPOINT=after_claim:crash`` kills the process the first time it gets there, as ``kill -9`` does; ``stop`` stops
it, as SIGSTOP does; ``sleep=2.5`` holds up the attempt that got there, that many seconds. ``before_send:crash:3`` means the third time.
Several are parted by commas. Without the variable nothing happens and nothing is looked at.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy.core.ports import Checkpoints

VARIABLE: Final = "DEDUP_CHECKPOINT"
NAMES: Final = frozenset({"after_claim", "before_send", "after_send", "before_record", "after_record"})

_SLEEP_SECONDS: Final = 5.0


class NoCheckpoints:
    """What the product has: nothing happens."""

    async def reach(self, name: str) -> None:
        """As the port says."""


@dataclass(frozen=True, slots=True)
class Trap:
    """What happens at a place, the how manieth time."""

    action: str
    seconds: float
    nth: int


class TrappedCheckpoints:
    """What a test asked for."""

    def __init__(self, traps: Mapping[str, Trap]) -> None:
        self._traps = traps
        self._counts: Counter[str] = Counter()

    async def reach(self, name: str) -> None:
        """As the port says."""
        trap = self._traps.get(name)
        if trap is None:
            return
        self._counts[name] += 1
        if self._counts[name] != trap.nth:
            return
        match trap.action:
            case "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case _:
                await asyncio.sleep(trap.seconds)


def checkpoints_from(environ: Mapping[str, str]) -> Checkpoints:
    """The checkpoints that *environ* asks for. Raises ValueError for what can't be read."""
    text = environ.get(VARIABLE, "")
    return TrappedCheckpoints(dict(_read(part) for part in text.split(","))) if text else NoCheckpoints()


def _read(text: str) -> tuple[str, Trap]:
    name, _, rest = text.strip().partition(":")
    action, _, nth = rest.partition(":")
    action, _, seconds = action.partition("=")
    if name not in NAMES or action not in ("crash", "stop", "sleep"):
        raise ValueError(f"{VARIABLE} is NAME:crash|stop|sleep=SECONDS[:NTH] with NAME of {', '.join(sorted(NAMES))}")
    return name, Trap(action, float(seconds or _SLEEP_SECONDS), int(nth or 1))
