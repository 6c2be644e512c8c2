"""Tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import IntEnum, unique
from typing import Any


@unique
class Exit(IntEnum):
    """Exit statuses, the same for every command."""

    FINE = 0
    FOUND = 1  # it found something: a mismatch, an ambiguous entry with --fail-on-ambiguous
    USAGE = 2  # usage or configuration
    UNREACHABLE = 3  # ledger or proxy


class CommandFailed(Exception):
    """Ends a command with one line on standard error and an exit status."""

    def __init__(self, message: str, status: Exit) -> None:
        super().__init__(message)
        self.status = status


def say(text: str) -> None:
    """One line or more on standard output."""
    sys.stdout.write(text + "\n")


def complain(text: str) -> None:
    """One line or more on standard error."""
    sys.stderr.write(text + "\n")


def say_json(document: object) -> None:
    """A document on standard output, readable by people too."""
    say(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def say_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Rows under their column names, as wide as their contents."""
    lines = [list(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def say_pairs(pairs: Mapping[str, Any]) -> None:
    """Names and values, one a line."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        say(f"{name.ljust(width)}  {_cell(value)}")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
