"""Where keys come from and go to, as the models say it; shared by the checks and the compiler."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.config.models.operation import Native, Tag
from proxy.core.expressions import Expression, as_path, compile_expression, is_single_header
from proxy.core.policy import Place

IDEMPOTENCY_KEY = compile_expression('headers."idempotency-key"')


def place_of(native: Native) -> Place | None:
    """Where the provider's key goes; None where no place is named."""
    if native.header is not None:
        return Place("header", str(native.header))
    if native.body is not None:
        return Place("body", str(native.body))
    if native.query is not None:
        return Place("query", str(native.query))
    return None


def tag_place(tag: Tag) -> Place:
    """Where the tag goes; the checks made sure that there is exactly one place."""
    if tag.header is not None:
        return Place("header", str(tag.header))
    if tag.body is not None:
        return Place("body", str(tag.body))
    return Place("field", str(tag.field))


def place_expression(place: Place) -> Expression:
    """What reads *place* in a caller's request."""
    match place.where:
        case "header":
            return compile_expression(f'headers."{place.name.lower()}"')
        case "query":
            return compile_expression(f"params.{_quoted(place.name)}")
        case _:
            return compile_expression(".".join(("body", *(_quoted(name) for name in place.name.split(".")))))


def is_native_place(alternative: Sequence[Expression], native: Native | None) -> bool:
    """Whether a key's source is exactly one header, or the place that *native* names: a given key."""
    if len(alternative) != 1:
        return False
    if is_single_header(alternative[0]) is not None:
        return True
    place = place_of(native) if native is not None else None
    if place is None:
        return False
    path = as_path(alternative[0])
    if path is not None and path[0] == "request":
        path = path[1:]
    return path is not None and path == as_path(place_expression(place))


def default_source(native: Native | None) -> tuple[tuple[Expression, ...], ...]:
    """Where a key comes from if the rule doesn't say: the caller's header, then the native place."""
    place = place_of(native) if native is not None else None
    sources = [IDEMPOTENCY_KEY]
    if place is not None:
        expression = place_expression(place)
        if expression != IDEMPOTENCY_KEY:
            sources.append(expression)
    return tuple((source,) for source in sources)


def _quoted(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else f'"{name}"'
