"""How an ambiguous entry is settled (protocol sections 5 and 6)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from proxy.config.lookups import LookupRequest
from proxy.config.models.base import Model
from proxy.config.models.shared import seconds
from proxy.config.types import (
    AnswerStatus,
    Duration,
    FoundExpression,
    HeaderName,
    ItemExpression,
    ListOf,
    LookedUpExpression,
    MappingOf,
    Parameter,
    Rate,
    Retention,
    SettlingExpression,
    Str,
)


class LookupAnswer(Model):
    """The answer that duplicates get for a call that a look-up found."""

    status: Annotated[AnswerStatus, Field(description="Its status.")] = 200
    body: Annotated[FoundExpression | None, Field(description="Its body, from item and id.")] = None
    headers: Annotated[
        dict[HeaderName, FoundExpression], MappingOf, Field(description="Its headers: name and expression.")
    ] = Field(default_factory=dict)


class Lookup(Model):
    """A question to the provider, whether a call took effect."""

    request: Annotated[
        LookupRequest, Field(description="METHOD PATH; {...} in the path holds an expression, whose value is encoded.")
    ]
    query: Annotated[
        dict[Parameter, SettlingExpression], MappingOf, Field(description="Query parameters: name and expression.")
    ] = Field(default_factory=dict)
    headers: Annotated[
        dict[HeaderName, SettlingExpression], MappingOf, Field(description="Headers: name and expression.")
    ] = Field(default_factory=dict)
    body: Annotated[
        dict[Str, SettlingExpression], MappingOf, Field(description="JSON body: dotted name and expression.")
    ] = Field(default_factory=dict)
    items: Annotated[
        LookedUpExpression, Field(description="The candidates in the answer: a list, of calls in whatever state.")
    ]
    where: Annotated[
        dict[ItemExpression, SettlingExpression],
        MappingOf,
        Field(
            description="Which candidate is ours: the item's expression equals our expression. Absent equals nothing."
        ),
    ] = Field(default_factory=dict)
    id: Annotated[
        ItemExpression, Field(description="The item's id at the provider. Distinct ids are distinct effects.")
    ]
    since: Annotated[
        ItemExpression | None,
        Field(
            description="When the item was made (RFC 3339, RFC 2822 or Unix): one older than the first send is another's."
        ),
    ] = None
    complete: Annotated[
        LookedUpExpression | None,
        Field(description="True when the answer lists everything; without it, none found proves nothing."),
    ] = None
    absent: Annotated[LookedUpExpression | None, Field(description="True for an answer that says there is none.")] = (
        None
    )
    absent_after: Annotated[
        Duration,
        Field(
            description="How long after the deadline none found begins to count: the longest life of a request that we gave "
            "up on, plus the lag of the provider's index."
        ),
    ]
    horizon: Annotated[Retention, Field(description="How far back this search reaches.")]
    pending: Annotated[ItemExpression | None, Field(description="True for an item that is not final yet.")] = None
    rejected: Annotated[ItemExpression | None, Field(description="True for an item that is a final no.")] = None
    rate: Annotated[Rate | None, Field(description="The most look-ups the provider allows, such as 6/m.")] = None
    answer: Annotated[LookupAnswer | None, Field(description="What duplicates are answered once it was found.")] = None


class Settle(Model):
    """How to find out what became of a call whose outcome is unknown."""

    by: Annotated[
        tuple[Literal["resend", "lookup"], ...] | None,
        ListOf,
        Field(
            description="Ways, in the order tried. Default: resend where there is a native key, then lookup where there is one."
        ),
    ] = None
    lookup: Annotated[Lookup | None, Field(description="A question to the provider.")] = None
    resend_for: Annotated[
        Duration, Field(description="The proxy's own initiative to re-send ends this long after the claim.")
    ] = seconds(15 * 60)
    request_life: Annotated[
        Duration, Field(description="The longest life of a request that we gave up on, where there is no look-up.")
    ] = seconds(60)
    unresolved: Annotated[
        Literal["hold", "resend", "assume_succeeded"],
        Field(description="When nothing can tell: hold for a person, send again, or take it for done."),
    ] = "hold"
