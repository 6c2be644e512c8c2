"""What is wrong with a configuration: a place, a sentence, and the fix where it is known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """Where a value was written. ``path`` is the value's path within its own file, empty for the whole file."""

    file: str
    line: int
    path: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One complaint. Neither ``message`` nor ``fix`` ever holds a value that came from a ``${...}`` or is a secret."""

    mark: Mark
    message: str
    fix: str = ""

    def __str__(self) -> str:
        path = f" {self.mark.path}:" if self.mark.path else ""
        fix = f" ({self.fix})" if self.fix else ""
        return f"{self.mark}:{path} {self.message}{fix}"


@dataclass(slots=True)
class Problems:
    """Collects problems. The same complaint about the same place is kept once: a default is read for every provider."""

    _found: dict[Problem, None] = field(default_factory=dict)

    def add(self, mark: Mark, message: str, fix: str = "") -> None:
        """Note a problem at *mark*."""
        self._found.setdefault(Problem(mark, message, fix))

    def has(self, mark: Mark) -> bool:
        """Whether there is a complaint about this very place already."""
        return any(problem.mark == mark for problem in self._found)

    def __iter__(self) -> Iterator[Problem]:
        return iter(sorted(self._found, key=lambda problem: (problem.mark.file, problem.mark.line)))

    def __len__(self) -> int:
        return len(self._found)


class ConfigInvalid(Exception):
    """A configuration that can't be used. ``problems`` are all of them, by file and line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A fix that names the known word nearest to *word*; empty if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""
