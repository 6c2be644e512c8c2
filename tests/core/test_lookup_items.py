"""Which candidates are ours: what is equal, what is too old, what is an id."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.json_text import canonical_json, parse_json
from proxy.core.lookup import Unaskable
from proxy.core.lookup_items import CLOCK_SLACK_US, EFFECT_ID_LENGTH_MAX, effect_id, is_same, matching, moment_us
from proxy.core.lookup_request import CallDocument
from proxy.core.reasons import Reason
from tests.core.builders import SECOND, START
from tests.core.lookups import BY_ORDER, TAG, lookup, sought
from tests.core.test_json_text import VALUES


def same(theirs: str, ours: str) -> bool | None:
    return is_same(parse_json(theirs).value, parse_json(ours).value)


EQUAL = {
    # theirs, ours as JSON -> equal; None: only their types differ
    "a text": ('"o-1"', '"o-1"', True),
    "another text": ('"o-1"', '"o-2"', False),
    "another case": ('"O-1"', '"o-1"', False),
    "the same letter, spelled otherwise": ('"\\u00e9"', '"é"', True),
    "a number": ("100", "100", True),
    "a number spelled otherwise": ("1e2", "100.00", True),
    "a number that no double holds": ("12345678901234567890.10", "12345678901234567890.10", True),
    "the same, spelled otherwise": ("12345678901234567890.1", "12345678901234567890.10", True),
    "its neighbour, the same to a double": ("12345678901234567890.2", "12345678901234567890.1", False),
    "a long id against its neighbour": ("9007199254740993", "9007199254740992", False),
    "a long id as integer and decimal": ("9007199254740993", "9007199254740993.0", True),
    "a number beyond all doubles": ("1e400", "10e399", True),
    "a number beyond all decimals": ("1e9999999999999999999", "1e9999999999999999999", True),
    "no number at all": ("NaN", "NaN", True),
    "a text for a number": ('"100"', "100", None),
    "a number for a text": ("100", '"100"', None),
    "a text for a number, spelled otherwise": ('"100.00"', "100", None),
    "a text for a number, with blanks": ('" 100 "', "100", None),
    "texts are compared as texts": ('"100"', '"100.00"', False),
    "a text for another number": ('"101"', "100", False),
    "truth": ("true", "true", True),
    "truth is no number": ("true", "1", False),
    "a text for truth": ('"true"', "true", None),
    "false is there": ("false", "false", True),
    "nought is there": ("0", "0.0", True),
    "null equals nothing": ("null", '"o-1"', False),
    "not even null": ("null", "null", False),
    "an empty text is absent": ('""', '""', False),
    "an empty list is absent": ("[]", "[]", False),
    "an empty object is absent": ("{}", "{}", False),
    "an object": ('{"a": 1, "b": [2]}', '{"b": [2.0], "a": 1}', True),
    "another object": ('{"a": 1}', '{"a": 2}', False),
    "a list of one is not its item": ('["o-1"]', '"o-1"', False),
}


@pytest.mark.parametrize("what", EQUAL)
def test_values_are_compared_by_value(what: str) -> None:
    theirs, ours, expected = EQUAL[what]
    assert same(theirs, ours) is expected
    assert same(ours, theirs) is expected


@given(VALUES, VALUES)
def test_what_is_equal_is_the_same_json(one: Any, other: Any) -> None:
    if is_same(one, other) is True:
        assert canonical_json(one) == canonical_json(other)


def test_numbers_of_vast_exponents_are_compared_at_once() -> None:
    began = time.monotonic()
    assert same("1e999999999", "10e999999998") is True
    assert same("1e999999999", "1e-999999999") is False
    assert time.monotonic() - began < 0.5


MOMENTS = {
    "RFC 3339": ("2023-11-14T22:13:20Z", START),
    "RFC 3339 with a zone": ("2023-11-15T00:13:20+02:00", START),
    "RFC 3339 with a fraction": ("2023-11-14T22:13:20.25Z", START + SECOND // 4),
    "a space for the T": ("2023-11-14 22:13:20+00:00", START),
    "RFC 2822": ("Tue, 14 Nov 2023 22:13:20 +0000", START),
    "RFC 2822 without a weekday": ("14 Nov 2023 22:13:20 GMT", START),
    "RFC 2822 with a zone": ("Tue, 14 Nov 2023 17:13:20 -0500", START),
    "Unix": (1_700_000_000, START),
    "Unix with a fraction": (1_700_000_000.25, START + SECOND // 4),
    "Unix as text": ("1700000000", START),
    "Unix as text with a fraction": ("1700000000.250000", START + SECOND // 4),
    "the beginning of time": (0, 0),
    "milliseconds": (1_700_000_000_000, None),
    "milliseconds as text": ("1700000000000", None),
    "before the beginning": (-1, None),
    "a day": ("2023-11-14", None),
    "a day without dashes": ("20231114000", 20_231_114_000 * SECOND),
    "a time without a zone": ("2023-11-14T22:13:20", None),
    "RFC 2822 without a zone": ("Tue, 14 Nov 2023 22:13:20", None),
    "RFC 2822 with a zone nobody knows": ("Tue, 14 Nov 2023 22:13:20 XYZ", None),
    "a day that no month has": ("Tue, 31 Feb 2023 22:13:20 +0000", None),
    "a month that no year has": ("Tue, 14 Foo 2023 22:13:20 +0000", None),
    "words": ("yesterday", None),
    "nothing": (None, None),
    "truth": (True, None),
    "an object": ({"seconds": 1}, None),
    "not a number": (float("nan"), None),
    "no end": (float("inf"), None),
    "a number without end": (10**400, None),
}


@pytest.mark.parametrize("what", MOMENTS)
def test_times_are_read_as_providers_write_them(what: str) -> None:
    value, expected = MOMENTS[what]
    assert moment_us(value) == expected


@given(VALUES | st.datetimes().map(str) | st.floats())
@example("0001-01-01T00:00:00+14:00")
@example("9999-12-31T23:59:59-14:00")
def test_a_time_is_read_or_not_but_never_breaks(value: Any) -> None:
    found = moment_us(value)
    assert found is None or found >= 0


def at(us: int) -> float:
    return us / SECOND


BY_TAG_TOO = {"order": "request.body.order", "meta.tag": "outgoing_key"}

AGES: dict[str, tuple[object, bool | None, bool | None]] = {
    # created, is it ours: without our tag, with it; None: could not tell
    "after the first send": (at(START + SECOND), True, True),
    "at the first send": (at(START), True, True),
    "long after": (at(START + 86_400 * SECOND), True, True),
    "older by a second": (at(START - SECOND), None, True),
    "older by a millisecond": ("2023-11-14T22:13:19.999Z", None, True),
    "older by five minutes": (at(START - CLOCK_SLACK_US), None, True),
    "older by five minutes to the microsecond": ("2023-11-14T22:08:19.999001Z", None, True),
    "older by half a second more": (at(START - CLOCK_SLACK_US - SECOND // 2), False, None),
    "older by a second more": (at(START - CLOCK_SLACK_US - SECOND), False, None),
    "a year older": ("2022-11-14T22:13:20Z", False, None),
    "unreadable": ("yesterday", None, True),
    "absent": (None, None, True),
    "in milliseconds": (START // 1000, None, True),
}


@pytest.mark.parametrize("what", AGES)
def test_what_is_older_than_the_first_send(what: str) -> None:
    created, without_tag, with_tag = AGES[what]
    candidate = {"order": "o-1", "meta": {"tag": TAG}, "created": created}

    for where, ours, expected in (
        (BY_ORDER, ("o-1",), without_tag),
        (BY_TAG_TOO, ("o-1", TAG), with_tag),
    ):
        assert is_ours(candidate, ours, where=where, since="created") is expected, where


def test_an_effect_in_the_second_of_the_first_send_is_not_older_than_it() -> None:
    candidate = {"order": "o-1", "created": START // SECOND}
    rule = lookup(where=BY_ORDER, since="created")
    assert list(matching(rule, [candidate], ("o-1",), first_sent_at=START + SECOND - 1)) == [candidate]
    with pytest.raises(Unaskable):
        list(matching(rule, [candidate], ("o-1",), first_sent_at=START + SECOND))


def is_ours(candidate: object, ours: tuple[object, ...], **fields: Any) -> bool | None:
    """Whether *candidate* is ours; None if that can't be told."""
    try:
        return bool(list(matching(lookup(**fields), [candidate], ours, first_sent_at=START)))
    except Unaskable as why:
        return None if why.verdict.reason is Reason.LOOKUP_UNCERTAIN else False


def test_all_of_where_must_hold() -> None:
    candidates = [{"order": "o-1", "amount": 1}, {"order": "o-1", "amount": 100}, {"order": "o-2", "amount": 100}]
    rule = lookup(where={"order": "request.body.order", "amount": "request.body.amount"})
    assert list(matching(rule, candidates, ("o-1", 100), first_sent_at=START)) == [candidates[1]]


def test_without_where_every_candidate_is_ours() -> None:
    assert list(matching(lookup(where={}), [1, None, {}], (), first_sent_at=START)) == [1, None, {}]


def test_a_text_for_a_number_matters_only_where_all_else_is_equal() -> None:
    where = {"amount": "request.body.amount", "order": "request.body.order"}
    assert is_ours({"order": "o-2", "amount": "100"}, (100, "o-1"), where=where) is False
    assert is_ours({"order": "o-1", "amount": "100"}, (100, "o-1"), where=where) is None


def test_a_candidate_may_be_any_value() -> None:
    rule = lookup(where={"@": "outgoing_key"}, id="@")
    assert list(matching(rule, ["x", 1, None, [], TAG], (TAG,), first_sent_at=START)) == [TAG]


def test_a_condition_that_fails_tells_nothing() -> None:
    with pytest.raises(Unaskable) as why:
        list(matching(lookup(where={"abs(order)": "key"}), [{"order": "x"}], ("k1",), first_sent_at=START))
    assert (why.value.verdict.reason, why.value.verdict.failed_expressions) == (Reason.LOOKUP_FAILED, 1)


def test_what_was_not_kept_equals_nothing() -> None:
    rule = lookup(where={"order": "request"})
    document = CallDocument(sought(has_body=False))["request"]
    with pytest.raises(Unaskable):
        list(matching(rule, [{"order": "o-1"}], (document,), first_sent_at=START))


IDS = {
    "a text": ("ch_1", "ch_1"),
    "a message id": ("<1.2@mg.example.com>", "<1.2@mg.example.com>"),
    "a number": (7, "7"),
    "a number as text is the same id": ("7", "7"),
    "a number that a double would lose": (parse_json("12345678901234567890123").value, "12345678901234567890123"),
    "the longest": ("x" * EFFECT_ID_LENGTH_MAX, "x" * EFFECT_ID_LENGTH_MAX),
    "longer": ("x" * (EFFECT_ID_LENGTH_MAX + 1), None),
    "empty": ("", None),
    "blank": ("  ", None),
    "null": (None, None),
    "truth": (True, None),
    "a list": (["a"], None),
    "an object": ({"id": 1}, None),
    "two lines": ("a\nb", None),
    "nothing that a database keeps": ("a\x00", None),
    "half a character": ("\ud800", None),
}


@pytest.mark.parametrize("what", IDS)
def test_an_id_is_a_text_or_number(what: str) -> None:
    value, expected = IDS[what]
    assert effect_id(lookup(), {"id": value}) == expected
