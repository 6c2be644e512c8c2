"""The question of a look-up: what it sees of the call, how it is encoded, and when it is not asked."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.expressions import compile_expression
from proxy.core.lookup import CouldNotAsk, Lookup
from proxy.core.lookup_request import CallDocument, LookupRequest, Sought, build
from proxy.core.model import Answer, Status
from proxy.core.reasons import Reason
from tests.core.builders import SECOND, START, entry
from tests.core.lookups import BY_TAG, TAG, lookup, sought
from tests.core.messages import JSON, answer, request


def made(rule: Lookup, call: Sought | None = None) -> LookupRequest:
    built = build(rule, call or sought())
    assert isinstance(built, LookupRequest), built
    return built


def refused(rule: Lookup, call: Sought | None = None) -> CouldNotAsk:
    built = build(rule, call or sought())
    assert isinstance(built, CouldNotAsk), built
    return built


TARGETS: dict[str, tuple[dict[str, Any], str]] = {
    "a path alone": ({"path": "/v1/calls"}, "/v1/calls"),
    "a part of the path": ({"path": ("/calls/", "{outgoing_key}")}, f"/calls/{TAG}"),
    "a part is one segment, whatever is in it": (
        {"path": ("/orders/", "{facts.odd}", "/calls")},
        "/orders/a%2Fb%3Fc%3D%C3%A9%20%2525%23/calls",
    ),
    "a number in the path": ({"path": ("/orders/", "{request.body.amount}")}, "/orders/100"),
    "a query": ({"query": {"tag": "outgoing_key"}}, f"/calls?tag={TAG}"),
    "values and names are encoded": (
        {"query": {"created[gte]": "join('', ['a b&c=d+', facts.odd])"}},
        "/calls?created%5Bgte%5D=a%20b%26c%3Dd%2Ba%2Fb%3Fc%3D%C3%A9%20%2525%23",
    ),
    "a list repeats the parameter": ({"query": {"state": "['new', 'done']"}}, "/calls?state=new&state=done"),
    "null leaves the parameter out": ({"query": {"a": "facts.none", "b": "'1'"}}, "/calls?b=1"),
    "an empty text does not": ({"query": {"a": "''"}}, "/calls?a="),
    "nulls in a list are left out": ({"query": {"a": "[facts.none, 'x']"}}, "/calls?a=x"),
    "an empty list leaves it out": ({"query": {"a": "`[]`", "b": "'1'"}}, "/calls?b=1"),
    "numbers and truth": ({"query": {"n": "`20.50`", "t": "`true`"}}, "/calls?n=20.5&t=true"),
    "a time": ({"query": {"from": "time(first_sent_at, '-5m', 'unix')"}}, "/calls?from=1699999700"),
    "a time in words": (
        {"query": {"from": "time(last_sent_at, '+1h', 'rfc3339')"}},
        "/calls?from=2023-11-14T23%3A14%3A20Z",
    ),
    "the last answer": ({"query": {"ref": 'response.headers."x-ref"', "s": "response.status"}}, "/calls?ref=r-1&s=502"),
}


@pytest.mark.parametrize("what", TARGETS)
def test_where_a_look_up_goes(what: str) -> None:
    fields, expected = TARGETS[what]
    call = sought(
        facts={"odd": "a/b?c=é %25#"},
        last_sent_at=START + 60 * SECOND,
        response=Answer(502, ((b"X-Ref", b"r-1"),), b""),
    )

    assert made(lookup(**fields), call).target == expected


SEEN: dict[str, tuple[str, object]] = {
    # expression -> value
    "the request's own names": ("[method, path, query, params.a, caller]", ["POST", "/charges", "a=1", "1", "shop"]),
    "the same under request": ("[request.method, request.body.order]", ["POST", "o-1"]),
    "its body and headers": ('[body.order, headers."x-account"]', ["o-1", "acct"]),
    "the key and what the provider received": ("[key, outgoing_key]", ["k1", TAG]),
    "times are texts to the microsecond": (
        "[first_sent_at, last_sent_at]",
        ["2023-11-14T22:13:20Z", "2023-11-14T22:13:20.250000Z"],
    ),
    "facts": ("facts.order", "o-1"),
    "how it was sent": ("[fingerprint, attempt, doubt]", ["1:aa", 2, True]),
    "the last answer": ("response.body.error", "boom"),
    "a name that nobody has": ("[nothing, request.nothing, request.request]", [None, None, None]),
}


@pytest.mark.parametrize("what", SEEN)
def test_what_a_look_up_sees(what: str) -> None:
    text, expected = SEEN[what]
    original = request('{"order": "o-1"}', JSON, target="/charges?a=1", headers=((b"X-Account", b"acct"),))
    call = sought(
        request=original, attempt=2, doubt=True, last_sent_at=START + SECOND // 4, facts={"order": "o-1"},
        response=answer(500, '{"error": "boom"}'),
    )  # fmt: skip

    assert compile_expression(text).search(CallDocument(call)) == expected


def test_without_an_answer_response_is_null() -> None:
    assert CallDocument(sought())["response"] is None


def test_an_answer_that_broke_off_has_no_body() -> None:
    call = sought(response=answer(500, '{"error": "boom"}', complete=False))
    assert compile_expression("[response.status, response.body]").search(CallDocument(call)) == [500, None]


def test_a_call_is_read_from_its_entry() -> None:
    row = entry(
        Status.AMBIGUOUS,
        attempts=2,
        is_open=(1, 2),
        key="c:5f",
        outgoing_key=TAG,
        first_sent_at=START,
        fingerprint="1:bb",
    )

    call = Sought.of_entry(row, request=None, facts={"order": "o-1"})

    assert call == Sought(
        request=None, caller="shop", fingerprint="1:bb", attempt=2, doubt=True, key="5f", outgoing_key=TAG,
        first_sent_at=START, last_sent_at=START, facts={"order": "o-1"},
    )  # fmt: skip


def test_a_call_sent_once_is_not_in_doubt_of_an_earlier_attempt() -> None:
    call = Sought.of_entry(entry(Status.AMBIGUOUS), request=None)
    assert (call.attempt, call.doubt, call.facts) == (1, False, {})


GONE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # what was kept, what the rule reads -> what the detail names
    "the body": ({"has_body": False}, {"query": {"o": "request.body.order"}}, "the request's body"),
    "the body by its short name": ({"has_body": False}, {"query": {"o": "body.order"}}, "the request's body"),
    "a GraphQL document is the body": ({"has_body": False}, {"query": {"o": "graphql.name"}}, "the request's body"),
    "the headers": ({"request": None}, {"headers": {"x-a": 'headers."x-a"'}}, "the request's headers"),
    "the path": ({"request": None}, {"path": ("/a/", "{request.path}")}, "the request's path"),
    "what where compares": ({"has_body": False}, {"where": {"order": "request.body.order"}}, "the request's body"),
    "a part of an alternative": ({"has_body": False}, {"query": {"o": "body.order || 'x'"}}, "the request's body"),
    "all of the request": ({"has_body": False}, {"query": {"o": "to_string(request)"}}, "the request's body"),
}


@pytest.mark.parametrize("what", GONE)
def test_what_was_not_kept_can_not_be_asked_with(what: str) -> None:
    kept, fields, named = GONE[what]
    verdict = refused(lookup(**fields), sought(**kept))
    assert (verdict.reason, verdict.failed_expressions) == (Reason.REQUEST_UNREADABLE, 0)
    assert named in verdict.detail


def test_without_the_body_the_rest_of_the_request_is_there() -> None:
    rule = lookup(path=("/a", "{path}"), query={"m": "method"}, headers={"x-type": 'headers."content-type"'})
    asked = made(rule, sought(has_body=False))
    assert (asked.target, asked.headers) == ("/a%2Fcharges?m=POST", ((b"x-type", b"application/json"),))


def test_a_name_that_nobody_has_was_not_lost() -> None:
    assert made(lookup(query={"a": "request.nothing"}), sought(request=None)).target == "/calls"


def test_what_the_ledger_knows_is_there_without_the_request() -> None:
    rule = lookup(query={"c": "caller", "k": "key", "t": "outgoing_key", "a": "attempt", "f": "fingerprint"})
    assert made(rule, sought(request=None)).target == f"/calls?c=shop&k=k1&t={TAG}&a=1&f=1%3Aaa"


NOT_ASKED: dict[str, tuple[dict[str, Any], Reason]] = {
    "a part of the path is null": ({"path": ("/calls/", "{facts.none}")}, Reason.LOOKUP_FAILED),
    "a part of the path is empty": ({"path": ("/calls/", "{''}")}, Reason.LOOKUP_FAILED),
    "a part of the path is a list": ({"path": ("/calls/", "{['a']}")}, Reason.LOOKUP_FAILED),
    "a part of the path leads up": ({"path": ("/calls/", "{'..'}")}, Reason.LOOKUP_FAILED),
    "a part of the path stays": ({"path": ("/calls/", "{'.'}", "/x")}, Reason.LOOKUP_FAILED),
    "an expression fails": ({"query": {"a": "join('', [facts.none])"}}, Reason.LOOKUP_FAILED),
    "a parameter is an object": ({"query": {"a": "facts"}}, Reason.LOOKUP_FAILED),
    "a parameter is a list of lists": ({"query": {"a": "[['x']]"}}, Reason.LOOKUP_FAILED),
    "a text that UTF-8 can't hold": ({"query": {"a": "facts.lone"}}, Reason.LOOKUP_FAILED),
    "a header of two lines": ({"headers": {"x-a": "facts.lines"}}, Reason.LOOKUP_FAILED),
    "a header beyond ASCII": ({"headers": {"x-a": "'é'"}}, Reason.LOOKUP_FAILED),
    "a header is an object": ({"headers": {"x-a": "facts"}}, Reason.LOOKUP_FAILED),
    "a body that UTF-8 can't hold": ({"body": {"a": "facts.lone"}}, Reason.LOOKUP_FAILED),
    "a filter is left out before another": (
        {"where": {}, "query": {"a": "facts.none", "b": "'1'"}},
        Reason.LOOKUP_FAILED,
    ),
    "our side of where is null": ({"where": {"order": "facts.none"}}, Reason.LOOKUP_FAILED),
    "our side of where is empty": ({"where": {"order": "''"}}, Reason.LOOKUP_FAILED),
    "our side of where fails": ({"where": {"order": "abs('x')"}}, Reason.LOOKUP_FAILED),
    "nothing is searched for and nothing compared": ({"where": {}, "query": {"a": "facts.none"}}, Reason.LOOKUP_FAILED),
    "a filter is left out and nothing compared": ({"where": {}, "body": {"a": "facts.none"}}, Reason.LOOKUP_FAILED),
}


@pytest.mark.parametrize("what", NOT_ASKED)
def test_what_could_not_be_judged_is_not_asked(what: str) -> None:
    fields, reason = NOT_ASKED[what]
    call = sought(facts={"lone": "\ud800", "lines": "a\r\nHost: evil"})
    assert refused(lookup(**fields), call).reason is reason


@pytest.mark.parametrize("search", [{}, {"query": {"tag": "outgoing_key"}}, {"body": {"tag": "outgoing_key"}}])
def test_a_whole_search_needs_no_where(search: dict[str, Any]) -> None:
    made(lookup(where={}, **search))


def test_failed_expressions_are_counted() -> None:
    assert refused(lookup(query={"a": "abs('x')"})).failed_expressions == 1
    assert refused(lookup(path=("/calls/", "{facts.none}"))).failed_expressions == 0


def test_without_a_tag_nothing_is_searched_by_it() -> None:
    assert refused(lookup(where=BY_TAG), sought(outgoing_key=None)).reason is Reason.LOOKUP_FAILED


def test_headers_are_lines() -> None:
    rule = lookup(headers={"X-A": "'1'", "x-b": "['a', 'b']", "x-c": "facts.none", "x-d": "`7`"})
    assert made(rule).headers == ((b"X-A", b"1"), (b"x-b", b"a"), (b"x-b", b"b"), (b"x-d", b"7"))


def test_a_body_is_json_with_dotted_names() -> None:
    rule = lookup(
        method="POST",
        body={"filter.order": "request.body.order", "filter.kinds": "['a']", "size": "`50`", "none": "facts.none"},
    )
    asked = made(rule)
    assert (asked.method, json.loads(asked.body)) == (
        "POST",
        {"filter": {"order": "o-1", "kinds": ["a"]}, "size": 50},
    )
    assert asked.headers == ((b"Content-Type", b"application/json"),)


def test_a_rule_may_name_another_type_for_its_body() -> None:
    rule = lookup(method="POST", body={"q": "'x'"}, headers={"content-type": "'application/vnd.api+json'"})
    assert made(rule).headers == ((b"content-type", b"application/vnd.api+json"),)


def test_without_body_there_is_no_content_type() -> None:
    asked = made(lookup())
    assert (asked.body, asked.headers) == (b"", ())


def test_numbers_in_a_body_keep_what_a_double_would_lose() -> None:
    original = request('{"account": 12345678901234567890.10}', JSON)
    rule = lookup(method="POST", body={"account": "request.body.account"})
    assert made(rule, sought(request=original)).body == b'{"account":12345678901234567890.10}'


@given(st.text(), st.text(min_size=1))
def test_what_is_encoded_is_decoded_to_the_same(value: str, part: str) -> None:
    rule = lookup(path=("/calls/", "{facts.part}", "/x"), query={"v": "facts.value"})

    built = build(rule, sought(facts={"value": value, "part": part}))

    if isinstance(built, CouldNotAsk):
        assert part in (".", "..") or any("\ud800" <= character <= "\udfff" for character in value + part)
        return
    path, _, query = built.target.partition("?")
    assert built.target.isascii() and path.count("/") == 3
    assert unquote(path.split("/")[2]) == part
    assert parse_qsl(query, keep_blank_values=True) == [("v", value)]


def test_the_repr_of_a_question_shows_no_credentials() -> None:
    asked = made(lookup(headers={"authorization": "'Bearer secret'"}))
    assert "secret" not in repr(asked)
    assert "secret" not in repr(made(lookup(body={"card": "'secret'"})))
    assert "secret" not in repr(sought({"card": "secret"}, facts={"card": "secret"}, response=answer(200, "secret")))
