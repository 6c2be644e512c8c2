"""Bodies by their Content-Type: read, or unread with a reason; never an exception."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import bodies
from proxy.core.bodies import Kind, read_body
from proxy.core.json_text import canonical_json
from proxy.core.model import Headers
from tests.core.messages import FORM, JSON, MULTIPART, field, file, multipart


def headers(content_type: str | None, *codings: str) -> Headers:
    lines = tuple((b"content-encoding", coding.encode()) for coding in codings)
    return lines if content_type is None else ((b"Content-Type", content_type.encode("latin-1")), *lines)


# what it is: content type, bytes -> kind, value
READ = {
    "nothing": (JSON, b"", Kind.EMPTY, None),
    "JSON": (JSON, b'{"a": [1, 2.5, null]}', Kind.JSON, {"a": [1, 2.5, None]}),
    "JSON that is null": (JSON, b"null", Kind.JSON, None),
    "JSON with a byte order mark": (JSON, b"\xef\xbb\xbf{}", Kind.JSON, {}),
    "JSON by its suffix": ("application/vnd.api+json; charset=utf-8", b"1", Kind.JSON, 1),
    "JSON of AWS": ("application/x-amz-json-1.1", b"1", Kind.JSON, 1),
    "JSON in capitals": ("Application/JSON", b"1", Kind.JSON, 1),
    "a form": (FORM, b"a=1&m[k]=v&l[]=x", Kind.FORM, {"a": "1", "m": {"k": "v"}, "l": ["x"]}),
    "multipart": (MULTIPART, multipart(field("m[k]", b"v"), file("f", "n.txt", b"abc")), Kind.MULTIPART,
        {"m": {"k": "v"}, "f": {"name": "n.txt", "type": "text/plain", "size": 3, "digest": hashlib.sha256(b"abc").hexdigest()}}),
    "XML": ("application/xml", b"<Order><Id>7</Id></Order>", Kind.XML, {"Order": {"Id": "7"}}),
    "XML by its suffix": ("application/soap+xml", b"<a>x</a>", Kind.XML, {"a": "x"}),
    "XML with prefixes": ("text/xml",
        b'<s:E xmlns:s="urn:s" xmlns="urn:d"><s:B k="1" s:l="2"> t <c/></s:B></s:E>', Kind.XML,
        {"E": {"B": {"@k": "1", "@l": "2", "c": "", "#text": "t"}}}),
    "XML with an element met twice": ("text/xml", b"<a><b>1</b><c/><b>2</b><b>3</b></a>", Kind.XML, {"a": {"b": ["1", "2", "3"], "c": ""}}),
    "XML in another encoding": ("text/xml", '<?xml version="1.0" encoding="iso-8859-1"?><a>é</a>'.encode("latin-1"), Kind.XML, {"a": "é"}),
    "a GraphQL document": ("application/graphql", b"{ a }", Kind.GRAPHQL, "{ a }"),
    "text": ("text/plain", "é".encode(), Kind.TEXT, "é"),
    "text of no type": (None, b"x", Kind.TEXT, "x"),
    "bytes": ("application/octet-stream", b"\xff\x00", Kind.BYTES, None),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_body_is_read_by_its_type(name: str):
    content_type, content, kind, value = READ[name]
    body = read_body(content, headers(content_type))
    assert (body.kind, body.value, body.problem) == (kind, value, None)


# what is wrong: content type, bytes -> kind, reason
UNREAD = {
    "broken JSON": (JSON, b'{"a":', Kind.JSON, "not JSON: Expecting value at character 5"),
    "JSON that is no UTF-8": (JSON, b'"\xff"', Kind.JSON, "not JSON: it is not UTF-8"),
    "JSON in UTF-16": (JSON, '{"a":1}'.encode("utf-16"), Kind.JSON, "not JSON: it is not UTF-8"),
    "JSON nested without end": (JSON, b"[" * 1_000_000, Kind.JSON, "nested deeper than 128 levels"),
    "a form of a million fields": (FORM, b"a&" * 1_000_000, Kind.FORM, "more than 10000 fields"),
    "multipart without its end": (MULTIPART, b"--XX\r\n", Kind.MULTIPART, "not multipart: its closing boundary is missing"),
    "broken XML": ("text/xml", b"<a><b></a>", Kind.XML, "not XML at line 1, column 8"),
    "XML nested without end": ("text/xml", b"<a>" * 1_000_000, Kind.XML, "nested deeper than 128 levels"),
    "XML of a million elements": ("text/xml", b"<r>" + b"<a/>" * 1_000_000, Kind.XML, "more than 100000 elements"),
    "XML with attributes without end": ("text/xml",
        b"<r " + b" ".join(b'a%d="1"' % n for n in range(100_001)) + b"/>", Kind.XML, "more than 100000 elements"),
    "an XML bomb": ("text/xml",
        b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>', Kind.XML, "it has a document type"),
    "XML that reads files": ("text/xml",
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', Kind.XML, "it has a document type"),
    "XML in an unknown encoding": ("text/xml", b'<?xml version="1.0" encoding="x-none"?><a/>', Kind.XML, "its encoding is unknown"),
    "a GraphQL document that is no text": ("application/graphql", b"\xff", Kind.GRAPHQL, "not GraphQL: it is not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
def test_a_bad_body_is_a_problem_and_no_exception(name: str):
    content_type, content, kind, problem = UNREAD[name]
    body = read_body(content, headers(content_type))
    assert (body.kind, body.value, body.problem) == (kind, None, problem)
    assert body.plain == content


def test_two_content_types_are_a_problem_if_they_differ():
    one, other = (b"Content-Type", b"text/plain"), (b"content-type", JSON.encode())
    assert read_body(b"1", (one, one)).kind is Kind.TEXT
    assert read_body(b"1", (one, other)).problem == "it has several Content-Types"


@pytest.mark.parametrize("content_type", [None, "text/plain", "text/html; charset=utf-8", "application/octet-stream"])
def test_a_vague_type_is_read_as_assumed(content_type: str | None):
    assert read_body(b'{"a":1}', headers(content_type), assume=Kind.JSON).value == {"a": 1}
    assert (
        read_body(b"<html>", headers(content_type), assume=Kind.JSON).problem
        == "not JSON: Expecting value at character 0"
    )


def test_a_clear_type_is_not_assumed_away():
    assert read_body(b"<a/>", headers("text/xml"), assume=Kind.JSON).kind is Kind.XML


def raw_deflate(content: bytes) -> bytes:
    squeezing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeezing.compress(content) + squeezing.flush()


def squeezed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


UNDONE = {
    "gzip": (squeezed(b"[1]"), ["gzip"]),
    "gzip by its old name": (squeezed(b"[1]"), ["X-GZIP"]),
    "gzip in two members": (squeezed(b"[") + squeezed(b"1]"), ["gzip"]),
    "deflate": (zlib.compress(b"[1]"), ["deflate"]),
    "deflate without its wrapper": (raw_deflate(b"[1]"), ["deflate"]),
    "one on the other": (squeezed(zlib.compress(b"[1]")), ["deflate, gzip"]),
    "one on the other, on two lines": (squeezed(zlib.compress(b"[1]")), ["deflate", "gzip"]),
    "none, by name": (b"[1]", ["identity"]),
}


@pytest.mark.parametrize("name", UNDONE)
def test_a_content_coding_is_undone_on_a_copy(name: str):
    content, codings = UNDONE[name]
    body = read_body(content, headers(JSON, *codings))
    assert (body.value, body.plain, body.problem) == ([1], b"[1]", None)


def test_a_body_may_unfold_up_to_the_limit():
    content = bytes(bodies.DECODED_BYTES_MAX)
    assert read_body(squeezed(content), headers("text/plain", "gzip")).plain == content


def test_a_coded_nothing_is_nothing():
    assert read_body(gzip.compress(b""), headers(JSON, "gzip")).kind is Kind.EMPTY
    assert read_body(b"", headers(JSON, "gzip")).kind is Kind.EMPTY


NOT_UNDONE = {
    "a coding we don't know": (b"x", ["br"], "its content coding is not one we undo (gzip, deflate)"),
    "no gzip at all": (b"[1]", ["gzip"], "its content coding is broken"),
    "gzip cut short": (squeezed(b"[1]")[:-3], ["gzip"], "its content coding breaks off"),
    "gzip with something behind it": (squeezed(b"[1]") + b"junk", ["gzip"], "its content coding is broken"),
    "codings on codings": (b"x", ["gzip"] * 4, "it has more than 3 content codings"),
    "members without end": (squeezed(b"") * 300, ["gzip"], "it has more than 256 gzip members"),
    "a bomb": (squeezed(bytes(bodies.DECODED_BYTES_MAX + 1)), ["gzip"], "it unfolds to more than 10485760 bytes"),
    "a bomb in a bomb": (
        squeezed(squeezed(bytes(100_000_000))),
        ["gzip", "gzip"],
        "it unfolds to more than 10485760 bytes",
    ),
}


@pytest.mark.parametrize("name", NOT_UNDONE)
def test_a_coding_that_cannot_be_undone_is_a_problem(name: str):
    content, codings, problem = NOT_UNDONE[name]
    body = read_body(content, headers(JSON, *codings))
    assert (body.kind, body.value, body.problem, body.plain) == (Kind.BYTES, None, problem, None)


TYPES = st.sampled_from(
    [
        None,
        JSON,
        FORM,
        MULTIPART,
        "text/xml",
        "application/graphql",
        "text/plain",
        "image/png",
        "multipart/form-data",
        ";",
        'a;b="',
        "+json",
    ]
) | st.text(st.characters(max_codepoint=255), max_size=20)


@given(
    st.binary() | st.text().map(str.encode),
    TYPES,
    st.sampled_from([(), ("gzip",), ("deflate",), ("br",)]),
    st.sampled_from([None, *Kind]),
)
def test_any_bytes_of_any_type_are_read_or_a_problem(
    content: bytes, content_type: str | None, codings: tuple[str, ...], assume: Kind | None
):
    if assume in (Kind.BYTES, Kind.EMPTY):
        assume = None
    body = read_body(content, headers(content_type, *codings), assume=assume)
    assert body.value is None or body.problem is None
    canonical_json(body.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_compressed_body_is_read_like_a_plain_one(value: object):
    plain = json.dumps(value).encode()
    assert (
        read_body(gzip.compress(plain), headers(JSON, "gzip")).value == read_body(plain, headers(JSON)).value == value
    )
