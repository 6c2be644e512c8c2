"""What the core asks of the world, as small Protocols owned by the side that uses them.

Each port is defined by a contract suite under ``tests/contract``; an implementation that passes it is one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Protocol

from proxy.core.model import Attempt, Entry, Headers, KeyHash, StoredAnswer, Token
from proxy.core.states import Event, Evidence


class Clock(Protocol):
    """Time as this process sees it."""

    def boot(self) -> float:
        """Seconds of ``CLOCK_BOOTTIME``: runs on through suspend and SIGSTOP, never steps. Deadlines are told in it."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch, for display; may step."""
        ...


class Ids(Protocol):
    """Chance."""

    def token(self) -> Token:
        """A fresh random attempt token."""
        ...


class Checkpoints(Protocol):
    """Named places to die, for tests. The product's implementation does nothing."""

    async def reach(self, name: str) -> None:
        """Called at ``after_claim``, ``before_send``, ``after_send``, ``before_record``, ``after_record``."""
        ...


class Observer(Protocol):
    """Who counts. Ids, never names that a caller chooses."""

    def decided(self, provider: str, operation: str, decision: str, reason: str) -> None:
        """A request was decided on: ``sent``, ``replayed``, ``waited``, ``refused``, ``passed``."""
        ...

    def attempt_done(self, provider: str, operation: str, outcome: str) -> None:
        """An attempt ended with this event."""
        ...

    def upstream_done(self, provider: str, operation: str, seconds: float) -> None:
        """The provider answered, or the attempt was given up, after *seconds*."""
        ...

    def duplicate_prevented(self, provider: str, operation: str) -> None:
        """A duplicate was answered without a send."""
        ...

    def became_ambiguous(self, provider: str, operation: str) -> None:
        """An attempt's outcome is not known."""
        ...

    def passed_unprotected(self, provider: str) -> None:
        """An unsafe request went out without a key."""
        ...

    def expressions_failed(self, provider: str, operation: str, count: int) -> None:
        """Expressions of a rule could not be evaluated."""
        ...

    def contradicted(self) -> None:
        """Evidence against a final entry, or somebody else's use of our outgoing key."""
        ...


# -- upstream ---------------------------------------------------------------------------------------------------------


@unique
class Phase(StrEnum):
    """How far a send got. Up to and including ``DEADLINE`` no byte of the request was written."""

    BUSY = "busy"  # no place in the provider's pool in time
    DNS = "dns"
    ADDRESS = "address"  # resolved to an address that is not allowed
    CONNECT = "connect"
    TLS = "tls"
    DEADLINE = "deadline"  # the attempt's deadline passed before the first byte
    WRITE = "write"
    WAIT = "wait"  # the request was written, no complete head came back
    BODY = "body"  # the head came back, the body broke off


UNSENT = frozenset({Phase.BUSY, Phase.DNS, Phase.ADDRESS, Phase.CONNECT, Phase.TLS, Phase.DEADLINE})


class SendFailed(Exception):
    """A send that got no complete answer. ``phase`` is judged by what was written, never by an exception's type.

    ``kind`` is ``timeout``, ``refused``, ``reset``, ``closed``, ``protocol``, ``unresolved``, ``forbidden`` or ``error``.
    """

    def __init__(self, phase: Phase, kind: str, detail: str) -> None:
        super().__init__(f"{phase.value}: {kind}: {detail}")
        self.phase = phase
        self.kind = kind
        self.detail = detail

    @property
    def sent(self) -> bool:
        """Whether any byte of the request may have left."""
        return self.phase not in UNSENT


@dataclass(frozen=True, slots=True)
class Route:
    """Where a provider's connections go. Equal routes share a pool.

    ``host`` and ``port`` name the origin (TLS server name); ``connect`` is where the connection really goes.
    """

    scheme: str  # "http" or "https"
    host: str
    port: int
    connect_host: str
    connect_port: int
    allow_private: bool = False
    ca_file: str | None = None
    client_cert: str | None = None
    idle_seconds_max: float = 4.0  # below any provider's own idle limit that we know of


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request as it goes on the wire: origin-form ``target``, headers with Host and without hop-by-hop ones.

    ``body`` is either all bytes or a stream (bypassed requests); a stream whose length no header says is sent chunked.
    """

    method: str
    target: str
    headers: Headers
    body: bytes | AsyncIterator[bytes]


class Reply(Protocol):
    """A provider's answer whose head has arrived."""

    status: int
    reason: bytes
    headers: Headers

    def body(self) -> AsyncIterator[bytes]:
        """The raw body in pieces; raises :class:`SendFailed` (phase ``BODY``) if it breaks off."""
        ...

    async def close(self) -> None:
        """Give the connection back if it is reusable, else close it. Safe to call twice."""
        ...


class Upstream(Protocol):
    """Exactly one send per call, whatever happens."""

    async def send(
        self, outgoing: Outgoing, route: Route, *, deadline: float, connect_seconds_max: float, fresh: bool,
        body_idle_seconds_max: float | None = None,
    ) -> Reply:  # fmt: skip
        """Send once and wait for the head of the final answer.

        ``deadline`` is a :meth:`Clock.boot` reading; it is read again right before the first byte is written, and bounds
        everything up to the end of the body. With ``body_idle_seconds_max`` it bounds everything up to the head, and that
        many seconds each wait for more of the body. ``fresh`` asks for a new connection. Raises :class:`SendFailed`.
        """
        ...

    async def close(self) -> None:
        """Close idle connections."""
        ...


# -- ledger -----------------------------------------------------------------------------------------------------------


class LedgerUnavailable(Exception):
    """The ledger could not be read or written in time. The write may or may not have become durable."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A wish to begin an attempt: a new entry, or the next attempt of a ``not_executed`` one.

    ``entry`` is the draft as :mod:`proxy.core.states` made it; the ledger sets its times by its own clock when it
    lands: ``lease_until`` = now + ``lease_us``, ``quiet_at`` = now + ``quiet_us``. ``after`` is the token of the latest
    attempt that the decision was made on: of the same generation for a reclaim, of the one before for a new generation,
    None for generation 1. ``event`` says what begins it: ``claimed``, ``reclaimed`` of a ``not_executed`` entry or ``resent``
    of an ``ambiguous`` one.
    """

    entry: Entry
    lease_us: int
    quiet_us: int
    event: Event = Event.CLAIMED
    after: Token | None = None
    window_us: int | None = None


@dataclass(frozen=True, slots=True)
class Landed:
    """What became of a write: whether it landed, and the row as it now is (None: there is no row)."""

    landed: bool
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Write:
    """Evidence about one attempt, for the entry it belongs to, with the answer if one is to be kept."""

    key_hash: KeyHash
    generation: int
    evidence: Evidence
    answer: StoredAnswer | None = None


class Ledger(Protocol):
    """The durable record. Every method may raise :class:`LedgerUnavailable`; every write is guarded."""

    def now(self) -> int:
        """Ledger time in microseconds as this process last knew it, moved on by its boot clock. Never runs backwards."""
        ...

    async def read(self, key_hash: KeyHash) -> Entry | None:
        """The latest generation under *key_hash*, with its stored answer."""
        ...

    async def poll(self, key_hashes: Collection[KeyHash]) -> Mapping[KeyHash, Entry]:
        """As :meth:`read` for many keys at once; keys without a row are left out."""
        ...

    async def claim(self, claim: Claim) -> Landed:
        """Begin an attempt if nobody else did. Durable when it returns landed."""
        ...

    async def record(self, write: Write) -> Landed:
        """Apply evidence if :func:`proxy.core.states.apply` allows it; tell whether it landed, and the row as it is."""
        ...

    async def touch(self, key_hash: KeyHash, generation: int) -> None:
        """Move on the kept time of the last request."""
        ...

    async def expire_leases(self, limit: int) -> int:
        """Turn up to *limit* ``in_flight`` entries whose lease is over into ``ambiguous``; tell how many."""
        ...


__all__ = [
    "UNSENT",
    "Attempt",
    "Checkpoints",
    "Claim",
    "Clock",
    "Ids",
    "Landed",
    "Ledger",
    "LedgerUnavailable",
    "Observer",
    "Outgoing",
    "Phase",
    "Reply",
    "Route",
    "SendFailed",
    "Upstream",
    "Write",
]
