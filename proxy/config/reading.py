"""A node read into a model; pydantic's errors told in our words, at the line that said the value."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from proxy.config.models.base import Model
from proxy.config.problems import Problems, did_you_mean
from proxy.config.tree import Node, Path, Text, key_mark_at, mark_at, mark_below, plain
from proxy.config.values import shown

M = TypeVar("M", bound=Model)

_ROUNDS_MAX = 8
"""Leaving out a required value makes its mapping incomplete, and so on up: no deeper than models nest."""


@dataclass(frozen=True, slots=True)
class Read(Generic[M]):
    """What could be read. ``left_out`` are the paths of what could not; ``rules`` is None where too little is left."""

    rules: M | None
    left_out: frozenset[Path] = frozenset()


def read(model: type[M], node: Node, problems: Problems, *, misplaced: Mapping[str, str] | None = None) -> Read[M]:
    """*node* as a *model*, every problem noted; what isn't well-formed is left out of it, so that the rest can be checked.

    *misplaced* says of keys that are known elsewhere where they belong.
    """
    data = plain(node)
    left_out: set[Path] = set()
    for round_ in range(_ROUNDS_MAX):
        try:
            return Read(model.model_validate(data), frozenset(left_out))
        except ValidationError as error:
            details = error.errors()
        if round_ == 0:
            for detail in details:
                _note(model, node, detail, problems, misplaced or {})
        for loc in map(_loc, details):
            if any(loc[: len(path)] == path for path in left_out):
                continue
            path = _leave_out(data, loc)
            if not path:
                return Read(None, frozenset(left_out))
            left_out.add(path)
    return Read(None, frozenset())


def read_partial(model: type[Model], node: Node, problems: Problems) -> None:
    """Note what is wrong with *node* as a part of a *model*: everything but what is missing."""
    try:
        model.model_validate(plain(node))
    except ValidationError as error:
        for detail in error.errors():
            if detail["type"] not in ("missing", "too_short"):
                _note(model, node, detail, problems, {})


def _note(
    model: type[Model], node: Node, detail: ErrorDetails, problems: Problems, misplaced: Mapping[str, str]
) -> None:
    loc = _loc(detail)
    message, fix = _told(model, loc, detail, misplaced)
    is_about_key = detail["type"] == "extra_forbidden" or "[key]" in detail["loc"]
    mark = key_mark_at(node, loc) if is_about_key else mark_at(node, loc)
    if detail["type"] == "missing":
        mark = mark_below(node, loc)
    if not problems.has(mark):
        problems.add(mark, message, fix)


def _loc(detail: ErrorDetails) -> Path:
    return tuple(step for step in detail["loc"] if step != "[key]")  # pydantic's mark of a bad key of a dict


def _leave_out(data: Any, loc: Path) -> Path:
    """Take what is under *loc* out of *data* and say what that was: the nearest mapping's entry, lists as a whole."""
    holder: dict[Any, Any] | None = None
    length = 0
    for depth, step in enumerate(loc, 1):
        if isinstance(data, dict):
            if step not in data:  # missing: the mapping that lacks it goes
                break
            holder, length = data, depth
        elif not isinstance(data, list) or not isinstance(step, int):  # a short form: loc speaks of the long one
            break
        data = data[step]
    if holder is None:
        return ()
    del holder[loc[length - 1]]
    return loc[:length]


def _told(model: type[Model], loc: Path, detail: ErrorDetails, misplaced: Mapping[str, str]) -> tuple[str, str]:
    """What is wrong, and the fix."""
    value = detail["input"]
    match detail["type"]:
        case "wrong":
            # A fix may repeat the value; a validator's message never does where something was filled in.
            is_open = not (isinstance(value, Text) and value.is_substituted)
            return detail["ctx"]["message"], detail["ctx"]["fix"] if is_open else ""
        case "extra_forbidden":
            key = str(loc[-1])
            if len(loc) == 1 and key in misplaced:
                return "stands in the wrong place", misplaced[key]
            known = [name for name in fields_at(model, loc[:-1]) if name != key]
            return "is not known here", did_you_mean(key, known) or (f"known: {' '.join(known)}" if known else "")
        case "missing":
            return "is required", _described(model, loc)
        case "too_short":
            return "must not be empty", _described(model, loc)
        case "literal_error":
            expected = str(detail["ctx"]["expected"])
            fix = (
                did_you_mean(str(value), _words(expected))
                if isinstance(value, Text) and not value.is_substituted
                else ""
            )
            return f"must be {expected.replace(chr(39), '')}, not {shown(value)}", fix
        case "dict_type":
            return f"must be a mapping, not {shown(value)}", ""
        case "tuple_type" | "list_type":
            return f"must be a list, not {shown(value)}", "write [...]"
        case _:
            return detail["msg"].lower(), ""


def _words(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").replace("'", "").split(", ")


def _described(model: type[Model], loc: Path) -> str:
    field = _step(model, loc[:-1])
    if isinstance(field, type) and issubclass(field, BaseModel):
        for name, info in field.model_fields.items():
            if loc[-1] in (name, info.alias) and info.description:
                said = info.description.split(". ")[0].rstrip(".")
                return said if said[1:2].isupper() else said[:1].lower() + said[1:]
    return ""


def fields_at(model: type[Model], loc: Path) -> list[str]:
    """The names that may stand in the mapping under *loc*; none for free mappings."""
    found = _step(model, loc)
    if isinstance(found, type) and issubclass(found, BaseModel):
        return sorted(info.alias or name for name, info in found.model_fields.items())
    return []


def _step(annotation: Any, loc: Path) -> Any:
    """The type under *loc*, optional and annotated wrappings taken off."""
    annotation = bare(annotation)
    if not loc:
        return annotation
    head, rest = loc[0], loc[1:]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, info in annotation.model_fields.items():
            if head in (name, info.alias):
                return _step(info.annotation, rest)
        return None
    origin = get_origin(annotation)
    if origin is dict:
        return _step(get_args(annotation)[1], rest)
    if origin is tuple:
        return _step(get_args(annotation)[0], rest)
    return None


def bare(annotation: Any) -> Any:
    """*annotation* without its Annotated and optional wrappings; None for a union of several types."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, types.UnionType):
            annotation = _only(argument for argument in get_args(annotation) if argument is not type(None))
        else:
            return annotation


def _only(annotations: Iterable[Any]) -> Any:
    found = list(annotations)
    return found[0] if len(found) == 1 else None
