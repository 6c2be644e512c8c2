"""A problem of our own as an HTTP answer: problem+json (RFC 9457) with every member, and what the SDK wants to see.

An SDK recognises its provider's errors by their shape: some take any document without an ``error`` member for a success.
So a provider's ``answers`` add members, headers and a content type; their texts may hold ``{detail}`` and the like.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from proxy.core.model import Executed, Status
from proxy.core.outgoing import HOP_BY_HOP
from proxy.core.policy import Answers, Provider
from proxy.core.problems import PROBLEMS, TYPE_PREFIX, slug, status_of
from proxy.core.reasons import Reason
from proxy.exchange.told import Problem
from proxy.server.facts import fact_headers
from proxy.server.framing import Answer

CONTENT_TYPE: Final = "application/problem+json"

_STATUSES: Final = frozenset(Status)
_PLACE: Final = re.compile(r"\{([a-z_]+)\}")
_NOT_IN_HEADER: Final = re.compile(r"[^\x20-\x7e]+")
_PROVIDER_UNKNOWN: Final = Answers(
    members={"error": {"type": "api_error", "message": "{detail}", "code": "{reason}"}},
)
"""Where no provider is known, nor is its SDK. An ``error`` member is what most look for; stripe-node takes a document
without one for a success, whatever the status."""

_FRAMING: Final = HOP_BY_HOP | {b"content-length", b"content-type", b"date"}


def render(problem: Problem, *, provider: Provider | None, request_id: str) -> Answer:
    """The answer that *problem* is. *request_id* names it where there is no entry to name."""
    members = _members(problem, provider, request_id)
    answers = _answers(problem, provider)
    body = orjson.dumps({**_filled(answers.members, members), **members})  # what answers add never hides our own
    headers = [(b"Content-Type", (answers.content_type or CONTENT_TYPE).encode("latin-1", "replace"))]
    headers += fact_headers(problem.facts, executed=problem.facts.executed or Executed.UNKNOWN)
    if problem.retry_after is not None:
        headers.append((b"Retry-After", b"%d" % _retry_after(problem.retry_after)))
    if problem.proxy_status is not None:
        headers.append((b"Proxy-Status", problem.proxy_status.encode("latin-1", "replace")))
    if problem.reason is Reason.CALLER_UNKNOWN:
        headers.append((b"WWW-Authenticate", b"Dedup-Token"))  # a 401 must say how (RFC 9110 11.6.1)
    headers += _answer_headers(answers, members)
    return Answer(members["status"], tuple(headers), body)


def _members(problem: Problem, provider: Provider | None, request_id: str) -> dict[str, Any]:
    facts = problem.facts
    entry = facts.entry
    return {
        "type": TYPE_PREFIX + slug(problem.reason),
        "title": f"Dedup Proxy: {PROBLEMS[problem.reason].title}",
        "status": status_of(problem.reason, sent=facts.sent),
        "detail": problem.detail,
        "instance": f"urn:dedup-proxy:entry:{entry}" if entry else f"urn:dedup-proxy:request:{request_id}",
        "provider": problem.provider or (provider.name if provider is not None else None),
        "operation": problem.operation,
        "key": problem.key,
        "entry": entry,
        "entry_status": facts.status if facts.status in _STATUSES else None,
        "executed": (facts.executed or Executed.UNKNOWN).value,
        "sent": "yes" if facts.sent else "no",
        "reason": facts.reason.value,
        "retryable": problem.retry_after is not None,
    }


def _retry_after(seconds: float) -> int:
    """Whole seconds (RFC 9110 10.2.3), never too few; at least one, so that nobody is asked to come back at once."""
    return max(1, math.ceil(seconds))


def _answers(problem: Problem, provider: Provider | None) -> Answers:
    """The operation's answers over the provider's."""
    outer = provider.answers if provider is not None else _PROVIDER_UNKNOWN
    if problem.operation_rule is None:
        return outer
    inner = problem.operation_rule.answers
    return Answers(
        members={**outer.members, **inner.members},
        headers={**outer.headers, **inner.headers},
        content_type=inner.content_type or outer.content_type,
    )


def _answer_headers(answers: Answers, members: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode("latin-1", "replace"), _NOT_IN_HEADER.sub(" ", _text(_filled(value, members))).encode("ascii"))
        for name, value in answers.headers.items()
        if name.lower().encode("latin-1", "replace") not in _FRAMING
    ]


def _filled(template: Any, members: Mapping[str, Any]) -> Any:
    """*template* with its places filled. A text that is nothing but one place becomes that member, a number or a bool too."""
    if isinstance(template, str):
        whole = _PLACE.fullmatch(template)
        if whole is not None and whole[1] in members:
            return members[whole[1]]
        return _PLACE.sub(lambda place: _text(members[place[1]]) if place[1] in members else place[0], template)
    if isinstance(template, Mapping):
        return {name: _filled(value, members) for name, value in template.items()}
    if isinstance(template, (list, tuple)):
        return [_filled(value, members) for value in template]
    return template


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
