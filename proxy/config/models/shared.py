"""Fields that may stand at several levels, and the small mappings they hold."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator

from proxy.config.models.base import Model
from proxy.config.types import (
    AnswerExpression,
    Duration,
    Flag,
    HeaderName,
    HeaderValue,
    ListOf,
    MappingOf,
    RedactedPath,
    RequestExpression,
    Status,
    Str,
    Wait,
)
from proxy.config.units import Duration as DurationValue
from proxy.core.expressions import compile_expression

ModeName = Literal["enforce", "observe", "bypass"]

AUTHORIZATION = compile_expression("headers.authorization")


def seconds(number: int) -> DurationValue:
    """A default."""
    return DurationValue(number * 1_000_000)


class Timeout(Model):
    """How long a send may take."""

    connect: Annotated[Duration, Field(description="To open a connection, TLS included.")] = seconds(5)
    total: Annotated[
        Duration,
        Field(description="From before the claim to the last byte of the answer. Past it nothing is sent any more."),
    ] = seconds(30)


class Store(Model):
    """What of a call the ledger keeps."""

    request: Annotated[
        Literal["until_final", "never"],
        Field(description="Keep what a re-send in the background needs until the entry is final, or never."),
    ] = "until_final"
    answer: Annotated[
        Literal["full", "status", "none"],
        Field(description="Keep the answer, only its status and headers, or nothing: where card data or secrets pass."),
    ] = "full"
    redact: Annotated[
        tuple[RedactedPath, ...],
        ListOf,
        MappingOf,
        Field(description="Paths of the answer that are blanked before it is kept, such as body.card.number."),
    ] = ()


def _json(value: object) -> Any:
    match value:
        case dict():
            return {str(key): _json(below) for key, below in value.items() if below is not None}
        case list():
            return [_json(below) for below in value]
        case _:
            return value


Json = Annotated[Any, PlainValidator(_json)]


class Answers(Model):
    """What a provider's SDK wants to see in the proxy's own answers, so that it raises a proper error."""

    members: Annotated[
        dict[Str, Json],
        MappingOf,
        Field(
            description="Members added to the problem document. In texts {detail} {reason} {status} {title} {retryable} ... "
            "stand for the document's own members; a text that is nothing else takes the member's type.",
        ),
    ] = Field(default_factory=dict)
    headers: Annotated[
        dict[HeaderName, HeaderValue], MappingOf, Field(description="Headers added; values may hold the same {names}.")
    ] = Field(default_factory=dict)
    content_type: Annotated[
        HeaderValue | None, Field(description="Instead of application/problem+json, for SDKs that insist on another.")
    ] = None


class Shared(Model):
    """May stand in `defaults`, in a provider and in an operation; the innermost wins."""

    keeps_null: ClassVar[frozenset[str]] = frozenset({"credential"})

    mode: Annotated[
        ModeName,
        Field(
            description="enforce; observe: forward, and record what would have been done; bypass: forward without a ledger."
        ),
    ] = "enforce"
    accept_ambiguous: Annotated[
        Flag, Field(description="Beside `mode`: leave enforce although entries are still ambiguous.")
    ] = False
    timeout: Annotated[Timeout, Field(description="How long a send may take.")] = Timeout()
    credential: Annotated[
        RequestExpression | None,
        Field(description="The same key under another credential is refused (422). null where tokens rotate."),
    ] = AUTHORIZATION
    scope: Annotated[
        tuple[RequestExpression, ...],
        ListOf,
        MappingOf,
        Field(description="Further parts of identity, such as a connected account; may be absent in a request."),
    ] = ()
    store: Annotated[Store, Field(description="What of a call the ledger keeps.")] = Store()
    answers: Annotated[Answers, Field(description="What the provider's SDK wants in the proxy's own answers.")] = (
        Answers()
    )
    wait: Annotated[
        Wait,
        Field(
            description="How long a duplicate waits for the first call, or a caller for settling. A first send ends by timeout.total."
        ),
    ] = seconds(10)


class Matcher(Model):
    """Recognises an answer."""

    status: Annotated[
        tuple[Status, ...], ListOf, Field(description="A status, a class such as 4xx, or a list. Left out: any.")
    ] = ()
    when: Annotated[AnswerExpression | None, Field(description="A condition over the answer.")] = None
