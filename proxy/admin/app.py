"""The admin listener's HTTP: health, metrics and the ledger's two questions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from aiohttp import web

from proxy.admin.access import HEADERS, Access, as_json, problem
from proxy.admin.query import QueryInvalid
from proxy.admin.service import EntryReader, Service
from proxy.core.policy import Policy
from proxy.core.ports import Clock, LedgerUnavailable

COUNTS_SECONDS: Final = 10.0
"""For so long the ledger's counts are told again without looking: counting looks at every entry."""

COUNT_SHARE_MAX: Final = 0.05
"""How much of the time may go into counting; a large ledger is counted less often."""

PING_SECONDS_MAX: Final = 2.0

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Ping(Protocol):
    """A ledger that can be asked whether it is there."""

    async def ping(self) -> None:
        """Read from it. Raises ``LedgerUnavailable`` if that fails or if its schema is not ours."""
        ...


class Exposition(Protocol):
    """Metrics that can be written out."""

    content_type: str

    def expose(self, counts: Mapping[tuple[str, str], int], oldest_seconds: Mapping[str, float]) -> bytes:
        """All of them, with the ledger's counts by provider and status."""
        ...


class Admin:
    """The admin listener of one process. *is_draining* tells whether the process is to stop."""

    def __init__(
        self, policy: Policy, *, reader: EntryReader, ledger: Ping, metrics: Exposition, clock: Clock,
        is_draining: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._service = Service(reader, policy)
        self._reader = reader
        self._ledger = ledger
        self._metrics = metrics
        self._clock = clock
        self._is_draining = is_draining
        self._access = Access(policy.server.admin_tokens, policy.server.hosts)
        self._counts: dict[tuple[str, str], int] = {}
        self._oldest: dict[str, int] = {}
        self._count_again_at = 0.0

    def application(self) -> web.Application:
        """The application to serve."""
        application = web.Application(middlewares=[self._guarded])
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._show_metrics),
                web.get("/v1/entries", self._entries),
                web.get("/v1/entries/{id}", self._entry),
            ]
        )
        return application

    @web.middleware
    async def _guarded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Refuse who may not ask, and answer every error in our own form."""
        refusal = self._access.refusal(request)
        if refusal is not None:
            return refusal
        try:
            return await handler(request)
        except QueryInvalid as invalid:
            return problem(400, "query-invalid", "the query is not valid", str(invalid))
        except LedgerUnavailable as unavailable:
            answer = problem(503, "ledger-unavailable", "the ledger is not available", str(unavailable))
            answer.headers["Retry-After"] = "1"
            return answer
        except web.HTTPException as error:
            answer = problem(
                error.status, "not-served", error.reason.lower(), f"{request.method} {request.path} is not served."
            )
            if "Allow" in error.headers:
                answer.headers["Allow"] = error.headers["Allow"]
            return answer
        except Exception:
            logging.getLogger(__name__).exception("the admin handler failed")
            return problem(500, "internal-error", "the proxy itself failed", "The log says more.")

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        return as_json({"status": "alive"})

    async def _readyz(self, _: web.Request) -> web.StreamResponse:
        if self._is_draining():
            return problem(503, "draining", "the proxy is shutting down", "It takes no new requests.")
        try:
            async with asyncio.timeout(PING_SECONDS_MAX):
                await self._ledger.ping()
        except TimeoutError:
            raise LedgerUnavailable(f"no answer from the ledger within {PING_SECONDS_MAX:g} s") from None
        return as_json({"status": "ready"})

    async def _show_metrics(self, _: web.Request) -> web.StreamResponse:
        await self._count()
        now = self._reader.now()
        ages = {provider: max((now - claimed_at) / 1e6, 0.0) for provider, claimed_at in self._oldest.items()}
        body = self._metrics.expose(self._counts, ages)
        return web.Response(body=body, headers={**HEADERS, "Content-Type": self._metrics.content_type})

    async def _count(self) -> None:
        """Count the ledger's entries, unless that was done a moment ago; where it fails, the last count stands."""
        began = self._clock.boot()
        if began < self._count_again_at:
            return
        self._count_again_at = began + COUNTS_SECONDS  # others who scrape meanwhile get the last count
        try:
            counts = await self._reader.counts()
            self._oldest = dict(await self._reader.oldest_ambiguous())
            self._counts = {(provider, status.value): count for (provider, status), count in counts.items()}
        except LedgerUnavailable:
            logging.getLogger(__name__).warning("the ledger could not be counted")
        took = self._clock.boot() - began
        self._count_again_at = max(self._count_again_at, began + took / COUNT_SHARE_MAX)

    async def _entries(self, request: web.Request) -> web.StreamResponse:
        return as_json(await self._service.entries(request.query.items()))

    async def _entry(self, request: web.Request) -> web.StreamResponse:
        entry_id = request.match_info["id"]
        found = await self._service.entry(entry_id)
        if found is None:
            return problem(
                404, "entry-unknown", "there is no such entry", f"The ledger has no entry {entry_id[:80]!r}."
            )
        return as_json(found)
