"""A provider, and the file as a whole."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from proxy.config.models.base import Model
from proxy.config.models.operation import Operation, OperationRules
from proxy.config.models.server import Admin, Ledger, Server
from proxy.config.models.shared import Shared, seconds
from proxy.config.models.statement import Statement
from proxy.config.types import (
    Count,
    Duration,
    Endpoint,
    File,
    Flag,
    HeaderName,
    HeaderSecret,
    HostPattern,
    ListOf,
    MappingOf,
    Name,
    Network,
    Origin,
    Secret,
    Str,
    Url,
)


class Basic(Model):
    """HTTP Basic credentials."""

    username: Annotated[Secret, Field(description="User name; many APIs take their key here.")]
    password: Annotated[Secret | None, Field(description="Password, if there is one.")] = None


class OAuth2(Model):
    """Client credentials grant (RFC 6749 4.4)."""

    token_url: Annotated[Endpoint, Field(description="Where tokens are fetched.")]
    client_id: Annotated[Str, Field(description="The client's id.")]
    client_secret: Annotated[Secret, Field(description="The client's secret.")]
    scope: Annotated[Str | None, Field(description="Scopes asked for, separated by spaces.")] = None


class Auth(Model):
    """Credentials that the proxy adds. Exactly one of headers, basic and oauth2."""

    headers: Annotated[
        dict[HeaderName, HeaderSecret],
        MappingOf,
        Field(description="Headers set on every request, in place of the caller's."),
    ] = Field(default_factory=dict)
    basic: Annotated[Basic | None, Field(description="HTTP Basic credentials.")] = None
    oauth2: Annotated[OAuth2 | None, Field(description="Client credentials grant.")] = None


class Fuse(Model):
    """Many ambiguous outcomes pause sending; one probe at a time."""

    ambiguous: Annotated[Count, Field(description="This many ambiguous outcomes ...")] = 10
    within: Annotated[Duration, Field(description="... within this time pause sending.")] = seconds(60)
    probe: Annotated[Duration, Field(description="How often one call is let through to see.")] = seconds(30)


class ProviderTls(Model):
    """TLS towards the provider."""

    ca: Annotated[File | None, Field(description="Authorities to trust instead of the system's (PEM).")] = None
    client_cert: Annotated[File | None, Field(description="Client certificate and its key in one PEM file.")] = None


class ProviderRules(Shared):
    """What `defaults` may say of providers too."""

    category: Annotated[Str | None, Field(description="For people: payments, email, sms, shipping ...")] = None
    concurrency: Annotated[Count, Field(description="Most sends at a time.")] = 100
    fuse: Annotated[Fuse, Field(description="When many outcomes are ambiguous, stop sending.")] = Fuse()
    allow_private: Annotated[Flag, Field(description="May the base URL be a private or loopback address.")] = False
    tls: Annotated[ProviderTls, Field(description="TLS towards the provider.")] = ProviderTls()
    connect_to: Annotated[
        Origin | None,
        Field(
            description="Where connections really go (a sandbox, a private link), http://127.0.0.1:9001; Host and path stay."
        ),
    ] = None
    upstream_proxy: Annotated[Origin | None, Field(description="A plain HTTP proxy on the way out.")] = None
    unmatched: Annotated[
        Literal["protect", "pass", "refuse"],
        Field(
            description="Unsafe requests that no operation matches: protect (by a caller's Idempotency-Key; without one they "
            "pass unprotected, and are counted), pass, or refuse."
        ),
    ] = "protect"
    auth: Annotated[Auth | None, Field(description="Credentials that the proxy adds.")] = None


class Provider(ProviderRules):
    """An external API."""

    preset: Annotated[
        Str | None,
        Field(
            description="A preset's name, or the path of one's own relative to this file; any field here overrides it."
        ),
    ] = None
    id: Annotated[Name | None, Field(description="Stands for the name in identities.")] = None
    was: Annotated[tuple[Name, ...], ListOf, Field(description="Former ids: keys are looked up under all.")] = ()
    orphaned: Annotated[
        tuple[Name, ...], ListOf, Field(description="Ids of removed operations whose entries may be left behind.")
    ] = ()
    base_url: Annotated[Url, Field(description="Scheme, host and path that all requests go under.")]
    hosts: Annotated[
        tuple[HostPattern, ...],
        ListOf,
        Field(description="Host names that are this provider's; exact, or with one leading *."),
    ] = ()
    operations: Annotated[
        tuple[Operation, ...], Field(description="Rules; the first that matches is meant. They merge by name.")
    ] = ()
    statements: Annotated[
        dict[Name, Statement], MappingOf, Field(description="Named mappings for the statement command.")
    ] = Field(default_factory=dict)


class Webhook(Model):
    """Where a caller is told of what was settled."""

    url: Annotated[Endpoint, Field(description="Where to POST.")]
    secret: Annotated[Secret, Field(description="Key of the signature.")]


class Caller(Model):
    """A service that sends. Known by token, network or client certificate."""

    id: Annotated[Name | None, Field(description="Stands for the name in identities.")] = None
    was: Annotated[tuple[Name, ...], ListOf, Field(description="Former ids: keys are looked up under all.")] = ()
    tokens: Annotated[
        tuple[HeaderSecret, ...],
        ListOf,
        Field(description="Sent as Dedup-Token; several, to change them without a gap."),
    ] = ()
    networks: Annotated[tuple[Network, ...], ListOf, Field(description="Source networks that name this caller.")] = ()
    certificates: Annotated[
        tuple[Str, ...],
        ListOf,
        Field(
            description="DNS names of client certificates, or their common name if they have none, that name this caller."
        ),
    ] = ()
    providers: Annotated[
        tuple[Name, ...] | None, ListOf, Field(description="Providers it may call. Left out: all.")
    ] = None
    concurrency: Annotated[Count | None, Field(description="Most of its requests at a time.")] = None
    webhook: Annotated[Webhook | None, Field(description="Where it is told of what was settled.")] = None


class Defaults(OperationRules, ProviderRules):
    """Any field of a provider or operation but those that name one."""


class Root(Model):
    """A whole configuration. Everything has a default."""

    version: Annotated[Literal[1], Field(description="The form of this file.")] = 1
    include: Annotated[
        tuple[Str, ...],
        ListOf,
        Field(description="Further files, as patterns relative to this one: [providers.d/*.yaml]."),
    ] = ()
    server: Annotated[Server, Field(description="The listeners.")] = Server()
    ledger: Annotated[Ledger, Field(description="The durable record.")] = Ledger()
    admin: Annotated[Admin, Field(description="Who may use the admin listener.")] = Admin()
    callers: Annotated[dict[Name, Caller], MappingOf, Field(description="Services that send.")] = Field(
        default_factory=dict
    )
    defaults: Annotated[Defaults, Field(description="What holds for all providers and operations.")] = Defaults()
    providers: Annotated[dict[Name, Provider], MappingOf, Field(description="External APIs.")] = Field(
        default_factory=dict
    )
    orphaned: Annotated[
        tuple[Name, ...],
        ListOf,
        Field(description="Ids of removed providers and callers whose entries may be left behind."),
    ] = ()
