"""Look-up rules and calls for tests: expressions as texts, and only what a test is about."""

from __future__ import annotations

import json
from typing import Any

from proxy.core.expressions import Expression, compile_expression
from proxy.core.lookup import Condition, Lookup, LookupAnswer
from proxy.core.lookup_answer import Circumstances
from proxy.core.lookup_request import Sought
from proxy.core.model import Answer
from tests.core.builders import SECOND, START
from tests.core.messages import JSON, answer, request

TAG = "0d8b8f2e-5f2c-4b8e-9a51-3f7f2d7a6c10"
MINUTE = 60 * SECOND

ALL_IS_WELL = Circumstances(is_quiet=True, is_within_horizon=True, is_tagged=True)

BY_TAG = {"meta.tag": "outgoing_key"}
BY_ORDER = {"order": "request.body.order"}
STATES = {"pending": "state == 'queued'", "rejected": "state == 'failed'"}
NO_MATCH = {"absent": "status == `404` && body.code == 'no_match'"}


def lookup(**fields: Any) -> Lookup:
    """A look-up of ``body.data`` by tag that knows when it saw everything, unless *fields* say otherwise."""
    given: dict[str, Any] = {
        "method": "GET",
        "path": ("/calls",),
        "items": "body.data",
        "where": BY_TAG,
        "id": "id",
        "complete": "body.more == `false`",
        **fields,
    }
    return Lookup(
        absent_after_us=MINUTE,
        horizon_us=30 * 86_400 * SECOND,
        **{name: _compiled(name, value) for name, value in given.items()},
    )


def reply(*, body: Expression | str | None = "item", status: int = 200, headers: dict[str, str] | None = None) -> Any:
    """The ``answer`` of a rule."""
    return LookupAnswer(status, _pairs(headers or {}), compile_expression(body) if isinstance(body, str) else body)


def sought(body: Any = None, **fields: Any) -> Sought:
    """An ambiguous call, sent once at START, with *body* as JSON."""
    given: dict[str, Any] = {
        "request": request(json.dumps(body if body is not None else {"order": "o-1", "amount": 100}), JSON),
        "caller": "shop",
        "fingerprint": "1:aa",
        "attempt": 1,
        "doubt": False,
        "key": "k1",
        "outgoing_key": TAG,
        "first_sent_at": START,
        "last_sent_at": START,
        **fields,
    }
    return Sought(**given)


def item(id_: object = "c-1", *, tag: object = TAG, **fields: object) -> dict[str, object]:
    """A candidate, ours by its tag."""
    return {"id": id_, "meta": {"tag": tag}, **fields}


def page(*items: object, more: bool = False) -> Answer:
    """An answer that lists *items*."""
    return answer(200, json.dumps({"data": list(items), "more": more}))


def _compiled(name: str, value: Any) -> Any:
    match name:
        case "query" | "headers":
            return _pairs(value)
        case "body":
            return tuple((tuple(path.split(".")), text) for path, text in _pairs(value))
        case "where":
            return tuple(Condition(compile_expression(theirs), ours) for theirs, ours in _pairs(value))
        case "items" | "id" | "since" | "complete" | "absent" | "pending" | "rejected":
            return None if value is None else compile_expression(value)
        case "path":
            return tuple(
                compile_expression(part[1:-1]) if part.startswith("{") else part
                for part in ((value,) if isinstance(value, str) else value)
            )
        case _:
            return value


def _pairs(texts: dict[str, str]) -> tuple[tuple[str, Expression], ...]:
    return tuple((name, compile_expression(text)) for name, text in texts.items())
