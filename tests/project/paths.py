"""Where the project's files are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def product_files() -> Iterator[Path]:
    """Every Python file of the product."""
    for directory in ("proxy", "providers", "migrations"):
        yield from sorted((ROOT / directory).rglob("*.py"))


def relative(path: Path) -> str:
    """A path as people write it."""
    return path.relative_to(ROOT).as_posix()
