"""A configuration file as a tree whose every value knows where it was written.

Merging and reading into models work on these nodes, so a complaint about an effective rule names the line in the file
that said it: the user's own, an included one, or a preset.
"""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from proxy.config.problems import Mark


class Text(str):
    """A string of the configuration that remembers its origin.

    ``shown`` is how it may be displayed: as written, before ``${...}`` was filled in. ``is_plain`` says that it had no
    quotes, ``in_flow`` that it stood inside ``[]`` or ``{}``; ``after`` is the rest of its line, which may show that YAML cut it short.
    """

    __slots__ = ("after", "in_flow", "is_plain", "is_substituted", "mark", "shown")

    mark: Mark
    shown: str
    is_substituted: bool
    is_plain: bool
    in_flow: bool
    after: str

    @classmethod
    def make(
        cls,
        value: str,
        mark: Mark,
        *,
        shown: str | None = None,
        is_plain: bool = False,
        in_flow: bool = False,
        after: str = "",
    ) -> Self:
        """A text at *mark*; *shown* is given where something was substituted."""
        text = cls(value)
        text.mark = mark
        text.shown = value if shown is None else shown
        text.is_substituted = shown is not None
        text.is_plain = is_plain
        text.in_flow = in_flow
        text.after = after
        return text

    def __repr__(self) -> str:
        return repr(self.shown)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A leaf."""

    value: bool | int | float | Text | None
    mark: Mark


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class Entry:
    """A mapping's entry. ``key`` carries the mark of the key itself."""

    key: Text
    node: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping. Its mark is that of the key it stands under."""

    entries: AnyMapping[str, Entry] = field(default_factory=dict)
    mark: Mark = field(default_factory=lambda: Mark("", 1))

    def get(self, key: str) -> Node | None:
        """The node under *key*; None if there is none or it is null."""
        entry = self.entries.get(key)
        if entry is None or is_null(entry.node):
            return None
        return entry.node

    def without(self, *keys: str) -> Mapping:
        """The same mapping, some keys left out."""
        return replace(self, entries={name: entry for name, entry in self.entries.items() if name not in keys})

    def only(self, keys: frozenset[str]) -> Mapping:
        """The same mapping with no keys but these."""
        return replace(self, entries={name: entry for name, entry in self.entries.items() if name in keys})


Node = Scalar | Sequence | Mapping
Path = tuple[str | int, ...]
"""Steps into a tree: keys, and positions in lists."""


def is_null(node: Node) -> bool:
    """Whether *node* is an explicit null."""
    return isinstance(node, Scalar) and node.value is None


def plain(node: Node) -> Any:
    """*node* as dicts, lists and scalars; strings stay :class:`Text`."""
    match node:
        case Scalar(value):
            return value
        case Sequence(items):
            return [plain(item) for item in items]
        case Mapping(entries):
            return {entry.key: plain(entry.node) for entry in entries.values()}


def mark_at(node: Node, path: Path) -> Mark:
    """Where the value under *path* was written; where the path leads nowhere, its nearest ancestor that exists.

    A mapping's mark is that of the key it stands under, so an absent field is reported at the key of its mapping.
    """
    return _walk(node, path)[0].mark


def mark_below(node: Node, path: Path) -> Mark:
    """Where the value under *path* was written or, if it wasn't, would be: at its nearest ancestor, under its own path."""
    found, rest = _walk(node, path)
    below = found.mark.path
    for step in rest:
        below += f"[{step}]" if isinstance(step, int) else f".{step}" if below else step
    return Mark(found.mark.file, found.mark.line, below)


def key_mark_at(node: Node, path: Path) -> Mark:
    """Where the key that *path* ends in was written."""
    parent, rest = _walk(node, path[:-1])
    if not rest and isinstance(parent, Mapping) and path and path[-1] in parent.entries:
        return parent.entries[str(path[-1])].key.mark
    return mark_at(node, path)


def node_at(node: Node, path: Path) -> Node | None:
    """The node under *path*, None if there is none."""
    found, rest = _walk(node, path)
    return None if rest else found


def _walk(node: Node, path: Path) -> tuple[Node, Path]:
    """The deepest node on the way, and the steps that lead on from it into nothing.

    A single value may stand for a list of one, so the first index into anything but a list is that thing itself.
    """
    for position, step in enumerate(path):
        match node:
            case Mapping(entries) if step in entries:
                node = entries[str(step)].node
            case Sequence(items) if isinstance(step, int) and step < len(items):
                node = items[step]
            case Mapping() | Scalar() if step == 0 and not is_null(node):
                continue
            case _:
                return node, path[position:]
    return node, ()
