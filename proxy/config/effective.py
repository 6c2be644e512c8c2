"""The whole configuration, merged and read into models: what holds for each provider and operation.

Sections are read one by one, each provider and each operation by itself, so that a mistake in one hides none in another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic_core import PydanticCustomError

from proxy.config import presets
from proxy.config.files import Reader
from proxy.config.merge import OPERATION_FIELDS, PROVIDER_FIELDS, effective_operation, merge, name_of
from proxy.config.models.base import Model
from proxy.config.models.operation import Operation
from proxy.config.models.provider import Caller, Defaults, Provider, Root
from proxy.config.models.server import Admin, Ledger, Server
from proxy.config.problems import Mark, Problems
from proxy.config.reading import read, read_partial
from proxy.config.tree import Mapping, Node, Scalar, Sequence, is_null, node_at
from proxy.config.tree import Path as TreePath
from proxy.config.values import name as valid_name
from proxy.config.values import shown

M = TypeVar("M", bound=Model)

_SECTIONS = ("server", "ledger", "admin", "callers", "defaults", "providers")

_IN_PROVIDER = dict.fromkeys(OPERATION_FIELDS | {"match", "name"}, "it belongs in an operation, or in `defaults`")
_IN_OPERATION = dict.fromkeys(
    frozenset(Provider.model_fields) - frozenset(Operation.model_fields), "it belongs in the provider"
)
_IN_DEFAULTS = dict.fromkeys(
    (frozenset(Provider.model_fields) | frozenset(Operation.model_fields)) - frozenset(Defaults.model_fields),
    "it belongs in each provider or operation: there is no default for it",
)


@dataclass(frozen=True, slots=True)
class EffectiveOperation:
    """An operation after merging. ``rules`` are without what is not well-formed, None where too little is left."""

    node: Mapping
    rules: Operation | None = None
    left_out: frozenset[TreePath] = frozenset()


@dataclass(frozen=True, slots=True)
class EffectiveProvider:
    """A provider after merging. ``rules`` holds no operations; they are read by themselves."""

    name: str
    node: Mapping
    rules: Provider | None = None
    left_out: frozenset[TreePath] = frozenset()
    operations: tuple[EffectiveOperation, ...] = ()

    @property
    def readable(self) -> Iterator[tuple[EffectiveOperation, Operation]]:
        """Operations that could be read."""
        for operation in self.operations:
            if operation.rules is not None:
                yield operation, operation.rules


@dataclass(slots=True)
class Configuration:
    """A configuration as read. Sections that can't be read are None or left out."""

    node: Mapping
    server: Server | None = None
    ledger: Ledger | None = None
    admin: Admin | None = None
    defaults: Mapping = field(default_factory=Mapping)
    callers: dict[str, Caller] = field(default_factory=dict)
    providers: dict[str, EffectiveProvider] = field(default_factory=dict)
    left_out: set[TreePath] = field(default_factory=set)

    def section(self, *path: str | int) -> Node:
        """The node under *path*, an empty mapping if there is none."""
        return node_at(self.node, path) or Mapping(mark=self.node.mark)


def read_all(path: Path, reader: Reader) -> Configuration | None:
    """Read *path*; None if it can't be read at all. Problems are noted in the reader's."""
    problems = reader.problems
    tree = reader.load(path)
    if tree is None:
        return None
    found = Configuration(tree)
    read(Root, tree.without(*_SECTIONS), problems)
    found.server = _section(Server, "server", found, problems)
    found.ledger = _section(Ledger, "ledger", found, problems)
    found.admin = _section(Admin, "admin", found, problems)
    for name, node in _named("callers", tree, problems):
        caller = read(Caller, node, problems)
        found.left_out |= {("callers", name, *path) for path in caller.left_out}
        if caller.rules is not None:
            found.callers[name] = caller.rules
    found.defaults = _defaults(tree, problems)
    for name, node in _named("providers", tree, problems):
        found.providers[name] = _provider(name, node, found.defaults, reader)
    return found


def read_preset(node: Mapping, problems: Problems) -> EffectiveProvider:
    """A preset by itself, as if it were a provider with nothing of its own."""
    bare = node.without(*presets.PRESET_ONLY)
    return _effective("preset", bare, Mapping(mark=node.mark), problems)


def _section(model: type[M], name: str, found: Configuration, problems: Problems) -> M | None:
    section = read(model, found.node.get(name) or Mapping(mark=found.node.mark), problems)
    found.left_out |= {(name, *path) for path in section.left_out}
    return section.rules


def _mapping(name: str, tree: Mapping, problems: Problems) -> Mapping:
    node = tree.get(name)
    if node is None:
        return Mapping(mark=tree.mark)
    if not isinstance(node, Mapping):
        problems.add(node.mark, "must be a mapping", "write NAME: {...} below it")
        return Mapping(mark=node.mark)
    return node


def _named(section: str, tree: Mapping, problems: Problems) -> Iterator[tuple[str, Mapping]]:
    """The providers or callers: name and node."""
    for name, entry in _mapping(section, tree, problems).entries.items():
        if name.startswith("x-"):
            continue
        try:
            valid_name(entry.key)
        except PydanticCustomError as error:
            problems.add(entry.key.mark, str((error.context or {})["message"]), str((error.context or {})["fix"]))
            continue
        if isinstance(entry.node, Mapping):
            yield name, entry.node
        else:
            problems.add(entry.key.mark, "is empty" if is_null(entry.node) else "must be a mapping")


def _defaults(tree: Mapping, problems: Problems) -> Mapping:
    node = _mapping("defaults", tree, problems)
    for name, entry in node.entries.items():
        if name in _IN_DEFAULTS:
            problems.add(entry.key.mark, "can't be a default", _IN_DEFAULTS[name])
    read_partial(Defaults, node.without(*_IN_DEFAULTS), problems)
    return node.only(frozenset(Defaults.model_fields))


def _provider(name: str, own: Mapping, defaults: Mapping, reader: Reader) -> EffectiveProvider:
    chosen = _preset_chain(own, reader, above=())
    tree: Node = defaults.only(PROVIDER_FIELDS)
    for layer in reversed(chosen or []):
        _check_operation_names(layer, reader.problems)
        tree = merge(tree, layer.without(*presets.PRESET_ONLY, "preset"))
    _check_operation_names(own, reader.problems)
    tree = merge(tree, own)
    assert isinstance(tree, Mapping)
    if chosen is None:
        return _without_preset(name, tree, defaults, reader.problems)
    return _effective(name, tree, defaults, reader.problems)


def _preset_chain(own: Mapping, reader: Reader, above: tuple[Mark, ...]) -> list[Mapping] | None:
    """The preset that *own* names, the preset that this one names, and so on; None if one can't be read."""
    chosen = own.get("preset")
    if not isinstance(chosen, Scalar):
        return []
    if chosen.mark in above:
        reader.problems.add(chosen.mark, "this preset is made of itself")
        return None
    preset = presets.load(chosen, reader)
    below = _preset_chain(preset, reader, (*above, chosen.mark)) if preset is not None else None
    return [preset, *below] if preset is not None and below is not None else None


def _without_preset(name: str, tree: Mapping, defaults: Mapping, problems: Problems) -> EffectiveProvider:
    """A provider whose preset can't be read: what it says itself is read, and what is missing is not held against it."""
    read_partial(Provider, tree.without("operations"), problems)
    operations = tree.get("operations")
    for item in operations.items if isinstance(operations, Sequence) else ():
        if isinstance(item, Mapping):
            read_partial(Operation, effective_operation(defaults, tree, item), problems)
    return EffectiveProvider(name, tree)


def _effective(name: str, tree: Mapping, defaults: Mapping, problems: Problems) -> EffectiveProvider:
    operations = tree.get("operations")
    if operations is not None and not isinstance(operations, Sequence):
        problems.add(operations.mark, "must be a list", "write - name: ... below it")
    items = operations.items if isinstance(operations, Sequence) else ()
    provider = read(Provider, tree.without("operations"), problems, misplaced=_IN_PROVIDER)
    compiled = tuple(_operation(item, tree, defaults, problems) for item in items)
    return EffectiveProvider(name, tree, provider.rules, provider.left_out, compiled)


def _operation(item: Node, provider: Mapping, defaults: Mapping, problems: Problems) -> EffectiveOperation:
    if not isinstance(item, Mapping):
        problems.add(item.mark, f"must be a mapping, not {shown(getattr(item, 'value', None))}", "write - name: ...")
        return EffectiveOperation(Mapping(mark=item.mark))
    node = effective_operation(defaults, provider, item)
    operation = read(Operation, node, problems, misplaced=_IN_OPERATION)
    return EffectiveOperation(node, operation.rules, operation.left_out)


def _check_operation_names(layer: Mapping, problems: Problems) -> None:
    """Two operations of one name in one list: one would silently hide the other."""
    operations = layer.get("operations")
    first: dict[str, Mark] = {}
    for item in operations.items if isinstance(operations, Sequence) else ():
        name = name_of(item)
        if name is None:
            continue
        if name in first:
            problems.add(item.mark, f"another operation is named {name!r}, at {first[name]}", "give each its own name")
        first.setdefault(name, item.mark)
