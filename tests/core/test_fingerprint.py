"""Which requests mean the same."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.fingerprint import fingerprint
from proxy.core.model import Headers
from proxy.core.policy import Place
from tests.core import messages
from tests.core.messages import FORM, JSON, MULTIPART, document, file, multipart

SECRET = b"ledger"


@dataclass(frozen=True)
class Sent:
    """A request, told by what differs from an empty ``POST /charges``."""

    body: bytes | str = b""
    content_type: str | None = JSON
    target: str = "/charges"
    method: str = "POST"
    headers: Headers = ()
    ignore: tuple[str, ...] = ()
    omit: tuple[Place, ...] = ()
    secret: bytes = field(default=SECRET, repr=False)

    @property
    def fingerprint(self) -> str:
        shown = document(self.body, self.content_type, target=self.target, method=self.method, headers=self.headers)
        return fingerprint(self.secret, shown, ignore=self.ignore, omit=self.omit)


def form(text: str, **fields: Any) -> Sent:
    return Sent(text, FORM, **fields)


def parts(*contents: bytes, boundary: str = "XX") -> Sent:
    body = multipart(*contents).replace(b"--XX", b"--" + boundary.encode())
    return Sent(body, f'multipart/form-data; boundary="{boundary}"')


def part(name: str, value: bytes) -> bytes:
    return messages.field(name, value)


EQUAL = {
    "white space and order of names": (Sent('{"a":1,"b":[]}'), Sent('{\n "b": [ ], "a": 1 }')),
    "spelling of numbers": (Sent('{"a":1,"b":100}'), Sent('{"a":1.0,"b":1e2}')),
    "spelling of texts": (Sent('"\\u00e9\\/"'), Sent('"é/"')),
    "a byte order mark": (Sent("{}"), Sent(b"\xef\xbb\xbf{}")),
    "parameters of the media type": (Sent("{}"), Sent("{}", "Application/JSON; charset=utf-8")),
    "a content coding": (Sent("{}"), Sent(gzip.compress(b"{}"), headers=((b"content-encoding", b"gzip"),))),
    "how well it was compressed": (
        Sent(gzip.compress(b"{}", 1), headers=((b"content-encoding", b"gzip"),)),
        Sent(gzip.compress(b"{}", 9), headers=((b"Content-Encoding", b"gzip"),)),
    ),
    "headers": (Sent("{}"), Sent("{}", headers=((b"Date", b"now"), (b"Authorization", b"other")))),
    "a media type without a body": (Sent(b"", JSON), Sent(b"", None)),
    "the order of different fields": (form("a=1&b=2&a=3"), form("b=2&a=1&a=3")),
    "spelling of fields": (form("a=%20x&b[c]=%7E"), form("b%5Bc%5D=~&a=+x")),
    "a boundary": (parts(part("a", b"1")), parts(part("a", b"1"), boundary="another")),
    "the order of different parts": (parts(part("a", b"1"), part("b", b"2")), parts(part("b", b"2"), part("a", b"1"))),
    "spelling of parameters": (Sent(target="/c?a=%7e&b=+"), Sent(target="/c?a=~&b=%20")),
    "an ignored field": (Sent('{"a":1,"t":1}', ignore=("body.t",)), Sent('{"a":1,"t":2}', ignore=("body.t",))),
    "an ignored field that is not there": (Sent('{"a":1,"t":1}', ignore=("body.t",)), Sent('{"a":1}', ignore=("body.t",))),
    "an ignored object": (Sent('{"m":{"x":1}}', ignore=("body.m",)), Sent('{"m":{"y":1}}', ignore=("body.m",))),
    "an ignored field within": (
        Sent('{"m":{"x":1,"t":1}}', ignore=("body.m.t",)), Sent('{"m":{"x":1,"t":2}}', ignore=("body.m.t",))),
    "an ignored body": (Sent("1", ignore=("body",)), Sent(b"\xff", "image/png", ignore=("body",))),
    "an ignored form field": (form("a=1&m[t]=1", ignore=("body.m",)), form("a=1&m[t]=2", ignore=("body.m",))),
    "an ignored list of a form": (form("l[]=1", ignore=("body.l",)), form("l[]=2&l[]=3", ignore=("body.l",))),
    "an ignored parameter": (Sent(target="/c?t=1&a=1", ignore=("params.t",)), Sent(target="/c?a=1&t=2", ignore=("params.t",))),
    "the place of the native key in the body": (
        Sent('{"k":"x"}', omit=(Place("body", "k"),)), Sent('{"k":"y"}', omit=(Place("body", "k"),))),
    "the place of the native key in the query": (
        Sent(target="/c?k=x", omit=(Place("query", "k"),)), Sent(target="/c?k=y", omit=(Place("query", "k"),))),
    "the place of the tag in a form": (
        form("v:x=1", omit=(Place("field", "v:x"),)), form("v:x=2", omit=(Place("field", "v:x"),))),
    "the place of the tag within a form": (
        form("m[k]=1&m[l]=1", omit=(Place("body", "m.k"),)), form("m[k]=2&m[l]=1", omit=(Place("body", "m.k"),))),
    "the place of the tag in a header": (
        Sent(omit=(Place("header", "x"),), headers=((b"X", b"1"),)), Sent(omit=(Place("header", "x"),))),
}  # fmt: skip

DIFFERENT = {
    "method": (Sent("{}"), Sent("{}", method="PUT")),
    "path": (Sent("{}"), Sent("{}", target="/charges/1")),
    "spelling of the path": (Sent(target="/a%2Fb"), Sent(target="/a/b")),
    "parameters": (Sent(target="/c?a=1"), Sent(target="/c?a=2")),
    "the order of too many parameters": (Sent(target="/c?a&b" + "&" * 10_000), Sent(target="/c?b&a" + "&" * 10_000)),
    "the order of parameters": (Sent(target="/c?a=1&b=2"), Sent(target="/c?b=2&a=1")),
    "a parameter in the path": (Sent(target="/c?a"), Sent(target="/c%3Fa")),
    "a value": (Sent('{"a":1}'), Sent('{"a":2}')),
    "a type": (Sent('{"a":1}'), Sent('{"a":"1"}')),
    "null and nothing": (Sent('{"a":null}'), Sent("{}")),
    "the order of a list": (Sent("[1,2]"), Sent("[2,1]")),
    "numbers beyond a double": (Sent('{"a":9007199254740993}'), Sent('{"a":9007199254740992}')),
    "numbers beyond a double, spelled with a fraction": (Sent('{"a":9007199254740993.0}'), Sent('{"a":9007199254740992.0}')),
    "numbers too precise": (Sent("0.1000000000000000055511151231257827"), Sent("0.1")),
    "NaN and a text": (Sent("NaN"), Sent('"NaN"')),
    "a name that is there twice": (Sent('{"a":1,"a":2}'), Sent('{"a":2}')),
    "the white space of JSON with a name twice": (Sent('{"a":1,"a":2}'), Sent('{"a":1, "a":2}')),
    "JSON and the same bytes as text": (Sent("1"), Sent("1", "text/plain")),
    "JSON and the same bytes of no type": (Sent("1"), Sent("1", None)),
    "JSON and a form": (Sent("a"), form("a")),
    "broken JSON by its bytes": (Sent("{"), Sent("{ ")),
    "broken JSON and a text that reads like it": (Sent("{"), Sent('"{"')),
    "text by its bytes": (Sent("a", "text/plain"), Sent("a ", "text/plain")),
    "XML by its bytes": (Sent("<a/>", "text/xml"), Sent("<a />", "text/xml")),
    "a form's values": (form("a=1"), form("a=2")),
    "the order of equal fields": (form("a=1&a=2"), form("a=2&a=1")),
    "a field and a list of one": (form("a=1"), form("a[]=1")),
    "a field with an empty value and none": (form("a="), form("")),
    "bytes that are no UTF-8": (form("a=%ff"), form("a=%fe")),
    "a form and a part": (form("a=1"), parts(part("a", b"1"))),
    "a field and a file": (parts(part("f", b"1")), parts(file("f", "", b"1"))),
    "a file's name": (parts(file("f", "a", b"1")), parts(file("f", "b", b"1"))),
    "a file's content": (parts(file("f", "a", b"1")), parts(file("f", "a", b"2"))),
    "the order of equal parts": (parts(part("a", b"1"), part("a", b"2")), parts(part("a", b"2"), part("a", b"1"))),
    "parts run together": (parts(part("a", b"1"), part("b", b"2")), parts(part("a", b"1b2"))),
    "an unknown coding": (Sent("{}"), Sent("{}", headers=((b"content-encoding", b"br"),))),
    "which unknown coding": (
        Sent("{}", headers=((b"content-encoding", b"br"),)), Sent("{}", headers=((b"content-encoding", b"zstd"),))),
    "beside an ignored form field": (form("a=1&t=1", ignore=("body.t",)), form("a=2&t=1", ignore=("body.t",))),
    "an ignored field of what is no object": (Sent("[1]", ignore=("body.t",)), Sent("[2]", ignore=("body.t",))),
    "an ignored field within a text": (Sent('{"m":"x"}', ignore=("body.m.t",)), Sent('{"m":"y"}', ignore=("body.m.t",))),
    "beside an ignored field": (Sent('{"a":1,"t":1}', ignore=("body.t",)), Sent('{"a":2,"t":1}', ignore=("body.t",))),
    "a field named like an ignored one elsewhere": (
        Sent('{"m":{"t":1}}', ignore=("body.t",)), Sent('{"m":{"t":2}}', ignore=("body.t",))),
    "a parameter named like an ignored field": (
        Sent(target="/c?t=1", ignore=("body.t",)), Sent(target="/c?t=2", ignore=("body.t",))),
    "ignored in JSON with a name twice": (
        Sent('{"t":1,"a":1,"a":2}', ignore=("body.t",)), Sent('{"t":2,"a":1,"a":2}', ignore=("body.t",))),
    "the ledger": (Sent("{}"), Sent("{}", secret=b"another ledger")),
}  # fmt: skip


@pytest.mark.parametrize("what", EQUAL)
def test_does_not_count(what: str):
    one, other = EQUAL[what]
    assert one != other, "the row compares a request with itself"
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("what", DIFFERENT)
def test_counts(what: str):
    one, other = DIFFERENT[what]
    assert one.fingerprint != other.fingerprint


def test_a_fingerprint_tells_its_version_and_nothing_else():
    assert re.fullmatch("1:[0-9a-f]{64}", Sent('{"card":"4242"}').fingerprint)


def test_fingerprints_stay_the_same_in_later_versions():
    assert (
        Sent('{"a":[1.5,"é"]}', target="/c?b=1").fingerprint
        == "1:bf22add51ec3cec15bc90facaca8039243afc4e30e8e7c3afcd9228023c6c168"
    )
    assert form("a=1&b[]=2").fingerprint == "1:19d5ab9142a215a732bef6ff627165ee16816d54bfd9e7a2cbcd066c599717a0"
    assert (
        Sent(multipart(file("f", "n", b"1")), MULTIPART).fingerprint
        == "1:d8b34df715e54a1ea5ad1ca9a1a3bd8f055db743433395cf6ee82d0298f2ce29"
    )
    assert (
        Sent(b"\x00", "image/png").fingerprint == "1:748dee1db4c1c8578e2943bef8217d32a95bdf82c47a4a086212c1a84494859c"
    )


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


def shuffled(value: Any, draw: Any) -> Any:
    """*value* with its names in another order and its whole numbers spelled as fractions."""
    if isinstance(value, dict):
        names = draw(st.permutations(list(value)))
        return {name: shuffled(value[name], draw) for name in names}
    if isinstance(value, list):
        return [shuffled(item, draw) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and draw(st.booleans()) else value


@given(VALUES, st.data(), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_how_json_is_written_never_counts(value: Any, data: st.DataObject, escapes: bool, indent: Any):
    other = json.dumps(shuffled(value, data.draw), ensure_ascii=escapes, indent=indent)
    assert Sent(other).fingerprint == Sent(json.dumps(value)).fingerprint


def meaning(value: Any) -> str:
    """JSON in which equal values have one text, whole numbers without a fraction."""

    def whole(inner: Any) -> Any:
        if isinstance(inner, dict):
            return {name: whole(item) for name, item in inner.items()}
        if isinstance(inner, list):
            return [whole(item) for item in inner]
        return int(inner) if isinstance(inner, float) and inner.is_integer() else inner

    return json.dumps(whole(value), sort_keys=True)


@given(VALUES, VALUES)
def test_what_json_says_always_counts(left: Any, right: Any):
    are_equal = Sent(json.dumps(left)).fingerprint == Sent(json.dumps(right)).fingerprint
    assert are_equal == (meaning(left) == meaning(right))


@given(st.lists(st.tuples(st.text("ab[]"), st.text("xy&=")), max_size=6), st.randoms())
def test_the_order_of_a_forms_names_never_counts_and_that_of_its_values_always_does(
    fields: list[tuple[str, str]], rng: Any
):
    other = list(fields)
    rng.shuffle(other)
    same_lists = all(
        [value for name, value in fields if name == wanted] == [value for name, value in other if name == wanted]
        for wanted, _ in fields
    )
    assert (form(urlencode(fields)).fingerprint == form(urlencode(other)).fingerprint) == same_lists


@given(
    st.binary(),
    st.sampled_from([JSON, FORM, MULTIPART, "text/xml", "text/plain", "x/y"]),
    st.text(),
    st.sampled_from([(), ("body.a",), ("params.a",)]),
)
def test_any_request_has_a_fingerprint(body: bytes, content_type: str, target: str, ignore: tuple[str, ...]):
    assert Sent(body, content_type, target="/" + target, ignore=ignore).fingerprint.startswith("1:")
