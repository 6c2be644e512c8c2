"""Putting one value into a request and leaving every other byte of it as it was.

A body is never parsed and written anew: order, white space, number spelling and repeated names of the rest stay, as a
signature or a provider's own comparison may depend on them. ``Content-Length`` is the caller's business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.core.bodies import Kind, codings_of, content_type_of, kind_of, media_type_of
from proxy.core.forms import TooManyFields, field_name, read_pairs, write_pair
from proxy.core.json_text import JsonInvalid, parse_json
from proxy.core.model import Headers
from proxy.core.multipart import MultipartInvalid, read_multipart, write_part

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_VISIBLE: Final = re.compile(r"[\x20-\x7e]*")
_BOM: Final = "\ufeff"


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of a wish to put a value into a body.

    ``body`` is the body to send, the same bytes where nothing was put. ``found`` is the text that stood in the place
    before, None if none did. ``problem`` says why the value can't be put there.
    """

    body: bytes
    is_placed: bool
    found: str | None = None
    problem: str | None = None


def put_header(headers: Headers, name: str, value: str, *, overwrite: bool) -> Headers:
    """*headers* with the header, in the place of the first of its name, or at the end.

    Without *overwrite*, headers that have one stay as they are. Raises ValueError for a value no header can hold.
    """
    if _VISIBLE.fullmatch(value) is None:
        raise ValueError("a header's value is visible ASCII")
    wanted = name.lower().encode("ascii")
    line = (name.encode("ascii"), value.encode("ascii"))
    places = [index for index, (known, _) in enumerate(headers) if known.lower() == wanted]
    if not places:
        return (*headers, line)
    if not overwrite:
        return headers
    return tuple(
        line if index == places[0] else header for index, header in enumerate(headers) if index not in places[1:]
    )


def put_query(target: str, name: str, value: str) -> str:
    """*target* with the parameter, in the place of the first of its name, or at the end; further ones of it are dropped."""
    path, _, query = target.partition("?")
    text = query.encode("utf-8", "surrogatepass")
    known = [pair for pair in read_pairs(text, fields_max=len(text) + 1) if pair.name == name]
    for pair in reversed(known[1:]):
        text = text[: pair.start - 1] + text[pair.end :]
    if known:
        text = text[: known[0].start] + write_pair(name, value) + text[known[0].end :]
    else:
        text = _appended(text, write_pair(name, value))
    return f"{path}?{text.decode('utf-8', 'surrogatepass')}"


def put_in_body(
    body: bytes, headers: Headers, path: Sequence[str], value: str, *, overwrite: bool, literal: bool = False
) -> Placed:
    """*body* with the text *value* at *path*, by the ``Content-Type`` in *headers*: in JSON, or as the form field ``a[b]``.

    With *literal* the path is one form field's name as it is written; JSON has no such place.
    """
    content_type = content_type_of(headers)
    if codings_of(headers) or content_type is None:
        return _impossible(body, "the body is compressed, or has several Content-Types")
    field = path[0] if literal else field_name(path)
    match kind_of(media_type_of(content_type)):
        case Kind.FORM:
            return put_form(body, field, value, overwrite=overwrite)
        case Kind.MULTIPART:
            return put_multipart(body, content_type, field, value, overwrite=overwrite)
        case Kind.JSON if not literal:
            return put_json(body, path, value, overwrite=overwrite)
        case _:
            return _impossible(body, "the body is " + ("no form" if literal else "neither JSON nor a form"))


def put_json(body: bytes, path: Sequence[str], value: str, *, overwrite: bool) -> Placed:
    """*body* with the text *value* at *path*; objects that are missing on the way are made.

    Without *overwrite*, whatever stands there stays, null included.
    """
    try:
        text = body.decode()
        parse_json(text.removeprefix(_BOM))
    except (UnicodeDecodeError, JsonInvalid):
        return _impossible(body, "the body is not JSON")
    written = json.dumps(value)
    match _locate(text, path):
        case str(problem):
            return _impossible(body, problem)
        case _Gap(at, comma, missing):
            return Placed((text[:at] + comma + _nested(missing, written) + text[at:]).encode(), is_placed=True)
        case _Member(_, start, end):
            spelled = text[start:end]
            found = json.loads(spelled) if spelled.startswith('"') else spelled
            if not overwrite:
                return Placed(body, is_placed=False, found=found)
            return Placed((text[:start] + written + text[end:]).encode(), is_placed=True, found=found)


def put_form(body: bytes, field: str, value: str, *, overwrite: bool) -> Placed:
    """*body*, a urlencoded form, with the field; *field* is its literal name (``a[b]``)."""
    return _put_pair(body, field, value, overwrite=overwrite)


def put_multipart(body: bytes, content_type: str, field: str, value: str, *, overwrite: bool) -> Placed:
    """*body*, a multipart form, with the field; *field* is its literal name. A new part is the last."""
    try:
        whole = read_multipart(body, content_type)
        part = write_part(whole.boundary, field, value)
    except MultipartInvalid as problem:
        return _impossible(body, f"the body is not multipart: {problem}")
    except ValueError as problem:
        return _impossible(body, str(problem))
    known = [part for part in whole.parts if part.name == field]
    if not known:
        return Placed(body[: whole.close] + part + body[whole.close :], is_placed=True)
    if len(known) > 1 or known[0].filename is not None:
        return _impossible(body, f"{field} is there twice, or as a file")
    start, end = known[0].start, known[0].end
    found = body[start:end].decode("utf-8", "replace")
    if not overwrite:
        return Placed(body, is_placed=False, found=found)
    return Placed(body[:start] + value.encode() + body[end:], is_placed=True, found=found)


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of an object; ``start`` and ``end`` bound its value."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Gap:
    """Where a member is missing, what separates it from the one before, and the rest of the path from there."""

    at: int
    comma: str
    missing: Sequence[str]


def _locate(text: str, path: Sequence[str]) -> _Member | _Gap | str:
    """The end of *path* in *text*, which is known to be JSON; or why there is none."""
    member = _Member("", _skip(text, len(_BOM) if text.startswith(_BOM) else 0), len(text))
    for depth, name in enumerate(path):
        if text[member.start] != "{":
            return f"{'.'.join(path[:depth]) or 'the body'} is not an object"
        members = list(_members(text, member.start))
        matches = [each for each in members if each.name == name]
        if len(matches) > 1:
            return f"{'.'.join(path[: depth + 1])} is there twice"
        if not matches:
            return _Gap(members[-1].end, ",", path[depth:]) if members else _Gap(member.start + 1, "", path[depth:])
        member = matches[0]
    return member


def _put_pair(text: bytes, name: str, value: str, *, overwrite: bool) -> Placed:
    try:
        known = [pair for pair in read_pairs(text) if pair.name == name]
    except TooManyFields as problem:
        return _impossible(text, str(problem))
    written = write_pair(name, value)
    if not known:
        return Placed(_appended(text, written), is_placed=True)
    if len(known) > 1:
        return _impossible(text, f"{name} is there twice")
    (pair,) = known
    if not overwrite:
        return Placed(text, is_placed=False, found=pair.value)
    return Placed(text[: pair.start] + written + text[pair.end :], is_placed=True, found=pair.value)


def _appended(text: bytes, pair: bytes) -> bytes:
    return text + (b"&" if text and not text.endswith(b"&") else b"") + pair


def _members(text: str, at: int) -> Iterator[_Member]:
    """The members of the object that opens at *at*; the text is known to be JSON."""
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, at = _SCANNER.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _SCANNER.raw_decode(text, start)
        yield _Member(name, start, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _nested(path: Sequence[str], written: str) -> str:
    for name in reversed(path[1:]):
        written = f"{{{json.dumps(name)}:{written}}}"
    return f"{json.dumps(path[0])}:{written}"


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _impossible(body: bytes, problem: str) -> Placed:
    return Placed(body, is_placed=False, problem=problem)


_SCANNER: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
"""Finds where values end; what they are doesn't matter to it."""
