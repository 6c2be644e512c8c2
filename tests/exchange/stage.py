"""The real exchange on a memory ledger whose writes can be held or fail, before a provider that plays a script."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from proxy.core.arrival import Prepared, Secrets, prepare
from proxy.core.documents import request_document
from proxy.core.model import Headers, KeyHash, Request, Token
from proxy.core.policy import LedgerRules, Operation, Provider, Timeouts
from proxy.core.ports import Claim, Landed, LedgerUnavailable, Outgoing, Phase, Route, SendFailed, Write
from proxy.exchange.exchange import Call, Exchange
from proxy.exchange.told import Told
from proxy.exchange.waiting import Watch
from proxy.ledger import MemoryLedger
from tests.core.builders import operation

JSON: Headers = ((b"Content-Type", b"application/json"),)


class Clock:
    """Real enough: it moves with the loop, and can be turned on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def boot(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead

    def wall(self) -> float:
        return 1_800_000_000.0 + self.boot()


class Ids:
    """Tokens that can be read."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def token(self) -> Token:
        return Token(f"{next(self._numbers):032x}")


class Nothing:
    """Checkpoints that let everything pass, and an observer that counts calls by name."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[Any, ...]]] = []

    async def reach(self, name: str) -> None:
        self.seen.append((name, ()))

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values: self.seen.append((name, values))


@dataclass
class Answered:
    """A scripted answer, as the Reply port shows it. ``breaks``: it ends in a broken connection; ``hold``: not before this."""

    status: int = 200
    headers: Headers = JSON
    pieces: tuple[bytes, ...] = (b'{"id": 1}',)
    breaks: bool = False
    reason: bytes = b"OK"
    closed: int = 0
    hold: asyncio.Event | None = None

    async def body(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.hold is not None:
            await self.hold.wait()
        if self.breaks:
            raise SendFailed(Phase.BODY, "reset", "connection reset")

    async def close(self) -> None:
        self.closed += 1


@dataclass
class Provided:
    """The provider: plays one step of its script per send; ``gate`` holds every answer back while it is clear."""

    script: list[Answered | SendFailed | asyncio.Event] = field(default_factory=list)
    sent: list[Outgoing] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(
        self, outgoing: Outgoing, route: Route, *, deadline: float, connect_seconds_max: float, fresh: bool,
        body_idle_seconds_max: float | None = None,
    ) -> Answered:  # fmt: skip
        del route, deadline, connect_seconds_max, fresh, body_idle_seconds_max
        self.sent.append(outgoing)
        await self.gate.wait()
        step = self.script.pop(0) if self.script else Answered()
        if isinstance(step, asyncio.Event):
            await step.wait()
            step = Answered()
        if isinstance(step, SendFailed):
            raise step
        return step

    async def close(self) -> None:
        return None


class Held(MemoryLedger):
    """A memory ledger whose claims and records can be held back, or fail, one kind at a time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.claims = asyncio.Event()
        self.records = asyncio.Event()
        self.claims.set()
        self.records.set()
        self.failing: set[str] = set()
        self.touched: list[KeyHash] = []

    async def claim(self, claim: Claim) -> Landed:
        self._fail("claim")
        landed = await super().claim(claim)
        await self.claims.wait()  # durable, and not acknowledged yet
        return landed

    async def record(self, write: Write) -> Landed:
        self._fail("record")
        await self.records.wait()
        return await super().record(write)

    async def touch(self, key_hash: KeyHash, generation: int) -> None:
        self.touched.append(key_hash)
        await super().touch(key_hash, generation)

    def _fail(self, what: str) -> None:
        if what in self.failing:
            raise LedgerUnavailable(f"no {what} today")


@dataclass
class Stage:
    """Everything a test holds in its hands."""

    exchange: Exchange
    ledger: Held
    provider: Provided
    clock: Clock
    observer: Nothing
    rule: Operation
    owner: Provider

    async def ask(
        self, key: str = "k1", *, body: bytes = b"{}", wait: float = 5.0, caller: str = "shop", **headers: str
    ) -> Told:
        """One request under *key*."""
        return await self.exchange.run(Call(self.prepared(key, body=body, caller=caller, headers=headers), wait))

    def prepared(
        self, key: str, *, body: bytes = b"{}", caller: str = "shop", headers: dict[str, str] | None = None
    ) -> Prepared:
        """The request as the data listener hands it on."""
        lines: Headers = (
            *JSON,
            (b"Idempotency-Key", key.encode()),
            *((name.encode(), value.encode()) for name, value in (headers or {}).items()),
        )
        request = Request("POST", "", "/charges", lines, body, caller)
        found = prepare(self.owner, self.rule, request_document(request, fingerprint=None), self.exchange.secrets)
        assert isinstance(found, Prepared)
        return found


ROUTE = Route("http", "pay.example", 80, "pay.example", 80)
PROVIDER = Provider(
    id="pay", name="pay", scheme="http", host="pay.example", port=80, base_path="", route=ROUTE, unmatched="refuse"
)
DAY_US = 86_400_000_000


def stage(*, concurrency: int = 100, max_stored_answer: int = 1024, ledger: Any = None, **rule: Any) -> Stage:
    """A stage whose one operation is :func:`tests.core.builders.operation` with *rule*; *ledger* stands for the memory one."""
    clock, provider, observer = Clock(), Provided(), Nothing()
    provider.gate.set()
    ledger = ledger or Held(clock)
    exchange = Exchange(
        ledger=ledger, upstream=provider, clock=clock, ids=Ids(), checkpoints=observer, observer=observer,
        rules=LedgerRules(
            url="", retention_entry_us=90 * DAY_US, retention_answer_us=90 * DAY_US, max_stored_answer=max_stored_answer
        ),
        secrets=Secrets(ledger.meta.key_secret, ledger.meta.fingerprint_secret),
        watch=Watch(ledger, lambda: 0.5), chance=lambda: 0.5,
    )  # fmt: skip
    chosen = operation(**{"timeout": Timeouts(1.0, 2.0), **rule})
    return Stage(exchange, ledger, provider, clock, observer, chosen, replace(PROVIDER, concurrency=concurrency))
