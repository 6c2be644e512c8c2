"""The JSON Schema of a configuration file, for editors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from proxy.config.dump import shown
from proxy.config.models.provider import Root

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_PARTIAL_EXCEPT = frozenset({"AdminToken", "Webhook", "ServerTls", "Intercept"})
"""Mappings that nothing merges into: what they require must stand in them."""


class _Generate(GenerateJsonSchema):
    """Defaults as they are written, not as Python holds them."""

    def encode_default(self, dft: Any) -> Any:
        value = shown(dft)
        return value if not isinstance(dft, BaseModel) else {}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """A default that is a mapping is told by its own fields' defaults."""
        made = super().default_schema(schema)
        if made.get("default") in ({}, [], None):
            made.pop("default", None)
        return made


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `config.yaml`."""
    made = Root.model_json_schema(by_alias=True, schema_generator=_Generate)
    for name, definition in made.get("$defs", {}).items():
        _loosen(name, definition)
    _loosen("Root", made)
    return {"$schema": DRAFT, "$id": "urn:dedup-proxy:config", **made, "title": "Dedup Proxy configuration"}


def _loosen(name: str, definition: dict[str, Any]) -> None:
    """What only the loader can judge: a part may be inherited, null takes it away, and x- keys hold anchors."""
    if "properties" not in definition:
        return
    definition["patternProperties"] = {"^x-": {}}
    required = definition.get("required", [])
    if name not in _PARTIAL_EXCEPT:
        definition.pop("required", None)
        if name == "Operation":
            definition["required"] = ["name"]
    for field, below in definition["properties"].items():
        below.pop("title", None)
        if field in required or _takes_null(below):
            continue
        about = {key: below.pop(key) for key in ("description", "default") if key in below}
        definition["properties"][field] = {"anyOf": [below, {"type": "null"}], **about}


def _takes_null(below: dict[str, Any]) -> bool:
    return any(option.get("type") == "null" for option in below.get("anyOf", ()))
