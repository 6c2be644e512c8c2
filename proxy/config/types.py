"""The types that the models are written in: a validator of :mod:`proxy.config.values` and its JSON Schema."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from proxy.config import expressions, units, values
from proxy.config.expressions import Scope
from proxy.config.tree import Text
from proxy.config.values import shown, text, wrong
from proxy.core.expressions import Expression

_FILLED: dict[str, Any] = {"type": "string", "pattern": r"\$\{"}


def _or_filled(**schema: Any) -> WithJsonSchema:
    """A JSON Schema that also takes a ``${...}``, whose value only the loader knows."""
    return WithJsonSchema({"title": schema.pop("title"), "anyOf": [schema, _FILLED]})


def _string(title: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "minLength": 1, "title": title})


_DURATION = r"^(0|[1-9][0-9]*)(ms|s|m|h|d)$"

Flag = Annotated[bool, PlainValidator(values.flag), _or_filled(type="boolean", title="true or false")]
Count = Annotated[
    int, PlainValidator(values.between(1, 1_000_000)), _or_filled(type="integer", minimum=1, title="number")
]
Natural = Annotated[
    int, PlainValidator(values.between(0, 1_000_000)), _or_filled(type="integer", minimum=0, title="number")
]

Duration = Annotated[
    units.Duration,
    PlainValidator(values.duration(forever=False, zero=False)),
    _or_filled(type="string", pattern=_DURATION, title="duration"),
]
Wait = Annotated[
    units.Duration,
    PlainValidator(values.duration(forever=False, zero=True)),
    _or_filled(type="string", pattern=_DURATION, title="duration"),
]
Retention = Annotated[
    units.Duration,
    PlainValidator(values.duration(forever=True, zero=False)),
    _or_filled(type="string", pattern=f"{_DURATION}|^forever$", title="duration or forever"),
]
Size = Annotated[
    units.Size,
    PlainValidator(values.size),
    WithJsonSchema(
        {
            "title": "size",
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": "^[1-9][0-9]*(B|KiB|MiB|GiB)?$"},
                _FILLED,
            ],
        }
    ),
]

Str = Annotated[str, PlainValidator(text), _string("text")]
Name = Annotated[str, PlainValidator(values.name), _string("name")]
Secret = Annotated[values.Secret, PlainValidator(values.secret), _string("secret")]
HeaderSecret = Annotated[values.Secret, PlainValidator(values.header_secret), _string("secret")]
LedgerUrl = Annotated[values.Secret, PlainValidator(values.ledger_url), _string("URL")]
HeaderName = Annotated[str, PlainValidator(values.header_name), _string("header name")]
HeaderValue = Annotated[str, PlainValidator(values.header_value), _string("text")]
HostPattern = Annotated[str, PlainValidator(values.host_pattern), _string("host")]
Url = Annotated[str, PlainValidator(values.url), _string("URL")]
Origin = Annotated[str, PlainValidator(values.origin), _string("URL")]
Endpoint = Annotated[str, PlainValidator(values.endpoint), _string("URL")]
Listen = Annotated[str, PlainValidator(values.listen), _string("HOST:PORT")]
Network = Annotated[str, PlainValidator(values.network), _string("network")]
File = Annotated[Path, PlainValidator(values.file), _string("file")]

RequestExpression = Annotated[Expression, PlainValidator(expressions.expression(Scope.REQUEST)), _string("expression")]
AnswerExpression = Annotated[Expression, PlainValidator(expressions.expression(Scope.ANSWER)), _string("expression")]
SettlingExpression = Annotated[
    Expression, PlainValidator(expressions.expression(Scope.SETTLING)), _string("expression")
]
LookedUpExpression = Annotated[
    Expression, PlainValidator(expressions.expression(Scope.LOOKED_UP)), _string("expression")
]
FoundExpression = Annotated[Expression, PlainValidator(expressions.expression(Scope.FOUND)), _string("expression")]
FactExpression = Annotated[Expression, PlainValidator(expressions.expression(Scope.FACTS)), _string("expression")]
ItemExpression = Annotated[Expression, PlainValidator(expressions.expression(Scope.ITEM)), _string("expression")]

IgnoredPath = Annotated[str, PlainValidator(expressions.path("body", "params")), _string("path")]
RedactedPath = Annotated[str, PlainValidator(expressions.path("body", "headers")), _string("path")]

_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}")
_SEGMENT = re.compile(r"[^\s?#{}]*")
_PARAMETER = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")


def _request_line(value: object) -> Text:
    """``METHOD PATH``; ``{name}`` is one segment, ``**`` as the last segment is the rest."""
    found = text(value)
    try:
        line = _method_and_path(found)
    except PydanticCustomError:
        if found.is_substituted:
            raise wrong(f"{shown(found)} is not METHOD PATH") from None
        raise
    return Text.make(line, found.mark, shown=found.shown if found.is_substituted else None)


def _method_and_path(found: Text) -> str:
    method, _, target = found.partition(" ")
    target = target.strip()
    if not target:
        raise wrong(f"{shown(found)} is not METHOD PATH", f"write POST {found}" if found.startswith("/") else "")
    if not _METHOD.fullmatch(method):
        fix = f"write {method.upper()}" if _METHOD.fullmatch(method.upper()) else "name the method; one line for each"
        raise wrong(f"{method!r} is not a method", fix)
    if not target.startswith("/"):
        fix = (
            "leave out scheme and host: paths are relative to base_url's"
            if "://" in target
            else f"write {method} /{target}"
        )
        raise wrong(f"{shown(found)}: a path begins with /", fix)
    *before, last = target[1:].split("/")
    for segment in (*before, *([last] if last != "**" else [])):
        if "*" in segment:
            raise wrong(f"{shown(found)}: ** stands alone as the last segment", "use {name} for one segment")
        if not _SEGMENT.fullmatch(segment) and not _PARAMETER.fullmatch(segment):
            raise wrong(
                f"{shown(found)}: {segment!r} is neither literal nor {{name}}", "a {name} is a whole segment; no query"
            )
    return f"{method} {target}"


RequestLine = Annotated[str, PlainValidator(_request_line), _string("METHOD PATH")]

_STATUS_CLASS = re.compile(r"[1-5]xx")


def _status(value: object) -> int | str:
    """A status, a class such as ``4xx``, or ``none`` for no answer."""
    if isinstance(value, int) and not isinstance(value, bool):
        if 100 <= value <= 599:
            return value
        raise wrong(f"{value} is not an HTTP status")
    if isinstance(value, str) and (value == "none" or _STATUS_CLASS.fullmatch(value)):
        return str(value)
    raise wrong(f"{shown(value)} is not a status", "write a number, a class such as 4xx, or none for no answer")


Status = Annotated[
    int | str,
    PlainValidator(_status),
    WithJsonSchema(
        {
            "title": "status",
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 599},
                {"enum": ["1xx", "2xx", "3xx", "4xx", "5xx", "none"]},
            ],
        }
    ),
]
AnswerStatus = Annotated[
    int,
    PlainValidator(values.between(200, 599)),
    WithJsonSchema({"type": "integer", "minimum": 200, "maximum": 599, "title": "status"}),
]

_BODY_NAME = re.compile(r"[^\s.\[\]{}\"'*]+(\.[^\s.\[\]{}\"'*]+)*")
_PARAMETER_NAME = re.compile(r"[^\s&=#?+%]+")


def _body_path(value: object) -> Text:
    found = text(value)
    if not _BODY_NAME.fullmatch(found):
        raise wrong(f"{shown(found)} is not a dotted path of names", "list items and quoted names can't be addressed")
    return found


def _parameter(value: object) -> Text:
    found = text(value)
    if not _PARAMETER_NAME.fullmatch(found):
        raise wrong(f"{shown(found)} is not a query parameter's name")
    return found


BodyPath = Annotated[str, PlainValidator(_body_path), _string("dotted path")]
Parameter = Annotated[str, PlainValidator(_parameter), _string("parameter")]

_RATE = re.compile(r"[1-9][0-9]{0,5}/(s|m|h|d)")


def _rate(value: object) -> Text:
    found = text(value)
    if not _RATE.fullmatch(found):
        raise wrong(f"{shown(found)} is not a rate", "write a number per s, m, h or d: 6/m")
    return found


Rate = Annotated[str, PlainValidator(_rate), _string("rate")]


def _encryption_key(value: object) -> values.Secret:
    found = values.secret(value)
    try:
        raw = base64.b64decode(found.value, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise wrong("an encryption key is the base64 of 32 bytes", "make one with: openssl rand -base64 32")
    return found


EncryptionKey = Annotated[values.Secret, PlainValidator(_encryption_key), _string("secret")]


@dataclass(frozen=True, slots=True)
class Short:
    """A short form beside a type: *expand* makes the long one of it, *widen* lets the JSON Schema take both."""

    expand: Callable[[Any], Any]
    widen: Callable[[dict[str, Any]], dict[str, Any]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Called by pydantic."""
        return core_schema.no_info_before_validator_function(self.expand, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Called by pydantic."""
        return self.widen(handler(schema))


def _or_item(made: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [made, made["items"]]} if "items" in made else made


def _with_nulls(made: dict[str, Any]) -> dict[str, Any]:
    below = made.get("additionalProperties")
    return made if below is None else {**made, "additionalProperties": {"anyOf": [below, {"type": "null"}]}}


def or_text(made: dict[str, Any]) -> dict[str, Any]:
    """*made*, or a text in its place."""
    return {"anyOf": [made, {"type": "string", "minLength": 1}]}


ListOf = Short(values.one_or_list, _or_item)
"""In front of a tuple type: a single value stands for a list of one."""

MappingOf = Short(values.without_null, _with_nulls)
"""In front of a dict type: a null takes an inherited entry away."""
