"""Where a key comes from, the identity it makes, and what the provider receives for it."""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import replace
from typing import Any

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.documents import RequestDocument
from proxy.core.expressions import compile_expression, is_single_header
from proxy.core.keys import (
    OUTGOING_LENGTHS,
    KeyAlternative,
    KeyInvalid,
    KeyRule,
    NoRawKey,
    canonical_text,
    digest,
    find_key,
    key_hash,
    outgoing_key,
    parse_given,
)
from proxy.core.model import Headers, Identity
from tests.core.messages import FORM, JSON, document, json_document

SECRET = b"ledger"
WHO = Identity("mail", "shop", ("acct_1",), "send", "g:k1")


def computed(*texts: str) -> KeyAlternative:
    return KeyAlternative(tuple(map(compile_expression, texts)), given=False, header=None, text=" + ".join(texts))


def given_by(text: str) -> KeyAlternative:
    expression = compile_expression(text)
    return KeyAlternative((expression,), given=True, header=is_single_header(expression), text=text)


def rule(*alternatives: KeyAlternative) -> KeyRule:
    return KeyRule(alternatives, required=True, window_us=None)


def key_of(shown: RequestDocument, *alternatives: KeyAlternative) -> str | None:
    found = find_key(rule(*alternatives), shown).found
    return None if found is None else found.key


def computed_key(body: str, *texts: str) -> str | None:
    return key_of(document(body, JSON), computed(*(texts or ("body.a",))))


# -- given keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"k1", b'"k1"', b'  "k1"\t', b'"k1";a=1; b', b"k1 "])
def test_the_same_key_is_written_in_many_ways(line: bytes):
    assert parse_given([line]) == "k1"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b'"a,b"', "a,b"),
        (b'"a\\"b\\\\c"', 'a"b\\c'),
        (b"a;b=1", "a;b=1"),
        (b":aGk=:", ":aGk=:"),
        (b'k"1', 'k"1'),
        (b"x" * 255, "x" * 255),
        (b'"' + b"x" * 255 + b'"', "x" * 255),
        (bytes(range(0x21, 0x7F)).replace(b",", b""), bytes(range(0x21, 0x7F)).replace(b",", b"").decode()),
    ],
)
def test_a_key_is_taken_as_it_is_meant(line: bytes, key: str):
    assert parse_given([line]) == key


TWICE = "The key's header is there twice"
LIST = "The key's header holds a list"
EMPTY = "The key is empty."
LONG = "The key has more than 255 characters."
CHARACTERS = "The key holds a space, a control character or one beyond ASCII"
STRING = "The key begins with a quote but is no structured-field String"


@pytest.mark.parametrize(
    ("lines", "detail"),
    [
        ([b"a", b"b"], TWICE),
        ([b"a", b"a"], TWICE),
        ([], EMPTY),
        ([b""], EMPTY),
        ([b" \t"], EMPTY),
        ([b'""'], EMPTY),
        ([b"a,b"], LIST),
        ([b"a, b"], LIST),
        ([b'"a", "b"'], LIST),
        ([b'"a";x=1, "b"'], LIST),
        ([b'"a",'], LIST),
        ([b",a"], LIST),
        ([b"x" * 256], LONG),
        ([b'"' + b"x" * 256 + b'"'], LONG),
        ([b"a b"], CHARACTERS),
        ([b'"a b"'], CHARACTERS),
        ([b"a\tb"], CHARACTERS),
        ([b"a\x00"], CHARACTERS),
        ([b"a\x7f"], CHARACTERS),
        ([b"a\xe9"], CHARACTERS),
        (["é".encode()], CHARACTERS),
        ([b'"a'], STRING),
        ([b'"a" b'], STRING),
        ([b'"a" ;b'], STRING),
        ([b'"a"b'], STRING),
        ([b'"a\\n"'], STRING),
        ([b'"\xe9"'], STRING),
        ([b'"a";'], STRING),
        ([b'"'], STRING),
    ],
)
def test_a_bad_key_is_refused_with_its_own_reason(lines: list[bytes], detail: str):
    with pytest.raises(KeyInvalid) as problem:
        parse_given(lines)
    assert problem.value.detail.startswith(detail)
    assert problem.value.detail == str(problem.value)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255))
def test_a_key_sent_as_a_structured_field_comes_back(key: str):
    assert parse_given([http_sf.ser((key, {})).encode()]) == key
    if "," not in key and not key.startswith('"'):
        assert parse_given([key.encode()]) == key


@given(st.lists(st.binary(max_size=300), max_size=2))
def test_any_header_lines_are_a_key_or_invalid(lines: list[bytes]):
    try:
        key = parse_given(lines)
    except KeyInvalid:
        return
    assert re.fullmatch(r"[\x21-\x7e]{1,255}", key)


# -- finding a key ------------------------------------------------------------------------------------------------------

HEADER = given_by('headers."idempotency-key"')
ONE_KEY: Headers = ((b"Idempotency-Key", b'"k1"'),)


def test_the_first_alternative_that_yields_wins():
    both = document('{"a":1}', JSON, headers=ONE_KEY)
    found = find_key(rule(HEADER, computed("body.a")), both).found
    assert found is not None
    assert (found.key, found.source, found.given, found.header) == ("g:k1", HEADER.text, "k1", "idempotency-key")
    other = find_key(rule(HEADER, computed("body.a")), json_document({"a": 1})).found
    assert other is not None
    assert (other.source, other.given, other.header, other.is_computed) == ("body.a", None, None, True)


def test_no_alternative_that_yields_is_no_key():
    assert find_key(rule(HEADER, computed("body.a", "body.b")), json_document({"a": 1})).found is None


def test_a_bad_given_key_is_not_passed_over():
    with pytest.raises(KeyInvalid):
        find_key(rule(HEADER, computed("body.a")), document('{"a":1}', JSON, headers=((b"idempotency-key", b""),)))


@pytest.mark.parametrize("value", ["null", '""', "[]", "{}"])
def test_every_part_must_yield(value: str):
    assert computed_key(f'{{"a":1,"b":{value}}}', "body.a", "body.b") is None


@pytest.mark.parametrize("value", ["0", "false", '"0"', "[null]"])
def test_zero_and_false_yield(value: str):
    assert computed_key(f'{{"a":1,"b":{value}}}', "body.a", "body.b") is not None


def test_an_expression_that_fails_does_not_yield_and_is_told():
    failing = computed("join('-', body.a)")
    search = find_key(rule(failing, computed("body.a")), json_document({"a": 1}))
    assert search.found is not None and search.found.source == "body.a"
    assert (search.failures, search.failed) == (failing.parts, 1)


def test_a_body_that_cannot_be_read_yields_nothing():
    assert computed_key('{"a":') is None
    assert document('{"a":', JSON).body_problem == "not JSON: Expecting value at character 5"


@pytest.mark.parametrize(
    ("text", "shown", "key"),
    [
        ("body.k", json_document({"k": "abc"}), "g:abc"),
        ("body.k", json_document({"k": 12}), "g:12"),
        ("body.k", document('{"k":12.0}', JSON), "g:12"),
        ("body.k", document('{"k":9007199254740993}', JSON), "g:9007199254740993"),
        ("body.k", document('{"k":123456789012345678901234567890.5}', JSON), "g:123456789012345678901234567890.5"),
        ("body.k", document("k=abc", FORM), "g:abc"),
        ("params.requestId", document(target="/x?requestId=a%2Cb"), "g:a,b"),
        ("body.k", json_document({"k": ""}), None),
        ("body.k", json_document({"k": None}), None),
        ("body.k", json_document({}), None),
    ],
)
def test_a_given_key_may_stand_in_body_or_query(text: str, shown: RequestDocument, key: str | None):
    assert key_of(shown, given_by(text)) == key


@pytest.mark.parametrize(
    "shown",
    [json_document({"k": True}), json_document({"k": ["a"]}), json_document({"k": {"a": 1}}), document('{"k":"a","k":"a"}', JSON),
     document("k=a&k=b", FORM), json_document({"k": "a b"}), json_document({"k": "é"}), json_document({"k": "x" * 256})],
)  # fmt: skip
def test_what_is_no_key_in_a_body_is_refused(shown: RequestDocument):
    with pytest.raises(KeyInvalid):
        key_of(shown, given_by("body.k"))


# -- computed keys ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ('{"a":1}', '{ "a" : 1.0, "b": 2 }'),
        ('{"a":{"x":1,"y":2}}', '{"a":{"y":2,"x":1}}'),
        ('{"a":"\\u00e9"}', '{"a":"é"}'),
    ],
)
def test_equal_parts_make_one_key(left: str, right: str):
    assert computed_key(left) == computed_key(right) is not None


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ('{"a":1}', '{"a":"1"}'),
        ('{"a":1}', '{"a":true}'),
        ('{"a":9007199254740993}', '{"a":9007199254740992}'),
        ('{"a":9007199254740993.0}', '{"a":9007199254740992.0}'),
        ('{"a":NaN}', '{"a":"NaN"}'),
        ('{"a":1,"a":2}', '{"a":2}'),
        ('{"a":1,"a":2}', '{"a":1}'),
        ('{"a":[1,2]}', '{"a":[2,1]}'),
        ('{"a":["1"]}', '{"a":"1"}'),
    ],
)
def test_different_parts_make_different_keys(left: str, right: str):
    assert computed_key(left) != computed_key(right)


def test_parts_do_not_run_into_each_other():
    texts = ("body.a", "body.b")
    assert computed_key('{"a":"xy","b":"z"}', *texts) != computed_key('{"a":"x","b":"yz"}', *texts)
    assert computed_key('{"a":"x","b":"y"}', *texts) != computed_key('{"a":"y","b":"x"}', *texts)


def test_how_an_expression_is_written_does_not_change_the_key():
    assert computed_key('{"a":1}', "body.a") == computed_key('{"a":1}', "request.body.a")


def test_a_computed_key_is_only_a_digest():
    key = computed_key('{"a":"very secret"}')
    assert key is not None
    assert re.fullmatch("c:[0-9a-f]{64}", key)


def test_given_and_computed_keys_never_meet():
    key = computed_key('{"a":1}')
    assert key is not None
    assert key_of(json_document({"k": key[2:]}), given_by("body.k")) != key


def test_computed_keys_stay_the_same_in_later_versions():
    assert computed_key('{"a":1,"b":"x"}', "body.a", "body.b") == (
        "c:3d1876e0792cf217c5001e711a3ebe89f69cef9ebbfaf352e58d9a78db2a041d"
    )


# -- identity and outgoing key ------------------------------------------------------------------------------------------

OTHERS = {
    "provider": replace(WHO, provider="mail2"),
    "caller": replace(WHO, caller="shop2"),
    "scope": replace(WHO, scope=("acct_2",)),
    "no scope": replace(WHO, scope=()),
    "an empty part of scope": replace(WHO, scope=("acct_1", "")),
    "operation": replace(WHO, operation="send2"),
    "key": replace(WHO, key="g:k2"),
    "kind of key": replace(WHO, key="c:k1"),
    "parts run together": replace(WHO, provider="mails", caller="hop"),
    "scope in the operation": replace(WHO, scope=(), operation="acct_1send"),
}


@pytest.mark.parametrize("difference", OTHERS)
def test_another_identity_has_another_hash_and_another_outgoing_key(difference: str):
    other = OTHERS[difference]
    assert key_hash(SECRET, other) != key_hash(SECRET, WHO)
    assert outgoing(other) != outgoing(WHO)


def outgoing(identity: Identity, **fields: Any) -> str:
    return outgoing_key(identity, **{"born_at": None, "revision": 0, "format": "hex32", **fields})


def test_the_hash_is_keyed():
    assert re.fullmatch("[0-9a-f]{32}", key_hash(SECRET, WHO))
    assert key_hash(SECRET, WHO) == key_hash(SECRET, replace(WHO))
    assert key_hash(b"other", WHO) != key_hash(SECRET, WHO)


def test_a_digest_is_keyed_and_of_its_own_kind():
    assert digest(SECRET, "Bearer a") == digest(SECRET, "Bearer a")
    assert len({digest(SECRET, "a"), digest(SECRET, "b"), digest(b"other", "a"), key_hash(SECRET, WHO)}) == 4
    assert re.fullmatch("[0-9a-f]{32}", digest(SECRET, "a"))


def test_generations_and_revisions_have_their_own_outgoing_keys():
    keys = {outgoing(WHO, born_at=born_at, revision=revision) for born_at in (None, 0, 1) for revision in (0, 1)}
    assert len(keys) == 6


def test_formats_are_spellings_of_the_same_derivation():
    digits, dashed = outgoing(WHO), outgoing(WHO, format="uuid")
    assert re.fullmatch("[0-9a-f]{32}", digits)
    assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", dashed)
    plain = dashed.replace("-", "")
    assert [index for index in range(32) if plain[index] != digits[index]] in ([], [12], [16], [12, 16])
    assert {"hex32": len(digits), "uuid": len(dashed)} == OUTGOING_LENGTHS


def test_every_uuid_says_its_version_and_variant():
    for revision in range(64):
        made = uuid.UUID(outgoing(WHO, revision=revision, format="uuid"))
        assert (made.version, made.variant) == (4, uuid.RFC_4122)


def test_an_outgoing_key_is_derived_as_documented():
    packed = (
        b"s26:dedup-proxy outgoing key 1" + b"s4:mail" + b"s4:shop" + b"t9:" + b"s6:acct_1" + b"s4:send" + b"s4:g:k1"
    )
    assert outgoing(WHO) == hashlib.sha256(packed + b"n0:" + b"i1:0").hexdigest()[:32]


def test_outgoing_keys_stay_the_same_in_later_versions():
    assert outgoing(WHO) == "7a375fd8e059681883982b365fa2cf9a"
    assert (
        outgoing(WHO, born_at=1_700_000_000_000_000, revision=3, format="uuid")
        == "ecec0610-2aa6-41a8-adda-4b5a73d1124d"
    )


def test_a_raw_key_is_the_callers_whatever_the_revision():
    assert outgoing(WHO, format="raw", given="k1", revision=7) == "k1"
    assert outgoing(WHO, format="raw", given="k1", max_length=2) == "k1"
    with pytest.raises(KeyInvalid, match="this provider takes 1"):
        outgoing(WHO, format="raw", given="k1", max_length=1)
    with pytest.raises(NoRawKey):
        outgoing(WHO, format="raw")


def test_a_part_of_scope_is_its_canonical_text():
    assert [canonical_text(value) for value in ("1", 1, 1.0, None)] == ['"1"', "1", "1", "null"]
    with pytest.raises(TypeError):
        canonical_text(object())
