"""Expressions: what they say, what is wrong with them, and what they read."""

from __future__ import annotations

import copy
import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.documents import answer_document
from proxy.core.expressions import (
    WHOLE,
    ExpressionFailed,
    ExpressionInvalid,
    as_path,
    compile_expression,
    is_single_header,
    yields,
)
from proxy.core.json_text import LiteralNumber
from proxy.core.moments import MomentInvalid, moment, offset_us, written
from tests.core.messages import JSON, answer, document, json_document


def ask(text: str, body: str = "{}") -> Any:
    return compile_expression(text).search(document(body, JSON, headers=((b"X-Id", b"7"),)))


@pytest.mark.parametrize(
    ("text", "body", "expected"),
    [
        ("body.a", '{"a":5}', 5),
        ("body.a.b", '{"a":5}', None),
        ('headers."x-id"', "{}", "7"),
        ('request.headers."x-id"', "{}", "7"),
        ("body.a == `5`", '{"a":5.0}', True),
        ("body.a == `1`", '{"a":true}', False),
        ("method == 'POST' && !doubt", "{}", True),
        ("join('-', [caller, path])", "{}", "shop-/charges"),
        ("body.items[?n > `1`].id", '{"items":[{"n":1,"id":"a"},{"n":2,"id":"b"}]}', ["b"]),
        ("sort(keys(request))[0]", "{}", "attempt"),
        ("length(@)", "{}", 13),
        ("contains(keys(body), 'next')", '{"next":null}', True),
        ("values(request)[?@ == 'shop'] | [0]", "{}", "shop"),
        ("type(request)", "{}", "object"),
        ("to_string(body)", '{"b":1.0,"a":[1e0,true]}', '{"a":[1,true],"b":1}'),
        ("to_string(body.a)", '{"a":1.0}', "1"),
        ("to_string(body.a)", '{"a":"x"}', "x"),
        ("to_number(body.a)", '{"a":"007"}', 7),
        ("to_number(body.a)", '{"a":"1_0"}', None),
        ("to_number(body.a)", '{"a":true}', None),
        ("body.a == body.b", '{"a":9007199254740993,"b":9007199254740992.0}', False),
        ("body.a == body.b", '{"a":1e400,"b":1e401}', False),
        ("body.a == `9007199254740993`", '{"a":9007199254740993}', True),
        ("body.a > `100`", '{"a":9007199254740993.5}', True),
        ("to_string(body.a)", '{"a":9007199254740993.5}', "9007199254740993.5"),
        ("type(body.a)", '{"a":1e400}', "number"),
        ("!(body.a)", '{"a":1e-400}', False),
        ("to_number(body.a)", '{"a":"9007199254740993.5"}', LiteralNumber("9007199254740993.5")),
        ("body.a.b", '{"a":{"b":1},"a":{"b":1}}', None),
        ("body.a == `1`", '{"a":1,"a":1}', False),
        ("body.a || 'none'", '{"a":0}', 0),
        ("not_null(body.x, body.y)", '{"y":2}', 2),
        ('merge(body, `{"z":1}`).z', "{}", 1),
    ],
)
def test_an_expression_says(text: str, body: str, expected: object):
    assert ask(text, body) == expected


@pytest.mark.parametrize(
    ("text", "body", "message"),
    [
        ("join('-', body)", "{}", "join() was given a value of type object"),
        ("abs(body.a)", '{"a":"secret"}', "abs() was given a value of type string"),
        ("abs(body.a)", '{"a":9007199254740993.5}', "abs() was given a value of type unknown"),
        ("sum(body.a)", '{"a":[1,1e400]}', "sum() was given a value of type LiteralNumber"),
        ("contains('abc', body.a)", '{"a":1}', "TypeError"),
        ("body[::0]", "[1]", "ValueError"),
        ("length(body.a)", "{}", "length() was given a value of type null"),
        ("time(body.a, '0s', 'unix')", '{"a":"soon"}', "time() was given a text that is no RFC 3339 time"),
        (
            "time(body.a, body.b, 'unix')",
            '{"a":0,"b":"5x"}',
            "'5x' is no offset; write for example '-5m', '0s' or '+1h30m'",
        ),
    ],
)
def test_a_failure_is_one_kind_of_exception_and_holds_no_value(text: str, body: str, message: str):
    with pytest.raises(ExpressionFailed) as failure:
        ask(text, body)
    assert str(failure.value) == message


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("", "an expression must not be empty", None),
        ("  ", "an expression must not be empty", None),
        ("status == 404", "a number is written `404`, in backticks", 10),
        ("a = 'b'", "a single = compares nothing, write ==", 2),
        ("a == 'b", "unclosed ' delimiter", 5),
        ("a ||", "the expression ends too early", 4),
        ("a b", "unexpected 'b'", 2),
        ("a..b", "unexpected '.'", 2),
        ("a == `foo`", "`foo` is not JSON; a string is written 'foo'", 5),
        ("nope(a)", "there is no function nope()", None),
        ("join('-')", "join() takes 2 arguments, not 1", None),
        ("not_null()", "not_null() takes at least 1 arguments, not 0", None),
        ("time(a, '5x', 'unix')", "'5x' is no offset; write for example '-5m', '0s' or '+1h30m'", None),
        ("time(a, '5m', 'iso')", "time() writes rfc3339, rfc2822, date, unix, not 'iso'", None),
        ("&a", "& stands only before an argument of a function such as sort_by()", None),
        ("[&a]", "& stands only before an argument of a function such as sort_by()", None),
        ("to_array(&a)", "to_array() takes no & as argument 1", None),
        ("a" * 5000, "an expression may have 4096 characters", None),
    ],
)
def test_an_invalid_expression_is_refused_with_what_and_where(text: str, message: str, position: int | None):
    with pytest.raises(ExpressionInvalid) as problem:
        compile_expression(text)
    assert (problem.value.message, problem.value.position) == (message, position)
    assert message in str(problem.value)


def test_an_invalid_expression_tells_its_place_as_people_count():
    with pytest.raises(ExpressionInvalid) as problem:
        compile_expression("a b")
    assert str(problem.value) == "unexpected 'b' at character 3: 'a b'"


@pytest.mark.parametrize("text", ["(" * 2000, "[" * 1000 + "a" + "]" * 1000])
def test_a_monstrous_expression_is_invalid(text: str):
    with pytest.raises(ExpressionInvalid):
        compile_expression(text)


@given(st.text(max_size=30) | st.text("ab.[]?*&|!=<>()`'\"{}:@, 01-", max_size=20))
def test_any_text_compiles_or_is_invalid_and_what_compiles_answers_or_fails(text: str):
    try:
        expression = compile_expression(text)
    except ExpressionInvalid:
        return
    for value in ({"a": [{"b": 1}], "b": {"a": "x"}}, json_document([1])):
        try:
            expression.search(value)
        except ExpressionFailed:
            continue


@pytest.mark.parametrize(
    "text", ["(" * 2000 + "a" + ")" * 2000, "!" * 4000 + "a", "a" + ".b" * 2000, "[" * 1000 + "a" + "]" * 1000]
)
def test_deep_expressions_compile_or_are_invalid(text: str):
    try:
        compile_expression(text).search({"a": 1})
    except (ExpressionInvalid, ExpressionFailed):
        return


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, False), ("", False), ([], False), ({}, False), (0, True), (False, True), ("0", True), ([None], True), (0.0, True),
     (LiteralNumber("1e-400"), True)],
)  # fmt: skip
def test_what_yields(value: object, expected: bool):
    assert yields(value) is expected


@pytest.mark.parametrize(
    ("text", "roots"),
    [
        ("body.a", {"body"}),
        ("request.body.a", {"request"}),
        ("status == `404` && body.code == 'x'", {"status", "body"}),
        ("body.items[?id == 'x' && status].{a: b, c: d}", {"body"}),
        ("join('-', [caller, headers.x])", {"caller", "headers"}),
        ("{a: method, b: [path]}", {"method", "path"}),
        ("sort_by(body.items, &created)[0].id", {"body"}),
        ("body.* | [0]", {"body"}),
        ("body[]", {"body"}),
        ("body | a", {"body"}),
        ("@.body", {"body"}),
        ("@ | body", {"body"}),
        ("(@).status", {"status"}),
        ("!doubt", {"doubt"}),
        ("'text'", set()),
        ("@", {WHOLE}),
        ("to_string(@)", {WHOLE}),
        ("keys(@)", {WHOLE}),
        ("[@][0].body", {WHOLE}),
        ("@.*", {WHOLE}),
        ("(@ || body).status", {WHOLE, "body"}),
        ("body[1:2].a", {"body"}),
    ],
)
def test_what_an_expression_reads(text: str, roots: set[str]):
    expression = compile_expression(text)
    assert expression.roots == roots
    assert expression.reads("body") is bool(roots & {"body", WHOLE})


NAMES = ["body", "status", "headers", "x"]
PIECES = st.sampled_from(
    ["body", "status", "headers.x", "body.a", "@", "`1`", "'s'", "body[0]", "body[*].a", "body[?a == x]", "*"]
)


@given(st.recursive(PIECES, lambda inner: st.tuples(
    st.sampled_from(["{} || {}", "{} && {}", "{} == {}", "[{}, {}]", "{{a: {}, b: {}}}", "{} | {}", "({}).a || {}", "not_null({}, {})"]),
    inner, inner).map(lambda made: made[0].format(made[1], made[2])), max_leaves=4))  # fmt: skip
def test_what_an_expression_does_not_read_cannot_change_it(text: str):
    expression = compile_expression(text)
    before = {"body": [{"a": 1, "x": 1}], "status": 200, "headers": {"x": "1"}, "x": 1}
    for name in NAMES:
        if not expression.reads(name):
            changed = {**copy.deepcopy(before), name: "changed"}
            assert expression.search(changed) == expression.search(before), name


@pytest.mark.parametrize(
    ("text", "path", "header"),
    [
        ("body", ("body",), None),
        ("body.a.b", ("body", "a", "b"), None),
        ('body."v:x"', ("body", "v:x"), None),
        ("params.requestId", ("params", "requestId"), None),
        ('headers."idempotency-key"', ("headers", "idempotency-key"), "idempotency-key"),
        ("headers.x", ("headers", "x"), "x"),
        ('request.headers."X-Id"', ("request", "headers", "X-Id"), "x-id"),
        ("headers", ("headers",), None),
        ("headers.a.b", ("headers", "a", "b"), None),
        ("headers.a || headers.b", None, None),
        ("headers.a[0]", None, None),
        ("body.a[0]", None, None),
        ("@.body", None, None),
        ("'body'", None, None),
    ],
)
def test_plain_paths_and_single_headers_are_recognised(text: str, path: tuple[str, ...] | None, header: str | None):
    expression = compile_expression(text)
    assert (as_path(expression), is_single_header(expression)) == (path, header)


def test_expressions_are_equal_by_their_text():
    assert compile_expression("a.b") == compile_expression("a.b")
    assert compile_expression("a.b") != compile_expression("a . b")
    assert len({compile_expression("a.b"), compile_expression("a.b")}) == 1
    assert str(compile_expression("a.b")) == "a.b"


def test_threads_may_share_an_expression():
    expression = compile_expression("body.items[?n == `1`].id | [0]")
    found: list[object] = []

    def many(number: int) -> None:
        mine = json_document({"items": [{"n": 1, "id": number}]})
        found.extend(expression.search(mine) == number for _ in range(300))

    threads = [threading.Thread(target=many, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 1200


def test_an_answers_condition_sees_the_doubt_of_the_request():
    asked = json_document({"to": "x"}).told(fingerprint=None, attempt=2, doubt=True)
    shown = answer_document(answer(409, '{"code":"already_sent"}'), asked)
    assert compile_expression("doubt && body.code == 'already_sent' && request.body.to == 'x'").search(shown) is True


NOON = datetime(2026, 11, 23, 12, 0, 0, 900_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "offset", "form", "expected"),
    [
        (NOON, "0s", "rfc3339", "2026-11-23T12:00:00Z"),
        (NOON, "-5m", "rfc3339", "2026-11-23T11:55:00Z"),
        (NOON, "+1h30m", "rfc2822", "Mon, 23 Nov 2026 13:30:00 +0000"),
        (NOON, "1d", "date", "2026-11-24"),
        (NOON, "100ms", "unix", 1795435201),
        (NOON.astimezone(timezone(timedelta(hours=5))), "0s", "unix", 1795435200),
        ("2026-11-23T13:00:00+01:00", "0s", "rfc3339", "2026-11-23T12:00:00Z"),
        ("2026-11-23T12:00:00Z", "0s", "unix", 1795435200),
        (1795435200, "-5m", "unix", 1795434900),
        (1795435200.5, "0s", "rfc3339", "2026-11-23T12:00:00Z"),
        (-1, "0s", "rfc3339", "1969-12-31T23:59:59Z"),
        (-62135596800, "0s", "date", "0001-01-01"),
    ],
)
def test_time_is_written(value: object, offset: str, form: str, expected: object):
    expression = compile_expression(f"time(first_sent_at, '{offset}', '{form}')")
    assert expression.search({"first_sent_at": value}) == expected


@pytest.mark.parametrize(
    "value", ["yesterday", "2026-11-23", "2026-11-23T12:00:00", NOON.replace(tzinfo=None), True, None, [], float("nan"), float("inf"), 10**400, 1e300]
)  # fmt: skip
def test_what_is_no_time_fails(value: object):
    with pytest.raises(ExpressionFailed, match=r"time\(\)"):
        compile_expression("time(first_sent_at, '0s', 'rfc3339')").search({"first_sent_at": value})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", 0),
        ("5ms", 5_000),
        ("-2s", -2_000_000),
        ("3m", 180_000_000),
        ("+1h", 3_600_000_000),
        ("1d2h", 93_600_000_000),
    ],
)
def test_an_offset_is_read(text: str, expected: int):
    assert offset_us(text) == expected


@pytest.mark.parametrize("text", ["", "5", "m", "-5 m", "5m-3s", "5w", "99999999999d", "٣m"])
def test_what_is_no_offset_is_refused(text: str):
    with pytest.raises(MomentInvalid):
        offset_us(text)


def test_a_format_that_comes_from_a_document_is_checked_too():
    with pytest.raises(MomentInvalid, match="not 'iso'"):
        written(moment(0), "iso")
