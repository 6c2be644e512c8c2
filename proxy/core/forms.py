"""Form fields and query parameters: read, nested as ``a[b]=c`` says, and written.

Names and values are text. Bytes that are no UTF-8 become lone surrogates, so that different bytes stay different.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_plus, unquote_to_bytes

FIELDS_MAX: Final = 10_000
"""Fields of one form, parameters of one query. More is an attack on whoever reads them, not an API call."""

NESTING_MAX: Final = 32
"""Levels of ``a[b][c]``; a deeper name is taken as it is written."""

_NESTED: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])+)", re.DOTALL)


class TooManyFields(ValueError):
    """More than :data:`FIELDS_MAX` fields."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One ``name=value`` of a form or query; ``start`` and ``end`` bound its text, separators excluded."""

    name: str
    value: str
    start: int
    end: int


def read_pairs(text: bytes, *, fields_max: int = FIELDS_MAX) -> tuple[Pair, ...]:
    """The fields of an ``application/x-www-form-urlencoded`` text, in order. Raises :class:`TooManyFields`.

    Anything is a form by the WHATWG rules: a piece without ``=`` is a name with an empty value, an empty piece is none.
    """
    if text.count(b"&") >= fields_max:
        raise TooManyFields(f"more than {fields_max} fields")
    pairs = []
    start = 0
    for piece in text.split(b"&"):
        if piece:
            name, _, value = piece.partition(b"=")
            pairs.append(Pair(_decoded(name), _decoded(value), start, start + len(piece)))
        start += len(piece) + 1
    return tuple(pairs)


def write_pair(name: str, value: str) -> bytes:
    """``name=value``, encoded."""
    return f"{quote_plus(name)}={quote_plus(value)}".encode("ascii")


def gather(fields: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Flat: a name met once is its value, a name met again the list of its values."""
    values: dict[str, list[str]] = {}
    for name, value in fields:
        values.setdefault(name, []).append(value)
    return {name: all_[0] if len(all_) == 1 else all_ for name, all_ in values.items()}


def nest(fields: Iterable[tuple[str, object]]) -> dict[str, object]:
    """Nested: ``a[b]=c`` is an object in an object, ``a[]=x`` and ``a[0]=x, a[1]=y`` are lists.

    The order of different names doesn't matter. A name that contradicts a shorter one (``a=1&a[b]=2``) stays flat.
    """
    values: dict[str, list[object]] = {}
    for name, value in fields:
        values.setdefault(name, []).append(value)
    root = _Branch()
    for name in sorted(values):
        *inner, last = field_path(name)
        is_list = last == "" and bool(inner)
        if is_list:
            last = inner.pop()
        leaf: object = values[name] if is_list or len(values[name]) > 1 else values[name][0]
        parent = _descend(root, inner)
        if parent is None or last in parent:
            root[name] = leaf
        else:
            parent[last] = leaf
    return {name: _finished(value) for name, value in root.items()}


def field_path(name: str) -> tuple[str, ...]:
    """``a[b][]`` as ``("a", "b", "")``; a name that is not nested is alone."""
    match = _NESTED.fullmatch(name)
    if match is None:
        return (name,)
    path = (match[1], *match[2][1:-1].split("]["))
    return path if len(path) <= NESTING_MAX and "" not in path[1:-1] else (name,)


def field_name(path: Sequence[str]) -> str:
    """``("a", "b")`` as ``a[b]``."""
    return path[0] + "".join(f"[{part}]" for part in path[1:])


class _Branch(dict[str, object]):
    """An object that names made; an object that is a value is a plain dict and stays as it is."""


def _descend(branch: _Branch, path: Sequence[str]) -> _Branch | None:
    for part in path:
        inner = branch.setdefault(part, _Branch())
        if not isinstance(inner, _Branch):
            return None
        branch = inner
    return branch


def _finished(value: object) -> object:
    if not isinstance(value, _Branch):
        return value
    members = {name: _finished(inner) for name, inner in value.items()}
    indexes = [str(index) for index in range(len(members))]
    return [members[index] for index in indexes] if members.keys() == set(indexes) else members


def _decoded(text: bytes) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8", "surrogateescape")
