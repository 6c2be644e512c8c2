"""JSON compared by meaning where that is safe, by its text where it isn't."""

from __future__ import annotations

import copy
import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.json_text import (
    NESTING_MAX,
    JsonInvalid,
    LiteralNumber,
    ParsedJson,
    Repeated,
    canonical_bytes,
    canonical_json,
    parse_json,
    parse_number,
)

SAFE = st.integers(-(2**53) + 1, 2**53 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | SAFE | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def canonical(text: str) -> str:
    parsed = parse_json(text)
    return canonical_json(parsed.value, is_plain=parsed.is_plain)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1", "1.0"),
        ("1", "1e0"),
        ("100", "1E+2"),
        ("0", "-0"),
        ("0", "-0.0"),
        ("0.1", "1e-1"),
        ("0.10", "0.1"),
        ("1e22", "10000000000000000000000"),
        ("9007199254740992", "9007199254740992.0"),
        ("1152921504606847000", "1.152921504606847e18"),
        ('{"a":1,"b":2}', '{ "b" : 2.0, "a" : 1 }'),
        ('"\\u00e9"', '"é"'),
        ('"\\ud83d\\ude00"', '"😀"'),
        ('{"\\u0061":1}', '{"a":1}'),
    ],
)
def test_texts_of_equal_meaning_are_equal(left: str, right: str):
    assert canonical(left) == canonical(right)


@pytest.mark.parametrize(
    ("left", "right", "why"),
    [
        ("9007199254740993", "9007199254740992", "the nearest double is the neighbour"),
        ("9007199254740993", "9007199254740993.0", "neither survives a double: by their text"),
        ("9007199254740993.0", "9007199254740992.0", "a double would make them equal"),
        ("0.1", "0.1000000000000000055511151231257827", "the exact value of the double is not 0.1"),
        ("1e400", "1e401", "both overflow to infinity"),
        ("1e400", "Infinity", "overflow is not infinity"),
        ("1e-400", "0", "underflow is not zero"),
        ("1152921504606846976", "1152921504606847000", "one double, two decimal values"),
        ("123456789012345678901234567890", "123456789012345678901234567891", "long identifiers"),
        ("NaN", "null", "NaN is not JSON, but it is not null either"),
        ("NaN", '"NaN"', "nor a text"),
        ('{"a":1,"a":2}', '{"a":2}', "readers disagree on a repeated name"),
        ('{"a":1,"a":2}', '{"a":1}', "readers disagree on a repeated name"),
        ('{"a":1,"a":2}', '{"a":2,"a":1}', "their order counts"),
        ('{"a":1,"a":2}', '{"a":[1,2]}', "a repeated name is not a list"),
        ("1", '"1"', "a number is not a text"),
        ("1", "true", "Python thinks they are equal"),
        ("0", "false", "Python thinks they are equal"),
        ("[[],[]]", "[[[]]]", "nesting counts"),
        ("[1,2]", "[2,1]", "the order of a list counts"),
        ('"\\ud800"', '"\\ud801"', "lone surrogates"),
        ('"\\ud800"', '"?"', "lone surrogates"),
    ],
)
def test_texts_of_different_meaning_are_different(left: str, right: str, why: str):
    assert canonical(left) != canonical(right), why
    assert parse_json(left).value != parse_json(right).value or "Python" in why or "decimal" in why, why


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"\\u00e9é"', '"éé"'),
        ('"\\u007f\\u001f\\/\\n\\u2028"', '"\x7f\\u001f/\\n\u2028"'),
        ("[0.1, 10.00, -0.0, 1e-6, 1e-7]", "[0.1,10,0,0.000001,1e-7]"),
        ("[1e20, 1e21, 1.5e300]", "[100000000000000000000,1e+21,1.5e+300]"),
        ("[9007199254740992.0, 9007199254740994.0]", "[9007199254740992,9007199254740994]"),
        ("[NaN, -Infinity]", "[NaN,-Infinity]"),
        ('{"b": {}, "a": [], "é": null, "": true}', '{"":true,"a":[],"b":{},"é":null}'),
    ],
)
def test_a_text_has_one_canonical_form(text: str, expected: str):
    assert canonical(text) == expected


@given(VALUES)
def test_canonical_form_is_that_of_rfc_8785(value: object):
    assert canonical(json.dumps(value)).encode() == rfc8785.dumps(value)


@given(VALUES, st.booleans())
def test_neither_white_space_nor_escapes_nor_order_matter(value: object, escapes: bool):
    def reversed_names(inner: object) -> object:
        if isinstance(inner, dict):
            return {name: reversed_names(inner[name]) for name in reversed(list(inner))}
        return [reversed_names(item) for item in inner] if isinstance(inner, list) else inner

    other = json.dumps(reversed_names(value), ensure_ascii=escapes, indent=1)
    assert canonical(other) == canonical(json.dumps(value))


@given(VALUES | st.integers() | st.lists(st.integers()))
def test_the_fast_way_writes_what_the_slow_way_writes(value: object):
    parsed = parse_json(json.dumps(value, ensure_ascii=False))
    assert canonical_json(parsed.value, is_plain=parsed.is_plain) == canonical_json(parsed.value)


def test_names_are_ordered_by_utf_16_as_rfc_8785_wants():
    assert canonical('{"\ufb33":1,"\U0001f600":2}') == '{"😀":2,"\ufb33":1}'


@given(st.text())
def test_any_text_is_read_or_refused(text: str):
    try:
        value = parse_json(text).value
    except JsonInvalid:
        return
    canonical_bytes(value)


def test_a_refusal_does_not_quote_the_text():
    with pytest.raises(JsonInvalid) as problem:
        parse_json('{"card": "4242", oops}')
    assert "4242" not in str(problem.value) and "oops" not in str(problem.value)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_nesting_has_a_limit_of_our_own(opening: str):
    levels = opening.count("[") + opening.count("{")
    closing = "".join({"[": "]", "{": "}"}[mark] for mark in reversed(opening) if mark in "[{")

    def nested(depth: int) -> str:
        return opening * (depth // levels) + "1" + closing * (depth // levels)

    canonical(nested(NESTING_MAX))
    for depth in (NESTING_MAX + levels, 900, 100_000):
        with pytest.raises(JsonInvalid, match="nested deeper than 128 levels"):
            parse_json(nested(depth))


def test_nesting_counts_under_a_repeated_name_too():
    with pytest.raises(JsonInvalid, match="nested deeper"):
        parse_json('{"a":1,"a":' + "[" * NESTING_MAX + "]" * NESTING_MAX + "}")


def test_a_flat_text_may_have_any_number_of_lists():
    assert canonical(f"[{','.join(['[]'] * 1000)}]").count("[]") == 1000


@pytest.mark.parametrize("text", ["", " ", "{", "nul", "01", "1.", "{'a':1}", '"\t"', "[1,]", "1 2", "\ufeff1"])
def test_what_is_not_json_is_refused(text: str):
    with pytest.raises(JsonInvalid, match="not JSON"):
        parse_json(text)


@pytest.mark.parametrize(
    "text", ["1" * 5_000, "-" + "9" * 100_000, "0." + "1" * 100_000, "1e" + "9" * 30, "0e" + "9" * 30]
)
def test_monstrous_numbers_are_kept_as_text(text: str):
    assert canonical(text) == text


def test_a_literal_number_orders_as_a_number_and_equals_only_its_text():
    number = LiteralNumber("9007199254740993.0")
    assert number > 5 and number < 1e300
    assert number == LiteralNumber("9007199254740993.0")
    assert number != 9007199254740992.0 and number != 9007199254740992.0
    assert LiteralNumber("1" * 30) == int("1" * 30)
    assert bool(LiteralNumber("1e-400"))
    assert len({number, LiteralNumber("9007199254740993.0"), 9007199254740992.0}) == 2
    assert copy.deepcopy(number) == number


def test_what_json_has_not_is_refused():
    with pytest.raises(TypeError, match="bytes has no JSON form"):
        canonical_json([b"x"])


def test_a_computed_number_is_written_as_its_value():
    assert canonical_json([10**21, 10**400, 2**70, float("nan")]) == f"[1e+21,{10**400},{2**70},nan]"


@pytest.mark.parametrize(
    ("text", "number"),
    [("5", 5), ("+5", 5), ("007", 7), ("-1.50", -1.5), ("1e3", 1000.0), ("9007199254740993.5", LiteralNumber("9007199254740993.5")),
     ("", None), ("1_000", None), (" 1", None), ("٣", None), ("nan", None), ("0x10", None), (".5", None)],
)  # fmt: skip
def test_a_number_is_read_from_text(text: str, number: object):
    assert parse_number(text) == number


def test_a_repeated_name_keeps_its_values_in_order():
    found = {"a": Repeated((1, 2)), "b": 3}
    assert parse_json('{"a":1,"b":3,"a":2}') == ParsedJson(found, is_plain=False, has_repeated_names=True)
    assert parse_json('{"a":1}') == ParsedJson({"a": 1}, is_plain=True, has_repeated_names=False)
