"""Ledgers to test: builders for claims and evidence, a clock to turn, and the three kinds opened in one way."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from proxy.core.model import Attempt, Entry, Kept, KeyHash, Status, StoredAnswer, Token
from proxy.core.ports import Claim, Write
from proxy.core.reasons import Reason
from proxy.core.states import Event, Evidence, IllegalTransition, begin
from proxy.ledger import Contradiction, Hooks, MemoryLedger, open_ledger, upgrade

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
LEASE = 30 * SECOND
QUIET = 90 * SECOND
START = 1_800_000_000.0

ENGINES = ("memory", "sqlite", "postgresql")
DATABASES = ("sqlite", "postgresql")


class TurnedClock:
    """A clock that moves only when it is told to. Its wall clock may be stepped on its own."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.step = 0.0

    def boot(self) -> float:
        return self.at

    def wall(self) -> float:
        return START + self.at - 1000.0 + self.step

    def advance(self, microseconds: int) -> None:
        self.at += microseconds / SECOND

    def step_wall(self, microseconds: int) -> None:
        self.step += microseconds / SECOND

    def offset(self) -> int:
        """What a database's own clock, which can't be turned, is shifted by."""
        return round((self.at - 1000.0 + self.step) * SECOND)


@dataclass
class Told:
    """What a ledger told beside its answers."""

    contradictions: list[Contradiction] = field(default_factory=list)
    illegal: list[IllegalTransition] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def hooks(self) -> Hooks:
        return Hooks(
            on_contradiction=self.contradictions.append,
            on_illegal=self.illegal.append,
            on_commit=lambda _, size: self.batches.append(size),
        )


@dataclass
class Bench:
    """A ledger, the clock it goes by, and what it told."""

    engine: str
    url: str
    ledger: Any
    clock: TurnedClock
    told: Told

    async def history(self, entry: Entry) -> list[str]:
        """The events in the history of *entry*."""
        if isinstance(self.ledger, MemoryLedger):
            return [trace.event for trace in self.ledger.history(entry)]
        rows = await self.rows(
            "SELECT event FROM history WHERE key_hash = :key_hash AND generation = :generation ORDER BY seq",
            key_hash=entry.key_hash, generation=entry.generation,
        )  # fmt: skip
        return [row[0] for row in rows]

    async def rows(self, text: str, **values: Any) -> list[Any]:
        """What a statement past the ledger finds."""
        return await self.ledger.store.read(lambda connection: connection.execute(sa.text(text), values).all())

    async def execute(self, text: str, **values: Any) -> None:
        """Change the database past the ledger."""
        await self.ledger.store.write(lambda connection: connection.execute(sa.text(text), values) and None)


@asynccontextmanager
async def opened(engine: str, url: str, clock: TurnedClock | None = None) -> AsyncIterator[Bench]:
    """A ledger of *engine* at *url*, whose schema is there."""
    clock, told = clock or TurnedClock(), Told()
    if engine == "memory":
        yield Bench(engine, url, MemoryLedger(clock, hooks=told.hooks()), clock, told)
        return
    ledger = await open_ledger(url, clock, hooks=told.hooks(), clock_offset=clock.offset)
    try:
        yield Bench(engine, url, ledger, clock, told)
    finally:
        await ledger.close()


async def fresh_url(engine: str, directory: Path, create_database: Callable[[], str]) -> str:
    """The URL of an empty ledger."""
    if engine == "postgresql":
        url = create_database()
        await upgrade(url)
        return url
    return f"sqlite:///{directory}/ledger.db" if engine == "sqlite" else ""


# -- values -----------------------------------------------------------------------------------------------------------

_numbers = itertools.count(1)


def new_token() -> Token:
    return Token(f"{next(_numbers):032x}")


def new_key() -> KeyHash:
    return KeyHash(secrets.token_hex(16))


def draft(key_hash: KeyHash | None = None, **fields: Any) -> Entry:
    """A new entry as the core drafts it; its times are nonsense, since the ledger sets them."""
    attempt = Attempt(1, new_token(), 1, 2)
    plain = Entry(
        key_hash=key_hash or new_key(), generation=1, provider="mailer", caller="checkout", scope=("acct_1", ""),
        operation="send", key="g:k1", fingerprint="1:aa", credential="cred", outgoing_key="out-1", born_at=7, revision=2,
        status=Status.IN_FLIGHT, reason=Reason.NEW, attempt=attempt, open=(attempt,), lease_until=3, created_at=4,
        updated_at=5, last_request_at=6, first_sent_at=8,
    )  # fmt: skip
    return replace(plain, **fields)


def claim(key_hash: KeyHash | None = None, **fields: Any) -> Claim:
    """A first claim."""
    return Claim(draft(key_hash, **fields), LEASE, QUIET)


def reclaim(entry: Entry, **fields: Any) -> Claim:
    """The next attempt of *entry*, as the core drafts it."""
    attempt = Attempt(entry.attempt.number + 1, new_token(), 1, 2)
    begun = begin(replace(entry, **fields), Event.RECLAIMED, attempt, reason=Reason.RETRIED)
    assert begun is not None
    return Claim(begun, LEASE, QUIET, Event.RECLAIMED, after=entry.attempt.token, window_us=HOUR)


def next_generation(entry: Entry, window_us: int = HOUR) -> Claim:
    """The generation after *entry*."""
    begun = draft(entry.key_hash, generation=entry.generation + 1, reason=Reason.WINDOW_OVER, outgoing_key="out-2")
    return Claim(begun, LEASE, QUIET, after=entry.attempt.token, window_us=window_us)


REASONS = {
    Event.ANSWERED: Reason.ANSWERED, Event.DECLINED: Reason.DECLINED, Event.TURNED_AWAY: Reason.TURNED_AWAY,
    Event.NOT_SENT: Reason.NOT_SENT, Event.ANSWER_LOST: Reason.ANSWER_LOST, Event.LEASE_EXPIRED: Reason.LEASE_EXPIRED,
}  # fmt: skip


def write(
    entry: Entry, event: Event, *, token: Token | None = None, answer: StoredAnswer | None = None, **fields: Any
) -> Write:
    """Evidence about the latest attempt of *entry*, or about that of *token*."""
    reason = fields.pop("reason", REASONS.get(event, Reason.RULE))
    evidence = Evidence(event=event, token=token or entry.attempt.token, reason=reason, **fields)
    return Write(entry.key_hash, entry.generation, evidence, answer)


def answer(attempt: int = 1, status: int = 200, body: bytes = b'{"id": 1}') -> StoredAnswer:
    headers = ((b"Content-Type", b"application/json"), (b"X-Odd", b"\xe9\xff"), (b"x-odd", b"again"))
    return StoredAnswer(status, headers, body, Kept.FULL, attempt)
