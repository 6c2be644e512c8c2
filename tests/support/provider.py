"""A provider that keeps its own record of what it did.

Tests judge the proxy by this record, never by the proxy's own: each effect is appended to a log and fsynced *before* the
provider answers. The log is JSON lines of these types:

``effect``   the thing was done: ``seq at received_at method path query key intent attempt body_sha256 request``
``request``  a whole request was read: ``at received_at method path query key intent headers body_sha256 request``
``answer``   an answer was written: ``at request method status intent key replayed ending``
``partial``  a connection broke inside a request: ``at received_at bytes``

Times are seconds since the Unix epoch. ``intent`` is what the test calls one thing that should happen once: header
``x-intent``, query or body member ``intent``. How to behave is said by header ``x-behave``, query or body member
``behave``, by :meth:`Provider.plan`, or by the default; in the language of :mod:`tests.support.behaviour`.

The same class serves in the test's own loop (:func:`serving`) and as a process (``python -m tests.support.provider_process``,
:func:`tests.support.provider_process.provider_process`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from tests.support import behaviour as language
from tests.support.answers import Answer, render
from tests.support.behaviour import Behaviour, Ending
from tests.support.effect_log import EffectLog
from tests.support.wire import BrokenRequest, Head, read_body, read_head

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Kind(StrEnum):
    """How the provider deduplicates."""

    NATIVE = "native"  # keeps keys: the same key and body are answered from store
    BLIND = "blind"  # every request is an effect


class Failures(StrEnum):
    """What a native provider does with a key whose first request ended in a 5xx."""

    STORED = "stored"
    RERUN = "rerun"
    RESUMED = "resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What kind of provider this is. ``key`` says where it reads its key: ``header:NAME``, ``body:NAME``, ``query:NAME``."""

    kind: Kind = Kind.NATIVE
    key: str = "header:idempotency-key"
    retention_seconds: float = 86_400.0
    locks: bool = True  # a repeated key while the first runs is refused
    failures: Failures = Failures.STORED
    default: str = "ok"
    idle_seconds: float = 60.0  # an idle connection is closed after this long
    fsync: bool = True


@dataclass(slots=True)
class _Kept:
    """What a native provider remembers of a key."""

    digest: str
    first_at: float
    answer: Answer | None = None  # None while the first request runs
    effect_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """A request with what the provider reads out of it."""

    number: int
    received_at: float
    head: Head
    body: bytes
    intent: str
    key: str | None
    behave: str | None

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    def record(self) -> dict[str, Any]:
        return {
            "received_at": self.received_at,
            "method": self.head.method,
            "path": self.head.path,
            "query": self.head.query,
            "key": self.key,
            "intent": self.intent,
            "body_sha256": self.digest,
            "request": self.number,
        }


@dataclass(slots=True)
class Counts:
    """What came in, counted on the raw socket; the control endpoint's own traffic is left out."""

    connections: int = 0
    requests: int = 0
    effects: int = 0
    partial: int = 0


@dataclass(slots=True)
class Provider:
    """The provider itself; :meth:`start` binds it."""

    settings: Settings = field(default_factory=Settings)
    log_path: Path | None = None
    tls: ssl.SSLContext | None = None
    counts: Counts = field(default_factory=Counts)
    port: int = 0
    log: EffectLog = field(init=False)
    _keys: dict[str, _Kept] = field(default_factory=dict)
    _plans: dict[str, tuple[Behaviour, ...]] = field(default_factory=dict)
    _seen: Counter[str] = field(default_factory=Counter)
    _default: tuple[Behaviour, ...] = field(init=False)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.log = EffectLog(self.log_path, fsync=self.settings.fsync)
        self._default = language.parse(self.settings.default)

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def effects(self) -> list[dict[str, Any]]:
        """The effects so far."""
        return [record for record in self.log.records if record["type"] == "effect"]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The whole requests so far."""
        return [record for record in self.log.records if record["type"] == "request"]

    def plan(self, behave: str, intent: str | None = None) -> None:
        """Behave so for *intent*, or for everything that says nothing itself; its count of requests begins again."""
        if intent is None:
            self._default = language.parse(behave)
            self._seen.clear()
        else:
            self._plans[intent] = language.parse(behave)
            self._seen[intent] = 0

    async def start(self, port: int = 0) -> None:
        """Listen on loopback."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, ssl=self.tls, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, cut every connection, close the log. Effects still to come later don't come."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.log.close()

    # One connection.

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spawn(self._serve(reader, writer))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts.connections += 1
        has_served = False
        try:
            while True:
                first = await self._first_byte(reader)
                if not first:
                    return
                received_at = time.time()
                try:
                    head = await read_head(reader, first)
                    if head.path.startswith("/_provider/"):
                        if not has_served:
                            self.counts.connections -= 1
                        has_served = True
                        await self._control(head, await read_body(reader, head), writer)
                        continue
                    has_served = True
                    if not await self._one(head, received_at, reader, writer):
                        return
                except BrokenRequest as error:
                    self.counts.partial += 1
                    self.log.append("partial", received_at=received_at, bytes=error.received)
                    return
        except (ConnectionError, ssl.SSLError):
            return  # the client went away while we answered
        finally:
            writer.close()

    async def _first_byte(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self.settings.idle_seconds):
                return await reader.read(1)
        except TimeoutError:
            return b""

    async def _one(
        self, head: Head, received_at: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Serve one request; tell whether the connection can be used again."""
        self.counts.requests += 1
        number = self.counts.requests
        unread = "unread" in (head.get("x-behave") or "") or "behave=unread" in head.query
        if not unread and (head.get("expect") or "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b"" if unread else await read_body(reader, head)
        call = self._read_call(number, received_at, head, body)
        self.log.append("request", headers=list(head.headers), **call.record())
        step = self._step_for(call)
        answer = await self._do(call, step)
        await asyncio.sleep(step.slow_after_ms / 1000)
        return await self._deliver(call, step, answer, writer)

    def _read_call(self, number: int, received_at: float, head: Head, body: bytes) -> _Call:
        members: dict[str, Any] = {}
        content_type = head.get("content-type") or ""
        with contextlib.suppress(ValueError):
            if "json" in content_type or body[:1] == b"{":
                document = json.loads(body)
                members.update(document if isinstance(document, dict) else {})
            elif "form-urlencoded" in content_type:
                members.update(parse_qsl(body.decode("latin-1")))
        query = dict(parse_qsl(head.query))
        place, _, name = self.settings.key.partition(":")
        source: dict[str, Any] = {"header": dict(head.headers), "body": members, "query": query}[place]
        key = source.get(name)

        def said(word: str) -> str | None:
            value = head.get(f"x-{word}") or query.get(word) or members.get(word)
            return None if value is None else str(value)

        intent = said("intent") or ""
        return _Call(number, received_at, head, body, intent, None if key is None else str(key), said("behave"))

    def _step_for(self, call: _Call) -> Behaviour:
        steps = language.parse(call.behave) if call.behave else self._plans.get(call.intent, self._default)
        turn = self._seen[call.intent]
        self._seen[call.intent] += 1
        return steps[min(turn, len(steps) - 1)]

    # What it does, and what it remembers.

    async def _do(self, call: _Call, step: Behaviour) -> Answer:
        if call.head.method in SAFE_METHODS or step.is_in_front:
            await asyncio.sleep(step.slow_ms / 1000)
            return render(call.head.method, call.intent, step, effect_id=None, is_behind_key=False)
        if self.settings.kind is Kind.BLIND or call.key is None:
            return render(
                call.head.method, call.intent, step, effect_id=await self._effect(call, step), is_behind_key=False
            )
        return await self._do_under_key(call, step, call.key)

    async def _do_under_key(self, call: _Call, step: Behaviour, key: str) -> Answer:
        digest = f"{call.head.method} {call.head.target} {call.digest}"
        kept = self._keys.get(key)
        if kept is not None and time.time() - kept.first_at > self.settings.retention_seconds:
            kept = None
        if kept is None:
            kept = self._keys[key] = _Kept(digest, call.received_at)
        elif kept.digest != digest:
            return Answer.error(422, "key_reused", "this key was used with another request")
        elif kept.answer is None and self.settings.locks:
            return Answer.error(409, "key_in_progress", "a request with this key is still running")
        elif kept.answer is not None:
            failed = kept.answer.status >= 500
            if not failed or self.settings.failures is Failures.STORED:
                return kept.answer.as_replay()
            if self.settings.failures is Failures.RESUMED and kept.effect_id is not None:
                kept.answer = render(call.head.method, call.intent, step, effect_id=kept.effect_id, is_behind_key=True)
                return kept.answer
        effect_id = await self._effect(call, step)
        kept.effect_id = effect_id or kept.effect_id
        kept.answer = render(call.head.method, call.intent, step, effect_id=effect_id, is_behind_key=True)
        return kept.answer

    async def _effect(self, call: _Call, step: Behaviour) -> str | None:
        await asyncio.sleep(step.slow_ms / 1000)
        if step.later_ms is not None:
            self._spawn(self._effect_later(call, step.later_ms / 1000))
            return None
        return self._do_it(call) if step.has_effect else None

    async def _effect_later(self, call: _Call, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._do_it(call)

    def _do_it(self, call: _Call) -> str:
        self.counts.effects += 1
        seq = self.log.effects_before + self.counts.effects
        attempt = {name: value for name, value in call.head.headers if name.startswith(("dedup-", "x-attempt"))}
        self.log.append("effect", durable=True, seq=seq, attempt=attempt, **call.record())
        return f"eff_{seq}"

    # How it answers.

    async def _deliver(self, call: _Call, step: Behaviour, answer: Answer, writer: asyncio.StreamWriter) -> bool:
        if step.ending is Ending.HANG:
            await asyncio.sleep(3600)
        if step.ending is Ending.RESET:
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        if step.ending is Ending.DROP:
            return False
        raw_head, raw_body = answer.encode(step, with_body=call.head.method != "HEAD")
        if step.ending is Ending.TRUNCATE_HEAD:
            writer.write(raw_head[: len(raw_head) // 2])
            await writer.drain()
            return False
        truncated = step.ending is Ending.TRUNCATE
        writer.write(raw_head + (raw_body[: len(raw_body) // 2] if truncated else raw_body))
        await writer.drain()
        self.log.append(
            "answer",
            request=call.number,
            method=call.head.method,
            status=answer.status,
            intent=call.intent,
            key=call.key,
            replayed=answer.is_replay,
            ending=step.ending.value,
        )
        return not (truncated or step.close or step.idle_close) and call.head.keeps_alive

    async def _control(self, head: Head, body: bytes, writer: asyncio.StreamWriter) -> None:
        name = head.path.removeprefix("/_provider/")
        result: Any = None
        if name == "plan":
            said = json.loads(body)
            self.plan(said["behave"], said.get("intent"))
        elif name == "counts":
            c = self.counts
            result = {"connections": c.connections, "requests": c.requests, "effects": c.effects, "partial": c.partial}
        payload = json.dumps(result).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(payload))
        writer.write(payload)
        await writer.drain()


@contextlib.asynccontextmanager
async def serving(
    settings: Settings | None = None, *, log_path: Path | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Provider]:
    """A provider in this loop."""
    provider = Provider(settings or Settings(), log_path, tls)
    await provider.start()
    try:
        yield provider
    finally:
        await provider.stop()
