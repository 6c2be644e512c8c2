"""What a GraphQL document asks for: its operation's type and name, and the fields it calls at the top."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

TOKENS_MAX: Final = 20_000
"""Tokens of one document; the parser is linear in them and slow."""

FRAGMENTS_MAX: Final = 1_000
"""Fragments followed from the top of one operation."""

_STRONGEST_FIRST: Final = ("mutation", "subscription", "query")


def read_graphql(body: object) -> dict[str, object] | None:
    """``{type, name, fields}`` of a request, None if *body* holds no GraphQL document that can be read.

    *body* is the document's text, or the JSON of a request (``query``, ``operationName``), or a list of such requests: a
    batch is a mutation if one of them is, and calls all their fields.
    """
    if isinstance(body, list):
        parts = [part for part in map(read_graphql, body) if part is not None]
        if len(parts) != len(body) or not parts:
            return None
        kind = next(kind for kind in _STRONGEST_FIRST if any(part["type"] == kind for part in parts))
        return {
            "type": kind,
            "name": None,
            "fields": _distinct(name for part in parts for name in _names(part["fields"])),
        }
    wanted: object = None
    if isinstance(body, Mapping):
        wanted, body = body.get("operationName"), body.get("query")
    if not isinstance(body, str):
        return None
    return _operation(body, wanted)


def _names(fields: Any) -> list[str]:
    return list(fields)


def _operation(text: str, wanted: object) -> dict[str, object] | None:
    # Loaded at the first document: it doubles the time the proxy takes to start, and few providers speak GraphQL.
    from graphql import language as ql  # noqa: PLC0415 - slow to load, and few bodies are GraphQL
    from graphql.error import GraphQLError  # noqa: PLC0415 - as above

    try:
        document = ql.parse(text, no_location=True, max_tokens=TOKENS_MAX)
    except (GraphQLError, RecursionError):
        return None
    operations = [node for node in document.definitions if isinstance(node, ql.OperationDefinitionNode)]
    if wanted:
        operations = [node for node in operations if node.name is not None and node.name.value == wanted]
    if len(operations) != 1:
        return None
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, ql.FragmentDefinitionNode)}
    waiting: list[Any] = list(reversed(operations[0].selection_set.selections))
    fields: list[str] = []
    followed: set[str] = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ql.FieldNode):
            fields.append(node.name.value)
        elif isinstance(node, ql.InlineFragmentNode):
            waiting.extend(reversed(node.selection_set.selections))
        elif node.name.value in fragments and node.name.value not in followed and len(followed) < FRAGMENTS_MAX:
            followed.add(node.name.value)
            waiting.extend(reversed(fragments[node.name.value].selection_set.selections))
    name = operations[0].name
    return {"type": operations[0].operation.value, "name": name.value if name else None, "fields": _distinct(fields)}


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
