"""What a preset says about itself: examples that must hold, where its facts are from, and what nobody has verified."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from proxy.config.models.base import Model
from proxy.config.models.shared import Json
from proxy.config.types import Count, Flag, HeaderName, HeaderValue, ListOf, MappingOf, Status, Str


class ExampleRequest(Model):
    """A caller's request."""

    method: Annotated[Str, Field(description="Its method.")] = "POST"
    target: Annotated[Str, Field(description="Path and query, relative to the path of base_url.")]
    headers: Annotated[dict[HeaderName, HeaderValue], MappingOf, Field(description="Its headers.")] = Field(
        default_factory=dict
    )
    body: Annotated[Json | None, Field(description="A JSON body.")] = None
    form: Annotated[dict[Str, Str], MappingOf, Field(description="A form body, by literal field names.")] = Field(
        default_factory=dict
    )


class ExampleAnswer(Model):
    """A provider's answer, or none, and what it means."""

    status: Annotated[Status, Field(description="Its status, or none.")]
    headers: Annotated[dict[HeaderName, HeaderValue], MappingOf, Field(description="Its headers.")] = Field(
        default_factory=dict
    )
    body: Annotated[Json | None, Field(description="Its JSON body.")] = None
    text: Annotated[Str | None, Field(description="Its body, where that is no JSON.")] = None
    attempt: Annotated[Count, Field(description="Which attempt it answers.")] = 1
    doubt: Annotated[Flag, Field(description="Whether an earlier attempt is open.")] = False
    outcome: Annotated[
        Literal["succeeded", "rejected", "not_executed", "ambiguous"], Field(alias="is", description="What it means.")
    ]
    behind_key: Annotated[
        Flag | None, Field(description="Whether it was given after the provider consulted its keys.")
    ] = None


class Example(Model):
    """A request that a preset knows how to treat."""

    keeps_null: ClassVar[frozenset[str]] = frozenset({"key", "outgoing", "operation"})

    name: Annotated[Str, Field(description="A sentence.")]
    request: Annotated[ExampleRequest, Field(description="The caller's request.")]
    operation: Annotated[
        Str | None, Field(description="The operation it meets; unmatched; null where it passes as a safe method.")
    ]
    key: Annotated[Str | None, Field(description="The source of its key, as the rule writes it; null for none.")] = None
    computed: Annotated[Flag, Field(description="Whether that key is a computed one.")] = False
    outgoing: Annotated[
        Str | None, Field(description="Where the outgoing key goes, such as: header Idempotency-Key.")
    ] = None
    answers: Annotated[tuple[ExampleAnswer, ...], ListOf, Field(description="Answers and what they mean.")] = ()


class About(Model):
    """The part of a preset that is no rule."""

    examples: Annotated[tuple[Example, ...], Field(min_length=1, description="Requests that must be treated so.")]
    sources: Annotated[tuple[Str, ...], Field(min_length=1, description="Where its facts are from.")]
    unverified: Annotated[tuple[Str, ...], Field(description="What it assumes and nobody has verified.")]
