"""What came back, and what it says. One row a case."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.core.documents import answer_document, request_document
from proxy.core.expressions import compile_expression
from proxy.core.model import Answer, Request
from proxy.core.outcome import Outcome, of_answer, of_failure, reads_body
from proxy.core.policy import Matcher, Native, Operation, OutcomeRule, StatusMatch
from proxy.core.ports import UNSENT, Phase, SendFailed
from proxy.core.reasons import Reason
from proxy.core.states import Event
from tests.core.builders import matcher, native, operation

JSON = ((b"Content-Type", b"application/json"),)


def judge(
    status: int, *, rule: Operation | None = None, key: Native | None = None, body: bytes = b"{}", complete: bool = True,
    method: str = "POST", attempt: int = 1, doubt: bool = False,
) -> Outcome:  # fmt: skip
    rule = rule or operation(native=key)
    request = Request(method, "", "/x", (), b"", "shop")
    document = request_document(request, fingerprint="1:aa", attempt=attempt, doubt=doubt)
    answer = answer_document(Answer(status, JSON, body, complete), document)
    return of_answer(rule, key, answer, status=status, method=method, attempt=attempt)


def test_every_status_has_the_outcome_that_the_documentation_says() -> None:
    ambiguous = {300, 301, 302, 408} | (set(range(500, 600)) - {501, 505})

    for status in range(200, 600):
        event = judge(status).event
        if status < 300 or status == 303:
            assert event is Event.ANSWERED, status
        elif status in ambiguous:
            assert event is Event.ANSWER_LOST, status
        elif status == 402:
            assert event is Event.DECLINED, status
        else:
            assert event is Event.TURNED_AWAY, status


@pytest.mark.parametrize("status", [600, 799, 999])
def test_a_status_nobody_knows_is_ambiguous(status: int) -> None:
    assert judge(status).event is Event.ANSWER_LOST


@pytest.mark.parametrize(
    ("status", "how", "expected"),
    [
        (409, {}, Event.TURNED_AWAY),
        (409, {"key": native()}, Event.ANSWER_LOST),
        (409, {"attempt": 2}, Event.ANSWER_LOST),
        (410, {"attempt": 2}, Event.ANSWER_LOST),
        (412, {"attempt": 2}, Event.ANSWER_LOST),
        (410, {"attempt": 2, "key": native()}, Event.TURNED_AWAY),
        (404, {"attempt": 2, "method": "DELETE"}, Event.ANSWER_LOST),
        (404, {"attempt": 1, "method": "DELETE"}, Event.TURNED_AWAY),
        (404, {"attempt": 2}, Event.TURNED_AWAY),
        (422, {"attempt": 2}, Event.TURNED_AWAY),
    ],
)
def test_a_conflict_on_a_later_attempt_may_mean_that_the_first_did_it(
    status: int, how: dict[str, Any], expected: Event
) -> None:
    assert judge(status, **how).event is expected


@pytest.mark.parametrize("phase", Phase)
def test_only_what_was_never_written_was_not_sent(phase: Phase) -> None:
    outcome = of_failure(operation(), SendFailed(phase, "reset", "gone"))

    assert outcome.event is (Event.NOT_SENT if phase in UNSENT else Event.ANSWER_LOST)


def rule(is_: Any, status: StatusMatch, when: str | None = None) -> OutcomeRule:
    return OutcomeRule(Matcher(status, compile_expression(when) if when else None), is_)


S409 = StatusMatch(codes=frozenset({409}))
S4XX = StatusMatch(classes=frozenset({4}))
ANY = StatusMatch()


def test_the_operations_own_rules_come_first_and_the_first_match_wins() -> None:
    own = operation(outcomes=(rule("succeeded", S409, "body.code == 'done'"), rule("ambiguous", S4XX)))

    assert judge(409, rule=own, body=b'{"code": "done"}').event is Event.ANSWERED
    assert judge(409, rule=own, body=b'{"code": "other"}').event is Event.ANSWER_LOST
    assert judge(404, rule=own).event is Event.ANSWER_LOST
    assert judge(500, rule=own).reason is Reason.SERVER_ERROR


def test_a_rule_may_ask_for_attempt_and_doubt() -> None:
    own = operation(outcomes=(rule("succeeded", S409, "doubt && attempt > `1`"),))

    assert judge(409, rule=own).event is Event.TURNED_AWAY
    assert judge(409, rule=own, attempt=2, doubt=True).event is Event.ANSWERED


@pytest.mark.parametrize(
    ("body", "complete"),
    [(b"<html>", True), (b"", True), (b'{"code": "done"', False), (b'{"code": "x"}', False), (b"\xff", True)],
    ids=["html", "empty", "cut", "cut after all", "no text"],
)
def test_a_rule_that_reads_a_body_that_cannot_be_read_is_ambiguous(body: bytes, complete: bool) -> None:
    own = operation(outcomes=(rule("succeeded", S409, "body.code == 'done'"),))

    outcome = judge(409, rule=own, body=body, complete=complete)

    assert (outcome.event, outcome.reason) == (Event.ANSWER_LOST, Reason.ANSWER_UNREADABLE)


def test_a_body_that_nothing_asks_for_may_be_broken() -> None:
    own = operation(outcomes=(rule("rejected", S409, "body.code == 'done'"),))

    assert judge(201, rule=own, body=b"{", complete=False).event is Event.ANSWERED


def test_a_condition_that_fails_is_no_match_and_counted() -> None:
    own = operation(outcomes=(rule("succeeded", ANY, "length(status) == `1`"),))

    outcome = judge(404, rule=own)

    assert (outcome.event, outcome.failed_expressions) == (Event.TURNED_AWAY, 1)


def test_a_condition_must_be_true_and_not_only_there() -> None:
    own = operation(outcomes=(rule("succeeded", S409, "body.code"),))

    assert judge(409, rule=own, body=b'{"code": "done"}').event is Event.TURNED_AWAY


def test_no_answer_can_have_a_rule_of_its_own() -> None:
    own = operation(outcomes=(rule("not_executed", StatusMatch(none=True)),))

    assert of_failure(own, SendFailed(Phase.WAIT, "reset", "gone")).event is Event.TURNED_AWAY
    assert judge(404, rule=own).reason is Reason.TURNED_AWAY


def test_a_key_in_use_on_the_first_attempt_is_an_alarm() -> None:
    key = native(in_progress=(matcher(409, "body.code == 'busy'"),), mismatch=(matcher(400, "body.code == 'reused'"),))

    first = judge(409, key=key, body=b'{"code": "busy"}')
    later = judge(409, key=key, body=b'{"code": "busy"}', attempt=2)
    reused = judge(400, key=key, body=b'{"code": "reused"}')

    assert (first.event, first.reason, first.alarm) == (Event.ANSWER_LOST, Reason.UNASKED_KEY_REUSE, True)
    assert (later.event, later.reason, later.alarm) == (Event.ANSWER_LOST, Reason.CONFLICT, False)
    assert (reused.event, reused.alarm) == (Event.ANSWER_LOST, True)


@pytest.mark.parametrize(
    ("status", "key", "expected"),
    [
        (400, native(failures="stored"), True),
        (401, native(failures="stored"), False),
        (429, native(failures="stored"), False),
        (400, native(failures="rerun"), False),
        (400, native(failures="stored", behind_key=(matcher(400, "body.x == `1`"),)), False),
        (400, None, False),
    ],
)
def test_a_failure_that_the_provider_stores_is_told(status: int, key: Native | None, expected: bool) -> None:
    assert judge(status, key=key).stores_failure is expected


def test_behind_the_key_is_told_only_by_a_body_that_can_be_read() -> None:
    key = native(behind_key=(matcher(402, "body.code == 'declined'"),))

    assert judge(402, key=key, body=b'{"code": "declined"}').behind_key
    unreadable = judge(402, key=key, body=b"<html>")
    assert (unreadable.event, unreadable.behind_key) == (Event.DECLINED, False)


def test_whether_a_body_will_be_asked_for_is_known_from_the_status() -> None:
    own = operation(outcomes=(rule("succeeded", S409, "body.code == 'done'"), rule("rejected", S4XX)))

    assert reads_body(own, 409)
    assert not reads_body(own, 404)
