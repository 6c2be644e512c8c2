"""The composition root: everything is put together here, started, and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from proxy.admin.app import Admin
from proxy.core.arrival import Secrets
from proxy.core.policy import Policy
from proxy.core.ports import Checkpoints, Clock, Ids, LedgerUnavailable
from proxy.exchange.exchange import Exchange
from proxy.exchange.passing import Passing
from proxy.exchange.waiting import Watch
from proxy.ledger import Hooks, Reader, SqlLedger, open_ledger
from proxy.server.checkpoints import checkpoints_from
from proxy.server.data import DataHandler
from proxy.server.front import Front
from proxy.server.reading import LedgerReading
from proxy.server.runtime import RandomIds, SystemClock, new_event_loop
from proxy.server.sweep import sweep_forever
from proxy.server.tls import HANDSHAKE_SECONDS, SHUTDOWN_SECONDS, TlsUnusable, listener_context
from proxy.server.wire import Listener
from proxy.telemetry.log import Bridge, Log, level_named
from proxy.telemetry.metrics import Metrics
from proxy.upstream.client import SingleSendClient

LOG_LEVEL: Final = "DEDUP_LOG_LEVEL"

BACKLOG: Final = 1024
"""Connections that may wait to be accepted; the kernel's net.core.somaxconn bounds it too."""

LAST_WORDS_SECONDS: Final = 1.0
"""After the drain: time for the answers of attempts that were cut short to be written."""

CLOSE_SECONDS_MAX: Final = 5.0
"""How long a database that doesn't answer may hold up the end."""

_EXIT_FINE: Final = 0
_EXIT_USAGE: Final = 2
_EXIT_LEDGER: Final = 3
_EXIT_AT_ONCE: Final = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a proxy needs beside its rules and its ledger; tests bring some of it themselves."""

    clock: Clock
    ids: Ids
    checkpoints: Checkpoints
    log: Log
    metrics: Metrics

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> World:
        """The real one. Raises ValueError for a variable that can't be read."""
        clock = SystemClock()
        return cls(
            clock=clock,
            ids=RandomIds(),
            checkpoints=checkpoints_from(environ),
            log=Log(level=level_named(environ.get(LOG_LEVEL, "info")), wall=clock.wall),
            metrics=Metrics(),
        )


class Proxy:
    """One serving process. ``listen`` and ``admin_listen`` are the addresses really bound, once it has started."""

    def __init__(self, policy: Policy, ledger: SqlLedger, world: World) -> None:
        self.listen = policy.server.listen
        self.admin_listen = policy.server.admin_listen
        self._policy = policy
        self._ledger = ledger
        self._world = world
        self._upstream = SingleSendClient(world.clock)
        self._watch = Watch(ledger, random.random)
        self._exchange = Exchange(
            ledger=ledger, upstream=self._upstream, clock=world.clock, ids=world.ids, checkpoints=world.checkpoints,
            observer=world.metrics, rules=policy.ledger, watch=self._watch,
            secrets=Secrets(key=ledger.meta.key_secret, fingerprint=ledger.meta.fingerprint_secret), chance=random.random,
        )  # fmt: skip
        passing = Passing(upstream=self._upstream, clock=world.clock, observer=world.metrics)
        self._front = Front(policy, exchange=self._exchange, passing=passing, observer=world.metrics)
        self._handler = DataHandler(
            self._front, clock=world.clock, metrics=world.metrics, log=world.log, new_id=world.ids.token
        )
        self._data: Listener | None = None
        self._server: asyncio.Server | None = None
        self._admin: web.AppRunner | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind both listeners and serve. Raises ``TlsUnusable``, or OSError where an address can't be bound."""
        tls = self._policy.server.tls
        context = None if tls is None else listener_context(tls, needs_certificate=self._front.needs_certificate)
        self._data = self._handler.listener()
        host, port = self._policy.server.listen
        self._server = await asyncio.get_running_loop().create_server(
            self._data, host, port, backlog=BACKLOG, ssl=context,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if context else None,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS if context else None,
        )  # fmt: skip
        self.listen = self._server.sockets[0].getsockname()[:2]
        reader = LedgerReading(Reader(self._ledger.store), self._world.clock)
        admin = Admin(
            self._policy, reader=reader, ledger=self._ledger, metrics=self._world.metrics, clock=self._world.clock,
            is_draining=lambda: self._front.is_draining,
        )  # fmt: skip
        self._admin = web.AppRunner(
            admin.application(), access_log=None, handle_signals=False, shutdown_timeout=LAST_WORDS_SECONDS
        )
        await self._admin.setup()
        await web.TCPSite(self._admin, *self._policy.server.admin_listen).start()
        self.admin_listen = self._admin.addresses[0][:2]
        self._sweeper = asyncio.create_task(sweep_forever(self._ledger, self._world.log), name="sweep leases")

    async def drain(self) -> int:
        """Take nothing new, let what runs end within ``server.drain``, cut short the rest; tell how much that was."""
        self._front.is_draining = True
        if self._server is not None:
            self._server.close()
        until = self._world.clock.boot() + self._policy.server.drain_seconds
        await self._until_idle(self._policy.server.drain_seconds)
        cut = await self._exchange.drain(max(until - self._world.clock.boot(), 0.0))
        await self._until_idle(LAST_WORDS_SECONDS)
        return cut

    async def close(self) -> None:
        """Close connections, then what they stood on. Safe whatever was started."""
        if self._server is not None:
            self._server.close()
        if self._data is not None:
            self._data.pre_shutdown()
            await self._data.shutdown(LAST_WORDS_SECONDS)
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._exchange.drain(0.0)
        await self._watch.close()
        await self._upstream.close()
        if self._admin is not None:
            await self._admin.cleanup()
        await self._within(self._ledger.close(), CLOSE_SECONDS_MAX)

    async def _until_idle(self, seconds: float) -> None:
        await self._within(self._handler.idle.wait(), seconds)

    @staticmethod
    async def _within(work: Coroutine[Any, Any, object], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await work
        except TimeoutError:
            pass


async def open_proxy(policy: Policy, world: World) -> Proxy:
    """A proxy on the ledger that *policy* names, not started yet. Raises ``LedgerUnavailable``."""
    log, metrics = world.log, world.metrics

    def contradicted(found: Any) -> None:
        metrics.contradicted()
        log.error("evidence.contradicted", entry=found.entry.id, evidence=found.evidence.event.value)

    def refused(problem: Exception) -> None:
        metrics.transition_refused()
        log.error("transition.refused", detail=str(problem))

    def unreadable(entry_id: str, why: str) -> None:
        log.error("stored_answer.unreadable", entry=entry_id, detail=why)

    hooks = Hooks(
        on_contradiction=contradicted, on_illegal=refused, on_commit=metrics.committed, on_unreadable=unreadable
    )  # fmt: skip
    rules = policy.ledger
    ledger = await open_ledger(rules.url, world.clock, hooks=hooks, encryption_keys=rules.encryption_keys)
    for warning in ledger.warnings:
        log.warning("ledger.weakened", detail=warning)
    return Proxy(policy, ledger, world)


def serve(policy: Policy, environ: Mapping[str, str] | None = None) -> int:
    """Serve until told to stop; give the exit status: 0 in order, 2 configuration, 3 ledger not reachable."""
    try:
        world = World.from_environment(os.environ if environ is None else environ)
    except ValueError as problem:
        Log(level=level_named("info"), wall=SystemClock().wall).error("server.failed", detail=str(problem))
        return _EXIT_USAGE
    logging.basicConfig(handlers=[Bridge(world.log)], level=logging.WARNING, force=True)
    _raise_file_limit()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_serve(policy, world))


async def _serve(policy: Policy, world: World) -> int:
    log = world.log
    try:
        proxy = await open_proxy(policy, world)
    except LedgerUnavailable as problem:
        log.error("ledger.failed", detail=str(problem))  # noqa: TRY400 - our log, where a trace is no help
        return _EXIT_LEDGER
    try:
        await proxy.start()
    except TlsUnusable as problem:
        log.error("server.failed", detail=f"server.tls: {problem}")  # noqa: TRY400 - as above
        await proxy.close()
        return _EXIT_USAGE
    except OSError as problem:
        detail = f"an address cannot be bound: {problem.strerror or problem}"
        log.error("server.failed", detail=detail)  # noqa: TRY400 - as above
        await proxy.close()
        return _EXIT_USAGE
    if not policy.callers:
        log.warning("callers.unknown", detail="no callers are configured: all who reach the listener share their keys")
    log.announce(
        "server.started", listen=_shown(proxy.listen), admin_listen=_shown(proxy.admin_listen), pid=os.getpid()
    )
    stopped_by = await _told_to_stop(lambda: os._exit(_EXIT_AT_ONCE))
    log.announce("server.draining", signal=stopped_by, seconds_max=policy.server.drain_seconds)
    cut = await proxy.drain()
    await proxy.close()
    log.announce("server.stopped", cut_short=cut)
    return _EXIT_FINE


async def _told_to_stop(at_once: Callable[[], object]) -> str:
    """Wait for a signal that asks the process to end, and give its name; a second one calls *at_once*."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[str] = loop.create_future()

    def tell(number: signal.Signals) -> None:
        if told.done():
            at_once()
        else:
            told.set_result(number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell, number)
    return await told


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _raise_file_limit() -> None:
    """A connection is a file: take as many as the system lets us have without asking anybody."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
