"""The story of a request on the data listener, from what was read to what is told.

Who is it, what does it mean, which rule, is its body wanted whole: each step may end it with a problem, and nothing is
claimed or sent before the last of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from proxy.admin.visitors import is_cross_site
from proxy.core.arrival import Prepared, Refused, Secrets, Unkeyed, candidates, choose, prepare, unmatched_rule
from proxy.core.documents import RequestDocument, request_document
from proxy.core.model import Executed, Mode, Request
from proxy.core.policy import Caller, Operation, Policy, Provider
from proxy.core.ports import Observer
from proxy.core.reasons import Reason
from proxy.exchange.bulkhead import Bulkhead, Full
from proxy.exchange.exchange import Call, Exchange
from proxy.exchange.passing import Passage, Passing
from proxy.exchange.told import Facts, Problem, Told
from proxy.server.callers import Callers, may_use
from proxy.server.incoming import BodyBroken, BodyTooLarge, Incoming
from proxy.server.preferences import wait_seconds
from proxy.server.routing import Routed, route
from proxy.server.signatures import signed_names, why_breaks
from proxy.server.tls import asks_certificates

_READ_FROM_BODY: Final = ("body", "graphql", "request", "fingerprint")
"""Names of a request document that its head alone doesn't give; ``request`` holds them all."""

_EXECUTED: Final[Mapping[Reason, Executed]] = MappingProxyType(
    {Reason.KEY_MISSING: Executed.NO, Reason.KEY_INVALID: Executed.NO}
)
"""Without a key there is nothing that another attempt could have done; other refusals don't know."""

_PASSING_MODES: Final = MappingProxyType({Mode.BYPASS: Reason.MODE_BYPASS, Mode.OBSERVE: Reason.MODE_OBSERVE})

_LARGE_BODY: Final = 262_144
"""From here on a body is read in a thread: parsing 10 MiB takes a second or more, in which nobody else would be served."""

_PLACE_SECONDS: Final = 5.0
"""How long a request waits for one of its caller's places."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request is told, and by which rules."""

    told: Told
    provider: Provider | None = None
    operation: Operation | None = None
    caller: Caller | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """A request whose caller and provider are known. ``body`` is there once it was read whole."""

    incoming: Incoming
    caller: Caller
    routed: Routed
    request: Request
    body: bytes | None = None

    def with_body(self, body: bytes) -> _Found:
        return replace(self, request=replace(self.request, body=body), body=body)

    @property
    def document(self) -> RequestDocument:
        return request_document(self.request, fingerprint=None)

    @property
    def outgoing_body(self) -> bytes | AsyncIterator[bytes]:
        if self.body is not None:
            return self.body
        return b"" if self.incoming.body.length == 0 else self.incoming.body.stream()


class Front:
    """Answers requests. ``is_draining`` is set once the process is to stop."""

    def __init__(self, policy: Policy, *, exchange: Exchange, passing: Passing, observer: Observer) -> None:
        self.is_draining = False
        self._policy = policy
        self._exchange = exchange
        self._passing = passing
        self._observer = observer
        self._callers = Callers(policy.callers, asks_certificates=asks_certificates(policy.server.tls))
        self._places: dict[str, Bulkhead] = {
            caller.id: Bulkhead(caller.concurrency) for caller in policy.callers if caller.concurrency is not None
        }

    @property
    def needs_certificate(self) -> bool:
        """Whether nobody is let in without a client certificate."""
        return self._callers.needs_certificate

    async def answer(self, incoming: Incoming) -> Outcome:
        """What *incoming* is told. Raises :class:`BodyBroken` where nobody is left to be told anything."""
        if self.is_draining:
            return Outcome(refusal(Reason.DRAINING, "The proxy is shutting down. Send the same request again."))
        if is_cross_site(incoming.headers):
            return Outcome(refusal(Reason.ORIGIN_REFUSED, "The request says that a browser sent it for another site."))
        caller = self._callers.identify(incoming.headers, incoming.peer, incoming.certificate_names)
        if caller is None:
            return Outcome(refusal(Reason.CALLER_UNKNOWN, self._callers.how_to_be_known))
        routed = route(
            self._policy,
            method=incoming.method,
            target=incoming.target,
            headers=incoming.headers,
            any_name=self._callers.must_prove,
        )
        if isinstance(routed, Refused):
            return Outcome(_refused(routed), caller=caller)
        if not may_use(caller, routed.provider.name):
            detail = f"There is no provider {routed.provider.name!r} for caller {caller.name!r}."
            return Outcome(refusal(Reason.PROVIDER_UNKNOWN, detail), caller=caller)
        request = Request(incoming.method, routed.host, routed.target, incoming.headers, b"", caller.id)
        return await self._with_place(_Found(incoming, caller, routed, request))

    async def _with_place(self, found: _Found) -> Outcome:
        places = self._places.get(found.caller.id)
        if places is None:
            return await self._by_rule(found)
        try:
            async with places.place(_PLACE_SECONDS):
                return await self._by_rule(found)
        except Full:
            detail = f"Caller {found.caller.name!r} has as many requests under way as it may. Nothing was sent."
            return _outcome(found, refusal(Reason.PROVIDER_BUSY, detail))

    async def _by_rule(self, found: _Found) -> Outcome:
        """Find the rule, reading the body only where the rule needs it."""
        operation: Operation | None = None
        try:
            if _is_body_needed(found):
                found = found.with_body(await self._read(found))
            rule = choose(found.routed.provider, found.document) or unmatched_rule(
                found.routed.provider, found.request.method
            )
            if isinstance(rule, Reason):
                return await self._without_rule(found, rule)
            operation = rule
            return _outcome(found, await self._under(found, rule), rule)
        except BodyTooLarge:
            limit = self._policy.server.max_request_body
            detail = f"The body has more than {limit} bytes (server.max_request_body), and its rule reads it whole."
            return _outcome(found, refusal(Reason.REQUEST_TOO_LARGE, detail), operation)
        except BodyBroken as broken:
            if broken.is_gone:
                raise
            return _outcome(found, refusal(broken.reason, f"{broken.detail} Nothing was sent."), operation)

    async def _without_rule(self, found: _Found, reason: Reason) -> Outcome:
        if reason is Reason.PROVIDER_UNKNOWN:
            name = found.routed.provider.name
            detail = f"No operation of {name!r} matches {found.request.method} {found.request.path[:200]}."
            return _outcome(found, refusal(reason, detail))
        return _outcome(found, await self._pass(found, reason, None))

    async def _under(self, found: _Found, operation: Operation) -> Told:
        """Pass, refuse or deduplicate by *operation*."""
        if operation.mode is not Mode.ENFORCE:
            return await self._pass(found, _PASSING_MODES[operation.mode], operation)
        if _is_unkeyed_by_head(operation, found.request):
            return await self._pass(found, Reason.NO_KEY, operation)
        broken = _why_signature_breaks(found, operation)
        if broken is not None:
            return _signature_problem(broken, operation)
        if found.body is None:
            found = found.with_body(await self._read(found))
        provider = found.routed.provider
        prepared = await _prepared(provider, operation, found, self._exchange.secrets)
        if isinstance(prepared, Refused):
            return replace(_refused(prepared), operation=operation.name, operation_rule=operation)
        if isinstance(prepared, Unkeyed):
            return await self._pass(found, prepared.reason, operation)
        if prepared.failed_expressions:
            self._observer.expressions_failed(provider.id, operation.id, prepared.failed_expressions)
        return await self._exchange.run(Call(prepared, wait_seconds(found.incoming.headers, operation.wait_seconds)))

    async def _pass(self, found: _Found, reason: Reason, operation: Operation | None) -> Told:
        """Let the request through, its body as it comes."""
        broken = _why_signature_breaks(found, None)
        if broken is not None:
            return _signature_problem(broken, operation)
        told = await self._passing.run(
            Passage(
                provider=found.routed.provider,
                request=replace(found.request, body=b""),
                body=found.outgoing_body,
                reason=reason,
                operation=operation,
            )
        )
        failure = found.incoming.body.failure
        if failure is not None and isinstance(told, Problem):
            if failure.is_gone:
                raise failure
            # The provider saw the beginning of a request whose sender never finished it.
            facts = replace(told.facts, reason=failure.reason)
            return replace(told, facts=facts, reason=failure.reason, detail=failure.detail, retry_after=None)
        return told

    async def _read(self, found: _Found) -> bytes:
        return await found.incoming.body.read(self._policy.server.max_request_body)


def refusal(reason: Reason, detail: str) -> Problem:
    """A problem of a request of which nothing was claimed and nothing sent."""
    executed = _EXECUTED.get(reason, Executed.UNKNOWN)
    retry_after = 1.0 if reason in (Reason.DRAINING, Reason.PROVIDER_BUSY) else None
    return Problem(
        facts=Facts(reason=reason, sent=False, executed=executed), reason=reason, detail=detail, retry_after=retry_after
    )


async def _prepared(
    provider: Provider, operation: Operation, found: _Found, secrets: Secrets
) -> Prepared | Unkeyed | Refused:  # fmt: skip
    """Read key and fingerprint, of a large body beside the event loop."""
    if len(found.body or b"") < _LARGE_BODY:
        return prepare(provider, operation, found.document, secrets)
    return await asyncio.to_thread(prepare, provider, operation, found.document, secrets)


def _refused(refused: Refused) -> Problem:
    return refusal(refused.reason, refused.detail)


def _outcome(found: _Found, told: Told, operation: Operation | None = None) -> Outcome:
    if isinstance(told, Problem):
        told = replace(
            told,
            provider=found.routed.provider.name,
            operation=told.operation or (operation.name if operation else None),
            operation_rule=told.operation_rule or operation,
        )
    return Outcome(told, found.routed.provider, operation, found.caller)


def _is_body_needed(found: _Found) -> bool:
    """Whether finding the rule takes the body. Rules are asked in order; one without a condition ends the search."""
    for operation in candidates(found.routed.provider, found.request.method, found.request.path):
        if operation.when is None:
            return False
        if any(operation.when.reads(name) for name in _READ_FROM_BODY):
            return found.incoming.body.length != 0
    return False


def _is_unkeyed_by_head(operation: Operation, request: Request) -> bool:
    """Whether the head alone says that there is no key, and the rule lets such a request pass."""
    rule = operation.key
    if rule.required:
        return False
    names = {name.lower() for name, _ in request.headers}
    return all(
        alternative.header is not None and alternative.header.lower().encode("latin-1") not in names
        for alternative in rule.alternatives
    )


def _why_signature_breaks(found: _Found, operation: Operation | None) -> str | None:
    signed = signed_names(found.request.headers, found.request.query)
    if signed is None:
        return None
    if found.routed.by_prefix:
        return "a path prefix changes the host and path that the signature covers; send it to the provider's own host"
    return why_breaks(signed, found.routed.provider, operation)


def _signature_problem(why: str, operation: Operation | None) -> Problem:
    detail = (
        f"The request is signed (SigV4), and the proxy would have to change what is signed: {why}. Nothing was sent."
    )
    problem = refusal(Reason.SIGNATURE_WOULD_BREAK, detail)
    return replace(problem, operation=operation.name if operation else None, operation_rule=operation)
