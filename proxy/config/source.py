"""YAML text to a tree of nodes with their lines.

Strict where YAML is loose: repeated keys and tags are errors, and plain words mean what they look like. Only ``true``,
``false``, ``null`` and decimal numbers are anything but text (YAML 1.2's core schema): ``no`` is the text "no", ``0123``
and ``12:30`` are text, so that a country or a token is never turned into something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from proxy.config.problems import Mark, Problems
from proxy.config.substitution import Substitution, SubstitutionFailed, has_place
from proxy.config.tree import Entry, Mapping, Node, Scalar, Sequence, Text

NODES_MAX = 50_000
"""Aliases can multiply a small file into a huge one; no configuration needs this many values."""

DEPTH_MAX = 40
"""Deeper than any rule, with room for nested members of ``answers``."""

_PLAIN_TAGS = frozenset({"tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"})
_WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)\.[0-9]+")
_QUOTE = "put the whole expression in single quotes (double any single quote inside)"


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML up to the node graph, without implicit types."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)


class _TooMuch(Exception):
    """The tree is larger or deeper than any configuration."""


def parse(text: str, file: str, substitution: Substitution, problems: Problems) -> Mapping | None:
    """The tree of one YAML file. None if it can't be read as YAML at all; lesser problems are noted and left out."""
    whole = Mark(file, 1)
    try:
        root = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        in_flow = "flow" in (error.context or "")
        problems.add(
            Mark(file, mark.line + 1 if mark else 1),
            f"not YAML: {error.problem or error.context}",
            f"an expression inside [] or {{}} needs quotes: {_QUOTE}" if in_flow else "",
        )
        return None
    except yaml.YAMLError as error:
        problems.add(whole, f"not YAML: {getattr(error, 'reason', 'unreadable')}")
        return None
    except RecursionError:
        problems.add(whole, f"nested deeper than {DEPTH_MAX}")
        return None
    if root is None:
        return Mapping(mark=whole)
    if not isinstance(root, MappingNode):
        problems.add(whole, "must be a mapping of sections", "begin with `providers:`")
        return None
    builder = _Builder(file, text.splitlines(), substitution, problems)
    try:
        node = builder.node(root, path="", mark=whole, in_flow=False, above=())
    except _TooMuch as error:
        problems.add(whole, str(error))
        return None
    return node if isinstance(node, Mapping) else None


@dataclass(slots=True)
class _Builder:
    """Turns PyYAML's nodes into ours, once."""

    file: str
    lines: list[str]
    substitution: Substitution
    problems: Problems
    count: int = 0

    def node(self, node: yaml.Node, *, path: str, mark: Mark, in_flow: bool, above: tuple[int, ...]) -> Node:
        self.count += 1
        if self.count > NODES_MAX:
            raise _TooMuch(f"more than {NODES_MAX} values")
        if id(node) in above:
            raise _TooMuch("an alias refers to something that contains it")
        if len(above) > DEPTH_MAX:
            raise _TooMuch(f"nested deeper than {DEPTH_MAX}")
        if node.tag not in _PLAIN_TAGS:
            self.problems.add(
                self.mark_of(node, path), "YAML tags (!...) have no meaning here", "write the plain value"
            )
        above = (*above, id(node))
        in_flow = in_flow or bool(getattr(node, "flow_style", False))
        match node:
            case MappingNode():
                return Mapping(self.entries(node, path=path, in_flow=in_flow, above=above), mark)
            case SequenceNode():
                items = tuple(
                    self.node(
                        item,
                        path=f"{path}[{index}]",
                        mark=self.mark_of(item, f"{path}[{index}]"),
                        in_flow=in_flow,
                        above=above,
                    )
                    for index, item in enumerate(node.value)
                )
                return Sequence(items, mark)
            case _:
                return self.scalar(node, path=path, in_flow=in_flow)

    def entries(self, node: MappingNode, *, path: str, in_flow: bool, above: tuple[int, ...]) -> dict[str, Entry]:
        own: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self.problems.add(self.mark_of(key, path), "a key must be a word", _QUOTE)
                continue
            if key.value == "<<" and key.style is None:
                for name, entry in self.merged(value, path=path, in_flow=in_flow, above=above):
                    merged.setdefault(name, entry)
                continue
            below = f"{path}.{key.value}" if path else key.value
            mark = self.mark_of(key, below)
            if key.value in own:
                line = own[key.value].key.mark.line
                self.problems.add(mark, f"is given twice, first on line {line}", "remove one of the two")
                continue
            own[key.value] = Entry(
                Text.make(key.value, mark, is_plain=key.style is None, in_flow=in_flow),
                self.node(value, path=below, mark=mark, in_flow=in_flow, above=above),
            )
        return {**merged, **own}

    def merged(
        self, node: yaml.Node, *, path: str, in_flow: bool, above: tuple[int, ...]
    ) -> Iterator[tuple[str, Entry]]:
        """What ``<<`` brings in: of one mapping or a list of them, the first that has a key wins."""
        sources = node.value if isinstance(node, SequenceNode) else [node]
        for source in sources:
            mark = self.mark_of(source, path)
            value = self.node(source, path=path, mark=mark, in_flow=in_flow, above=above)
            if isinstance(value, Mapping):
                yield from value.entries.items()
            else:
                self.problems.add(mark, "`<<` takes a mapping or a list of mappings", "write <<: *name")

    def scalar(self, node: yaml.Node, *, path: str, in_flow: bool) -> Scalar:
        mark = self.mark_of(node, path)
        text: str = node.value
        is_plain = isinstance(node, ScalarNode) and node.style is None
        if has_place(text):
            try:
                filled = self.substitution.fill(text)
            except SubstitutionFailed as error:
                self.problems.add(mark, str(error), error.fix)
                filled = ""
            return Scalar(Text.make(filled, mark, shown=text, is_plain=is_plain, in_flow=in_flow), mark)
        if is_plain:
            if text in _WORDS:
                return Scalar(_WORDS[text], mark)
            if _INTEGER.fullmatch(text):
                return Scalar(int(text), mark)
            if _DECIMAL.fullmatch(text):
                return Scalar(float(text), mark)
        line, column = node.end_mark.line, node.end_mark.column
        after = self.lines[line][column:] if line < len(self.lines) else ""
        return Scalar(Text.make(text, mark, is_plain=is_plain, in_flow=in_flow, after=after), mark)

    def mark_of(self, node: yaml.Node, path: str) -> Mark:
        return Mark(self.file, node.start_mark.line + 1, path)
