"""Durations and sizes as people write them. Parsing and writing are inverse: ``parse(str(value)) == value``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNITS_US = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}
_SIZES = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1}
_DECIMAL_SIZES = {"KB": 1000, "MB": 1000**2, "GB": 1000**3, "K": 1024, "M": 1024**2, "G": 1024**3}

_DURATION = re.compile(r"(0|[1-9][0-9]{0,11})(ms|s|m|h|d)")
_SIZE = re.compile(r"(0|[1-9][0-9]{0,14})(B|KiB|MiB|GiB)?")
_ANY_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")

_LONG_UNITS = {
    "msec": "ms", "millisecond": "ms", "sec": "s", "second": "s", "min": "m", "minute": "m", "hour": "h", "hr": "h",
    "day": "d",
}  # fmt: skip


class UnitInvalid(ValueError):
    """Not a duration or size; ``fix`` says how to write it."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Duration:
    """A span of time. ``us`` is microseconds; None means for ever."""

    us: int | None

    @property
    def seconds(self) -> float:
        """Seconds; infinite for ``forever``."""
        return float("inf") if self.us is None else self.us / 1e6

    def __str__(self) -> str:
        if self.us is None:
            return "forever"
        for unit, us in _UNITS_US.items():
            if self.us and self.us % us == 0:
                return f"{self.us // us}{unit}"
        return "0s"


@dataclass(frozen=True, slots=True)
class Size:
    """An amount of data in bytes."""

    bytes: int

    def __str__(self) -> str:
        for unit, size in _SIZES.items():
            if self.bytes and self.bytes % size == 0:
                return f"{self.bytes // size}{unit}"
        return "0B"


FOREVER = Duration(None)


def parse_duration(text: str) -> Duration:
    """Read ``500ms 30s 5m 24h 90d forever``. Raises :class:`UnitInvalid`."""
    if text == "forever":
        return FOREVER
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UnitInvalid("is not a duration", _duration_fix(text))
    return Duration(int(match[1]) * _UNITS_US[match[2]])


def parse_size(text: str) -> Size:
    """Read ``64KiB 10MiB`` or a number of bytes. Raises :class:`UnitInvalid`."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UnitInvalid("is not a size", _size_fix(text))
    return Size(int(match[1]) * _SIZES[match[2] or "B"])


def _duration_fix(text: str) -> str:
    general = "write a whole number and a unit: 500ms 30s 5m 24h 90d"
    match = _ANY_NUMBER.fullmatch(text)
    if match is None:
        return general
    number, unit = match[1], match[2].lower()
    if not unit:
        return f"a duration needs a unit: {number}s, say" if "." not in number else general
    unit = _LONG_UNITS.get(unit.rstrip("s") if len(unit) > 1 and unit != "ms" else unit, unit)
    if unit not in _UNITS_US:
        return general
    us = float(number) * _UNITS_US[unit]
    return f"write {Duration(int(us))}" if us >= 1000 and us % 1000 == 0 else general


def _size_fix(text: str) -> str:
    match = _ANY_NUMBER.fullmatch(text)
    if match is None or "." in match[1]:
        return "write bytes, or a whole number of KiB, MiB or GiB: 64KiB 10MiB"
    number, unit = match[1], match[2].upper()
    for binary in ("KiB", "MiB", "GiB"):
        if unit in (binary.upper(), binary[0].upper()):
            return f"write {number}{binary}"
    if unit in _DECIMAL_SIZES:
        return f"write {number}{unit[0]}iB, or {int(number) * _DECIMAL_SIZES[unit]} for bytes"
    return "write bytes, or a whole number of KiB, MiB or GiB: 64KiB 10MiB"
