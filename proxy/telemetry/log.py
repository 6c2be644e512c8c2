"""JSON lines on stderr with stable names: ``ts``, ``level``, ``event`` and what belongs to the event.

Events are slugs (``request.answered``); values are fields, never parts of a sentence. No field holds a key, a credential,
a path or a body: what names a call is its ``entry``.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import IntEnum
from typing import IO, Any, Final

import orjson


class Level(IntEnum):
    """How much is said; each level says what the ones above it say too."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    OFF = 99


LEVELS: Final = tuple(level.name.lower() for level in Level)
"""The names of levels, for configuration."""


class Log:
    """Writes events. ``wall`` is seconds since the Unix epoch."""

    def __init__(self, *, level: Level, wall: Callable[[], float], stream: IO[str] | None = None) -> None:
        self._level = level
        self._wall = wall
        self._stream = sys.stderr if stream is None else stream

    def debug(self, event: str, **fields: Any) -> None:
        """What helps while looking for a mistake."""
        self.write(Level.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """What happens all the time."""
        self.write(Level.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """What somebody should look at some time."""
        self.write(Level.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """What somebody should look at now."""
        self.write(Level.ERROR, event, fields)

    def announce(self, event: str, **fields: Any) -> None:
        """What is said at every level: that the process serves, and that it ended."""
        self._write("info", event, fields)

    def write(self, level: Level, event: str, fields: dict[str, Any]) -> None:
        """Write one line if *level* is to be heard."""
        if level >= self._level:
            self._write(level.name.lower(), event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        moment = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = orjson.dumps({"ts": moment, "level": level, "event": event, **fields}, default=str)
        with contextlib.suppress(OSError, ValueError):  # a reader that went away is no reason to stop serving
            self._stream.write(line.decode() + "\n")
            self._stream.flush()


class Bridge(logging.Handler):
    """Carries what libraries log into our lines: their logger's name, the message, and the kind of exception."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one of their records."""
        level = max((each for each in Level if each <= record.levelno), default=Level.DEBUG)
        fields: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info is not None and record.exc_info[0] is not None:
            fields["error"] = record.exc_info[0].__name__
            fields["trace"] = logging.Formatter().formatException(record.exc_info)
        self._log.write(level, "library.logged", fields)


def level_named(name: str) -> Level:
    """The level of that name. Raises ValueError for a name that there is not."""
    try:
        return Level[name.upper()]
    except KeyError:
        raise ValueError(f"{name!r} is no log level; there are {', '.join(LEVELS)}") from None
