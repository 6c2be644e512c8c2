"""Providers: their names and hosts, where they are, and what depends on callers, the ledger or several operations."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from proxy.config.checks import answers, operations, statements
from proxy.config.checks.listeners import check_auth
from proxy.config.checks.site import Site, is_loopback, is_private
from proxy.config.effective import Configuration, EffectiveProvider
from proxy.config.models.operation import Operation
from proxy.config.models.provider import Provider
from proxy.config.problems import Mark, Problems
from proxy.config.tree import Node, Path, mark_below
from proxy.config.units import Duration
from proxy.core.policy import UNMATCHED

_Named = tuple[str, str | None, tuple[str, ...], Node]
"""Name, id, former ids, and the node that says them."""


def check(found: Configuration, problems: Problems) -> None:
    """All of it."""
    _check_ids(found, problems)
    _check_hosts(found, problems)
    for provider in found.providers.values():
        if provider.rules is not None:
            _check_provider(provider, provider.rules, found, Site(provider.node, problems, provider.left_out))
        _check_operation_ids(provider, problems)
        for operation, rules in provider.readable:
            site = Site(operation.node, problems, operation.left_out)
            operations.check(rules, site)
            answers.check(rules.answers, site)
            _check_raw(provider, rules, found, site)
            _check_kept(provider, rules, found, site)


def check_alone(provider: EffectiveProvider, problems: Problems) -> None:
    """What can be said of a preset by itself."""
    if provider.rules is not None:
        site = Site(provider.node, problems, provider.left_out)
        answers.check(provider.rules.answers, site)
        statements.check(provider, provider.rules, site)
    _check_operation_ids(provider, problems)
    for operation, rules in provider.readable:
        operations.check(rules, Site(operation.node, problems, operation.left_out))


def is_sigv4(host: str) -> bool:
    """Whether requests to *host* are signed over host and path (AWS Signature Version 4)."""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))


def _check_ids(found: Configuration, problems: Problems) -> None:
    _unique(
        [(p.name, p.rules.id, p.rules.was, p.node) for p in found.providers.values() if p.rules is not None],
        "provider",
        problems,
    )
    callers = [(name, rules.id, rules.was, found.section("callers", name)) for name, rules in found.callers.items()]
    _unique(callers, "caller", problems)


def _check_operation_ids(provider: EffectiveProvider, problems: Problems) -> None:
    named = [(rules.name, rules.id, rules.was, operation.node) for operation, rules in provider.readable]
    _unique(named, "operation", problems)
    for name, own_id, _, node in named:
        for field, value in (("name", name), ("id", own_id)):
            if value == UNMATCHED:
                mark = mark_below(node, (field,))
                problems.add(mark, f"{UNMATCHED!r} stands for what no operation matches", "choose another")


def _unique(named: Iterable[_Named], kind: str, problems: Problems) -> None:
    """Ids, former ones too, name one thing: entries are found by them."""
    seen: dict[str, tuple[str, Mark]] = {}
    for name, own_id, was, node in named:
        ids: list[tuple[str, Path]] = [(own_id or name, ("id",) if own_id else ())]
        ids += [(old, ("was", index)) for index, old in enumerate(was)]
        for identifier, path in ids:
            mark = mark_below(node, path)
            other, at = seen.setdefault(identifier, (name, mark))
            if at == mark or identifier == name == other:  # two of one name are told as that
                continue
            problems.add(mark, f"{identifier!r} is the id of {kind} {other!r} already, at {at}", "ids are never shared")


def _check_hosts(found: Configuration, problems: Problems) -> None:
    seen: dict[str, str] = {}
    own = found.server.hosts if found.server else ()
    for provider in found.providers.values():
        site = Site(provider.node, problems, provider.left_out)
        for index, host in enumerate(provider.rules.hosts if provider.rules else ()):
            other = seen.setdefault(host, provider.name)
            if other != provider.name:
                site.wrong(
                    "hosts",
                    index,
                    message=f"{host!r} is provider {other!r}'s already",
                    fix=f"set hosts: [] in {provider.name!r}; its clients then use the path prefix /{provider.name}",
                )
            elif host in own or is_loopback(host):
                site.wrong("hosts", index, message=f"{host!r} is what clients call this proxy itself", fix="remove it")


def _check_provider(provider: EffectiveProvider, rules: Provider, found: Configuration, site: Site) -> None:
    host = urlsplit(rules.base_url).hostname or ""
    if is_private(host) and not rules.allow_private and rules.connect_to is None:
        site.wrong(
            "base_url",
            message=f"{rules.base_url!r} is a private or loopback address",
            fix="set allow_private: true if it is meant, or connect_to for a sandbox",
        )
    if rules.auth is not None:
        check_auth(rules.auth, found, site)
    if is_sigv4(host):
        _check_signed(provider, site)
    answers.check(rules.answers, site)
    statements.check(provider, rules, site)


def _check_signed(provider: EffectiveProvider, site: Site) -> None:
    """AWS signs host, path, query and body: what is signed can't be altered, nor sent under another host."""
    if not site.says("hosts"):
        site.wrong(
            "hosts",
            message="requests to AWS are signed for their host, so they can't come by path prefix",
            fix="write their host here and send them with it as Host, or through the forward proxy",
        )
    if site.says("auth"):
        site.wrong("auth", message="AWS requests carry their own signature", fix="remove it")
    for operation, rules in provider.readable:
        below = Site(operation.node, site.problems, operation.left_out)
        for field, rule in (("native", rules.native), ("tag", rules.tag)):
            for way in ("body", "query", "field"):
                if getattr(rule, way, None):
                    below.wrong(
                        field,
                        way,
                        message="would break the signature of the request",
                        fix="use a header, or let the caller set it",
                    )


def _check_raw(provider: EffectiveProvider, rules: Operation, found: Configuration, site: Site) -> None:
    """Raw keys go into one key space at the provider, so they must be unique there by themselves."""
    native = rules.native
    if native is None or native.format != "raw" or native.natural or native.raw_shared == "accept":
        return
    callers = [each for each in found.callers.values() if each.providers is None or provider.name in each.providers]
    shared = [f"{len(callers)} callers"] if len(callers) > 1 else []
    shared += [f"{len(provider.operations)} operations"] if len(provider.operations) > 1 else []
    if shared:
        site.wrong(
            "native",
            "format",
            message=f"raw keys of {' and '.join(shared)} meet at this provider: one call would get another's answer",
            fix="use uuid or hex32, or write raw_shared: accept if every caller's keys are unique everywhere",
        )


def _check_kept(provider: EffectiveProvider, rules: Operation, found: Configuration, site: Site) -> None:
    """The ledger must remember longer than anything that a forgotten entry would let happen twice."""
    if found.ledger is None or found.ledger.retention.entry.us is None:
        return
    if any(site.is_partial(field) for field in ("timeout", "settle", "key", "native")):
        return
    kept = found.ledger.retention.entry
    native = rules.native
    needs = {
        "timeout.total and the quiet time": (rules.timeout.total.us or 0) + (operations.quiet(rules).us or 0),
        "key.window": (rules.key.window.us or 0) if rules.key.window is not None else 0,
        "native.retention": (native.retention.us or 0) if native is not None and not native.natural else 0,
    }
    root = Site(found.node, site.problems, found.left_out)
    for what, us in needs.items():
        if us >= found.ledger.retention.entry.us:
            root.wrong(
                "ledger",
                "retention",
                "entry",
                message=f"{kept} is not longer than {what} of operation {rules.name!r} of {provider.name!r} ({Duration(us)})",
                fix=f"write more than {Duration(us)}",
            )
