"""One value put into a request, and every other byte left as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.core.forms import read_pairs
from proxy.core.json_text import parse_json
from proxy.core.model import Headers
from proxy.core.multipart import read_multipart
from proxy.core.rewrite import Placed, put_form, put_header, put_in_body, put_json, put_multipart, put_query
from tests.core.messages import FORM, JSON, MULTIPART, field, file, multipart

# -- headers ------------------------------------------------------------------------------------------------------------

A, B, KEY, OTHER_KEY = (b"A", b"1"), (b"B", b"2"), (b"idempotency-KEY", b"old"), (b"Idempotency-Key", b"older")
NEW = (b"Idempotency-Key", b"new")


@pytest.mark.parametrize(
    ("headers", "overwrite", "expected", "why"),
    [
        ((A, B), True, (A, B, NEW), "a new header is the last"),
        ((A, B), False, (A, B, NEW), "a new header is the last"),
        ((A, KEY, B), True, (A, NEW, B), "it takes the place of the old one"),
        ((KEY, A, OTHER_KEY), True, (NEW, A), "and of all others of its name"),
        ((A, KEY, B), False, (A, KEY, B), "what is there stays"),
        ((A, A), True, (A, A, NEW), "other headers may be repeated"),
    ],
)
def test_a_header_is_put(headers: Headers, overwrite: bool, expected: Headers, why: str):
    assert put_header(headers, "Idempotency-Key", "new", overwrite=overwrite) == expected, why


@pytest.mark.parametrize("value", ["a\r\nX: 1", "é", "\x00"])
def test_a_header_never_smuggles_another(value: str):
    with pytest.raises(ValueError, match="visible ASCII"):
        put_header((), "X", value, overwrite=True)


# -- query --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/x", "/x?id=a%26b"),
        ("/x?", "/x?id=a%26b"),
        ("/x?a=%7e&b", "/x?a=%7e&b&id=a%26b"),
        ("/x?a&", "/x?a&id=a%26b"),
        ("/x?id=old&a=1", "/x?id=a%26b&a=1"),
        ("/x?a=1&%69d=old&b=2", "/x?a=1&id=a%26b&b=2"),
        ("/x?id=1&a=1&id=2&b=2&id=3", "/x?id=a%26b&a=1&b=2"),
        ("/x?id", "/x?id=a%26b"),
        ("/x?a=?id=1", "/x?a=?id=1&id=a%26b"),
        ("/x?é=1", "/x?é=1&id=a%26b"),
    ],
)
def test_a_parameter_is_put(target: str, expected: str):
    assert put_query(target, "id", "a&b") == expected


def test_a_query_of_any_length_takes_a_parameter():
    assert put_query("/x?" + "a&" * 20_000, "id", "1").endswith("a&id=1")


# -- JSON ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        ("{}", "k", '{"k":"v"}'),
        ("{ }", "k", '{"k":"v" }'),
        (' {"a":1}\n', "k", ' {"a":1,"k":"v"}\n'),
        ('{\n  "a": 1.0,\n  "b": 1e400\n}', "k", '{\n  "a": 1.0,\n  "b": 1e400,"k":"v"\n}'),
        ('{"k":"old","a":1}', "k", '{"k":"v","a":1}'),
        ('{"k" : null }', "k", '{"k" : "v" }'),
        ('{"k":{"deep":[1,{"x":2}]},"a":1}', "k", '{"k":"v","a":1}'),
        ('{"\\u006b":1}', "k", '{"\\u006b":"v"}'),
        ('{"a":"}","b":"\\"{"}', "k", '{"a":"}","b":"\\"{","k":"v"}'),
        ('{"m":{}}', "m.k", '{"m":{"k":"v"}}'),
        ('{"m":{"a":1},"b":2}', "m.k", '{"m":{"a":1,"k":"v"},"b":2}'),
        ("{}", "m.n.k", '{"m":{"n":{"k":"v"}}}'),
        ('{"a":1}', "m.k", '{"a":1,"m":{"k":"v"}}'),
        ('{"a":1,"a":2}', "k", '{"a":1,"a":2,"k":"v"}'),
        ('\ufeff{"a":1}', "k", '\ufeff{"a":1,"k":"v"}'),
        ('{"é":"\\ud800"}', "k", '{"é":"\\ud800","k":"v"}'),
        ('{"n":' + "9" * 5000 + "}", "k", '{"n":' + "9" * 5000 + ',"k":"v"}'),
    ],
)
def test_a_value_is_put_into_json(body: str, path: str, expected: str):
    placed = put_json(body.encode(), path.split("."), "v", overwrite=True)
    assert (placed.body.decode(), placed.is_placed, placed.problem) == (expected, True, None)


@pytest.mark.parametrize(
    ("body", "path", "problem"),
    [
        ("", "k", "the body is not JSON"),
        ("{", "k", "the body is not JSON"),
        ("{}{}", "k", "the body is not JSON"),
        ("[" * 10_000, "k", "the body is not JSON"),
        ("[]", "k", "the body is not an object"),
        ("null", "k", "the body is not an object"),
        ('"{}"', "k", "the body is not an object"),
        ('{"m":1}', "m.k", "m is not an object"),
        ('{"m":null}', "m.k", "m is not an object"),
        ('{"m":[{}]}', "m.k", "m is not an object"),
        ('{"m":{"n":""}}', "m.n.k", "m.n is not an object"),
        ('{"k":1,"k":2}', "k", "k is there twice"),
        ('{"m":{},"m":{}}', "m.k", "m is there twice"),
    ],
)
def test_a_value_that_has_no_place_in_json_is_told_why(body: str, path: str, problem: str):
    content = body.encode()
    assert put_json(content, path.split("."), "v", overwrite=True) == Placed(content, is_placed=False, problem=problem)


@pytest.mark.parametrize(
    ("body", "found"),
    [('{"k":"é"}', "é"), ('{"k":null}', "null"), ('{"k":1.0}', "1.0"), ('{"k": {"a": 1} }', '{"a": 1}')],
)
def test_what_is_there_stays_and_is_told(body: str, found: str):
    content = body.encode()
    assert put_json(content, ("k",), "v", overwrite=False) == Placed(content, is_placed=False, found=found)
    assert put_json(content, ("k",), "v", overwrite=True).found == found


def test_json_that_is_no_utf_8_has_no_place():
    assert put_json(b'{"a":"\xff"}', ("k",), "v", overwrite=True).problem == "the body is not JSON"


NAMES = st.sampled_from(["a", "b", "k", "é", "", 'q"uote'])
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner),
    max_leaves=10,
)


def updated(value: Any, path: list[str], new: str) -> Any:
    """*value* with *new* at *path*; raises TypeError where the way is blocked."""
    if not isinstance(value, dict):
        raise TypeError
    inner = new if len(path) == 1 else updated(value.get(path[0], {}), path[1:], new)
    return {**value, path[0]: inner}


@given(
    st.dictionaries(NAMES, VALUES),
    st.lists(NAMES, min_size=1, max_size=3),
    st.text(max_size=9),
    st.sampled_from([None, 2, "\t"]),
    st.booleans(),
)
def test_put_json_is_an_update_that_moves_nothing(value: Any, path: list[str], new: str, indent: Any, overwrite: bool):
    body = json.dumps(value, indent=indent).encode()
    placed = put_json(body, path, new, overwrite=overwrite)
    try:
        expected = updated(value, path, new)
    except TypeError:
        assert not placed.is_placed and placed.body == body and placed.problem is not None
        return
    if placed.found is not None and not overwrite:
        assert placed.body == body and not placed.is_placed
        return
    assert list(json.loads(placed.body).items()) == list(expected.items())
    if placed.found is None:
        start = next(
            (i for i, (one, other) in enumerate(zip(body, placed.body, strict=False)) if one != other), len(body)
        )
        # What was spliced in, taken out again, leaves the original bytes.
        length = len(placed.body) - len(body)
        assert any(
            placed.body[:at] + placed.body[at + length :] == body for at in range(max(0, start - length), start + 1)
        )


@given(st.text() | VALUES.map(json.dumps), st.lists(st.text(max_size=2), min_size=1, max_size=3), st.text())
def test_whatever_is_put_into_the_result_is_json_again(body: str, path: list[str], value: str):
    placed = put_json(body.encode(), path, value, overwrite=True)
    if placed.is_placed:
        parse_json(placed.body.decode().removeprefix("\ufeff"))
        again = put_json(placed.body, path, value, overwrite=True)
        assert (again.body, again.found) == (placed.body, value)


# -- forms --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "overwrite", "expected"),
    [
        (b"", True, Placed(b"m%5Bk%5D=v+w", is_placed=True)),
        (b"a=%7e", True, Placed(b"a=%7e&m%5Bk%5D=v+w", is_placed=True)),
        (b"a=1&", True, Placed(b"a=1&m%5Bk%5D=v+w", is_placed=True)),
        (b"a=1&m[k]=old&b=2", True, Placed(b"a=1&m%5Bk%5D=v+w&b=2", is_placed=True, found="old")),
        (b"a=1&m%5bk%5d=old", False, Placed(b"a=1&m%5bk%5d=old", is_placed=False, found="old")),
        (b"m[k]", False, Placed(b"m[k]", is_placed=False, found="")),
        (b"m[k]=1&m[k]=2", True, Placed(b"m[k]=1&m[k]=2", is_placed=False, problem="m[k] is there twice")),
    ],
)
def test_a_field_is_put_into_a_form(body: bytes, overwrite: bool, expected: Placed):
    assert put_form(body, "m[k]", "v w", overwrite=overwrite) == expected


def test_a_form_with_too_many_fields_takes_none():
    assert put_form(b"&" * 20_000, "k", "v", overwrite=True).problem == "more than 10000 fields"


@given(
    st.binary(max_size=60), st.text("abk[]", min_size=1, max_size=3), st.text(st.characters(codec="utf-8"), max_size=9)
)
def test_a_form_reads_back_with_the_field_and_nothing_else_changed(body: bytes, name: str, value: str):
    before = [(pair.name, pair.value) for pair in read_pairs(body)]
    placed = put_form(body, name, value, overwrite=True)
    if placed.problem is not None:
        assert [known for known, _ in before].count(name) > 1
        return
    after = [(pair.name, pair.value) for pair in read_pairs(placed.body)]
    if placed.found is None:
        assert after == [*before, (name, value)]
    else:
        assert after == [(known, value if known == name else old) for known, old in before]


# -- multipart ----------------------------------------------------------------------------------------------------------

ONE = field("a", b"1")


@pytest.mark.parametrize(
    ("body", "overwrite", "expected"),
    [
        (multipart(ONE), True, Placed(multipart(ONE, field("k", b"v")), is_placed=True)),
        (multipart(), False, Placed(multipart(field("k", b"v")), is_placed=True)),
        (
            b"x\r\n" + multipart(ONE) + b"y",
            True,
            Placed(b"x\r\n" + multipart(ONE, field("k", b"v")) + b"y", is_placed=True),
        ),
        (
            multipart(field("k", b"old"), ONE),
            True,
            Placed(multipart(field("k", b"v"), ONE), is_placed=True, found="old"),
        ),
        (
            multipart(field("k", b"old"), ONE),
            False,
            Placed(multipart(field("k", b"old"), ONE), is_placed=False, found="old"),
        ),
    ],
)
def test_a_field_is_put_into_multipart(body: bytes, overwrite: bool, expected: Placed):
    assert put_multipart(body, MULTIPART, "k", "v", overwrite=overwrite) == expected


@pytest.mark.parametrize(
    ("body", "value", "problem"),
    [
        (multipart(field("k", b""), field("k", b"")), "v", "k is there twice, or as a file"),
        (multipart(file("k", "n", b"")), "v", "k is there twice, or as a file"),
        (b"--XX\r\n", "v", "the body is not multipart: its closing boundary is missing"),
        (multipart(ONE), "--XX", "the value holds the boundary"),
        (multipart(field("k", b"old")), "--XX", "the value holds the boundary"),
    ],
)
def test_a_field_that_has_no_place_in_multipart_is_told_why(body: bytes, value: str, problem: str):
    assert put_multipart(body, MULTIPART, "k", value, overwrite=True) == Placed(body, is_placed=False, problem=problem)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "k", "é"]), st.binary(max_size=20)), max_size=4),
    st.text("vw-", max_size=9),
)
def test_multipart_reads_back_with_the_field_and_nothing_else_changed(fields: list[tuple[str, bytes]], value: str):
    body = multipart(*(field(name, content) for name, content in fields))
    assume(all(b"--XX" not in content for _, content in fields))
    placed = put_multipart(body, MULTIPART, "k", value, overwrite=True)
    if placed.problem is not None:
        assert [name for name, _ in fields].count("k") > 1
        return
    whole = read_multipart(placed.body, MULTIPART)
    after = [(part.name, placed.body[part.start : part.end]) for part in whole.parts]
    if placed.found is None:
        assert after == [*fields, ("k", value.encode())]
    else:
        assert after == [(name, value.encode() if name == "k" else content) for name, content in fields]


# -- by content type ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body", "literal", "expected"),
    [
        (JSON, b"{}", False, b'{"m":{"k":"v"}}'),
        ("application/vnd.api+json; charset=utf-8", b"{}", False, b'{"m":{"k":"v"}}'),
        (FORM, b"a=1", False, b"a=1&m%5Bk%5D=v"),
        (FORM, b"a=1", True, b"a=1&m=v"),
        (MULTIPART, multipart(ONE), False, multipart(ONE, field("m[k]", b"v"))),
        (MULTIPART, multipart(ONE), True, multipart(ONE, field("m", b"v"))),
    ],
)
def test_a_path_means_the_same_in_json_and_in_forms(content_type: str, body: bytes, literal: bool, expected: bytes):
    headers = ((b"content-type", content_type.encode()),)
    assert put_in_body(body, headers, ("m", "k"), "v", overwrite=True, literal=literal) == Placed(
        expected, is_placed=True
    )


@pytest.mark.parametrize(
    ("headers", "literal", "problem"),
    [
        (((b"Content-Type", b"text/plain"),), False, "the body is neither JSON nor a form"),
        ((), False, "the body is neither JSON nor a form"),
        (((b"Content-Type", b"application/json"),), True, "the body is no form"),
        (
            ((b"Content-Type", b"application/json"), (b"content-encoding", b"gzip")),
            False,
            "the body is compressed, or has several Content-Types",
        ),
        (
            ((b"Content-Type", b"application/json"), (b"Content-Type", b"text/xml")),
            False,
            "the body is compressed, or has several Content-Types",
        ),
    ],
)
def test_other_bodies_have_no_place(headers: Headers, literal: bool, problem: str):
    assert put_in_body(b"{}", headers, ("k",), "v", overwrite=True, literal=literal).problem == problem
