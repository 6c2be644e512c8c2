"""What came back, and what it says about the attempt. The one place that knows what is ambiguous.

An answer is read against the operation's own ``outcomes`` first, then against what HTTP and the providers' habits
allow to conclude (contract section 8). Where nothing can be concluded the outcome is ``answer_lost``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.core.documents import AnswerDocument
from proxy.core.expressions import Expression, ExpressionFailed
from proxy.core.policy import Matcher, Native, Operation
from proxy.core.ports import SendFailed
from proxy.core.reasons import Reason
from proxy.core.states import Event

IN_FRONT: Final = frozenset({401, 403, 407, 425, 429})
"""Answers that come from in front of a provider's idempotency store; it keeps none of them."""

_MAY_MEAN_DONE: Final = frozenset({409, 410, 412})
"""On a later attempt without a native key: the first may have done it."""

_EVENTS: Final = {
    "succeeded": (Event.ANSWERED, Reason.RULE),
    "rejected": (Event.DECLINED, Reason.RULE),
    "not_executed": (Event.TURNED_AWAY, Reason.RULE),
    "ambiguous": (Event.ANSWER_LOST, Reason.RULE),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an answer, or its absence, says about its attempt.

    ``failed_expressions`` counts expressions that could not be evaluated; each counted as no match.
    """

    event: Event
    reason: Reason
    behind_key: bool = False
    stores_failure: bool = False
    alarm: bool = False
    failed_expressions: int = 0


class _Unreadable(Exception):
    """A condition reads the body of an answer whose body can't be read."""


@dataclass(slots=True)
class _Asker:
    """Asks conditions of one answer and counts those that fail."""

    document: AnswerDocument
    failed: int = 0

    def holds(self, when: Expression | None, *, strict: bool = True) -> bool:
        if when is None:
            return True
        if when.reads("body") and not self.document.is_body_readable:
            if strict:
                raise _Unreadable
            return False
        try:
            return when.search(self.document) is True
        except ExpressionFailed:
            self.failed += 1
            return False

    def any_matches(self, matchers: Iterable[Matcher], status: int, *, strict: bool = True) -> bool:
        return any(m.status.matches(status) and self.holds(m.when, strict=strict) for m in matchers)


def reads_body(operation: Operation, status: int) -> bool:
    """Whether judging an answer with *status* may need its body."""
    native = operation.native
    matchers = [rule.match for rule in operation.outcomes]
    if native is not None:
        matchers += [*native.in_progress, *native.mismatch, *native.behind_key]
    return any(m.when is not None and m.when.reads("body") and m.status.matches(status) for m in matchers)


def of_answer(
    operation: Operation, native: Native | None, document: AnswerDocument, *, status: int, method: str, attempt: int
) -> Outcome:
    """The outcome of an answered attempt. *native* is the native key in force for this request, None if there is none."""
    asker = _Asker(document)
    try:
        event, reason, alarm = _judge(operation, native, asker, status=status, method=method, attempt=attempt)
    except _Unreadable:
        return Outcome(Event.ANSWER_LOST, Reason.ANSWER_UNREADABLE, failed_expressions=asker.failed)
    behind = native is not None and asker.any_matches(native.behind_key, status, strict=False)
    return Outcome(
        event,
        reason,
        behind_key=behind,
        stores_failure=event is Event.TURNED_AWAY and _is_failure_stored(native, status, behind_key=behind),
        alarm=alarm,
        failed_expressions=asker.failed,
    )


def of_failure(operation: Operation, failure: SendFailed) -> Outcome:
    """The outcome of an attempt that got no complete answer."""
    if not failure.sent:
        return Outcome(Event.NOT_SENT, Reason.NOT_SENT)
    for rule in operation.outcomes:
        if rule.match.status.none and rule.match.when is None:
            return Outcome(*_EVENTS[rule.outcome])
    return Outcome(Event.ANSWER_LOST, Reason.ANSWER_LOST)


def _judge(
    operation: Operation, native: Native | None, asker: _Asker, *, status: int, method: str, attempt: int
) -> tuple[Event, Reason, bool]:
    if native is not None and (
        asker.any_matches(native.in_progress, status) or asker.any_matches(native.mismatch, status)
    ):
        # On a first attempt nobody can have used the key before us: somebody else derived or guessed it.
        return Event.ANSWER_LOST, Reason.UNASKED_KEY_REUSE if attempt == 1 else Reason.CONFLICT, attempt == 1
    for rule in operation.outcomes:
        if rule.match.status.matches(status) and not rule.match.status.none and asker.holds(rule.match.when):
            return *_EVENTS[rule.outcome], False
    return *_by_status(status, method=method, has_native=native is not None, attempt=attempt), False


def _by_status(status: int, *, method: str, has_native: bool, attempt: int) -> tuple[Event, Reason]:
    if 200 <= status < 300 or status == 303:
        return Event.ANSWERED, Reason.ANSWERED
    if status in (300, 301, 302):
        return Event.ANSWER_LOST, Reason.REDIRECTED
    if status == 402:
        return Event.DECLINED, Reason.DECLINED
    if status == 408:
        return Event.ANSWER_LOST, Reason.REQUEST_TIMEOUT
    if status == 409 and has_native:
        return Event.ANSWER_LOST, Reason.CONFLICT
    if attempt > 1 and not has_native and (status in _MAY_MEAN_DONE or (status == 404 and method == "DELETE")):
        return Event.ANSWER_LOST, Reason.LATER_CONFLICT
    if 300 <= status < 500 or status in (501, 505):
        return Event.TURNED_AWAY, Reason.TURNED_AWAY
    return Event.ANSWER_LOST, Reason.SERVER_ERROR


def _is_failure_stored(native: Native | None, status: int, *, behind_key: bool) -> bool:
    """Whether the provider replays this failure for as long as it remembers the key."""
    if native is None or native.failures != "stored":
        return False
    return behind_key if native.behind_key else status not in IN_FRONT
