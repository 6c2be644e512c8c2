"""Multipart bodies taken apart where they stand."""

from __future__ import annotations

import email.parser
import email.policy

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.core.multipart import PARTS_MAX, MultipartInvalid, Part, read_multipart, write_part
from tests.core.messages import MULTIPART, field, file, multipart


def contents(body: bytes, content_type: str = MULTIPART) -> list[tuple[str, str | None, bytes]]:
    whole = read_multipart(body, content_type)
    return [(part.name, part.filename, body[part.start : part.end]) for part in whole.parts]


@pytest.mark.parametrize(
    ("body", "expected", "why"),
    [
        (multipart(), [], "no parts"),
        (multipart(field("a", b"1")), [("a", None, b"1")], "a field"),
        (multipart(field("a", b"")), [("a", None, b"")], "an empty field"),
        (multipart(field("a", b"1"), file("f", "x.txt", b"\r\n--X\r\n")),
         [("a", None, b"1"), ("f", "x.txt", b"\r\n--X\r\n")], "part of a boundary is content"),
        (multipart(field("a", b"1--XX")), [("a", None, b"1--XX")], "a boundary counts only at the start of a line"),
        (multipart(field("a", b"\r\n--XXY")), [("a", None, b"\r\n--XXY")], "a longer boundary is another"),
        (b"preamble\r\n" + multipart(field("a", b"1")) + b"epilogue", [("a", None, b"1")], "what is around is no part"),
        (b"--XX \t\r\n" + field("a", b"1") + b"\r\n--XX--", [("a", None, b"1")], "padding after a boundary"),
        (multipart(field("é", b"1")), [("é", None, b"1")], "names are UTF-8"),
        (multipart(field("a[b]", b"1"), field("a[b]", b"2")), [("a[b]", None, b"1"), ("a[b]", None, b"2")], "twice"),
        (multipart(b"content-disposition:form-data;name=a\r\nX-Y: z\r\n\r\n1"), [("a", None, b"1")], "a head written otherwise"),
        (multipart(file("f", 'q\\"uo;te', b"")), [("f", 'q"uo;te', b"")], "a quoted file name"),
    ],
)  # fmt: skip
def test_parts_are_found(body: bytes, expected: list[tuple[str, str | None, bytes]], why: str):
    assert contents(body) == expected, why


@pytest.mark.parametrize(
    ("body", "content_type", "problem"),
    [
        (multipart(), "multipart/form-data", "its Content-Type has no boundary"),
        (multipart(), 'multipart/form-data; boundary=""', "its Content-Type has no boundary"),
        (multipart(), "multipart/form-data; boundary=" + "X" * 71, "its Content-Type has no boundary"),
        (b"", MULTIPART, "its closing boundary is missing"),
        (b"--XX\r\n" + field("a", b"1"), MULTIPART, "its closing boundary is missing"),
        (b"--XX\n" + field("a", b"1") + b"\n--XX--", MULTIPART, "its closing boundary is missing"),
        (b"--XX\r\n--XX--", MULTIPART, "the head of a part has no end"),
        (multipart(b"Content-Disposition: form-data; name=a\r\n"), MULTIPART, "the head of a part has no end"),
        (multipart(b"\r\n1"), MULTIPART, "a part has no name"),
        (multipart(b"Content-Disposition: form-data\r\n\r\n1"), MULTIPART, "a part has no name"),
        (multipart(b"nonsense\r\n\r\n1"), MULTIPART, "the head of a part is malformed"),
        (multipart(b"A: 1\r\na: 2\r\n\r\n1"), MULTIPART, "the head of a part is malformed"),
        (multipart(b"A: " + b"x" * 9000 + b"\r\n\r\n1"), MULTIPART, "the head of a part has more than 8192 bytes"),
        (multipart(*[field("a", b"")] * (PARTS_MAX + 1)), MULTIPART, "more than 1000 parts"),
    ],
)
def test_a_malformed_body_is_refused_with_its_reason(body: bytes, content_type: str, problem: str):
    with pytest.raises(MultipartInvalid, match=problem):
        read_multipart(body, content_type)


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters='"\\\r\n\0', exclude_categories=("C", "Z")), min_size=1, max_size=9
)


@given(st.lists(st.tuples(NAMES, st.binary(max_size=40)), max_size=4))
def test_a_body_is_read_as_the_standard_library_reads_it(fields: list[tuple[str, bytes]]):
    assume(all(b"\r\n--XX" not in b"\r\n" + value for _, value in fields))
    body = multipart(*(field(name, value) for name, value in fields))
    assert [(name, value) for name, _, value in contents(body)] == fields
    if all(name.isascii() for name, _ in fields) and fields:
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
            b"Content-Type: %b\r\n\r\n%b" % (MULTIPART.encode(), body)
        )
        assert [part.get_param("name", header="content-disposition") for part in message.get_payload()] == [
            n for n, _ in fields
        ]


@given(st.binary(), st.text(st.characters(max_codepoint=255), max_size=5))
def test_any_bytes_are_read_or_refused(body: bytes, boundary: str):
    for text in (body, b"--XX\r\n" + body + b"\r\n--XX--"):
        for content_type in (MULTIPART, f"multipart/form-data; boundary={boundary}"):
            try:
                whole = read_multipart(text, content_type)
            except MultipartInvalid:
                continue
            assert all(0 <= part.start <= part.end <= whole.close for part in whole.parts)


def test_a_written_part_is_read_back():
    part = write_part(b"XX", 'a"b', "v")
    body = b"--XX\r\n" + field("x", b"1") + b"\r\n" + part + b"--XX--"
    assert contents(body) == [("x", None, b"1"), ("a%22b", None, b"v")]


def test_a_value_that_holds_the_boundary_is_no_part():
    with pytest.raises(ValueError, match="holds the boundary"):
        write_part(b"XX", "a", "1--XX")


def test_a_part_tells_its_content_type():
    whole = read_multipart(multipart(file("f", "x", b"abc")), MULTIPART)
    assert whole.parts == (Part("f", "x", "text/plain", 90, 93),)
