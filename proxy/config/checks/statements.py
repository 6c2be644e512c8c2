"""Mappings of a provider's statements: the operations and facts they speak of exist."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from proxy.config.checks.site import Site
from proxy.config.effective import EffectiveProvider
from proxy.config.models.provider import Provider
from proxy.config.models.statement import Statement
from proxy.config.problems import did_you_mean
from proxy.config.tree import Mapping

ENTRY_NAMES = ("outgoing_key", "key", "id")
"""What names an entry beside its facts."""


def check(provider: EffectiveProvider, rules: Provider, site: Site) -> None:
    """All mappings of *provider*; none while an operation can't be read, since it may be the one that is meant."""
    facts = {own.name: _facts(operation.node) for operation, own in provider.readable}
    if len(facts) < len(provider.operations):
        return
    for name, statement in rules.statements.items():
        path = ("statements", name)
        for index, operation in enumerate(statement.operations):
            if operation not in facts:
                site.wrong(
                    *path,
                    "operations",
                    index,
                    message=f"there is no operation {operation!r}",
                    fix=did_you_mean(operation, facts),
                )
        meant = [facts[each] for each in statement.operations if each in facts] or list(facts.values())
        _check_mapping(statement, frozenset().union(*meant), site, path)


def _facts(operation: Mapping) -> frozenset[str]:
    node = operation.get("facts")
    return frozenset(node.entries) if isinstance(node, Mapping) else frozenset()


def _check_mapping(statement: Statement, facts: frozenset[str], site: Site, path: tuple[str, ...]) -> None:
    for index, way in enumerate(statement.match):
        for ours in way:
            if ours not in facts and ours not in ENTRY_NAMES:
                fix = did_you_mean(ours, facts) or f"use {', '.join(ENTRY_NAMES)}, or a fact of its operations"
                site.wrong(*path, "match", index, ours, message=f"there is no fact {ours!r}", fix=fix)
    for ours in statement.compare:
        if ours not in facts:
            fix = did_you_mean(ours, facts) or "declare it under `facts` of the operation"
            site.wrong(*path, "compare", ours, message=f"there is no fact {ours!r}", fix=fix)
    if statement.time is not None and statement.time.zone != "UTC":
        try:
            ZoneInfo(statement.time.zone)
        except (ZoneInfoNotFoundError, ValueError):
            site.wrong(
                *path,
                "time",
                "zone",
                message=f"there is no time zone {statement.time.zone!r}",
                fix="write UTC or Europe/Berlin, say",
            )
