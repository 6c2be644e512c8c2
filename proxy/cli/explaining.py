"""``explain``: what would be done with a request, and why. Nothing is sent and nothing is written."""

from __future__ import annotations

import argparse
import asyncio
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.cli.checking import policy_of
from proxy.cli.output import CommandFailed, Exit, say_json, say_pairs
from proxy.core import decide
from proxy.core.arrival import Prepared, Refused, Secrets, Unkeyed, candidates, choose, prepare, unmatched_rule
from proxy.core.documents import RequestDocument, request_document
from proxy.core.keys import KeyInvalid, outgoing_key
from proxy.core.model import SECOND_US, Entry, Headers, Mode, Request
from proxy.core.policy import Operation, Policy
from proxy.core.ports import LedgerUnavailable
from proxy.core.problems import PROBLEMS, slug
from proxy.core.reasons import Reason
from proxy.core.settle import Moment
from proxy.ledger import SchemaState, open_reader, state
from proxy.server.routing import Routed, route
from proxy.server.runtime import SystemClock


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows. ``is_real``: there is one, so that fingerprints are those that it holds."""

    entry: Entry | None
    now: int
    is_real: bool


def run_explain(options: argparse.Namespace) -> Exit:
    """Print which provider, operation, key, fingerprint and outgoing key, and the decision."""
    policy = policy_of(options)
    told = explain(policy, options)
    if options.json:
        say_json(told)
    else:
        say_pairs(told)
    return Exit.FINE


def explain(policy: Policy, options: argparse.Namespace) -> dict[str, Any]:
    """The explanation as a document."""
    headers = _headers(options)
    routed = _routed(policy, options.method.upper(), options.target, headers)
    if isinstance(routed, Refused):
        return _refused(routed)
    body = _body(options.data)
    caller = _caller(policy, options.caller)
    request = Request(options.method.upper(), routed.host, routed.target, headers, body, caller)
    document = request_document(request, fingerprint=None)
    provider = routed.provider
    told: dict[str, Any] = {"provider": provider.name}
    operation = choose(provider, document) if any(candidates(provider, request.method, request.path)) else None
    if operation is None:
        rule = unmatched_rule(provider, request.method)
        if not isinstance(rule, Operation):
            refused = rule is Reason.PROVIDER_UNKNOWN
            return {**told, "operation": None, "decision": "refuse" if refused else "pass", "reason": rule.value}
        operation = rule
    told |= {"operation": operation.name, "mode": operation.mode.value}
    if operation.mode is Mode.BYPASS:
        return {**told, "decision": "pass", "reason": Reason.MODE_BYPASS.value}
    return told | asyncio.run(_deduplicated(policy, routed, operation, document))


async def _deduplicated(
    policy: Policy, routed: Routed, operation: Operation, document: RequestDocument
) -> dict[str, Any]:
    made_up = Secrets(secrets.token_bytes(32), secrets.token_bytes(32))
    first = prepare(routed.provider, operation, document, made_up)
    if isinstance(first, Refused):
        return _refused(first)
    if isinstance(first, Unkeyed):
        return {"key": None, "decision": "pass", "reason": first.reason.value, "protected": False}
    known, prepared = await _known(policy, routed, operation, document, first)
    # A process that has just learnt of the key: it hasn't lived through any quiet time yet.
    moment = Moment(now=known.now, boot=0.0, first_read={}, by_caller=True)
    arrival = decide.Arrival(
        fingerprint=prepared.fingerprint, credential=prepared.credential, native=prepared.native, moment=moment
    )
    decision = decide.on_arrival(known.entry, arrival, operation)
    told: dict[str, Any] = {
        "key": prepared.shown_key,
        "key_source": prepared.found.source,
        "key_is": "computed" if prepared.found.is_computed else "given",
        "scope": list(prepared.identity.scope),
        "caller": prepared.identity.caller or None,
        "fingerprint": prepared.fingerprint if known.is_real else None,
        "outgoing_key": _outgoing(prepared, known.entry),
        "outgoing_place": _place(prepared),
        "entry": known.entry.id if known.entry else None,
        "entry_status": known.entry.status.value if known.entry else None,
        "decision": decision.kind.value,
        "reason": decision.reason.value,
    }
    if decision.kind is decide.Kind.REFUSE:
        told |= {"problem": slug(decision.reason), "status": PROBLEMS[decision.reason].status}
    if not known.is_real:
        told["note"] = "there is no ledger yet: fingerprints are made with a key that is kept in it"
    return told


async def _known(
    policy: Policy, routed: Routed, operation: Operation, document: RequestDocument, first: Prepared
) -> tuple[Known, Prepared]:
    url, clock = policy.ledger.url, SystemClock()
    try:
        if await state(url) is SchemaState.ABSENT:
            return Known(None, 0, is_real=False), first
        reader = await open_reader(url, clock, encryption_keys=policy.ledger.encryption_keys)
        try:
            assert reader.meta is not None  # it was opened for us
            real = Secrets(reader.meta.key_secret, reader.meta.fingerprint_secret)
            prepared = prepare(routed.provider, operation, document, real)
            assert isinstance(prepared, Prepared)  # secrets don't decide whether a request has a key
            now = int(clock.wall() * SECOND_US)
            return Known(await reader.latest(prepared.key_hash), now, is_real=True), prepared
        finally:
            await reader.close()
    except LedgerUnavailable as problem:
        raise CommandFailed(f"the ledger can't be read: {problem}", Exit.UNREACHABLE) from None


def _outgoing(prepared: Prepared, entry: Entry | None) -> str | None:
    """The native key as it stands. A windowed key's depends on when its first request is claimed."""
    native = prepared.native
    if native is None and prepared.operation.tag is None:
        return None
    if entry is not None and entry.outgoing_key is not None:
        return entry.outgoing_key
    if decide.window_us(prepared.identity.key, prepared.operation) is not None:
        return "(made of the key and the time of the claim)"
    try:
        return outgoing_key(
            prepared.identity, born_at=None, revision=0, format=native.format if native else "uuid",
            given=prepared.found.given, max_length=native.max_length if native else None,
        )  # fmt: skip
    except KeyInvalid as problem:
        return f"(refused: {problem.detail})"


def _place(prepared: Prepared) -> str | None:
    place = prepared.native.place if prepared.native is not None else prepared.operation.tag
    return f"{place.where} {place.name}" if place is not None else None


def _refused(refused: Refused) -> dict[str, Any]:
    return {
        "decision": "refuse",
        "reason": refused.reason.value,
        "problem": slug(refused.reason),
        "status": PROBLEMS[refused.reason].status,
        "detail": refused.detail,
    }


def _routed(policy: Policy, method: str, target: str, headers: Headers) -> Routed | Refused:
    """By prefix for a path, by host for a URL; a URL under a provider's base URL needs no ``hosts``."""
    for provider in policy.providers.values():
        base = f"{provider.scheme}://{provider.host}"
        for start in (f"{base}:{provider.port}{provider.base_path}", f"{base}{provider.base_path}"):
            if target.startswith((f"{start}/", f"{start}?")) or target == start:
                target = f"/{provider.name}{target[len(start) :]}"
    return route(policy, method=method, target=target, headers=headers, any_name=True)


def _headers(options: argparse.Namespace) -> Headers:
    lines = []
    for text in options.header:
        name, colon, value = text.partition(":")
        if not colon:
            raise CommandFailed(f"-H wants 'Name: value', not {text!r}", Exit.USAGE)
        lines.append((name.strip().encode("latin-1"), value.strip().encode("latin-1")))
    has_type = any(name.lower() == b"content-type" for name, _ in lines)
    if options.data is not None and not has_type:
        looks_like_json = _body(options.data).lstrip()[:1] in (b"{", b"[")
        kind = b"application/json" if looks_like_json else b"application/x-www-form-urlencoded"
        lines.append((b"Content-Type", kind))
    return tuple(lines)


def _body(data: str | None) -> bytes:
    if data is None:
        return b""
    if not data.startswith("@"):
        return data.encode()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as problem:
        raise CommandFailed(f"{data[1:]}: {problem.strerror}", Exit.USAGE) from None


def _caller(policy: Policy, name: str | None) -> str:
    if name is None:
        return policy.callers[0].id if len(policy.callers) == 1 else ""
    for caller in policy.callers:
        if name in (caller.name, caller.id):
            return caller.id
    raise CommandFailed(f"there is no caller {name!r}", Exit.USAGE)
