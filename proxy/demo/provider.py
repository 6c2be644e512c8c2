"""What all providers of the sandbox share: they read a request, may misbehave, and log an effect before they tell of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from aiohttp import web

from proxy.demo.effects import Effect, EffectLog
from proxy.demo.misbehaviour import Behaviour, Draw


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider says. ``is_cut``: its body breaks off halfway."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class HangUp:
    """No answer: the connection is closed, or reset."""

    is_reset: bool


Reply = Answer | HangUp


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds a provider takes: usually, when late, and when it stalls."""

    serve: float = 0.005
    late: float = 0.9
    stall: float = 3.0  # beyond the proxy's timeout in the demo: it happens after the proxy has given up


@dataclass(frozen=True, slots=True)
class Stage:
    """What a provider is given to play with: where its logs go, its misfortunes, its pace."""

    directory: Path
    draw: Draw
    delays: Delays = Delays()


@dataclass(frozen=True, slots=True)
class Visit:
    """One request as a provider reads it. ``meaning`` is a digest of its path and body, ``arrived`` a monotonic time."""

    intent: str
    body: Mapping[str, Any]
    native_key: str | None
    meaning: str
    behaviour: Behaviour
    arrived: float


class Provider(ABC):
    """A stateful provider. It trusts nobody: what it did is what its effect log says."""

    name: ClassVar[str]
    path: ClassVar[str]

    def __init__(self, stage: Stage) -> None:
        self.requests = 0
        self.effects = EffectLog(stage.directory / f"{self.name}.effects.jsonl")
        self._arrivals = (stage.directory / f"{self.name}.requests.jsonl").open("a", encoding="utf-8")
        self._stage = stage
        self._times: Counter[str] = Counter()
        self._done = 0
        self._running: set[asyncio.Task[Reply]] = set()

    @abstractmethod
    def intent_of(self, body: Mapping[str, Any]) -> str:
        """Whose intent a request is, by what its body says."""

    @abstractmethod
    async def work(self, visit: Visit) -> Reply:
        """Do what is asked, or misbehave."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. The work is a task of its own: a caller that hangs up doesn't stop it."""
        visit = self._read(request, await request.read())
        task = asyncio.create_task(self.work(visit), name=f"{self.name} {visit.intent}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await _tell(request, await asyncio.shield(task))

    async def close(self) -> None:
        """Return once nothing more can happen here."""
        while self._running:
            await asyncio.wait(tuple(self._running))
        self.effects.close()
        self._arrivals.close()

    async def record(self, visit: Visit) -> str:
        """Make it happen, durably. Gives the effect's id."""
        self._done += 1
        effect = f"{self.name}_{self._done:06d}"
        await self.effects.append(
            Effect(
                provider=self.name,
                intent=visit.intent,
                effect=effect,
                native_key=visit.native_key,
                arrived=visit.arrived,
            )
        )
        return effect

    async def misbehave(
        self, visit: Visit, do: Callable[[], Awaitable[Answer]], *, decline: Callable[[], Answer]
    ) -> Reply:
        """Do it or not, and tell the truth or nothing, as the draw says."""
        delays, behaviour = self._stage.delays, visit.behaviour
        slow = {Behaviour.LATE: delays.late, Behaviour.STALL: delays.stall}
        await asyncio.sleep(slow.get(behaviour, delays.serve))
        match behaviour:
            case Behaviour.DECLINE:
                return decline()
            case Behaviour.FAIL:
                return _failure()
            case Behaviour.FAIL_AFTER:
                await do()
                return _failure()
            case Behaviour.DROP:
                return HangUp(is_reset=False)
            case Behaviour.DROP_AFTER:
                await do()
                return HangUp(is_reset=True)
            case Behaviour.CUT:
                answer = await do()
                return Answer(answer.status, answer.body, is_cut=True)
            case Behaviour.SERVE | Behaviour.LATE | Behaviour.STALL:
                return await do()
            case Behaviour.BUSY:
                return busy()

    def _read(self, request: web.BaseRequest, raw: bytes) -> Visit:
        body = json.loads(raw)
        intent, native_key = self.intent_of(body), request.headers.get("Idempotency-Key")
        self.requests += 1
        self._times[intent] += 1
        behaviour = self._stage.draw(intent, self._times[intent])
        line = {"provider": self.name, "intent": intent, "native_key": native_key, "drawn": behaviour}
        self._arrivals.write(json.dumps(line, separators=(",", ":")) + "\n")
        meaning = hashlib.sha256(request.raw_path.encode() + b"\n" + raw).hexdigest()
        return Visit(intent, body, native_key, meaning, behaviour, time.monotonic())


def busy() -> Answer:
    """Turned away at the door: nothing was looked at."""
    return Answer(429, {"error": {"code": "rate_limited"}}, {"Retry-After": "1"})


def _failure() -> Answer:
    return Answer(500, {"error": {"code": "internal"}})


async def _tell(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    if isinstance(reply, Answer) and not reply.is_cut:
        return web.json_response(dict(reply.body), status=reply.status, headers=dict(reply.headers))
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    if isinstance(reply, Answer):
        whole = json.dumps(dict(reply.body)).encode()
        response.set_status(reply.status)
        response.content_length = len(whole)
        await response.prepare(request)
        await response.write(whole[: len(whole) // 2])
    if request.transport is not None:
        if isinstance(reply, HangUp) and reply.is_reset:
            request.transport.abort()
        else:
            request.transport.close()
    return response
