"""``${NAME}``, ``${NAME:-default}`` and ``${file:/path}`` inside a string. ``$${`` stands for a literal ``${``.

What is filled in is never read as YAML again and never shown: a complaint shows the text as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PLACE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(:-(.*))?", re.DOTALL)

SECRET_BYTES_MAX = 64 * 1024
"""A file named by ``${file:...}`` holds one secret; anything longer is the wrong file."""


class SubstitutionFailed(ValueError):
    """A ``${...}`` that yields nothing. The message never holds a value."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Substitution:
    """Where values come from: the environment, and the directory that relative files are looked up in."""

    environ: Mapping[str, str]
    directory: Path

    def fill(self, text: str) -> str:
        """*text* with every ``${...}`` filled in. Raises :class:`SubstitutionFailed`."""
        return _PLACE.sub(self._one, text)

    def _one(self, match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        if not match[0].endswith("}"):
            raise SubstitutionFailed("a ${ without its }", "close it, or write $${ for a literal ${")
        inside = match[1]
        if inside.startswith("file:"):
            return self._from_file(inside.removeprefix("file:"))
        name = _NAME.fullmatch(inside)
        if name is None:
            raise SubstitutionFailed(
                f"${{{inside}}} is no variable",
                "write ${NAME}, ${NAME:-default}, ${file:/path}, or $${ for a literal ${",
            )
        value = self.environ.get(name[1])
        if name[2] is not None:
            return value or name[3]
        if value is None:
            raise SubstitutionFailed(
                f"the environment variable {name[1]} is not set", f"set it, or give a default: ${{{name[1]}:-...}}"
            )
        return value

    def _from_file(self, name: str) -> str:
        path = self.directory / name
        try:
            with path.open("rb") as file:
                raw = file.read(SECRET_BYTES_MAX + 1)
        except (OSError, ValueError) as error:  # ValueError: no name that a file can have
            raise SubstitutionFailed(
                f"can't read {path}: {getattr(error, 'strerror', None) or 'unreadable'}",
                "create the file, or make it readable for the proxy",
            ) from None
        if len(raw) > SECRET_BYTES_MAX:
            raise SubstitutionFailed(
                f"{path} is larger than {SECRET_BYTES_MAX} bytes", "name a file that holds one value"
            )
        try:
            return raw.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise SubstitutionFailed(f"{path} is not UTF-8 text", "store the value as text, in base64 say") from None


def has_place(text: str) -> bool:
    """Whether *text* holds anything to fill in."""
    return "${" in text
