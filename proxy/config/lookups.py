"""The request line of a look-up: a path whose ``{...}`` hold expressions."""

from __future__ import annotations

import re
from typing import Annotated, Literal, cast
from urllib.parse import quote

from pydantic import PlainValidator, WithJsonSchema

from proxy.config.expressions import Scope, expression
from proxy.config.tree import Text
from proxy.config.values import shown, text, wrong
from proxy.core.expressions import Expression, compile_expression

_LINE = re.compile(r"(GET|POST|HEAD) +(/\S.*|/)")
_HOLE = re.compile(r"\{([^{}]*)\}")
_PATH_CHARACTERS = "/%:@!$&'()*+,;=-._~"
"""What a path may hold as it is (RFC 3986 3.3), and the percent sign of what is encoded already."""


def holes(line: str) -> tuple[str, ...]:
    """The expressions inside the braces of a look-up's path, in order."""
    return tuple(_HOLE.findall(line))


def method_and_path(line: str) -> tuple[Literal["GET", "POST", "HEAD"], tuple[str | Expression, ...]]:
    """A valid request line, its path cut into text as it goes on the wire and expressions."""
    method, _, path = line.partition(" ")
    pieces = _HOLE.split(path.strip())  # text and expression in turn, text first
    parts: list[str | Expression] = [
        compile_expression(piece) if index % 2 else quote(piece, safe=_PATH_CHARACTERS)
        for index, piece in enumerate(pieces)
        if piece
    ]
    return cast("Literal['GET', 'POST', 'HEAD']", method), tuple(parts)


def _lookup_request(value: object) -> Text:
    found = text(value)
    if _LINE.fullmatch(found) is None:
        raise wrong(f"{shown(found)} is not METHOD PATH of a look-up", "write GET /messages, say; GET, HEAD or POST")
    if "?" in _HOLE.sub("", found):
        raise wrong(f"{shown(found)} holds a query", "put it under `query`, where values are encoded")
    if "{" in _HOLE.sub("", found) or "}" in _HOLE.sub("", found):
        raise wrong(f"{shown(found)} has a brace without its partner")
    check = expression(Scope.SETTLING)
    for hole in holes(found):
        check(Text.make(hole, found.mark, shown=found.shown if found.is_substituted else None))
    return found


LookupRequest = Annotated[
    str, PlainValidator(_lookup_request), WithJsonSchema({"type": "string", "minLength": 1, "title": "METHOD PATH"})
]
