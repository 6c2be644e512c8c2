"""Expressions as configuration values: compiled, free of silent traps, and reading only names that exist where they stand."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum

from proxy.config.problems import did_you_mean
from proxy.config.tree import Text
from proxy.config.values import shown, wrong
from proxy.core.documents import ANSWER_NAMES, REQUEST_NAMES
from proxy.core.expressions import WHOLE, Expression, ExpressionInvalid, as_path, compile_expression
from proxy.core.lookup_request import CALL_NAMES
from proxy.core.traps import traps, yaml_traps

_REQUEST = (REQUEST_NAMES | {"request"}) - {"attempt", "doubt"}
_ANSWER = ANSWER_NAMES | {"request"}
_SETTLING = _REQUEST | CALL_NAMES

_DASHED_HEADER = re.compile(r"headers\.[A-Za-z0-9_]+-[A-Za-z0-9_-]*")
_QUOTE = "put the expression in single quotes"


class Scope(Enum):
    """Where an expression stands, and so which names it can read (contract section 7.5). None: any name."""

    REQUEST = (_REQUEST,)
    ANSWER = (_ANSWER,)
    SETTLING = (_SETTLING,)
    LOOKED_UP = (_ANSWER | CALL_NAMES,)
    FOUND = (_SETTLING | {"item", "id"},)
    FACTS = (frozenset({"request", "response"}),)
    ITEM = (None,)

    @property
    def names(self) -> frozenset[str] | None:
        """The names of the document."""
        found: frozenset[str] | None = self.value[0]
        return found


def expression(scope: Scope) -> Callable[[object], Expression]:
    """A validator for expressions that stand in *scope*."""

    def check(value: object) -> Expression:
        if isinstance(value, Expression):
            return value
        return _compile(value, scope)

    return check


def _compile(value: object, scope: Scope) -> Expression:
    if isinstance(value, (dict, list)):
        raise wrong(f"must be an expression, not {shown(value)}", f"{_QUOTE}: YAML reads [] and {{}} as its own")
    if not isinstance(value, Text):
        raise wrong(f"must be an expression, not {shown(value)}", f"a literal is written '`{shown(value)}`'")
    cut = (
        yaml_traps(value, flow=value.in_flow, after=value.after) if value.is_plain and not value.is_substituted else ()
    )
    if cut:
        raise wrong(cut[0])
    try:
        found = compile_expression(value)
    except ExpressionInvalid as error:
        raise wrong(f"{shown(value)} is no expression: {_reason(value, error)}", _fix(value)) from None
    if value.is_plain and value.in_flow and '"' in value and as_path(found) is None:
        raise wrong(f"{shown(value)} holds a double quote and stands unquoted inside [] or {{}}", _QUOTE)
    silent = traps(found)
    if silent and not value.is_substituted:
        raise wrong(f"{shown(value)}: {silent[0]}")
    _check_names(value, found, scope)
    return found


def _reason(value: Text, error: ExpressionInvalid) -> str:
    if value.is_substituted:
        return "what was filled in is not valid"
    return error.message if error.position is None else f"{error.message} at character {error.position + 1}"


def _fix(value: Text) -> str:
    header = None if value.is_substituted else _DASHED_HEADER.search(value)
    if header is None:
        return ""
    return f'write headers."{header[0].removeprefix("headers.")}"'


def _check_names(value: Text, found: Expression, scope: Scope) -> None:
    if scope.names is None:
        return
    if WHOLE in found.roots:
        raise wrong(f"{shown(value)} takes the whole document", "name what it reads")
    for name in sorted(found.roots - scope.names):
        if value.is_substituted:
            raise wrong(f"{shown(value)} reads a name that does not exist here")
        if name in ("attempt", "doubt"):
            raise wrong(f"{shown(value)}: {name!r} is not known before the call is claimed")
        if "request" in scope.names and name in REQUEST_NAMES:
            raise wrong(f"{shown(value)}: there is no {name!r} here", f"write request.{name} for the request's")
        known = f"names here: {' '.join(sorted(scope.names))}"
        raise wrong(f"{shown(value)}: there is no {name!r} here", did_you_mean(name, scope.names) or known)


def path(*roots: str) -> Callable[[object], str]:
    """A validator for plain dotted paths below one of *roots*, such as ``body.sent_at``."""

    def check(value: object) -> str:
        if isinstance(value, str) and not isinstance(value, Text):
            return value
        found = _compile(value, Scope.ITEM)
        names = as_path(found)
        wanted = " or ".join(f"{root}.NAME" for root in roots)
        if names is None or len(names) < 2 or names[0] not in roots:
            raise wrong(f"{shown(value)} is not a path", f"write {wanted}")
        if any("." in name for name in names):
            raise wrong(f"{shown(value)}: a name with a dot can't be addressed here")
        return ".".join(names)

    return check
