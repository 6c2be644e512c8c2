"""Form fields and parameters: read, nested, written."""

from __future__ import annotations

from urllib.parse import quote_from_bytes, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.forms import (
    FIELDS_MAX,
    NESTING_MAX,
    TooManyFields,
    field_name,
    field_path,
    gather,
    nest,
    read_pairs,
    write_pair,
)


def pairs(text: bytes) -> list[tuple[str, str]]:
    return [(pair.name, pair.value) for pair in read_pairs(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (b"a=1&b=2", [("a", "1"), ("b", "2")]),
        (b"&&a=1&", [("a", "1")]),
        (b"a", [("a", "")]),
        (b"=1", [("", "1")]),
        (b"a=b=c", [("a", "b=c")]),
        (b"a+b=%20%2B%26", [("a b", " +&")]),
        (b"a=%zz%", [("a", "%zz%")]),
        (b"a=%C3%A9", [("a", "é")]),
        (b"a=%ff", [("a", "\udcff")]),
    ],
)
def test_fields_are_read_as_the_form_rules_say(text: bytes, expected: list[tuple[str, str]]):
    assert pairs(text) == expected


@given(st.lists(st.tuples(st.text(), st.text())))
def test_what_others_write_is_read_back(fields: list[tuple[str, str]]):
    assert pairs(urlencode(fields).encode()) == fields


@given(st.binary() | st.lists(st.binary(max_size=4), max_size=5).map(b"&".join))
@example(b"&a=1&&b")
def test_any_bytes_are_a_form(text: bytes):
    pieces = [piece for piece in text.split(b"&") if piece]
    assert [text[pair.start : pair.end] for pair in read_pairs(text)] == pieces


@given(st.binary(), st.binary())
def test_different_bytes_stay_different(left: bytes, right: bytes):
    read = [read_pairs(b"a=" + quote_from_bytes(value).encode()) for value in (left, right)]
    assert (left == right) == (read[0][0].value == read[1][0].value)


def test_the_number_of_fields_has_a_limit():
    assert len(read_pairs(b"&".join([b"a"] * FIELDS_MAX))) == FIELDS_MAX
    with pytest.raises(TooManyFields):
        read_pairs(b"&" * FIELDS_MAX)


def test_a_written_pair_is_read_back():
    assert pairs(write_pair("a[b]", "x y&z=é")) == [("a[b]", "x y&z=é")]


@pytest.mark.parametrize(
    ("fields", "expected", "why"),
    [
        ("a=1", {"a": "1"}, "a plain field"),
        ("a=1&a=2", {"a": ["1", "2"]}, "a name met twice is a list"),
        ("a[]=1", {"a": ["1"]}, "empty brackets are a list, of one even"),
        ("a[]=1&a[]=2", {"a": ["1", "2"]}, "in order"),
        ("a[b]=1&a[c]=2", {"a": {"b": "1", "c": "2"}}, "an object"),
        ("a[b][c]=1", {"a": {"b": {"c": "1"}}}, "objects in objects"),
        ("a[b][]=1&a[b][]=2", {"a": {"b": ["1", "2"]}}, "a list in an object"),
        ("a[0]=x&a[1]=y", {"a": ["x", "y"]}, "indexes from 0 are a list"),
        ("a[1]=y&a[0]=x", {"a": ["x", "y"]}, "whatever their order"),
        ("a[0][p]=x&a[1][p]=y", {"a": [{"p": "x"}, {"p": "y"}]}, "a list of objects"),
        ("a[1]=x&a[3]=y", {"a": {"1": "x", "3": "y"}}, "with gaps they are names"),
        ("0=x", {"0": "x"}, "the form itself is never a list"),
        ("a=1&a[b]=2", {"a": "1", "a[b]": "2"}, "a contradiction stays flat"),
        ("a[b]=2&a=1", {"a": "1", "a[b]": "2"}, "whatever the order"),
        ("a[]=1&a=2", {"a": "2", "a[]": ["1"]}, "a contradiction stays flat"),
        ("a[b=1", {"a[b": "1"}, "broken brackets are a name"),
        ("[a]=1", {"[a]": "1"}, "brackets without a name are a name"),
        ("a[][b]=1", {"a[][b]": "1"}, "a list of objects without indexes is ambiguous: a name"),
        ("a[b]x=1", {"a[b]x": "1"}, "text after brackets makes it a name"),
        ("a" + "[b]" * NESTING_MAX + "=1", {"a" + "[b]" * NESTING_MAX: "1"}, "too deep: a name"),
    ],
)
def test_names_nest(fields: str, expected: dict[str, object], why: str):
    assert nest((pair.name, pair.value) for pair in read_pairs(fields.encode())) == expected, why


@given(st.permutations(["a=1", "a[b]=2", "a[b][c]=3", "a[]=4", "a[0]=5", "b[0]=6", "b[1]=7"]))
def test_the_order_of_different_names_does_not_matter(fields: list[str]):
    assert nest((p.name, p.value) for p in read_pairs("&".join(fields).encode())) == {
        "a": "1", "a[b]": "2", "a[b][c]": "3", "a[]": ["4"], "a[0]": "5", "b": ["6", "7"],
    }  # fmt: skip


def test_names_nest_as_deep_as_the_limit():
    value: object = nest([("a" + "[b]" * (NESTING_MAX - 1), "1")])
    for _ in range(NESTING_MAX):
        assert isinstance(value, dict)
        (value,) = value.values()
    assert value == "1"


def test_a_value_that_is_an_object_is_not_descended_into():
    assert nest([("f", {"name": "x"}), ("f[name]", "y")]) == {"f": {"name": "x"}, "f[name]": "y"}


@given(st.lists(st.tuples(st.text("ab[]01", max_size=8), st.text(max_size=2)), max_size=8))
def test_any_names_nest_and_no_value_is_lost(fields: list[tuple[str, str]]):
    def leaves(value: object) -> list[object]:
        if isinstance(value, dict):
            return [leaf for inner in value.values() for leaf in leaves(inner)]
        return [leaf for inner in value for leaf in leaves(inner)] if isinstance(value, list) else [value]

    assert sorted(map(str, leaves(nest(fields)))) == sorted(value for _, value in fields)


def test_parameters_do_not_nest():
    assert gather([("a[b]", "1"), ("a", "2"), ("a", "3")]) == {"a[b]": "1", "a": ["2", "3"]}


@pytest.mark.parametrize("path", [("a",), ("a", "b"), ("a", "b", "c")])
def test_a_path_and_its_field_name_are_each_others_reverse(path: tuple[str, ...]):
    assert field_path(field_name(path)) == path
