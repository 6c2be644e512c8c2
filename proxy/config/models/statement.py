"""Named mappings for the statement command (contract section 10)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from proxy.config.models.base import Model
from proxy.config.models.shared import seconds
from proxy.config.types import Duration, ItemExpression, ListOf, MappingOf, Name, Natural, Short, Str, or_text
from proxy.config.values import without_null

_DAY_SECONDS = 86_400


class Column(Model):
    """A column that a fact is compared with."""

    source: Annotated[Str, Field(alias="from", description="The column's name.")]
    unit: Annotated[
        Literal["minor", "major"] | None, Field(description="For amounts: cents (minor) or whole units (major).")
    ] = None


class StatementTime(Model):
    """When a row says that it happened."""

    source: Annotated[Str, Field(alias="from", description="The column's name.")]
    zone: Annotated[Str, Field(description="Time zone of times that name none, such as UTC or Europe/Berlin.")] = "UTC"


def _column(value: object) -> object:
    return value if isinstance(value, dict) else {"from": value}


def _matches_schema(made: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [made, made["items"]]}


def _matches(value: object) -> object:
    return [without_null(way) for way in value] if isinstance(value, list) else [without_null(value)]


class Statement(Model):
    """How a provider's statement is read."""

    format: Annotated[Literal["csv", "jsonl"], Field(description="csv or jsonl.")] = "csv"
    rows: Annotated[ItemExpression | None, Field(description="True for the rows that are meant.")] = None
    operations: Annotated[
        tuple[Name, ...],
        ListOf,
        Field(description="Operations whose entries it lists. Left out: all."),
    ] = ()
    match: Annotated[
        tuple[dict[Name, Str], ...],
        Short(_matches, _matches_schema),
        Field(
            min_length=1,
            description="What names an entry: outgoing_key, key, id or a fact, and its column. A list holds fallbacks.",
        ),
    ]
    compare: Annotated[
        dict[Name, Annotated[Column, Short(_column, or_text)]],
        MappingOf,
        Field(description="Facts that must agree: fact and column, or {from, unit}."),
    ] = Field(default_factory=dict)
    currency: Annotated[Str | None, Field(description="The column of the currency.")] = None
    sign: Annotated[ItemExpression | None, Field(description="True for rows whose amounts count negative.")] = None
    skip_rows: Annotated[Natural, Field(description="Lines before the header row.")] = 0
    margin: Annotated[Duration, Field(description="How far a row may lie outside of the period and still match.")] = (
        seconds(_DAY_SECONDS)
    )
    accept: Annotated[
        tuple[ItemExpression, ...], ListOf, Field(description="Rows that may be off without being reported.")
    ] = ()
    time: Annotated[StatementTime | None, Field(description="When a row says that it happened.")] = None
