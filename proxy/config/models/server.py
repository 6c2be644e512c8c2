"""The listeners, the ledger, and who may look at it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from proxy.config.models.base import Model
from proxy.config.models.shared import seconds
from proxy.config.types import (
    Count,
    EncryptionKey,
    File,
    Flag,
    HeaderSecret,
    HostPattern,
    LedgerUrl,
    Listen,
    ListOf,
    MappingOf,
    Name,
    Retention,
    Size,
    Wait,
)
from proxy.config.units import Duration as DurationValue
from proxy.config.units import Size as SizeValue
from proxy.config.values import Secret as SecretValue

_DAY_US = 86_400_000_000

DEFAULT_LEDGER = SecretValue("sqlite:///dedup.db", "sqlite:///dedup.db")


class ServerTls(Model):
    """TLS on the data listener."""

    cert: Annotated[File, Field(description="Certificate chain (PEM).")]
    key: Annotated[File, Field(description="Its private key (PEM).")]
    client_ca: Annotated[
        File | None,
        Field(
            description="Authority (PEM) of client certificates, which may name callers. Where no caller has tokens or networks, none connects without one."
        ),
    ] = None


class Intercept(Model):
    """The proxy's own CA; turns CONNECT on."""

    ca_cert: Annotated[File, Field(description="Its certificate (PEM).")]
    ca_key: Annotated[File, Field(description="Its private key (PEM).")]


class Server(Model):
    """The listeners."""

    listen: Annotated[Listen, Field(description="Where services send their calls: HOST:PORT.")] = "127.0.0.1:8080"
    admin_listen: Annotated[
        Listen, Field(description="Ledger API, metrics, health and page: HOST:PORT, a listener of its own.")
    ] = "127.0.0.1:8081"
    tls: Annotated[ServerTls | None, Field(description="TLS on the data listener.")] = None
    workers: Annotated[Count, Field(description="Processes. More than 1 wants PostgreSQL.")] = 1
    max_request_body: Annotated[
        Size, Field(description="Largest body of a deduplicated request; bypassed ones stream.")
    ] = SizeValue(10 * 1024 * 1024)
    drain: Annotated[Wait, Field(description="How long running calls may take at shutdown.")] = seconds(30)
    allow_anonymous: Annotated[
        Flag,
        Field(
            description="Serve other machines, or lend injected `auth`, without knowing callers. Anonymous callers share keys."
        ),
    ] = False
    hosts: Annotated[
        tuple[HostPattern, ...], ListOf, Field(description="Further names that clients use for this proxy.")
    ] = ()
    intercept: Annotated[Intercept | None, Field(description="The proxy's own CA; turns CONNECT on.")] = None
    tunnel: Annotated[
        tuple[HostPattern, ...], ListOf, Field(description="CONNECT without interception, for exactly these hosts.")
    ] = ()


class LedgerRetention(Model):
    """How long final entries are kept, from the later of their end and their last request."""

    entry: Annotated[Retention, Field(description="The entry: as long as this a duplicate is recognised.")] = (
        DurationValue(90 * _DAY_US)
    )
    answer: Annotated[Retention, Field(description="Its stored answer; never longer than the entry.")] = DurationValue(
        90 * _DAY_US
    )


class Ledger(Model):
    """The durable record."""

    url: Annotated[LedgerUrl, Field(description="sqlite:///dedup.db, or postgresql://user:password@host/db.")] = (
        DEFAULT_LEDGER
    )
    retention: Annotated[LedgerRetention, Field(description="How long final entries are kept.")] = LedgerRetention()
    max_stored_answer: Annotated[
        Size, Field(description="A larger answer leaves a tombstone, which keeps the dedup.")
    ] = SizeValue(1024 * 1024)
    encryption_keys: Annotated[
        tuple[EncryptionKey, ...],
        ListOf,
        Field(
            description="base64 of 32 bytes each, newest first: seal stored answers and the ledger's own secrets. Without: in clear."
        ),
    ] = ()


class AdminToken(Model):
    """Somebody who may use the admin listener."""

    token: Annotated[HeaderSecret, Field(description="Sent as Authorization: Bearer.")]
    role: Annotated[Literal["operator", "reader"], Field(description="An operator may also decide.")]


class Admin(Model):
    """Who may use the admin listener."""

    tokens: Annotated[
        dict[Name, AdminToken],
        MappingOf,
        Field(description="By name, which the history shows. Without any, the admin listener accepts loopback only."),
    ] = Field(default_factory=dict)
