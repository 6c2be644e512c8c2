"""Models to policy: what the configuration means, frozen, with every default said."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from proxy.config.checks.providers import is_sigv4
from proxy.config.checks.site import split_address
from proxy.config.compile_operation import compile_answers, compile_operation, compile_timeout, unmatched_operation
from proxy.config.effective import Configuration, EffectiveProvider
from proxy.config.models.provider import Auth, Caller, Provider
from proxy.config.models.server import Ledger, Server, ServerTls
from proxy.config.tree import Mapping as MappingNode
from proxy.core import policy
from proxy.core.model import Headers, Mode
from proxy.core.ports import Route

_PORTS = {"http": 80, "https": 443}


def compile_policy(found: Configuration, warnings: tuple[str, ...] = ()) -> policy.Policy:
    """The policy of a configuration without problems."""
    assert found.server is not None  # sections that can't be read are problems, and there are none
    assert found.ledger is not None
    assert found.admin is not None
    tokens = {name: (rules.token.value, rules.role) for name, rules in found.admin.tokens.items()}
    return policy.Policy(
        server=_server(found.server, tokens),
        ledger=_ledger(found.ledger),
        providers={name: compile_provider(each, found.defaults) for name, each in found.providers.items()},
        callers=tuple(_caller(name, rules) for name, rules in found.callers.items()),
        warnings=warnings,
    )


def compile_provider(found: EffectiveProvider, defaults: MappingNode) -> policy.Provider:
    """One provider and its operations."""
    rules = found.rules
    assert rules is not None
    parts = urlsplit(rules.base_url)
    assert parts.scheme in _PORTS
    scheme = cast('Literal["http", "https"]', parts.scheme)
    host = str(parts.hostname)
    return policy.Provider(
        id=str(rules.id or found.name),
        name=found.name,
        was=tuple(map(str, rules.was)),
        scheme=scheme,
        host=host,
        port=parts.port or _PORTS[scheme],
        base_path=parts.path.rstrip("/"),
        hosts=tuple(map(str, rules.hosts)),
        route=_route(rules),
        connect_to=str(rules.connect_to) if rules.connect_to else None,
        mode=Mode(rules.mode),
        operations=tuple(compile_operation(operation) for _, operation in found.readable),
        unmatched=unmatched_operation(rules, defaults) if rules.unmatched == "protect" else rules.unmatched,
        auth_headers=_auth_headers(rules.auth),
        concurrency=rules.concurrency,
        timeout=compile_timeout(rules.timeout),
        answers=compile_answers(rules.answers),
        signed="sigv4" if is_sigv4(host) else None,
        later=_later(
            category=rules.category,
            fuse=rules.fuse,
            upstream_proxy=rules.upstream_proxy,
            oauth2=rules.auth.oauth2 if rules.auth else None,
            statements=rules.statements,
            orphaned=rules.orphaned,
        ),
    )


def _server(rules: Server, tokens: Mapping[str, tuple[str, str]]) -> policy.ServerRules:
    return policy.ServerRules(
        listen=split_address(rules.listen),
        admin_listen=split_address(rules.admin_listen),
        tls=_listener_tls(rules.tls) if rules.tls else None,
        workers=rules.workers,
        max_request_body=rules.max_request_body.bytes,
        drain_seconds=rules.drain.seconds,
        allow_anonymous=rules.allow_anonymous,
        hosts=tuple(map(str, rules.hosts)),
        admin_tokens=tokens,
    )


def _listener_tls(rules: ServerTls) -> policy.ListenerTls:
    return policy.ListenerTls(
        cert_file=str(rules.cert),
        key_file=str(rules.key),
        client_ca_file=str(rules.client_ca) if rules.client_ca else None,
    )


def _ledger(rules: Ledger) -> policy.LedgerRules:
    kept, answers = rules.retention.entry.us, rules.retention.answer.us
    if kept is not None:
        answers = kept if answers is None else min(answers, kept)
    return policy.LedgerRules(
        url=rules.url.value,
        retention_entry_us=kept,
        retention_answer_us=answers,
        max_stored_answer=rules.max_stored_answer.bytes,
        encryption_keys=tuple(base64.b64decode(key.value) for key in rules.encryption_keys),
    )


def _caller(name: str, rules: Caller) -> policy.Caller:
    return policy.Caller(
        id=str(rules.id or name),
        name=name,
        was=tuple(map(str, rules.was)),
        tokens=tuple(token.value for token in rules.tokens),
        networks=tuple(map(str, rules.networks)),
        certificates=tuple(map(str, rules.certificates)),
        providers=None if rules.providers is None else tuple(map(str, rules.providers)),
        concurrency=rules.concurrency,
        later=_later(webhook=rules.webhook),
    )


def _route(rules: Provider) -> Route:
    """Where connections go: the base URL, or `connect_to` with the base URL's name kept for TLS and Host."""
    origin = urlsplit(rules.base_url)
    end = urlsplit(rules.connect_to) if rules.connect_to else origin
    return Route(
        scheme=end.scheme,
        host=str(origin.hostname),
        port=origin.port or _PORTS[origin.scheme],
        connect_host=str(end.hostname),
        connect_port=end.port or _PORTS[end.scheme],
        allow_private=rules.allow_private or rules.connect_to is not None,
        ca_file=str(rules.tls.ca) if rules.tls.ca else None,
        client_cert=str(rules.tls.client_cert) if rules.tls.client_cert else None,
    )


def _auth_headers(auth: Auth | None) -> Headers:
    if auth is None:
        return ()
    if auth.basic is not None:
        password = auth.basic.password.value if auth.basic.password else ""
        pair = f"{auth.basic.username.value}:{password}".encode()
        return ((b"Authorization", b"Basic " + base64.b64encode(pair)),)
    return tuple((name.encode("ascii"), secret.value.encode("ascii")) for name, secret in auth.headers.items())


def _later(**fields: Any) -> Mapping[str, Any]:
    """What is parsed and valid and takes effect with a later version; secrets stay wrapped."""
    return {name: value for name, value in fields.items() if value}
