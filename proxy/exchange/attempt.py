"""One attempt: send, judge what came back, record it, say what the caller is told.

Nothing here decides whether to send: an attempt exists because its claim is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, Final

from proxy.core import outcome
from proxy.core.arrival import Prepared
from proxy.core.documents import answer_document
from proxy.core.model import SECOND_US, Answer, Entry, Executed, Headers, Kept, StoredAnswer
from proxy.core.outcome import Outcome
from proxy.core.policy import LedgerRules
from proxy.core.ports import (
    Checkpoints,
    Clock,
    Landed,
    Ledger,
    LedgerUnavailable,
    Observer,
    Outgoing,
    Phase,
    Reply,
    SendFailed,
    Upstream,
    Write,
)  # fmt: skip
from proxy.core.reasons import Reason
from proxy.core.settle import why_ambiguous
from proxy.core.states import Event, Evidence
from proxy.exchange.told import Facts, Passed, Problem, Told, facts_of, passed_headers, storable_headers, unknown

RECORD_SECONDS_MAX: Final = 5.0
"""How long a caller waits for its outcome to be written; after that the answer goes out as ``Dedup-Recorded: false``."""

_RECORD_PAUSE_SECONDS: Final = 0.5
_RETRY_AFTER_SECONDS_MAX: Final = 86_400.0

Spawn = Callable[[Coroutine[Any, Any, None]], None]


@dataclass(frozen=True, slots=True)
class Finished:
    """How an attempt ended. ``entry`` is the row after the record, with its answer; None where it was not read."""

    told: Told
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class _Collected:
    """An answer's body as far as it is kept in memory. ``rest`` goes on where ``body`` ends."""

    body: bytes
    is_complete: bool
    rest: AsyncIterator[bytes] | None = None
    failure: SendFailed | None = None


@dataclass(slots=True)
class _Heard:
    """What came back so far, should the attempt be cut short."""

    status: int | None = None


@dataclass(frozen=True, slots=True)
class Attempts:
    """Runs attempts whose claim has landed."""

    ledger: Ledger
    upstream: Upstream
    clock: Clock
    checkpoints: Checkpoints
    observer: Observer
    rules: LedgerRules
    spawn: Spawn

    async def run(
        self, prepared: Prepared, entry: Entry, outgoing: Outgoing, *, deadline: float, after_quiet: bool
    ) -> Finished:  # fmt: skip
        """Send once and conclude. *deadline* is a boot clock reading taken before the claim was submitted.

        *after_quiet*: the attempt was claimed after the quiet time of every earlier one, so that a no from behind the key
        speaks for all.
        """
        heard = _Heard()
        try:
            return await self._send(prepared, entry, outgoing, heard, deadline=deadline, after_quiet=after_quiet)
        except asyncio.CancelledError:
            await asyncio.shield(self._abandoned(prepared, entry, heard))
            raise
        except Exception as bug:  # noqa: BLE001 - whatever went wrong here, the attempt may have left
            context = {"message": "an attempt ended in a bug", "exception": bug}
            asyncio.get_running_loop().call_exception_handler(context)
            return await self._abandoned(prepared, entry, heard)

    async def _send(
        self, prepared: Prepared, entry: Entry, outgoing: Outgoing, heard: _Heard, *, deadline: float, after_quiet: bool
    ) -> Finished:  # fmt: skip
        operation = prepared.operation
        started = self.clock.boot()
        try:
            await self.checkpoints.reach("before_send")
            reply = await self.upstream.send(
                outgoing,
                prepared.provider.route,
                deadline=deadline,
                connect_seconds_max=operation.timeout.connect_seconds,
                fresh=prepared.native is None and not operation.can_look_up,
            )
        except SendFailed as failure:
            self.observer.upstream_done(prepared.provider.id, operation.id, self.clock.boot() - started)
            return await self._without_answer(prepared, entry, failure)
        heard.status = reply.status
        try:
            await self.checkpoints.reach("after_send")
            collected = await _collect(reply, self.rules.max_stored_answer)
            self.observer.upstream_done(prepared.provider.id, operation.id, self.clock.boot() - started)
            return await self._with_answer(prepared, entry, reply, collected, after_quiet=after_quiet)
        except BaseException:
            await reply.close()
            raise

    async def _abandoned(self, prepared: Prepared, entry: Entry, heard: _Heard) -> Finished:
        """The attempt ends here and nobody will know how: say so, rather than let others wait for the lease."""
        judged = Outcome(Event.ANSWER_LOST, Reason.ANSWER_LOST)
        landed = await self._record(prepared, entry, judged, stored=None, status=heard.status)
        facts = self._facts(prepared, entry, landed, judged, sent=True)
        told = unknown(facts, why_ambiguous(prepared.operation, prepared.native), prepared.operation)
        return Finished(told, landed.entry if landed else None)

    async def not_sent(self, prepared: Prepared, entry: Entry, *, reason: Reason) -> None:
        """Close an attempt that was claimed and then given up before its first byte. Goes on until it is written."""
        evidence = Evidence(event=Event.NOT_SENT, token=entry.attempt.token, reason=reason)
        await self._keep_recording(Write(prepared.key_hash, entry.generation, evidence))

    async def _without_answer(self, prepared: Prepared, entry: Entry, failure: SendFailed) -> Finished:
        judged = outcome.of_failure(prepared.operation, failure)
        landed = await self._record(prepared, entry, judged, stored=None)
        facts = self._facts(prepared, entry, landed, judged, sent=failure.sent)
        if failure.sent:
            told = replace(
                unknown(facts, why_ambiguous(prepared.operation, prepared.native), prepared.operation),
                proxy_status=proxy_status(failure),
            )
        else:
            told = Problem(
                facts=replace(facts, reason=Reason.PROVIDER_UNREACHABLE),
                reason=Reason.PROVIDER_UNREACHABLE,
                detail=f"No byte was sent to {prepared.provider.name}: {failure.detail}. Send the same request again.",
                retry_after=1.0,
                proxy_status=proxy_status(failure),
            )
        return Finished(told, landed.entry if landed else None)

    async def _with_answer(
        self, prepared: Prepared, entry: Entry, reply: Reply, collected: _Collected, *, after_quiet: bool
    ) -> Finished:  # fmt: skip
        request = prepared.document.told(
            fingerprint=prepared.fingerprint, attempt=entry.attempt.number, doubt=len(entry.open) > 1
        )
        answer = Answer(reply.status, reply.headers, collected.body, collected.is_complete, reply.reason)
        judged = outcome.of_answer(
            prepared.operation,
            prepared.native,
            answer_document(answer, request, body_type=prepared.operation.body_type),
            status=reply.status,
            method=prepared.request.method,
            attempt=entry.attempt.number,
        )
        stored = _stored(prepared, entry, answer)
        landed = await self._record(
            prepared, entry, judged, stored=stored, status=reply.status,
            retry_at=self._retry_at(judged, reply.headers), after_quiet=after_quiet,
        )  # fmt: skip
        facts = self._facts(prepared, entry, landed, judged, sent=True)
        body: bytes | AsyncIterator[bytes] = collected.body
        if collected.rest is not None or collected.failure is not None:
            body = _go_on(collected)
        else:
            await reply.close()
        told = Passed(
            facts=facts,
            status=reply.status,
            phrase=reply.reason,
            headers=passed_headers(reply.headers),
            body=body,
            close=reply.close,
        )
        return Finished(told, landed.entry if landed else None)

    async def _record(
        self, prepared: Prepared, entry: Entry, judged: Outcome, *, stored: StoredAnswer | None,
        status: int | None = None, retry_at: int | None = None, after_quiet: bool = False,
    ) -> Landed | None:  # fmt: skip
        """Write the outcome; None if that took too long, and then it goes on in the background."""
        evidence = Evidence(
            event=judged.event,
            token=entry.attempt.token,
            reason=judged.reason,
            behind_key=judged.behind_key,
            after_quiet=after_quiet,
            stores_failure=judged.stores_failure,
            upstream_status=status,
            retry_at=retry_at,
        )
        write = Write(prepared.key_hash, entry.generation, evidence, stored)
        self._observe(prepared, judged)
        await self.checkpoints.reach("before_record")
        pending = asyncio.ensure_future(self.ledger.record(write))
        try:
            async with asyncio.timeout(RECORD_SECONDS_MAX):
                landed = await asyncio.shield(pending)
        except (TimeoutError, LedgerUnavailable):
            self.spawn(self._keep_recording(write, pending))
            return None
        await self.checkpoints.reach("after_record")
        if landed.landed and landed.entry is not None and stored is not None:
            landed = replace(landed, entry=replace(landed.entry, answer=stored))
        return landed

    async def _keep_recording(self, write: Write, pending: asyncio.Future[Landed] | None = None) -> None:
        """Try until the ledger has said something definite. A repeated write is recognised by its token."""
        while True:
            try:
                await (pending if pending is not None else self.ledger.record(write))
            except LedgerUnavailable:
                pending = None
                await asyncio.sleep(_RECORD_PAUSE_SECONDS)
            else:
                return

    def _observe(self, prepared: Prepared, judged: Outcome) -> None:
        provider, operation = prepared.provider.id, prepared.operation.id
        self.observer.attempt_done(provider, operation, judged.event.value)
        if judged.event is Event.ANSWER_LOST:
            self.observer.became_ambiguous(provider, operation)
        if judged.failed_expressions:
            self.observer.expressions_failed(provider, operation, judged.failed_expressions)
        if judged.alarm:
            self.observer.contradicted()

    def _facts(self, prepared: Prepared, entry: Entry, landed: Landed | None, judged: Outcome, *, sent: bool) -> Facts:
        if landed is None or landed.entry is None:
            return Facts(
                reason=judged.reason,
                sent=sent,
                status=entry.status.value,
                executed=Executed.UNKNOWN,
                entry=entry.id,
                recorded=False,
            )
        return facts_of(
            landed.entry, reason=judged.reason, sent=sent, operation=prepared.operation,
            retention_us=self.rules.retention_entry_us,
        )  # fmt: skip

    def _retry_at(self, judged: Outcome, headers: Headers) -> int | None:
        if judged.event not in (Event.TURNED_AWAY, Event.ANSWER_LOST):
            return None
        seconds = retry_after_seconds(headers, self.clock.wall())
        return None if seconds is None else self.ledger.now() + int(seconds * SECOND_US)


def retry_after_seconds(headers: Headers, wall: float) -> float | None:
    """``Retry-After`` (RFC 9110 10.2.3) in seconds from now, at most a day; None if absent or unreadable."""
    value = next((v for name, v in headers if name.lower() == b"retry-after"), b"").strip().decode("latin-1")
    if not value:
        return None
    if value.isascii() and value.isdigit():
        seconds = float(value[:12])
    else:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - wall
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _RETRY_AFTER_SECONDS_MAX)


def proxy_status(failure: SendFailed) -> str:
    """The ``Proxy-Status`` error of a failed send (RFC 9209 2.3)."""
    timeout = failure.kind == "timeout"
    error = {
        Phase.BUSY: "connection_limit_reached",
        Phase.DNS: "dns_timeout" if timeout else "dns_error",
        Phase.ADDRESS: "destination_ip_prohibited",
        Phase.CONNECT: "connection_timeout" if timeout else "connection_refused",
        Phase.TLS: "tls_protocol_error",
        Phase.DEADLINE: "connection_timeout",
        Phase.WRITE: "connection_write_timeout" if timeout else "connection_terminated",
        Phase.WAIT: "http_response_timeout" if timeout else "connection_terminated",
        Phase.BODY: "http_response_incomplete",
    }[failure.phase]
    if failure.kind == "protocol":
        error = "http_protocol_error"
    return f"dedup-proxy; error={error}"


def _stored(prepared: Prepared, entry: Entry, answer: Answer) -> StoredAnswer:
    keep = prepared.operation.store.answer
    kept = {"full": Kept.FULL, "status": Kept.STATUS, "none": Kept.TOMBSTONE}[keep]
    if not answer.complete and kept is Kept.FULL:
        kept = Kept.TOMBSTONE
    return StoredAnswer(
        status=answer.status,
        headers=() if kept is Kept.TOMBSTONE else storable_headers(answer.headers),
        body=answer.body if kept is Kept.FULL else b"",
        kept=kept,
        attempt=entry.attempt.number,
    )


async def _collect(reply: Reply, limit: int) -> _Collected:
    """Read the body up to *limit* bytes."""
    pieces: list[bytes] = []
    size = 0
    stream = reply.body()
    try:
        async for piece in stream:
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                return _Collected(b"".join(pieces), is_complete=False, rest=stream)
    except SendFailed as failure:
        return _Collected(b"".join(pieces), is_complete=False, failure=failure)
    return _Collected(b"".join(pieces), is_complete=True)


async def _go_on(collected: _Collected) -> AsyncIterator[bytes]:
    """The body as the provider sent it, up to and including the place where it broke off."""
    yield collected.body
    if collected.failure is not None:
        raise collected.failure
    if collected.rest is not None:
        async for piece in collected.rest:
            yield piece
