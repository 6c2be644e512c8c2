"""A configuration file and what it includes, as one tree."""

from __future__ import annotations

import glob
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from proxy.config.problems import Mark, Problems
from proxy.config.source import parse
from proxy.config.substitution import Substitution
from proxy.config.tree import Mapping, Node, Scalar, Sequence, Text

BYTES_MAX = 4 * 1024 * 1024
"""No configuration written by people is larger."""


@dataclass(slots=True)
class Reader:
    """Reads files. ``read`` are those that were, for whoever watches them."""

    environ: AnyMapping[str, str]
    problems: Problems
    read: list[Path] = field(default_factory=list)

    def substitution(self, file: Path) -> Substitution:
        """Relative ``${file:...}`` are looked up beside the file that names them."""
        return Substitution(self.environ, file.parent)

    def load(self, path: Path) -> Mapping | None:
        """The tree of *path* with everything it includes; None if it can't be read."""
        return self._load(path, Mark(str(path), 1), above=())

    def _load(self, path: Path, mark: Mark, *, above: tuple[Path, ...], named: Text | None = None) -> Mapping | None:
        text = self._text(path, mark, repr(named) if named is not None and named.is_substituted else str(path))
        if text is None:
            return None
        self.read.append(path)
        tree = parse(text, str(path), self.substitution(path), self.problems)
        if tree is None:
            return None
        for pattern in self._patterns(tree):
            for included in self._matches(path, pattern):
                if included.resolve() in (path.resolve(), *above):
                    self.problems.add(pattern.mark, f"{included} includes itself")
                    continue
                other = self._load(included, pattern.mark, above=(*above, path.resolve()), named=pattern)
                if other is not None:
                    tree = self._joined(tree, other.without("include"), depth=0)
        return tree

    def _text(self, path: Path, mark: Mark, name: str) -> str | None:
        try:
            with path.open("rb") as file:
                raw = file.read(BYTES_MAX + 1)
        except OSError as error:
            self.problems.add(mark, f"can't read {name}: {error.strerror or 'unreadable'}")
            return None
        if len(raw) > BYTES_MAX:
            self.problems.add(mark, f"{name} is larger than {BYTES_MAX} bytes")
            return None
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            self.problems.add(Mark(str(path), line), "is not UTF-8 text", "save the file as UTF-8")
            return None

    def _patterns(self, tree: Mapping) -> list[Text]:
        node = tree.get("include")
        items = node.items if isinstance(node, Sequence) else () if node is None else (node,)
        texts = [item.value for item in items if isinstance(item, Scalar) and isinstance(item.value, Text)]
        return [text for text in texts if text.isprintable()]  # what isn't is refused with the other values

    def _matches(self, path: Path, pattern: Text) -> list[Path]:
        """Files that *pattern* names, by name. One that names a single file must find it."""
        if not glob.has_magic(pattern):
            return [path.parent / pattern]
        found = glob.glob(pattern, root_dir=path.parent, recursive=True)  # noqa: PTH207 - Path.glob refuses absolute patterns
        return [path.parent / name for name in sorted(found)]

    def _joined(self, tree: Mapping, other: Mapping, *, depth: int) -> Mapping:
        """Both files' sections; what both define, below the sections' own keys, is a problem."""
        entries = dict(tree.entries)
        for name, entry in other.entries.items():
            if name.startswith("x-"):  # anchors end with their file
                continue
            mine = entries.get(name)
            if mine is None:
                entries[name] = entry
            elif depth == 0 and _are_sections(mine.node, entry.node):
                entries[name] = replace(mine, node=self._sections(mine.node, entry.node))
            elif not _are_equal(mine.node, entry.node):
                self.problems.add(entry.key.mark, f"is given twice, first at {mine.key.mark}", "remove one of the two")
        return replace(tree, entries=entries)

    def _sections(self, mine: Node, other: Node) -> Node:
        assert isinstance(mine, Mapping)
        assert isinstance(other, Mapping)
        return self._joined(mine, other, depth=1)


def _are_sections(one: Node, other: Node) -> bool:
    return isinstance(one, Mapping) and isinstance(other, Mapping)


def _are_equal(one: Node, other: Node) -> bool:
    return isinstance(one, Scalar) and isinstance(other, Scalar) and one.value == other.value
