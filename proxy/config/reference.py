"""The field tables of docs/configuration.md and the JSON Schema, written from the models.

``python -m proxy.config.reference DOCS`` writes both; a test holds what is there against what would be written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from proxy.config.dump import shown
from proxy.config.models.base import own_first
from proxy.config.models.provider import Root
from proxy.config.reading import bare
from proxy.config.schema import schema

BEGIN = "<!-- fields: written by `python -m proxy.config.reference docs` -->"
END = "<!-- end of fields -->"

_ELSEWHERE = frozenset({"defaults"})
"""Sections whose fields are told where they come from."""


def tables() -> str:
    """One table per mapping, in the order in which they stand in a file."""
    return "\n".join(_tables(Root, "", set()))


def schema_text() -> str:
    """The JSON Schema as it is kept in docs."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def page(text: str) -> str:
    """The text of docs/configuration.md with its tables renewed."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def write(docs: Path) -> None:
    """Renew both files."""
    configuration = docs / "configuration.md"
    configuration.write_text(page(configuration.read_text(encoding="utf-8")), encoding="utf-8")
    (docs / "config.schema.json").write_text(schema_text(), encoding="utf-8")


def _tables(model: type[BaseModel], path: str, told: set[type[BaseModel]]) -> Iterator[str]:
    told.add(model)
    heading = f"`{path}`" if path else "The file"
    yield f"### {heading}\n\n{(model.__doc__ or '').strip()}\n"
    yield "| field | value | default | meaning |\n|---|---|---|---|"
    below: list[tuple[type[BaseModel], str]] = []
    for name, info in own_first(model).items():
        field = info.alias or name
        yield f"| `{field}` | {_value(info)} | {_default(info)} | {_cell(info.description or '')} |"
        nested, suffix = _nested(info.annotation)
        if nested is not None and nested not in told and field not in _ELSEWHERE:
            below.append((nested, f"{path}.{field}{suffix}" if path else f"{field}{suffix}"))
    yield ""
    for nested, nested_path in below:
        if nested not in told:
            yield from _tables(nested, nested_path, told)


def _nested(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The mapping that a field holds, and how a path goes on into it."""
    found = bare(annotation)
    origin = get_origin(found)
    if origin is dict:
        return _nested(get_args(found)[1])[0], ".NAME"
    if origin is tuple:
        return _nested(get_args(found)[0])[0], "[]"
    is_model = isinstance(found, type) and issubclass(found, BaseModel)
    return (found if is_model else None), ""


def _value(info: FieldInfo) -> str:
    for meta in info.metadata:
        if isinstance(meta, WithJsonSchema) and meta.json_schema:
            return str(meta.json_schema["title"])
    return _kind(info.annotation)


def _kind(annotation: Any) -> str:
    """What may stand in a field, in a word."""
    for argument in get_args(annotation):
        if isinstance(argument, WithJsonSchema) and argument.json_schema:
            return str(argument.json_schema["title"])
    found = bare(annotation)
    if found is not annotation and found is not None:
        options = [argument for argument in get_args(annotation) if argument is not type(None)]
        return _kind(options[0]) if options else _kind(found)
    origin = get_origin(found)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(found))
    if origin is tuple:
        return f"list of {_kind(get_args(found)[0])}"
    if origin is dict:
        return f"name: {_kind(get_args(found)[1])}"
    return "mapping" if isinstance(found, type) and issubclass(found, BaseModel) else "any"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or value in (None, (), {}) or isinstance(value, BaseModel):
        return ""
    said = shown(value)
    return f"`{str(said).lower() if isinstance(said, bool) else said}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
