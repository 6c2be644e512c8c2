"""What the answer to a look-up says: one, none, several, or nothing at all. One row a case."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.lookup import (
    Absent,
    CouldNotAsk,
    Found,
    FoundPending,
    FoundRejected,
    FoundSeveral,
    Lookup,
    NotYet,
    Verdict,
)
from proxy.core.lookup_answer import ITEMS_MAX, Circumstances, judge
from proxy.core.lookup_request import Sought
from proxy.core.model import Answer
from proxy.core.reasons import Reason
from proxy.core.states import Event
from tests.core.builders import START
from tests.core.lookups import ALL_IS_WELL, BY_ORDER, MINUTE, NO_MATCH, STATES, TAG, item, lookup, page, reply, sought
from tests.core.messages import answer


def judged(
    came: Answer, rule: Lookup | None = None, call: Sought | None = None, circumstances: Circumstances = ALL_IS_WELL
) -> Verdict:
    return judge(rule or lookup(), came, call or sought(), circumstances)


def said(verdict: Verdict) -> tuple[object, ...]:
    """A verdict without what is for people."""
    match verdict:
        case Found(found_id) | FoundPending(found_id) | FoundRejected(found_id):
            return type(verdict), found_id
        case FoundSeveral(ids):
            return FoundSeveral, ids
        case Absent() | NotYet():
            return (type(verdict),)
        case CouldNotAsk(reason):
            return CouldNotAsk, reason


def not_asked(reason: Reason) -> tuple[object, ...]:
    return CouldNotAsk, reason


UNREADABLE = not_asked(Reason.LOOKUP_UNREADABLE)
INCOMPLETE = not_asked(Reason.LOOKUP_INCOMPLETE)
UNCERTAIN = not_asked(Reason.LOOKUP_UNCERTAIN)
FAILED = not_asked(Reason.LOOKUP_FAILED)
REFUSED = not_asked(Reason.LOOKUP_REFUSED)
NONE = (Absent,)
ONE = (Found, "c-1")


def body(value: object, *, status: int = 200) -> Answer:
    return answer(status, json.dumps(value))


ANSWERS: dict[str, tuple[Answer, tuple[object, ...]]] = {
    "ours among others": (page(item("x", tag="other"), item(), item("y", tag=None)), ONE),
    "a whole page without ours": (page(item("x", tag="other")), NONE),
    "an empty page": (page(), NONE),
    "an empty page, and more": (page(more=True), INCOMPLETE),
    "others, and more": (page(item("x", tag="other"), more=True), INCOMPLETE),
    "ours by tag, and more": (page(item(), more=True), ONE),
    "two effects": (page(item("a"), item("b")), (FoundSeveral, ("a", "b"))),
    "two effects, and more": (page(item("a"), item("b"), more=True), (FoundSeveral, ("a", "b"))),
    "one effect shown twice": (page(item(n=1), item(n=2)), ONE),
    "one effect shown as number and text": (page(item(7), item("7")), (Found, "7")),
    "ours without an id": (page(item(None)), UNCERTAIN),
    "ours with an id, and ours without": (page(item(), item("")), UNCERTAIN),
    "another's without an id": (page(item(None, tag="other")), NONE),
    "null for the list": (body({"data": None, "more": False}), UNREADABLE),
    "an object for the list": (body({"data": {"a": item()}, "more": False}), UNREADABLE),
    "a text for the list": (body({"data": "none", "more": False}), UNREADABLE),
    "no list": (body({"more": False}), UNREADABLE),
    "an error document": (body({"error": {"code": "overloaded"}}), UNREADABLE),
    "null": (body(None), UNREADABLE),
    "a list at the top": (body([item()]), UNREADABLE),
    "no word on whether there is more": (body({"data": []}), INCOMPLETE),
    "a doubtful word on whether there is more": (body({"data": [], "more": "false"}), INCOMPLETE),
    "nothing": (answer(200, b""), UNREADABLE),
    "no content": (answer(204, b"", None), UNREADABLE),
    "HTML": (answer(200, "<html>maintenance</html>", "text/html; charset=utf-8"), UNREADABLE),
    "HTML that says it is JSON": (answer(200, "<html>maintenance</html>"), UNREADABLE),
    "JSON that says nothing of its type": (answer(200, page(item()).body, None), ONE),
    "JSON that says it is text": (answer(200, page(item()).body, "text/plain"), ONE),
    "JSON that says it is HTML, and isn't": (answer(200, page(item()).body, "text/html"), ONE),
    "JSON that says it is something else": (answer(200, page(item()).body, "application/pdf"), UNREADABLE),
    "JSON of a kind": (answer(200, page(item()).body, "application/vnd.api+json"), ONE),
    "JSON that breaks off": (answer(200, page().body[:-1]), UNREADABLE),
    "JSON that isn't UTF-8": (answer(200, b'{"data": [], "more": false, "x": "\xff"}'), UNREADABLE),
    "a name that is there twice, elsewhere": (answer(200, '{"data": [], "more": false, "x": 1, "x": 2}'), UNREADABLE),
    "a name that is there twice": (answer(200, '{"data": [{"id": 1}], "data": [], "more": false}'), UNREADABLE),
    "a body that broke off": (replace(page(), complete=False), UNREADABLE),
    "a body that broke off and shows ours": (replace(page(item()), complete=False), UNREADABLE),
    "gzip": (
        replace(page(item()), body=gzip.compress(page(item()).body), headers=((b"Content-Encoding", b"gzip"),)),
        ONE,
    ),
    "gzip that isn't": (replace(page(), headers=((b"Content-Encoding", b"gzip"),)), UNREADABLE),
    "a coding nobody undoes": (replace(page(), headers=((b"Content-Encoding", b"br"),)), UNREADABLE),
    "two types": (
        replace(page(), headers=((b"Content-Type", b"text/html"), (b"Content-Type", b"application/json"))),
        UNREADABLE,
    ),
    "too many candidates": (page(*([0] * (ITEMS_MAX + 1))), UNREADABLE),
    "as many as are looked at": (page(*([0] * ITEMS_MAX)), NONE),
    "not found": (body({"code": "no_match"}, status=404), REFUSED),
    "not allowed": (body({"data": [], "more": False}, status=403), REFUSED),
    "too often": (body({"data": [], "more": False}, status=429), REFUSED),
    "a failure": (body({"data": [], "more": False}, status=500), REFUSED),
    "a redirect": (body({"data": [item()], "more": False}, status=302), REFUSED),
    "not modified": (answer(304, b"", None), REFUSED),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_what_an_answer_says(what: str) -> None:
    came, expected = ANSWERS[what]
    assert said(judged(came)) == expected


RULES: dict[str, tuple[dict[str, Any], Answer, tuple[object, ...]]] = {
    # rule, answer -> verdict
    "without `complete` nothing is never believed": ({"complete": None}, page(), INCOMPLETE),
    "without `complete` one is found": ({"complete": None}, page(item()), ONE),
    "without `complete` one is found without a tag too": (
        {"complete": None, "where": BY_ORDER},
        page(item(order="o-1")),
        ONE,
    ),
    "without a tag, one on the first page may not be the only one": (
        {"where": BY_ORDER},
        page(item(order="o-1"), more=True),
        INCOMPLETE,
    ),
    "without a tag, one of all": ({"where": BY_ORDER}, page(item(order="o-1"), item("x", order="o-2")), ONE),
    "without `where`, all are ours": ({"where": {}}, page(item("a"), item("b")), (FoundSeveral, ("a", "b"))),
    "without `where`, the only one": ({"where": {}}, page(item()), ONE),
    "`complete` fails": ({"complete": "abs(body.more)"}, page(item()), FAILED),
    "`items` fails": ({"items": "keys(body.data)"}, page(item()), FAILED),
    "`id` fails": ({"id": "abs(id)"}, page(item()), FAILED),
    "`where` fails": ({"where": {"abs(id)": "outgoing_key"}}, page(item()), FAILED),
    "`since` fails": ({"since": "abs(id)"}, page(item()), FAILED),
    "`absent` fails": ({"absent": "abs(body)"}, page(item()), FAILED),
    "`where` reads what we don't have": ({"where": {"order": "facts.order"}}, page(), FAILED),
    "older, by another": ({"where": BY_ORDER, "since": "at"}, page(item(order="o-1", at=1_600_000_000)), NONE),
    "a little older": ({"where": BY_ORDER, "since": "at"}, page(item(order="o-1", at=1_699_999_900)), UNCERTAIN),
    "a little older, and one of ours": (
        {"where": BY_ORDER, "since": "at"},
        page(item("x", order="o-1", at=1_699_999_900), item(order="o-1", at=1_700_000_001)),
        UNCERTAIN,
    ),
    "much older, and one of ours": (
        {"where": BY_ORDER, "since": "at"},
        page(item("x", order="o-1", at=1_600_000_000), item(order="o-1", at=1_700_000_001)),
        ONE,
    ),
    "much older, with our tag": ({"since": "at"}, page(item(at=1_600_000_000)), UNCERTAIN),
    "`complete` may look at the time": (
        {"complete": "body.data[-1].at < time(first_sent_at, '-5m', 'unix')"},
        page(item("x", tag="other", at=1_699_990_000)),
        NONE,
    ),
    "and see that the page doesn't reach back": (
        {"complete": "body.data[-1].at < time(first_sent_at, '-5m', 'unix')"},
        page(item("x", tag="other", at=1_699_999_999)),
        INCOMPLETE,
    ),
    "one call by its address": (
        {"items": "[body]", "complete": "`true`"},
        body(item()),
        ONE,
    ),
    "another document at that address is not absence": (
        {"items": "[body]", "complete": "`true`"},
        body({"error": "overloaded"}),
        INCOMPLETE,
    ),
    "a default for a list is no list": ({"items": "body.data || `[]`"}, page(), INCOMPLETE),
    "nor are nulls flattened": ({"items": "[body.data, body.old][]"}, page(), INCOMPLETE),
    "nor the values of whatever is there": ({"items": "body.*", "complete": "`true`"}, body({"x": 1}), INCOMPLETE),
    "but ours in them is ours": ({"items": "body.data || `[]`"}, page(item()), ONE),
    "a page of text is no candidate": (
        {"items": "[body]", "where": {}, "id": "@", "complete": "`true`"},
        answer(200, "maintenance", "text/css"),
        UNREADABLE,
    ),
    "a page of text does not say that this is all": (
        {"items": "[headers]", "where": {"etag": "outgoing_key"}, "complete": "body == 'maintenance'"},
        answer(200, "maintenance", "text/css"),
        UNREADABLE,
    ),
    "headers alone may say that it is another": (
        {"method": "HEAD", "items": "[headers]", "where": {"etag": "outgoing_key"}, "complete": "`true`"},
        Answer(200, ((b"ETag", b"another"),), b""),
        NONE,
    ),
    "XML": (
        {
            "items": "body.List.Call", "where": {"Tag": "outgoing_key"}, "id": '"@id"', "complete": "body.List.More == 'no'",
        },
        answer(
            200,
            f'<List><Call id="c-1"><Tag>{TAG}</Tag></Call><Call id="c-2"/><More>no</More></List>',
            "application/xml",
        ),
        ONE,
    ),
    "XML that says it is text": (
        {"items": "[body.Call]", "where": {"Tag": "outgoing_key"}, "complete": None, "body_type": "xml"},
        answer(200, f"<Call><id>c-1</id><Tag>{TAG}</Tag></Call>", "text/plain"),
        ONE,
    ),
    "a HEAD that says it is there": (
        {"method": "HEAD", "items": "[headers]", "where": {}, "id": "etag", "complete": "`true`"},
        Answer(200, ((b"ETag", b'"e1"'),), b""),
        (Found, '"e1"'),
    ),
    "a list that only the headers end": (
        {"complete": "headers.link == `null`"},
        replace(page(), headers=((b"Link", b"<next>"), (b"Content-Type", b"application/json"))),
        INCOMPLETE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", RULES)
def test_what_a_rule_makes_of_it(what: str) -> None:
    fields, came, expected = RULES[what]
    assert said(judged(came, lookup(**fields))) == expected


ABSENT: dict[str, tuple[dict[str, Any], Answer, tuple[object, ...]]] = {
    "an answer that means none": (NO_MATCH, body({"code": "no_match"}, status=404), NONE),
    "without `complete` too": ({**NO_MATCH, "complete": None}, body({"code": "no_match"}, status=404), NONE),
    "another 404": (NO_MATCH, body({"code": "no_route"}, status=404), REFUSED),
    "a 404 of a layer in front": (NO_MATCH, answer(404, "<html>no</html>", "text/html"), REFUSED),
    "a 404 whose JSON is broken": ({"absent": "!(body)"}, answer(404, '{"code": '), REFUSED),
    "a 404 that says two things": ({"absent": "body.a == `1`"}, answer(404, '{"a": 1, "b": 1, "b": 2}'), REFUSED),
    "a 404 that broke off": (NO_MATCH, replace(body({"code": "no_match"}, status=404), complete=False), UNREADABLE),
    "a status alone, if the rule says so": ({"absent": "status == `404`"}, answer(404, b"", None), NONE),
    "a status alone, with a text that is no candidate": (
        {"absent": "status == `404`", "items": "[body]", "where": {}, "id": "@"},
        answer(404, "no such call", "text/css"),
        NONE,
    ),
    "a 404 that shows ours all the same": (
        NO_MATCH,
        body({"code": "no_match", "data": [item()]}, status=404),
        UNCERTAIN,
    ),
    "a status alone, broken off": ({"absent": "status == `404`"}, replace(answer(404), complete=False), UNREADABLE),
    "a null is not true": ({"absent": "body.none"}, page(more=True), INCOMPLETE),
    "a text is not true": ({"absent": "body.none"}, body({"none": "true", "data": [], "more": True}), INCOMPLETE),
    "a count of none": ({"absent": "body.total == `0`", "complete": None}, body({"total": 0, "data": []}), NONE),
    "a count of none beside ours": ({"absent": "body.total == `0`"}, body({"total": 0, "data": [item()]}), UNCERTAIN),
    "a count of none beside another's": (
        {"absent": "body.total == `0`"},
        body({"total": 0, "data": [item("x", tag="other")]}),
        NONE,
    ),
    "a count of none beside one that may be ours": (
        {"absent": "body.total == `0`", "where": BY_ORDER, "since": "at"},
        body({"total": 0, "data": [item(order="o-1", at="yesterday")]}),
        UNCERTAIN,
    ),
    "a count of none beside too many": (
        {"absent": "body.total == `0`"},
        body({"total": 0, "data": [0] * (ITEMS_MAX + 1)}),
        UNREADABLE,
    ),
    "a document that says there is none": (
        {"items": "[body]", "where": {}, "absent": "body.found == `false`", "complete": None},
        body({"found": False}),
        NONE,
    ),
    "the list that `items` reads is not there": (
        {"absent": "body && !(body.data)", "complete": None},
        body({"more": False}),
        NONE,
    ),
    "ours is found, `absent` or not": (NO_MATCH, page(item()), ONE),
}


@pytest.mark.parametrize("what", ABSENT)
def test_what_absent_says(what: str) -> None:
    fields, came, expected = ABSENT[what]
    assert said(judged(came, lookup(**fields))) == expected


SAYS_NO = {
    "an empty page": ({}, page()),
    "an answer that means none": (NO_MATCH, body({"code": "no_match"}, status=404)),
    "a final no": ({"rejected": "state == 'failed'"}, page(item(state="failed"))),
}
DOUBTS = {
    "too early": ({"is_quiet": False}, (NotYet,)),
    "too late": ({"is_within_horizon": False}, not_asked(Reason.HORIZON_OVER)),
    "an attempt without our tag": ({"is_tagged": False}, not_asked(Reason.UNTAGGED)),
    "too early and too late": ({"is_quiet": False, "is_within_horizon": False}, not_asked(Reason.HORIZON_OVER)),
    "too early, and never": ({"is_quiet": False, "is_tagged": False}, not_asked(Reason.UNTAGGED)),
}


@pytest.mark.parametrize("doubt", DOUBTS)
@pytest.mark.parametrize("what", SAYS_NO)
def test_a_no_is_believed_only_after_the_quiet_time_within_the_horizon_and_tagged(what: str, doubt: str) -> None:
    fields, came = SAYS_NO[what]
    circumstances, expected = DOUBTS[doubt]

    assert said(judged(came, lookup(**fields))) in (NONE, (FoundRejected, "c-1"))
    assert said(judged(came, lookup(**fields), circumstances=replace(ALL_IS_WELL, **circumstances))) == expected


NOTHING_IS_WELL = Circumstances(is_quiet=False, is_within_horizon=False, is_tagged=False)


def test_an_effect_is_found_at_any_time() -> None:
    rule = lookup(pending="state == 'queued'")
    assert said(judged(page(item(state="done")), rule, circumstances=NOTHING_IS_WELL)) == ONE
    assert said(judged(page(item(state="queued")), rule, circumstances=NOTHING_IS_WELL)) == (FoundPending, "c-1")
    assert said(judged(page(item("a"), item("b")), circumstances=NOTHING_IS_WELL)) == (FoundSeveral, ("a", "b"))


RELIES: dict[str, tuple[dict[str, Any], bool]] = {
    "compared": ({}, True),
    "searched for in the query": ({"where": BY_ORDER, "query": {"q": "join('', ['tag:', outgoing_key])"}}, True),
    "searched for in the path": ({"where": BY_ORDER, "path": ("/calls/", "{outgoing_key}")}, True),
    "searched for in the body": ({"where": BY_ORDER, "body": {"filter.tag": "outgoing_key"}}, True),
    "searched for in a header": ({"where": BY_ORDER, "headers": {"x-tag": "outgoing_key"}}, True),
    "not used": ({"where": BY_ORDER, "path": "/calls", "query": {"o": "request.body.order"}}, False),
}


@pytest.mark.parametrize("what", RELIES)
def test_an_attempt_without_our_tag_matters_where_the_tag_is_used(what: str) -> None:
    fields, is_relied_on = RELIES[what]
    untagged = replace(ALL_IS_WELL, is_tagged=False)

    verdict = judged(page(), lookup(**fields), circumstances=untagged)

    assert said(verdict) == (not_asked(Reason.UNTAGGED) if is_relied_on else NONE)


SHOWN: dict[str, tuple[list[dict[str, object]], tuple[object, ...]]] = {
    "done": ([item(state="done")], ONE),
    "queued": ([item(state="queued")], (FoundPending, "c-1")),
    "failed": ([item(state="failed")], (FoundRejected, "c-1")),
    "queued, then done": ([item(state="queued"), item(state="done")], ONE),
    "queued, then failed": ([item(state="queued"), item(state="failed")], (FoundRejected, "c-1")),
    "done and failed": ([item(state="done"), item(state="failed")], UNCERTAIN),
    "a failed one and another": ([item("a", state="failed"), item("b", state="done")], (FoundSeveral, ("a", "b"))),
    "a queued one and another": ([item("a", state="queued"), item("b", state="done")], (FoundSeveral, ("a", "b"))),
}


@pytest.mark.parametrize("what", SHOWN)
def test_pending_and_failed_calls_are_candidates_too(what: str) -> None:
    shown, expected = SHOWN[what]
    assert said(judged(page(*shown), lookup(**STATES))) == expected


def test_a_refusal_on_the_first_page_of_several_is_not_believed() -> None:
    assert said(judged(page(item(state="failed"), more=True), lookup(**STATES))) == INCOMPLETE


def test_a_refusal_is_believed_where_the_rule_knows_no_pages() -> None:
    rule = lookup(**STATES, complete=None)
    assert said(judged(page(item(state="failed")), rule)) == (FoundRejected, "c-1")


@pytest.mark.parametrize("name", ["pending", "rejected"])
def test_a_state_that_is_neither_true_nor_false_tells_nothing(name: str) -> None:
    assert said(judged(page(item(state="done")), lookup(**{name: "final"}))) == UNCERTAIN
    assert said(judged(page(item(state="done")), lookup(**{name: "abs(state)"}))) == FAILED


def test_where_pending_and_rejected_both_hold_it_is_pending() -> None:
    rule = lookup(pending="state == 'failed'", rejected="state == 'failed'")
    assert said(judged(page(item(state="failed")), rule)) == (FoundPending, "c-1")


REPLIES: dict[str, tuple[Any, Answer | None]] = {
    "none": (None, None),
    "a status alone": (reply(body=None, status=202), Answer(202, (), b"")),
    "the item": (
        reply(),
        Answer(
            200, ((b"Content-Type", b"application/json"),), b'{"id":7,"meta":{"tag":"%b"},"sum":20.5}' % TAG.encode()
        ),
    ),
    "a header from the id": (
        reply(body=None, status=202, headers={"X-Message-Id": "id"}),
        Answer(202, ((b"X-Message-Id", b"7"),), b""),
    ),
    "a text goes out as it is": (
        reply(body="join(' ', ['ok', key])"),
        Answer(200, ((b"Content-Type", b"text/plain; charset=utf-8"),), b"ok k1"),
    ),
    "with a type of its own": (
        reply(body="'<ok/>'", headers={"content-type": "'text/xml'"}),
        Answer(200, ((b"content-type", b"text/xml"),), b"<ok/>"),
    ),
    "the call's own names": (
        reply(body="{order: request.body.order, sum: item.sum, at: time(first_sent_at, '0s', 'unix')}"),
        Answer(200, ((b"Content-Type", b"application/json"),), b'{"at":1700000000,"order":"o-1","sum":20.5}'),
    ),
    "no content has no body": (reply(status=204), Answer(204, (), b"")),
    "null is no body": (reply(body="item.none"), None),
    "a header that none can be": (reply(headers={"x-a": "item"}), None),
    "a text that UTF-8 can't hold": (reply(body="item.lone"), None),
}


@pytest.mark.parametrize("what", REPLIES)
def test_what_duplicates_are_answered(what: str) -> None:
    rule, expected = REPLIES[what]
    found = item(7, sum=20.5, **({"lone": "\ud800"} if "UTF-8" in what else {}))

    verdict = judged(page(found), lookup(answer=rule))

    assert isinstance(verdict, Found)
    assert (verdict.effect_id, verdict.answer) == ("7", expected)


@pytest.mark.parametrize("failing", [reply(body="abs(item)"), reply(headers={"x-a": "abs(item)"})])
def test_an_answer_that_can_not_be_made_does_not_unmake_the_effect(failing: Any) -> None:
    verdict = judged(page(item()), lookup(answer=failing))
    assert isinstance(verdict, Found)
    assert (verdict.answer, verdict.failed_expressions) == (None, 1)


def test_an_answer_that_needs_what_was_not_kept_leaves_only_that_it_happened() -> None:
    verdict = judged(page(item()), lookup(answer=reply(body="request.body")), sought(has_body=False))
    assert isinstance(verdict, Found)
    assert (verdict.answer, verdict.failed_expressions) == (None, 0)


def test_what_was_not_kept_can_not_be_compared() -> None:
    verdict = judged(page(), lookup(where=BY_ORDER), sought(has_body=False))
    assert said(verdict) == not_asked(Reason.REQUEST_UNREADABLE)


def test_the_item_is_told_as_it_came() -> None:
    verdict = judged(
        answer(200, b'{"data": [{"id": 1, "meta": {"tag": "%b"}, "sum": 0.10}], "more": false}' % TAG.encode())
    )
    assert isinstance(verdict, Found)
    assert verdict.item == {"id": 1, "meta": {"tag": TAG}, "sum": 0.1}


EVENTS = {
    Found: Event.FOUND,
    FoundPending: Event.FOUND_PENDING,
    FoundRejected: Event.FOUND_REJECTED,
    FoundSeveral: Event.FOUND_SEVERAL,
    Absent: Event.FOUND_ABSENT,
    NotYet: None,
    CouldNotAsk: None,
}


@pytest.mark.parametrize("kind", EVENTS)
def test_each_verdict_is_an_event_or_leaves_the_entry_as_it_is(kind: Any) -> None:
    assert kind.event is EVENTS[kind]


def test_a_detail_and_a_repr_hold_nothing_of_the_answer() -> None:
    secret = page(item(state="done", card="4242"), item(None, card="4242"))
    assert "4242" not in repr(judged(secret))
    assert "4242" not in repr(judged(page(item(card="4242")), lookup(answer=reply())))
    assert "4242" not in repr(judged(page(item(card="4242", state="failed")), lookup(**STATES)))


def test_a_first_send_of_long_ago_is_a_matter_of_the_horizon_not_of_the_answer() -> None:
    call = sought(first_sent_at=START - 1000 * MINUTE)
    assert said(judged(page(), call=call)) == NONE
