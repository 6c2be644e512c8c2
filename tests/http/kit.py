"""A whole proxy in the test's loop, on SQLite and free ports, and callers that speak to it in raw bytes."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import io
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from proxy.config.patterns import compile_pattern
from proxy.core.expressions import compile_expression
from proxy.core.keys import KeyAlternative, KeyRule
from proxy.core.policy import (
    Caller,
    LedgerRules,
    Native,
    Operation,
    Place,
    Policy,
    Provider,
    ServerRules,
    Timeouts,
)
from proxy.core.ports import Checkpoints, Route
from proxy.ledger import upgrade
from proxy.server.app import Proxy, World, open_proxy
from proxy.server.checkpoints import NoCheckpoints
from proxy.server.runtime import RandomIds, SystemClock
from proxy.telemetry.log import Level, Log
from proxy.telemetry.metrics import Metrics

DAY_US = 86_400_000_000
TIMEOUTS = Timeouts(connect_seconds=2.0, total_seconds=5.0)


def given_key(*, required: bool = True) -> KeyRule:
    """The caller's Idempotency-Key."""
    text = 'headers."idempotency-key"'
    source = KeyAlternative(parts=(compile_expression(text),), given=True, header="idempotency-key", text=text)
    return KeyRule((source,), required=required, window_us=None)


def computed_key(*texts: str) -> KeyRule:
    """A key made of parts of the request."""
    source = KeyAlternative(tuple(map(compile_expression, texts)), given=False, header=None, text=" + ".join(texts))
    return KeyRule((source,), required=True, window_us=None)


def native(**fields: Any) -> Native:
    """A native key in a header, remembered for a day."""
    return Native(**{"place": Place("header", "Idempotency-Key"), "retention_us": DAY_US, **fields})


def operation(name: str = "charge", match: str = "POST /charges", **fields: Any) -> Operation:
    """An operation that wants the caller's key; with a native key it is settled by asking again, as by default."""
    fields.setdefault("settle_by", ("resend",) if fields.get("native") is not None else ())
    return Operation(
        id=name, name=name, patterns=(compile_pattern(match),),
        **{"key": given_key(), "wait_seconds": 2.0, "timeout": TIMEOUTS, **fields},
    )  # fmt: skip


UNMATCHED = operation("unmatched", key=given_key(required=False), path_in_identity=True, key_passes=True)


def provider(port: int, *, name: str = "pay", **fields: Any) -> Provider:
    """A provider on loopback with one operation, ``POST /charges``."""
    fields.setdefault("operations", (operation(),))
    return Provider(
        id=name, name=name, scheme="http", host="127.0.0.1", port=port,
        route=Route("http", "127.0.0.1", port, "127.0.0.1", port, allow_private=True),
        **{"base_path": "", "unmatched": replace(UNMATCHED, patterns=()), "timeout": TIMEOUTS, **fields},
    )  # fmt: skip


def policy(*providers: Provider, callers: tuple[Caller, ...] = (), **server: Any) -> Policy:
    """A policy on free ports; its ledger is :func:`proxying`'s to place."""
    rules = ServerRules(
        **{
            "listen": ("127.0.0.1", 0), "admin_listen": ("127.0.0.1", 0), "max_request_body": 1 << 20,
            "drain_seconds": 2.0, **server,
        }
    )  # fmt: skip
    ledger = LedgerRules(
        url="", retention_entry_us=90 * DAY_US, retention_answer_us=90 * DAY_US, max_stored_answer=1 << 20
    )
    return Policy(server=rules, ledger=ledger, providers={p.name: p for p in providers}, callers=callers)


@dataclass
class Running:
    """A proxy that serves."""

    proxy: Proxy
    world: World
    lines: io.StringIO = field(default_factory=io.StringIO)

    @property
    def port(self) -> int:
        """Of the data listener."""
        return self.proxy.listen[1]

    @property
    def admin_port(self) -> int:
        """Of the admin listener."""
        return self.proxy.admin_listen[1]

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it has said."""
        return [json.loads(line) for line in self.lines.getvalue().splitlines()]

    def said(self, event: str) -> list[dict[str, Any]]:
        """What it has said about *event*."""
        return [line for line in self.log if line["event"] == event]

    def sample(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 where it has never been touched."""
        return self.world.metrics.registry.get_sample_value(name, labels) or 0.0


@contextlib.asynccontextmanager
async def proxying(rules: Policy, directory: Path, *, checkpoints: Checkpoints | None = None) -> AsyncIterator[Running]:
    """Serve *rules* with a ledger in *directory*; everything is closed at the end."""
    lines = io.StringIO()
    clock = SystemClock()
    world = World(
        clock=clock, ids=RandomIds(), checkpoints=checkpoints or NoCheckpoints(),
        log=Log(level=Level.DEBUG, wall=clock.wall, stream=lines), metrics=Metrics(),
    )  # fmt: skip
    url = rules.ledger.url or await _ledger_in(directory)
    running = await open_proxy(replace(rules, ledger=replace(rules.ledger, url=url)), world)
    try:
        await running.start()
        yield Running(running, world, lines)
    finally:
        await running.close()


async def _ledger_in(directory: Path) -> str:
    """A ledger in *directory*: a copy of one that was made once, since making one takes longer than most tests."""
    path = directory / "dedup.db"
    if not path.exists():
        template = _template_directory() / "template.db"
        if not template.exists():
            await upgrade(f"sqlite:///{template}")
        shutil.copyfile(template, path)
    return f"sqlite:///{path}"


@functools.cache
def _template_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="dedup-proxy-template-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came over the wire. ``complete`` is false where the connection ended before it did."""

    status: int
    phrase: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    complete: bool
    raw_head: bytes

    def get(self, name: str) -> str | None:
        """The only value of a header; None without one."""
        values = self.get_all(name)
        assert len(values) <= 1, (name, values)
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        """All values of a header, in order."""
        return [v.decode("latin-1") for k, v in self.headers if k.lower() == name.lower().encode()]

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Talk:
    """A caller's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Write *data*."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> bytes:
        """Read up to the end of a head."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self, method: str = "POST") -> Answer:
        """Read one answer whole, interim ones skipped."""
        raw = await self.head()
        while raw.startswith(b"HTTP/1.1 1"):
            raw = await self.head()
        line, *fields = raw[:-4].split(b"\r\n")
        version, status, phrase = (*line.split(b" ", 2), b"")[:3]
        assert version == b"HTTP/1.1"
        headers = tuple((k, v.strip()) for k, _, v in (f.partition(b":") for f in fields))
        body, complete = await self._body(method, int(status), {k.lower(): v for k, v in headers})
        return Answer(int(status), phrase, headers, body, complete, raw)

    async def is_closed(self) -> bool:
        """Whether the proxy ends the connection, now or shortly."""
        try:
            async with asyncio.timeout(3):
                return await self.reader.read(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    async def _body(self, method: str, status: int, headers: dict[bytes, bytes]) -> tuple[bytes, bool]:
        if method == "HEAD" or status in (204, 304):
            return b"", True
        try:
            if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
                return await self._chunks()
            if b"content-length" in headers:
                return await self.reader.readexactly(int(headers[b"content-length"])), True
            return await self.reader.read(), True
        except asyncio.IncompleteReadError as error:
            return error.partial, False
        except ConnectionError:
            return b"", False

    async def _chunks(self) -> tuple[bytes, bool]:
        pieces = []
        try:
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                pieces.append(await self.reader.readexactly(size))
                assert await self.reader.readexactly(2) == b"\r\n"
            assert await self.reader.readexactly(2) == b"\r\n"
        except (asyncio.IncompleteReadError, ConnectionError):
            return b"".join(pieces), False
        return b"".join(pieces), True


@contextlib.asynccontextmanager
async def talking(port: int) -> AsyncIterator[Talk]:
    """A connection to a listener."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        yield Talk(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ask(port: int, data: bytes, *, method: str | None = None) -> Answer:
    """Send *data* on a connection of its own, and read the answer."""
    async with talking(port) as talk, asyncio.timeout(10):
        await talk.send(data)
        return await talk.answer(method or data.split(b" ", 1)[0].decode())


def request(
    target: str = "/pay/charges", *, method: str = "POST", body: bytes | None = b'{"amount":10}',
    host: str = "127.0.0.1", key: str | None = "k1", **headers: str,
) -> bytes:  # fmt: skip
    """A request as bytes; further headers with ``_`` for ``-``."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"Idempotency-Key: {key}"] if key is not None else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"] if body is not None else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")
