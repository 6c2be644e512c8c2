"""Requests that pass without protection: safe methods, rules that say so, and calls without a key.

Bodies stream both ways and the ledger is not asked. Nothing is sent twice here either, and nobody is told to try again
where that could do something twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from proxy.core.model import Executed, Request
from proxy.core.outgoing import stream
from proxy.core.policy import SAFE_METHODS, Operation, Provider, Timeouts
from proxy.core.ports import Clock, Observer, Reply, SendFailed, Upstream
from proxy.core.reasons import Reason
from proxy.exchange.attempt import proxy_status
from proxy.exchange.bulkhead import Bulkhead, Full
from proxy.exchange.told import Facts, Passed, Problem, Told, passed_headers

STATUSES: Final = MappingProxyType(
    {
        Reason.SAFE_METHOD: "bypassed",
        Reason.MODE_BYPASS: "bypassed",
        Reason.NO_OPERATION: "bypassed",
        Reason.MODE_OBSERVE: "observed",
        Reason.NO_KEY: "unprotected",
    }
)
"""``Dedup-Status`` of a request that passes for this reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A request that passes. ``request.body`` is empty; *body* is what goes out, whole or as it comes."""

    provider: Provider
    request: Request
    body: bytes | AsyncIterator[bytes]
    reason: Reason
    operation: Operation | None = None  # None where none matched

    @property
    def timeout(self) -> Timeouts:
        """The operation's, else the provider's."""
        return self.provider.timeout if self.operation is None else self.operation.timeout

    @property
    def is_safe(self) -> bool:
        """Whether repeating the request does no harm."""
        return self.request.method in SAFE_METHODS


class Passing:
    """Passes requests on. Its places are its own, so that slow downloads take none from calls that are protected."""

    def __init__(self, *, upstream: Upstream, clock: Clock, observer: Observer) -> None:
        self._upstream = upstream
        self._clock = clock
        self._observer = observer
        self._bulkheads: dict[str, Bulkhead] = {}

    async def run(self, passage: Passage) -> Told:
        """Send once, and tell the answer as soon as its head is there.

        ``timeout.total`` bounds everything up to the answer's head, and after that each wait for a piece of its body.
        """
        provider, timeout = passage.provider, passage.timeout
        if passage.reason is Reason.NO_KEY and not passage.is_safe:
            self._observer.passed_unprotected(provider.id)
        bulkhead = self._bulkheads.setdefault(provider.id, Bulkhead(provider.concurrency))
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(bulkhead.place(timeout.connect_seconds))
                reply = await self._send(passage)
            except Full:
                return _refused(passage, Reason.PROVIDER_BUSY, f"All places for {provider.name} are taken.")
            except SendFailed as failure:
                return _failed(passage, failure)
            except ValueError as problem:  # the client found something that must not go on any wire
                return _refused(passage, Reason.REQUEST_INVALID, f"The request cannot be sent: {problem}.")
            stack.push_async_callback(reply.close)
            return _passed(passage, reply, stack.pop_all().aclose)

    async def _send(self, passage: Passage) -> Reply:
        timeout = passage.timeout
        started = self._clock.boot()
        try:
            return await self._upstream.send(
                stream(passage.provider, passage.request, passage.body),
                passage.provider.route,
                deadline=started + timeout.total_seconds,
                connect_seconds_max=timeout.connect_seconds,
                fresh=not passage.is_safe,
                body_idle_seconds_max=timeout.total_seconds,
            )
        finally:
            name = "" if passage.operation is None else passage.operation.id
            self._observer.upstream_done(passage.provider.id, name, self._clock.boot() - started)


def _passed(passage: Passage, reply: Reply, close: Callable[[], Awaitable[None]]) -> Passed:
    return Passed(
        facts=Facts(reason=passage.reason, sent=True, status=STATUSES[passage.reason]),
        status=reply.status,
        phrase=reply.reason,
        headers=passed_headers(reply.headers),
        body=reply.body(),
        close=close,
    )


def _failed(passage: Passage, failure: SendFailed) -> Problem:
    if not failure.sent:
        detail = f"No byte was sent to {passage.provider.name}: {failure.detail}. Send the same request again."
        return _problem(passage, Reason.PROVIDER_UNREACHABLE, detail, retry_after=1.0, failure=failure)
    if passage.is_safe:
        detail = f"{passage.provider.name} gave no answer: {failure.detail}. Send the same request again."
        return _problem(passage, Reason.OUTCOME_UNKNOWN, detail, retry_after=1.0, failure=failure)
    detail = (
        f"{passage.provider.name} gave no answer: {failure.detail}. The request was not protected, so the proxy cannot "
        "find out what became of it, and sending it again may do it twice. Ask the provider."
    )
    return _problem(passage, Reason.NOTHING_CAN_TELL, detail, failure=failure)


def _refused(passage: Passage, reason: Reason, detail: str) -> Problem:
    if reason is Reason.PROVIDER_BUSY:
        return _problem(passage, reason, f"{detail} Nothing was sent; send the same request again.", retry_after=1.0)
    return _problem(passage, reason, detail)


def _problem(
    passage: Passage,
    reason: Reason,
    detail: str,
    *,
    retry_after: float | None = None,
    failure: SendFailed | None = None,
) -> Problem:
    sent = failure is not None and failure.sent
    return Problem(
        facts=Facts(reason=reason, sent=sent, status=STATUSES[passage.reason], executed=Executed.UNKNOWN),
        reason=reason,
        detail=detail,
        retry_after=retry_after,
        provider=passage.provider.name,
        operation=None if passage.operation is None else passage.operation.name,
        proxy_status=None if failure is None else proxy_status(failure),
        operation_rule=passage.operation,
    )
