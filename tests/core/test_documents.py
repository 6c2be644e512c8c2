"""What an expression sees of a request and of an answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.documents import ANSWER_NAMES, REQUEST_NAMES, answer_document, request_document
from proxy.core.expressions import compile_expression
from proxy.core.json_text import canonical_json
from proxy.core.model import Answer, Request
from tests.core.messages import FORM, JSON, answer, document, json_document, request


def test_a_request_shows_its_parts_and_the_same_under_request():
    shown = request_document(
        request('{"a":1}', JSON, target="/v1/x%20y?b=2&b=3&c=%20", headers=((b"X-Id", b"7"), (b"x-id", b"8"))),
        fingerprint="1:aa", attempt=2, doubt=True,
    )  # fmt: skip
    expected = {
        "method": "POST",
        "host": "api.pay.example",
        "path": "/v1/x%20y",
        "query": "b=2&b=3&c=%20",
        "headers": {"content-type": JSON, "x-id": ["7", "8"]},
        "params": {"b": ["2", "3"], "c": " "},
        "caller": "shop",
        "body": {"a": 1},
        "graphql": None,
        "fingerprint": "1:aa",
        "attempt": 2,
        "doubt": True,
    }
    assert {name: shown[name] for name in shown if name != "request"} == expected
    assert dict(shown["request"]) == expected
    assert shown.keys() == REQUEST_NAMES | {"request"}


def test_a_document_is_looked_into_and_not_at():
    shown = json_document({})
    assert "body" in shown and "elsewhere" not in shown
    same = shown
    assert shown == same and shown != json_document({}) and shown != dict(shown)


def test_what_is_told_later_leaves_the_rest_read():
    first = json_document({"a": 1})
    body = first.body
    later = first.told(fingerprint="1:aa", attempt=2, doubt=True)
    assert later.body is body
    assert [later[name] for name in ("fingerprint", "attempt", "doubt")] == ["1:aa", 2, True]
    assert [first[name] for name in ("fingerprint", "attempt", "doubt")] == [None, 1, False]


def test_nothing_is_read_before_it_is_asked_for():
    shown = document(b"[" * 10, JSON)
    assert shown["method"] == "POST"
    assert "body" not in vars(shown.parts.read)


def test_an_answer_covers_the_requests_names_and_keeps_the_rest():
    asked = request_document(
        request('{"a":1}', JSON, headers=((b"X-A", b"1"),)), fingerprint="1:aa", attempt=2, doubt=True
    )
    shown = answer_document(answer(409, '{"code":"already_sent"}'), asked)
    assert (shown["status"], shown["body"], shown["headers"]) == (409, {"code": "already_sent"}, {"content-type": JSON})
    assert shown["request"]["body"] == {"a": 1} and shown["request"]["headers"]["x-a"] == "1"
    assert (shown["doubt"], shown["method"], shown["fingerprint"]) == (True, "POST", "1:aa")
    assert shown.keys() == ANSWER_NAMES | {"request"}
    with pytest.raises(KeyError):
        shown["elsewhere"]


# what came: body type of the rule, answer -> is a condition on body meaningful?
READABLE = {
    "JSON where JSON is expected": ("json", answer(200, "{}"), True),
    "JSON said to be plain text": ("json", answer(200, "{}", "text/plain"), True),
    "JSON of no type": ("json", answer(200, "{}", None), True),
    "an error page in HTML": ("json", answer(502, "<html>", "text/html"), False),
    "XML where JSON is expected": ("json", answer(200, "<a/>", "text/xml"), False),
    "nothing where JSON is expected": ("json", answer(404, ""), False),
    "a name that is there twice": ("json", answer(200, '{"a":1,"a":2}'), False),
    "a body that broke off": ("json", answer(200, "{}", complete=False), False),
    "a body that broke off, whatever its type": ("any", answer(200, "{}", complete=False), False),
    "broken JSON, whatever its type": ("any", answer(200, "{"), False),
    "anything whole, whatever its type": ("any", answer(200, b"\xff", "image/png"), True),
    "XML where XML is expected": ("xml", answer(200, "<a/>", "text/xml"), True),
    "a form where a form is expected": ("form", answer(200, "a=1", FORM), True),
    "text where text is expected": ("text", answer(200, "ok", "text/plain"), True),
    "bytes where text is expected": ("text", answer(200, b"\xff", "text/plain"), False),
}


@pytest.mark.parametrize("name", READABLE)
def test_a_condition_on_a_body_needs_a_body_that_can_be_read(name: str):
    body_type, given_answer, expected = READABLE[name]
    assert answer_document(given_answer, document(), body_type=body_type).is_body_readable is expected


def test_too_many_parameters_are_none():
    assert document(target="/x?" + "a&" * 20_000)["params"] is None


# what is asked -> type, name, fields
GRAPHQL = {
    "mutation Pay($a: Int) { charge(a: $a) { id } other: refund { id } }": ("mutation", "Pay", ["charge", "refund"]),
    "{ a b a }": ("query", None, ["a", "b"]),
    "subscription { s }": ("subscription", None, ["s"]),
    "mutation { ...F ... on M { b } ...F } fragment F on M { a ...G } fragment G on M { c ...F }": (
        "mutation",
        None,
        ["a", "b", "c"],
    ),
    "mutation { ...Missing }": ("mutation", None, []),
}


@pytest.mark.parametrize("text", GRAPHQL)
def test_a_graphql_document_tells_type_name_and_fields(text: str):
    kind, name, fields = GRAPHQL[text]
    expected = {"type": kind, "name": name, "fields": sorted(fields)}
    for shown in (document(text, "application/graphql"), json_document({"query": text, "variables": {}})):
        found = shown["graphql"]
        assert {**found, "fields": sorted(found["fields"])} == expected


def test_the_named_operation_is_the_one_that_runs():
    text = "query A { a } mutation B { b }"
    assert json_document({"query": text, "operationName": "B"})["graphql"] == {
        "type": "mutation",
        "name": "B",
        "fields": ["b"],
    }
    assert json_document({"query": text})["graphql"] is None
    assert json_document({"query": text, "operationName": "C"})["graphql"] is None


def test_a_batch_is_a_mutation_if_one_of_it_is():
    batch = [{"query": "{ a }"}, {"query": "mutation { b }"}]
    assert json_document(batch)["graphql"] == {"type": "mutation", "name": None, "fields": ["a", "b"]}
    assert json_document([*batch, {"query": "shoes in"}])["graphql"] is None
    assert json_document([])["graphql"] is None


@pytest.mark.parametrize(
    "body",
    [
        "shoes",
        "",
        None,
        7,
        "{" * 100_000,
        "{a" * 5_000,
        "{ " + "a " * 30_000 + "}",
        "\x00",
        "fragment F on M { a }",
        "type A { a: Int }",
    ],
)
def test_what_is_no_graphql_gives_none(body: object):
    assert json_document({"query": body})["graphql"] is None


HEADER = st.tuples(st.binary(max_size=8), st.binary(max_size=8))
KINDS = st.sampled_from(
    [JSON, FORM, "multipart/form-data; boundary=X", "text/xml", "application/graphql", "text/plain", "x"]
)


@given(st.binary(), KINDS, st.text(), st.lists(HEADER, max_size=3))
def test_no_request_and_no_answer_raises(content: bytes, kind: str, target: str, lines: list[tuple[bytes, bytes]]):
    headers = ((b"content-type", kind.encode()), *lines)
    shown = request_document(Request("POST", "h", "/" + target, headers, content, "c"), fingerprint=None)
    seen = answer_document(Answer(200, headers, content), shown)
    for looked_into in (shown, seen):
        canonical_json({name: looked_into[name] for name in looked_into if name != "request"})
        compile_expression("request.body.a.b || headers.x || params.x").search(looked_into)


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_gives_graphql_or_none(value: object):
    for body in (value, {"query": value}, [{"query": value}]):
        found = document(json.dumps(body), JSON)["graphql"]
        assert found is None or found["type"] in ("query", "mutation", "subscription")
