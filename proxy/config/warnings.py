"""What is valid and still worth saying: fields whose effect is not built yet, rules that never apply, risky choices."""

from __future__ import annotations

from urllib.parse import urlsplit

from proxy.config.checks.site import Site, is_private
from proxy.config.effective import Configuration, EffectiveProvider
from proxy.config.models.operation import Operation
from proxy.config.patterns import compile_pattern, sample
from proxy.config.problems import Problems
from proxy.config.tree import Mapping, Node, Scalar, Sequence, is_null, mark_at, node_at

_Table = dict[tuple[str, ...], str]

_NOT_YET = "is checked, but has no effect yet"

_ROOT: _Table = {
    ("server", "intercept"): "CONNECT is refused",
    ("server", "tunnel"): "CONNECT is refused",
    ("orphaned",): "removed ids are not looked for",
}
_CALLER: _Table = {
    ("webhook",): "nobody is told",
    ("was",): "keys under former ids are not looked up",
}
_PROVIDER: _Table = {
    ("was",): "keys under former ids are not looked up",
    ("orphaned",): "removed ids are not looked for",
    ("fuse",): "sending is never paused",
    ("upstream_proxy",): "connections go directly",
    ("auth", "oauth2"): "no token is fetched",
    ("statements",): "there is no statement command",
    ("accept_ambiguous",): "leaving enforce is not held back",
}
_OPERATION: _Table = {
    ("was",): "keys under former ids are not looked up",
    ("accept_ambiguous",): "leaving enforce is not held back",
    ("suspect",): "other keys with the same fingerprint are not noticed",
    ("deliver_within",): "Prefer: respond-async is not honoured",
    ("facts",): "nothing is kept to search for",
    ("settle", "lookup"): "no provider is asked",
    ("settle", "resend_for"): "a call is sent again only while its caller waits, or when it asks again",
    ("native", "hook"): "the operation has no native key",
    ("store", "redact"): "until it has, only the status and headers of answers are kept",
}


def find(found: Configuration) -> tuple[str, ...]:
    """All warnings, by file and line."""
    notes = Problems()
    _without_effect(_ROOT, found.node, notes)
    if found.server is not None and found.server.workers > 1:
        Site(found.node, notes).wrong("server", "workers", message=_NOT_YET, fix="one process serves")
    if not found.providers:
        notes.add(found.node.mark, "there are no providers: every request will be refused", "add one under `providers`")
    for name in found.callers:
        _without_effect(_CALLER, found.section("callers", name), notes)
    for provider in found.providers.values():
        _about_provider(provider, notes)
    return tuple(str(note) for note in notes)


def _about_provider(provider: EffectiveProvider, notes: Problems) -> None:
    _without_effect(_PROVIDER, provider.node, notes)
    _observed(provider.node, notes)
    rules = provider.rules
    if rules is not None:
        host = urlsplit(rules.base_url).hostname or ""
        if urlsplit(rules.base_url).scheme == "http" and not is_private(host) and rules.connect_to is None:
            Site(provider.node, notes).wrong(
                "base_url", message=f"requests to {rules.base_url!r} cross the network in clear", fix="use https://"
            )
    has_wildcard = rules is not None and any(str(host).startswith("*.") for host in rules.hosts)
    for operation, own in provider.readable:
        if has_wildcard and not any(part.reads("host") for part in own.scope):
            Site(provider.node, notes).wrong(
                "hosts",
                message=f"operation {own.name!r}: a key met on one of these hosts is a duplicate on every other",
                fix="add `host` to `scope` if each host is an account of its own",
            )
        _without_effect(_OPERATION, operation.node, notes)
        _observed(operation.node, notes)
        _about_operation(own, Site(operation.node, notes))
    _hidden(provider, notes)


def _about_operation(rules: Operation, site: Site) -> None:
    if rules.timeout.connect.seconds > rules.timeout.total.seconds and site.says("timeout", "connect"):
        site.wrong("timeout", "connect", message=f"timeout.total ends it earlier, after {rules.timeout.total}")
    if rules.native is not None and rules.native.behind_key and not rules.native.mismatch:
        site.wrong(
            "native",
            "behind_key",
            message="its refusal of another body under a known key would count as a no that speaks for all attempts",
            fix="describe that refusal in `native.mismatch`",
        )
    if rules.settle.unresolved != "hold":
        site.wrong("settle", "unresolved", message=_NOT_YET, fix="ambiguous entries are held")
    lookup = rules.settle.lookup
    if lookup is not None:
        if lookup.complete is None and lookup.absent is None:
            site.wrong(
                "settle",
                "lookup",
                message="without `complete` or `absent`, finding nothing never proves that nothing happened",
            )
        if rules.settle.by is not None and "lookup" not in rules.settle.by:
            site.wrong("settle", "lookup", message="is never asked: settle.by leaves it out")
        if site.says("settle", "request_life"):
            site.wrong(
                "settle",
                "request_life",
                message="is not used where there is a look-up: absent_after stands in its place",
            )
    for index, rule in enumerate(rules.outcomes):
        if "none" in rule.status and rule.outcome == "not_executed":
            site.wrong(
                "outcomes",
                index,
                message="a timeout will count as proof that nothing happened; the call is then sent again",
            )
        earlier = [each for each in rules.outcomes[:index] if each.when is None]
        if rule.status and any(set(rule.status) <= set(each.status) for each in earlier):
            site.wrong("outcomes", index, message="is never reached: an earlier line without `when` has these statuses")


def _hidden(provider: EffectiveProvider, notes: Problems) -> None:
    """Patterns that an earlier operation without a condition of its own takes whole."""
    above: list[tuple[str, Operation]] = []
    for operation, rules in provider.readable:
        for index, line in enumerate(rules.match):
            pattern = compile_pattern(line)
            path = sample(pattern)
            for name, earlier in above:
                patterns = [compile_pattern(each) for each in earlier.match]
                if earlier.when is None and any(
                    p.method == pattern.method and p.path.fullmatch(path) for p in patterns
                ):
                    Site(operation.node, notes).wrong(
                        "match", index, message=f"is never reached: operation {name!r} comes first and matches it"
                    )
                    break
        above.append((rules.name, rules))


def _observed(node: Mapping, notes: Problems) -> None:
    mode = node.get("mode")
    if isinstance(mode, Scalar) and mode.value == "observe":
        notes.add(mode.mark, f"observe {_NOT_YET}", "requests are forwarded, nothing is recorded")


def _without_effect(table: _Table, node: Node, notes: Problems) -> None:
    for path, meanwhile in table.items():
        if _is_set(node, path):
            notes.add(mark_at(node, path), _NOT_YET, meanwhile)


def _is_set(node: Node, path: tuple[str, ...]) -> bool:
    match node_at(node, path):
        case None:
            return False
        case Mapping(entries):
            return bool(entries)
        case Sequence(items):
            return bool(items)
        case found:
            return not is_null(found)
