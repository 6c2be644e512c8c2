"""What services meant and what they were told: one JSON line per call and per request, read by the verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

YES: Final = "yes"
NO: Final = "no"
UNKNOWN: Final = "unknown"
WORDS: Final = frozenset({YES, NO, UNKNOWN})
"""What ``Dedup-Executed`` may say."""

REFUSED: Final = "refused"
"""The failure of a request that found nobody listening: it never left the caller."""


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """One intent at one provider: what may take effect once."""

    provider: str
    intent: str

    def line(self) -> str:
        """As one line of the log."""
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One request of a service and what came of it. Times are seconds of the machine's monotonic clock.

    ``executed``, ``sent``, ``entry_status``, ``reason`` and ``entry`` are the ``Dedup-*`` headers, None where absent.
    ``digest`` is of a body that arrived whole. ``failure`` is ``refused``, ``timeout`` or ``broken``; an answer whose head
    arrived and whose body broke off has both a status and a failure.
    """

    provider: str
    intent: str
    began: float
    ended: float
    status: int | None = None
    executed: str | None = None
    sent: str | None = None
    entry_status: str | None = None
    reason: str | None = None
    entry: str | None = None
    replayed: bool = False
    recorded: bool = True
    retry_after: float | None = None
    digest: str | None = None
    failure: str | None = None

    def line(self) -> str:
        """As one line of the log."""
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"


def told(headers: Mapping[str, str]) -> dict[str, Any]:
    """The fields that an answer's headers give. *headers* is case-insensitive."""
    seconds = headers.get("Retry-After", "")
    return {
        "executed": headers.get("Dedup-Executed"),
        "sent": headers.get("Dedup-Sent"),
        "entry_status": headers.get("Dedup-Status"),
        "reason": headers.get("Dedup-Reason"),
        "entry": headers.get("Dedup-Entry"),
        "replayed": headers.get("Idempotent-Replayed") == "true",
        "recorded": headers.get("Dedup-Recorded") != "false",
        "retry_after": float(seconds) if seconds.isdecimal() else None,
    }


def read_observations(path: Path) -> Iterator[Observation]:
    """All observations of a run. A last line cut short by the end of its writer is left out."""
    for fields in read_lines(path):
        yield Observation(**fields)


def read_calls(path: Path) -> frozenset[Call]:
    """All calls that services meant."""
    return frozenset(Call(**fields) for fields in read_lines(path))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole JSON lines of *path*."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)
