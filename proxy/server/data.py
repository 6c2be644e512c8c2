"""The data listener: reads a request, lets :class:`proxy.server.front.Front` answer it, writes and logs what it said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from aiohttp import web

from proxy.core.ports import Clock, SendFailed
from proxy.core.reasons import Reason
from proxy.exchange.told import Passed, Problem, Told
from proxy.server.facts import fact_headers
from proxy.server.framing import Answer, frame
from proxy.server.front import Front, Outcome, refusal
from proxy.server.incoming import BodyBroken, Incoming
from proxy.server.problems import render
from proxy.server.tls import names_in
from proxy.server.wire import Listener, RequestBody, Written, write
from proxy.telemetry.log import Log
from proxy.telemetry.metrics import Metrics

VIA: Final = (b"Via", b"1.1 dedup-proxy")
"""Added to every answer that a provider gave (RFC 9110 7.6.3)."""

_READ_VERSIONS: Final = ((1, 0), (1, 1))


class DataHandler:
    """Handles the requests of one listener. ``running`` counts those under way."""

    def __init__(self, front: Front, *, clock: Clock, metrics: Metrics, log: Log, new_id: Callable[[], str]) -> None:
        self.running = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._front = front
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._new_id = new_id

    def listener(self) -> Listener:
        """The protocol factory for a listening socket."""
        return Listener(self.handle, refuse=self.refuse)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self.running += 1
        self.idle.clear()
        try:
            return await self._handle(request)
        finally:
            self.running -= 1
            if not self.running:
                self.idle.set()

    def refuse(self, request: web.BaseRequest, why: str) -> Written:
        """The answer to a request that could not be read (*why*), or whose handler failed (empty)."""
        if why:
            problem = refusal(Reason.REQUEST_INVALID, f"The request is not valid HTTP/1.1: {why}. Nothing was sent.")
        else:
            problem = refusal(Reason.INTERNAL_ERROR, "The proxy failed; the request may have been sent all the same.")
            problem = replace(problem, facts=replace(problem.facts, sent=True))  # nobody knows: the careful word
        answer = self._answer(Outcome(problem))
        framed = frame(answer, method=request.method, is_http_10=False, keep_alive=False)
        self._note(request, Outcome(problem), answer.status, seconds=0.0)
        assert isinstance(framed.body, bytes)  # a problem is never streamed
        return Written(keep_alive=False, data=framed.head + framed.body)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        started = self._clock.boot()
        why = _why_unreadable(request)
        if why is not None:
            return self.refuse(request, why)
        body = RequestBody(request)
        try:
            outcome = await self._front.answer(_incoming(request, body))
        except BodyBroken:
            self._abandon(request, started)
            return Written(keep_alive=False)
        except asyncio.CancelledError:
            self._abandon(request, started)
            raise
        answer = self._answer(outcome)
        try:
            return await self._write(request, outcome.told, answer, body)
        finally:
            self._note(request, outcome, answer.status, seconds=self._clock.boot() - started)

    def _answer(self, outcome: Outcome) -> Answer:
        told = outcome.told
        if isinstance(told, Problem):
            return render(told, provider=outcome.provider, request_id=self._new_id())
        phrase = told.phrase if told.facts.sent else told.phrase or None
        return Answer(told.status, (*told.headers, *fact_headers(told.facts), VIA), told.body, phrase)

    async def _write(
        self, request: web.BaseRequest, told: Told, answer: Answer, body: RequestBody
    ) -> web.StreamResponse:
        framed = frame(
            answer,
            method=request.method,
            is_http_10=request.version == (1, 0),
            keep_alive=request.keep_alive and body.is_whole and not self._front.is_draining and not _upgrades(request),
        )
        try:
            return await write(request, framed)
        except SendFailed as failure:
            self._log.info("answer.cut", phase=failure.phase.value, kind=failure.kind)
        except TimeoutError:
            self._log.info("answer.stalled")
        except ConnectionError:
            pass  # the caller went away
        finally:
            if isinstance(told, Passed):
                await told.close()
        return Written(keep_alive=False)

    def _abandon(self, request: web.BaseRequest, started: float) -> None:
        """The caller went away before it was answered; what it began goes on in the exchange."""
        self._log.info("request.abandoned", method=request.method, seconds=round(self._clock.boot() - started, 6))

    def _note(self, request: web.BaseRequest, outcome: Outcome, status: int, *, seconds: float) -> None:
        facts = outcome.told.facts
        provider, operation = outcome.provider, outcome.operation
        decision = decision_of(outcome.told)
        self._metrics.decided(
            provider.id if provider else "", operation.id if operation else "", decision, facts.reason.value
        )
        self._metrics.answered(provider.id if provider else "", decision, seconds)
        self._log.info(
            "request.answered",
            method=request.method,
            provider=provider.name if provider else None,
            operation=operation.name if operation else None,
            caller=outcome.caller.name or None if outcome.caller else None,
            decision=decision,
            reason=facts.reason.value,
            status=status,
            executed=facts.executed.value if facts.executed else None,
            sent="yes" if facts.sent else "no",
            entry=facts.entry,
            seconds=round(seconds, 6),
        )


def decision_of(told: Told) -> str:
    """What was done with a request, in one word: ``sent``, ``passed``, ``replayed``, ``waited`` or ``refused``."""
    facts = told.facts
    if facts.status in ("bypassed", "observed", "unprotected") and isinstance(told, Passed):
        return "passed"
    if facts.sent:
        return "sent"
    if facts.reason is Reason.WAITED:
        return "waited"
    return "replayed" if isinstance(told, Passed) else "refused"


def _incoming(request: web.BaseRequest, body: RequestBody) -> Incoming:
    transport = request.transport
    peer, certificate = (None, None) if transport is None else map(transport.get_extra_info, ("peername", "peercert"))
    return Incoming(
        method=request.method,
        target=request.raw_path,
        headers=request.raw_headers,
        peer=peer[0] if isinstance(peer, tuple) else "",
        body=body,
        certificate_names=names_in(certificate) if certificate else None,
    )


def _why_unreadable(request: web.BaseRequest) -> str | None:
    """What the parser lets pass and we don't: other versions, and codings that we can't take off (RFC 9112 6.1)."""
    if request.version not in _READ_VERSIONS:
        return "its version is neither 1.0 nor 1.1"
    codings = [value for name, value in request.raw_headers if name.lower() == b"transfer-encoding"]
    if not codings:
        return None
    if request.version == (1, 0):
        return "HTTP/1.0 has no Transfer-Encoding"
    return None if codings[0].strip().lower() == b"chunked" else "only the transfer coding chunked is understood"


def _upgrades(request: web.BaseRequest) -> bool:
    """Whether the caller asked for another protocol. It gets none, and the parser may have lost what came next."""
    return any(name.lower() == b"upgrade" for name, _ in request.raw_headers) or request.method == "CONNECT"
