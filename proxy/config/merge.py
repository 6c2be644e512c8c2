"""How levels of configuration become one: defaults, then the preset, then the provider's own.

Mappings merge key by key, and an explicit null takes away what would be inherited. Operations merge by name. An
operation's own outcomes go before inherited ones. Any other list replaces. Every value keeps the line that said it.
"""

from __future__ import annotations

from dataclasses import replace

from proxy.config.models.operation import OperationRules
from proxy.config.models.provider import ProviderRules
from proxy.config.models.shared import Shared
from proxy.config.tree import Entry, Mapping, Node, Scalar, Sequence, is_null

PROVIDER_FIELDS = frozenset(ProviderRules.model_fields)
"""What `defaults` hands to providers."""

OPERATION_FIELDS = frozenset(OperationRules.model_fields)
"""What `defaults` hands to operations."""

SHARED_FIELDS = frozenset(Shared.model_fields)
"""What a provider hands to its operations."""


def merge(base: Node | None, own: Node, *, key: str = "") -> Node:
    """*own* over *base*. *key* is the name they stand under."""
    if base is None or is_null(base):
        return own
    if isinstance(base, Mapping) and isinstance(own, Mapping):
        entries = dict(base.entries)
        for name, entry in own.entries.items():
            inherited = entries.get(name)
            node = merge(inherited.node if inherited else None, entry.node, key=name)
            entries[name] = Entry(entry.key, node)
        return replace(own, entries=entries)
    if isinstance(base, Sequence) and isinstance(own, Sequence):
        if key == "operations":
            return _merge_operations(base, own)
        if key == "outcomes":
            return replace(own, items=(*own.items, *base.items))
    return own


def name_of(operation: Node) -> str | None:
    """The name of an operation's node."""
    node = operation.get("name") if isinstance(operation, Mapping) else None
    return str(node.value) if isinstance(node, Scalar) else None


def effective_operation(defaults: Mapping, provider: Mapping, own: Mapping) -> Mapping:
    """An operation with what `defaults` and its provider say of it."""
    base = merge(defaults.only(OPERATION_FIELDS), provider.only(SHARED_FIELDS))
    merged = merge(base, own)
    assert isinstance(merged, Mapping)  # all three are mappings
    return merged


def _merge_operations(base: Sequence, own: Sequence) -> Sequence:
    """Own operations of a new name come first, since the first match wins; the others stay where they were inherited."""
    inherited = {name_of(item) for item in base.items} - {None}
    overrides = {name: item for item in own.items if (name := name_of(item)) in inherited}
    new = tuple(item for item in own.items if name_of(item) not in inherited)
    kept = tuple(
        merge(item, overrides[name], key="operation") if (name := name_of(item)) in overrides else item
        for item in base.items
    )
    return replace(own, items=(*new, *kept))
