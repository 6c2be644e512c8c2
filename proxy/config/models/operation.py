"""An operation: which requests it matches and how they are deduplicated."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from proxy.config.models.base import Model
from proxy.config.models.settle import Settle
from proxy.config.models.shared import Matcher, Shared
from proxy.config.types import (
    BodyPath,
    Count,
    Duration,
    FactExpression,
    Flag,
    HeaderName,
    IgnoredPath,
    ListOf,
    MappingOf,
    Name,
    Parameter,
    RequestExpression,
    RequestLine,
    Retention,
    Short,
    Str,
    or_text,
)
from proxy.config.values import one_or_list


def _alternatives_schema(made: dict[str, Any]) -> dict[str, Any]:
    part = made["items"]["items"]
    return {"anyOf": [{"type": "array", "items": {"anyOf": [made["items"], part]}}, part]}


def _alternatives(value: object) -> object:
    return [one_or_list(alternative) for alternative in value] if isinstance(value, list) else [[value]]


class Key(Model):
    """Where the key of one intent comes from."""

    source: Annotated[
        tuple[Annotated[tuple[RequestExpression, ...], Field(min_length=1)], ...],
        Short(_alternatives, _alternatives_schema),
        Field(
            alias="from",
            min_length=1,
            description="Alternatives, the first that yields wins; a list needs every part. Exactly one header, or the place "
            "that `native` names, is a given key; all else is computed. "
            'Default: headers."idempotency-key", then the native place.',
        ),
    ] = ()
    required: Annotated[Flag, Field(description="false: a request without a key passes unprotected, and says so.")] = (
        True
    )
    window: Annotated[
        Duration | None,
        Field(description="A computed key means the same intent only this long. Left out: as long as it is kept."),
    ] = None


class Fingerprint(Model):
    """What the meaning of a request is."""

    ignore: Annotated[
        tuple[IgnoredPath, ...],
        ListOf,
        Field(
            description="Paths left out, such as body.sent_at or params.trace: what differs between retries of one call."
        ),
    ] = ()


class Native(Model):
    """The provider's own idempotency key. Exactly one of header, body, query, hook and natural."""

    header: Annotated[HeaderName | None, Field(description="The header that carries it.")] = None
    body: Annotated[BodyPath | None, Field(description="The body field that carries it: a dotted path.")] = None
    query: Annotated[Parameter | None, Field(description="The query parameter that carries it.")] = None
    hook: Annotated[Name | None, Field(description="A named function that puts it where YAML can't say.")] = None
    natural: Annotated[
        Flag, Field(description="Repeating the request changes nothing: PUT of a state, DELETE, upsert. Needs no key.")
    ] = False
    format: Annotated[
        Literal["raw", "uuid", "hex32"],
        Field(description="uuid and hex32 are derived, the same for all attempts; raw is the given key itself."),
    ] = "uuid"
    raw_shared: Annotated[
        Literal["accept"] | None,
        Field(description="accept: raw keys although several callers or operations share the provider's key space."),
    ] = None
    max_length: Annotated[Count | None, Field(description="The longest key the provider takes.")] = None
    retention: Annotated[
        Retention, Field(description="How long the provider remembers a key, counted from the first send.")
    ]
    locks: Annotated[
        Flag,
        Field(description="A repeated key while the first runs is refused; else a re-send waits for the quiet time."),
    ] = False
    failures: Annotated[
        Literal["stored", "rerun", "resumed"],
        Field(
            description="A repeated key after a failed first try: replays the failure, runs it again, or finishes it."
        ),
    ] = "rerun"
    in_progress: Annotated[
        tuple[Matcher, ...],
        ListOf,
        Field(description="Answers that mean: the first request under this key still runs."),
    ] = ()
    mismatch: Annotated[
        tuple[Matcher, ...], ListOf, Field(description="Answers that mean: this key was used for another request.")
    ] = ()
    behind_key: Annotated[
        tuple[Matcher, ...], ListOf, Field(description="Answers given only after the provider consulted its keys.")
    ] = ()
    ignored_when: Annotated[
        RequestExpression | None, Field(description="True for requests whose key the provider ignores.")
    ] = None


class Tag(Model):
    """Puts the outgoing key where a look-up finds it. Exactly one of body, field and header."""

    body: Annotated[BodyPath | None, Field(description="A body field: a dotted path.")] = None
    field: Annotated[Str | None, Field(description="A form field by its literal name, such as v:dedup_key.")] = None
    header: Annotated[HeaderName | None, Field(description="A header.")] = None


class Suspect(Model):
    """Another key, the same fingerprint: what to make of it."""

    window: Annotated[Duration, Field(description="How long ago counts as a moment ago.")]
    action: Annotated[Literal["warn", "hold"], Field(description="Say so in Dedup-Suspect, or refuse with 409.")] = (
        "warn"
    )


class Outcome(Matcher):
    """What an answer means, where its status alone doesn't say."""

    outcome: Annotated[
        Literal["succeeded", "rejected", "not_executed", "ambiguous"],
        Field(alias="is", description="What such an answer means."),
    ]


def _fact(value: Any) -> Any:
    return value if isinstance(value, dict) else {"from": value}


class Fact(Model):
    """Something about a call that people search and statements compare."""

    source: Annotated[FactExpression, Field(alias="from", description="Where it comes from: request. or response.")]
    secret: Annotated[Flag, Field(description="Kept and compared as a digest only.")] = False
    unit: Annotated[
        Literal["minor", "major"] | None, Field(description="For amounts: cents (minor) or whole units (major).")
    ] = None
    currency: Annotated[FactExpression | None, Field(description="For amounts: the ISO 4217 code.")] = None


class OperationRules(Shared):
    """What `defaults` may say of operations too."""

    when: Annotated[RequestExpression | None, Field(description="A further condition on the request.")] = None
    key: Annotated[Key, Field(description="Where the key of one intent comes from.")] = Key()
    fingerprint: Annotated[Fingerprint, Field(description="What the meaning of a request is.")] = Fingerprint()
    native: Annotated[Native | None, Field(description="The provider's own idempotency key.")] = None
    tag: Annotated[
        Tag | None, Field(description="Puts the outgoing key where a look-up finds it; never overwrites what is there.")
    ] = None
    suspect: Annotated[Suspect | None, Field(description="Another key, the same fingerprint a moment ago.")] = None
    outcomes: Annotated[
        tuple[Outcome, ...], Field(description="What answers mean; the first match wins, then its status says.")
    ] = ()
    body_type: Annotated[
        Literal["json", "form", "xml", "text", "any"],
        Field(description="What the answer's body must be where a condition reads it; anything else is ambiguous."),
    ] = "json"
    settle: Annotated[Settle, Field(description="How to find out what became of an ambiguous call.")] = Settle()
    deliver_within: Annotated[
        Duration | None, Field(description="How long a call accepted with Prefer: respond-async may take.")
    ] = None
    facts: Annotated[
        dict[Name, Annotated[Fact, Short(_fact, or_text)]],
        MappingOf,
        Field(description="What people search for: name and expression, or {from, secret, unit, currency}."),
    ] = Field(default_factory=dict)


class Operation(OperationRules):
    """A rule within a provider."""

    keeps_null: ClassVar[frozenset[str]] = Shared.keeps_null

    name: Annotated[Name, Field(description="Its name; operations merge by it.")]
    id: Annotated[Name | None, Field(description="Stands for the name in identities.")] = None
    was: Annotated[tuple[Name, ...], ListOf, Field(description="Former ids: keys are looked up under all.")] = ()
    match: Annotated[
        tuple[RequestLine, ...],
        ListOf,
        Field(
            min_length=1,
            description="METHOD PATH, one or a list; {name} is one segment, ** as the last segment the rest. "
            "Relative to the path of base_url.",
        ),
    ]
