"""One seed, one world: every chance is drawn from it, and time passes only when nothing else can happen."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from proxy.core.arrival import Prepared, Secrets, prepare
from proxy.core.documents import request_document
from proxy.core.model import Entry, Headers, KeyHash, Request, Token
from proxy.core.policy import LedgerRules, Native, Operation, Provider, Timeouts
from proxy.core.ports import Claim, Landed, LedgerUnavailable, Outgoing, Phase, Route, SendFailed, Write
from proxy.exchange.exchange import Call, Exchange
from proxy.exchange.told import Passed, Told
from proxy.exchange.waiting import Watch
from proxy.ledger import MemoryLedger
from tests.core.builders import matcher, native, operation
from tests.exchange.stage import PROVIDER, Nothing

TOTAL, QUIET = 2.0, 3.0  # seconds: an attempt's deadline, and how long a request may live on after it
Kind = Literal["blind", "stored", "rerun", "resumed"]


class _Jump(selectors.SelectSelector):
    """Waits for nothing: tells the loop how far time must jump instead."""

    def __init__(self) -> None:
        super().__init__()
        self.jumped = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.jumped += max(timeout or 0.0, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is what has been waited for."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return 1000.0 + self._jump.jumped


@dataclass(slots=True)
class Stored:
    """What the provider keeps under a key: still at work (None), or an answer."""

    answer: tuple[int, bytes] | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Effect:
    """The thing was done, for a request that arrived at ``arrived``."""

    intent: str
    arrived: float
    at: float


@dataclass(slots=True)
class SimulatedProvider:
    """Its own record of effects is what everybody is judged by."""

    kind: Kind
    locks: bool
    rng: random.Random
    trouble: float = 0.35
    effects: list[Effect] = field(default_factory=list)
    arrivals: list[tuple[str, float]] = field(default_factory=list)
    kept: dict[str, Stored] = field(default_factory=dict)
    count: int = 0
    at_work: set[asyncio.Task[Any]] = field(default_factory=set)

    async def receive(self, outgoing: Outgoing) -> Simulated:
        """One request: what comes back, or SendFailed. The network may lose it, or its answer."""
        rng, now = self.rng, asyncio.get_running_loop().time
        intent = dict(outgoing.headers)[b"X-Intent"].decode()
        is_troubled = rng.random() < self.trouble
        fate = rng.choice(("refused", "lost", "no answer", "late", "front", "slow")) if is_troubled else "fine"
        if fate == "refused":
            raise SendFailed(Phase.CONNECT, "refused", "simulated")
        arrived = now()
        self.arrivals.append((intent, arrived))
        if fate == "lost":
            await asyncio.sleep(rng.random() * TOTAL)
            raise SendFailed(Phase.WAIT, "reset", "simulated")
        if fate == "front":
            return Simulated(rng.choice((401, 403, 429)), b"{}")
        if fate == "late":  # it arrives after its sender gave up on it
            self._begin(outgoing, intent, arrived, rng.random() * (TOTAL + QUIET) * 0.9)
            await asyncio.sleep(rng.random() * TOTAL)
            raise SendFailed(Phase.WAIT, "timeout", "simulated")
        work = self._begin(outgoing, intent, arrived, rng.random() * (TOTAL if fate == "slow" else 0.2))
        status, body = await asyncio.shield(work)
        if fate == "no answer":
            raise SendFailed(Phase.WAIT, "reset", "simulated")
        return Simulated(status, body)

    def _begin(
        self, outgoing: Outgoing, intent: str, arrived: float, seconds: float
    ) -> asyncio.Task[tuple[int, bytes]]:
        """Work on a request, whether or not its sender still waits for the answer."""
        work = asyncio.create_task(self._work(outgoing, intent, arrived, seconds))
        self.at_work.add(work)
        work.add_done_callback(self.at_work.discard)
        return work

    async def _work(self, outgoing: Outgoing, intent: str, arrived: float, seconds: float) -> tuple[int, bytes]:
        key = dict(outgoing.headers).get(b"Idempotency-Key", b"").decode()
        assert isinstance(outgoing.body, bytes)
        if self.kind == "blind":
            await asyncio.sleep(seconds)
            return self._execute(intent, arrived)
        known = self.kept.get(key)
        if known is not None:
            if known.answer is None and self.locks:
                return 409, b'{"code": "in_progress"}'
            if known.body != outgoing.body:
                return 422, b'{"code": "mismatch"}'
            if known.answer is not None:
                return known.answer
        self.kept[key] = Stored(None, outgoing.body)
        await asyncio.sleep(seconds)
        before = len(self.effects)
        answer = self._execute(intent, arrived)
        self._keep(key, answer, has_effect=len(self.effects) > before)
        return answer

    def _keep(self, key: str, answer: tuple[int, bytes], *, has_effect: bool) -> None:
        """What a repeated key will get. A provider that ran a call anew which it had done would have no use for keys."""
        if answer[0] < 500 or self.kind == "stored":
            self.kept[key].answer = answer
        elif has_effect:
            self.kept[key].answer = (200, b'{"id": %d}' % self.count)
        else:  # both run it again: "resumed" from where it stopped, which was before it did anything
            del self.kept[key]

    def _execute(self, intent: str, arrived: float) -> tuple[int, bytes]:
        now = asyncio.get_running_loop().time()
        chance = self.rng.random()
        if chance < self.trouble * 0.15:
            return 402, b'{"code": "declined"}'
        if chance < self.trouble * 0.3:
            return 500, b"{}"
        self.effects.append(Effect(intent, arrived, now))
        self.count += 1
        if chance < self.trouble * 0.45:
            return 500, b"{}"
        return 200, b'{"id": %d}' % self.count


@dataclass(slots=True)
class Simulated:
    """An answer, as the Reply port shows it."""

    status: int
    content: bytes
    reason: bytes = b""
    headers: Headers = ((b"Content-Type", b"application/json"),)

    async def body(self) -> AsyncIterator[bytes]:
        yield self.content

    async def close(self) -> None:
        return None


class Process:
    """One proxy process: clock, upstream and ledger as it sees them. Once it is dead, nothing it asked for ever returns."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.is_dead = False
        ledger, observer = _LedgerSeen(self), Nothing()
        self.exchange = Exchange(
            ledger=ledger, upstream=_UpstreamSeen(self), clock=world, ids=world, checkpoints=observer, observer=observer,
            rules=LedgerRules(url="", retention_entry_us=None, retention_answer_us=None, max_stored_answer=10_000),
            secrets=world.secrets, watch=Watch(ledger, world.rng.random), chance=world.rng.random,
        )  # fmt: skip

    async def alive(self) -> None:
        """A step that a dead process never gets past."""
        if self.is_dead:
            await self.world.never.wait()

    async def step(self) -> None:
        """A moment passes; the process may die in it."""
        await asyncio.sleep(self.world.rng.random() * 0.02)
        if self.world.crashes and self.world.rng.random() < self.world.crashes:
            self.is_dead = True
        await self.alive()


class _UpstreamSeen:
    def __init__(self, process: Process) -> None:
        self._process = process

    async def send(
        self, outgoing: Outgoing, route: Route, *, deadline: float, connect_seconds_max: float, fresh: bool,
        body_idle_seconds_max: float | None = None,
    ) -> Simulated:  # fmt: skip
        del route, connect_seconds_max, fresh, body_idle_seconds_max
        await self._process.step()
        now = asyncio.get_running_loop().time
        if now() >= deadline:
            raise SendFailed(Phase.DEADLINE, "timeout", "simulated")
        try:
            async with asyncio.timeout(deadline - now()):
                answer = await self._process.world.provider.receive(outgoing)
        except TimeoutError:
            raise SendFailed(Phase.WAIT, "timeout", "simulated") from None
        finally:
            await self._process.alive()
        await self._process.step()
        return answer

    async def close(self) -> None:
        return None


class _LedgerSeen:
    """The shared ledger, over a link that fails: before the write, or after it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def now(self) -> int:
        return self._process.world.ledger.now()

    async def read(self, key_hash: KeyHash) -> Entry | None:
        await self._try()
        return await self._process.world.ledger.read(key_hash)

    async def poll(self, key_hashes: Collection[KeyHash]) -> Mapping[KeyHash, Entry]:
        await self._try()
        return await self._process.world.ledger.poll(key_hashes)

    async def claim(self, claim: Claim) -> Landed:
        await self._try()
        landed = await self._process.world.ledger.claim(claim)
        await self._try()
        return landed

    async def record(self, write: Write) -> Landed:
        await self._try()
        landed = await self._process.world.ledger.record(write)
        await self._try()
        return landed

    async def touch(self, key_hash: KeyHash, generation: int) -> None:
        await self._try()
        await self._process.world.ledger.touch(key_hash, generation)

    async def expire_leases(self, limit: int) -> int:
        await self._try()
        return await self._process.world.ledger.expire_leases(limit)

    async def _try(self) -> None:
        world = self._process.world
        await self._process.step()
        if world.rng.random() < world.ledger_trouble:
            if world.rng.random() < 0.3:
                await asyncio.sleep(world.rng.random() * 10)  # slower than a claim may be
                await self._process.alive()
            raise LedgerUnavailable("simulated")


@dataclass(frozen=True, slots=True)
class Seen:
    """What one request of an intent was told, and when."""

    intent: str
    at: float
    status: int | None
    executed: str | None
    is_replay: bool
    body: bytes


class World:
    """Clock, chance, ledger, provider, processes, and what callers were told."""

    def __init__(self, seed: int, *, kind: Kind, locks: bool) -> None:
        self.rng = random.Random(seed)
        self.crashes, self.ledger_trouble = self.rng.choice(((0.0, 0.0), (0.02, 0.0), (0.0, 0.05), (0.01, 0.03)))
        self.provider = SimulatedProvider(kind, locks, self.rng)
        self.ledger = MemoryLedger(self)
        self.secrets = Secrets(self.ledger.meta.key_secret, self.ledger.meta.fingerprint_secret)
        self.rule = self._rule(kind, locks=locks)
        self.seen: list[Seen] = []
        self.processes = [Process(self, 0), Process(self, 1)]
        self.never = asyncio.Event()
        self._tokens = 0

    @staticmethod
    def _rule(kind: Kind, *, locks: bool) -> Operation:
        key: Native | None = None
        if kind != "blind":
            key = native(
                locks=locks,
                failures=kind,
                in_progress=(matcher(409),),
                mismatch=(matcher(422),),
                behind_key=(matcher(402),),
            )
        return operation(
            native=key, settle_by=("resend",) if key else (), timeout=Timeouts(1.0, TOTAL), quiet_seconds=QUIET
        )  # fmt: skip

    def boot(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return 1_800_000_000.0 + self.boot()

    def token(self) -> Token:
        self._tokens += 1
        return Token(f"{self._tokens:032x}")

    def process(self) -> Process:
        """Some process that lives; a dead one is started anew."""
        place = self.rng.randrange(len(self.processes))
        if self.processes[place].is_dead:
            self.processes[place] = Process(self, place)
        return self.processes[place]

    def prepared(self, intent: str) -> Prepared:
        lines: Headers = (
            (b"Content-Type", b"application/json"), (b"Idempotency-Key", intent.encode()), (b"X-Intent", intent.encode()),
        )  # fmt: skip
        request = Request("POST", "", "/charges", lines, b'{"of": "%s"}' % intent.encode(), "shop")
        found = prepare(_owner(), self.rule, request_document(request, fingerprint=None), self.secrets)
        assert isinstance(found, Prepared)
        return found

    async def ask(self, intent: str, *, wait: float) -> Seen | None:
        """One request; None where its process died under it."""
        try:
            async with asyncio.timeout(60):
                told: Told = await self.process().exchange.run(Call(self.prepared(intent), wait))
        except TimeoutError:
            return None
        seen = Seen(
            intent, self.boot(), told.status if isinstance(told, Passed) else None, told.facts.executed,
            told.facts.replayed, told.body if isinstance(told, Passed) and isinstance(told.body, bytes) else b"",
        )  # fmt: skip
        self.seen.append(seen)
        return seen

    async def sweep(self) -> None:
        """As a serving process does."""
        await self.ledger.expire_leases(100)


def _owner() -> Provider:
    return PROVIDER
