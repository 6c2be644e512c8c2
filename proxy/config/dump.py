"""The effective rules as plain data, for printing: every default said, no secret shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from proxy.config.checks.operations import quiet
from proxy.config.compile_operation import compile_key, settle_by
from proxy.config.effective import Configuration, EffectiveProvider
from proxy.config.models.base import own_first
from proxy.config.models.operation import Operation
from proxy.config.tree import Text
from proxy.config.units import Duration, Size
from proxy.config.values import Secret
from proxy.core.expressions import Expression


def effective(found: Configuration) -> dict[str, Any]:
    """What holds, in the form of a configuration file, for everything that could be read."""
    return {
        "server": shown(found.server),
        "ledger": shown(found.ledger),
        "admin": shown(found.admin),
        "callers": {name: {"id": shown(rules.id or name)} | shown(rules) for name, rules in found.callers.items()},
        "providers": {name: _provider(each) for name, each in found.providers.items() if each.rules is not None},
    }


def shown(value: object) -> Any:
    """*value* as YAML can say it. Secrets are masked; what was filled in is shown as it was written."""
    match value:
        case BaseModel():
            fields = own_first(type(value)).items()
            said = {info.alias or name: shown(getattr(value, name)) for name, info in fields}
            return {name: below for name, below in said.items() if below not in (None, [], {})}
        case Secret() | Duration() | Size() | Path():
            return str(value)
        case Expression():
            return shown(value.text)
        case Text():
            return value.shown
        case dict():
            return {str(shown(name)): shown(below) for name, below in value.items()}
        case tuple() | list():
            return [shown(below) for below in value]
        case _:
            return value


def _provider(found: EffectiveProvider) -> dict[str, Any]:
    rules = shown(found.rules)
    rules.pop("operations", None)
    return {
        "id": shown((found.rules and found.rules.id) or found.name),
        **rules,
        "operations": [_operation(operation) for _, operation in found.readable],
    }


def _operation(rules: Operation) -> dict[str, Any]:
    """An operation; what was left to default is said as it was understood."""
    key = compile_key(rules)
    said = {"name": shown(rules.name), "id": shown(rules.id or rules.name), **shown(rules)}
    said["key"] = {
        **said.get("key", {}),
        "from": [
            [shown(part) for part in each.parts] if len(each.parts) > 1 else shown(each.parts[0])
            for each in key.alternatives
        ],
        "given": [shown(each.parts[0]) for each in key.alternatives if each.given],
    }
    said["settle"] = {
        **said["settle"],
        "by": list(settle_by(rules)),
        "quiet_time": str(Duration((rules.timeout.total.us or 0) + (quiet(rules).us or 0))),
    }
    if rules.credential is None:
        said["credential"] = None
    return said
