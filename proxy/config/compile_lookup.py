"""A look-up's model to its compiled rule."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.config.lookups import method_and_path
from proxy.config.models.settle import Lookup
from proxy.core import lookup
from proxy.core.expressions import Expression

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def compile_lookup(rules: Lookup, body_type: str) -> lookup.Lookup:
    """The rule that *rules* mean, in an operation whose answers are of *body_type*."""
    method, path = method_and_path(rules.request)
    return lookup.Lookup(
        method=method,
        path=path,
        query=_named(rules.query),
        headers=_named(rules.headers),
        body=tuple((tuple(name.split(".")), value) for name, value in _named(rules.body)),
        items=rules.items,
        where=tuple(lookup.Condition(theirs, ours) for theirs, ours in rules.where.items()),
        id=rules.id,
        since=rules.since,
        complete=rules.complete,
        absent=rules.absent,
        absent_after_us=rules.absent_after.us or 0,
        horizon_us=rules.horizon.us,
        pending=rules.pending,
        rejected=rules.rejected,
        rate=_rate(rules.rate) if rules.rate is not None else None,
        answer=lookup.LookupAnswer(rules.answer.status, _named(rules.answer.headers), rules.answer.body)
        if rules.answer is not None
        else None,
        body_type="xml" if body_type == "xml" else "json",
    )


def _named(expressions: Mapping[str, Expression]) -> tuple[tuple[str, Expression], ...]:
    return tuple((str(name), value) for name, value in expressions.items())


def _rate(text: str) -> lookup.Rate:
    count, _, unit = text.partition("/")
    return lookup.Rate(int(count), _SECONDS[unit])
