"""Moments as providers write them: read and written for look-ups, in UTC, to the second."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final

from proxy.core.model import SECOND_US

FORMATS: Final = ("rfc3339", "rfc2822", "date", "unix")
"""What :func:`written` writes."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OFFSET: Final = re.compile(r"([+-]?)((?:\d{1,9}(?:ms|s|m|h|d))+)", re.ASCII)
_TERM: Final = re.compile(r"(\d+)(ms|s|m|h|d)")
_UNIT_US: Final = {
    "ms": 1_000,
    "s": SECOND_US,
    "m": 60 * SECOND_US,
    "h": 3600 * SECOND_US,
    "d": 86_400 * SECOND_US,
}


class MomentInvalid(ValueError):
    """A value that is no moment, an offset that is none, or a result no calendar has."""


def moment(value: object) -> int:
    """*value* as microseconds since the Unix epoch.

    Read are a datetime with a zone, a number of Unix seconds and an RFC 3339 text. Raises :class:`MomentInvalid`.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise MomentInvalid("time() was given a text that is no RFC 3339 time") from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise MomentInvalid("time() was given a time without a zone")
        return (value - _EPOCH) // timedelta(microseconds=1)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return round(value * SECOND_US)
        except (OverflowError, ValueError):
            raise MomentInvalid("time() was given a number no calendar has") from None
    raise MomentInvalid(f"time() was given a value of type {type(value).__name__}")


def offset_us(text: str) -> int:
    """``-5m`` or ``+1h30m`` as microseconds. Raises :class:`MomentInvalid`."""
    match = _OFFSET.fullmatch(text)
    if match is None:
        raise MomentInvalid(f"{text!r} is no offset; write for example '-5m', '0s' or '+1h30m'")
    total = sum(int(amount) * _UNIT_US[unit] for amount, unit in _TERM.findall(match[2]))
    return -total if match[1] == "-" else total


def written(moment_us: int, form: str) -> str | int:
    """A moment in one of :data:`FORMATS`, cut to whole seconds; ``unix`` is a number. Raises :class:`MomentInvalid`."""
    seconds = moment_us // SECOND_US
    if form == "unix":
        return seconds
    try:
        when = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise MomentInvalid("time() left the calendar") from None
    if form == "rfc3339":
        return when.replace(tzinfo=None).isoformat() + "Z"
    if form == "rfc2822":
        return format_datetime(when)
    if form == "date":
        return when.date().isoformat()
    raise MomentInvalid(f"time() writes {', '.join(FORMATS)}, not {form!r}")
