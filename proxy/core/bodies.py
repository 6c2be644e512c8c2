"""A body by its ``Content-Type``: what it is, what it holds, and if it can't be read, why. Never an exception.

A body with a content coding is decoded as a copy, up to a limit; what goes on the wire is never touched.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from python_multipart.multipart import parse_options_header

from proxy.core.forms import Pair, TooManyFields, nest, read_pairs
from proxy.core.json_text import JsonInvalid, parse_json
from proxy.core.model import Headers
from proxy.core.multipart import Multipart, MultipartInvalid, read_multipart
from proxy.core.xml_text import XmlInvalid, read_xml

DECODED_BYTES_MAX: Final = 10 * 1024 * 1024
"""Bytes that a content coding may unfold to; beyond, the body counts as unreadable."""

CODINGS_MAX: Final = 3
"""Content codings on top of each other."""

GZIP_MEMBERS_MAX: Final = 256
"""Members of one gzip body; each costs a copy of what follows it."""


@unique
class Kind(StrEnum):
    """What a body is said to be."""

    EMPTY = "empty"
    JSON = "json"
    FORM = "form"
    MULTIPART = "multipart"
    XML = "xml"
    GRAPHQL = "graphql"
    TEXT = "text"
    BYTES = "bytes"  # no text; or a coding that we don't undo


@dataclass(frozen=True, slots=True)
class Body:
    """A body read. Where ``problem`` is set, ``value`` is None and only the bytes speak.

    ``plain`` holds the bytes without content coding, None if that could not be undone. ``pairs`` and ``multipart`` are a
    form's fields. ``is_plain_json`` and ``has_repeated_names`` are :class:`~proxy.core.json_text.ParsedJson`'s.
    """

    kind: Kind
    media_type: str  # lower case, without parameters; empty if none was given
    value: object = None
    problem: str | None = None
    plain: bytes | None = None
    pairs: tuple[Pair, ...] = ()
    multipart: Multipart | None = None
    is_plain_json: bool = False
    has_repeated_names: bool = False


def read_body(content: bytes, headers: Headers, *, assume: Kind | None = None) -> Body:
    """Read *content* as *headers* say. *assume* is how to read what they leave open (no type, plain text, octets)."""
    content_type = content_type_of(headers)
    if content_type is None:
        return Body(Kind.BYTES, "", problem="it has several Content-Types", plain=content)
    media_type = media_type_of(content_type)
    try:
        plain = _decoded(content, codings_of(headers))
    except _Undecodable as problem:
        return Body(Kind.BYTES, media_type, problem=str(problem))
    if not plain:
        return Body(Kind.EMPTY, media_type, plain=b"")
    kind = kind_of(media_type)
    if assume is not None and media_type in _VAGUE:
        kind = assume
    return _READERS[kind](plain, media_type, content_type)


def content_type_of(headers: Headers) -> str | None:
    """The ``Content-Type``, empty if there is none, None if there are several that differ."""
    types = {value for name, value in headers if name.lower() == b"content-type"}
    if len(types) > 1:
        return None
    return next(iter(types), b"").decode("latin-1")


def media_type_of(content_type: str) -> str:
    """The media type alone, lower case."""
    return parse_options_header(content_type)[0].decode("latin-1").strip()


def codings_of(headers: Headers) -> tuple[bytes, ...]:
    """The content codings in the order they were applied, ``identity`` left out."""
    return tuple(
        coding.strip().lower()
        for name, value in headers
        if name.lower() == b"content-encoding"
        for coding in value.split(b",")
        if coding.strip().lower() not in (b"", b"identity")
    )


def kind_of(media_type: str) -> Kind:
    """What a lower-case media type announces; :attr:`Kind.TEXT` for all that has no structure we know."""
    if media_type in _KINDS:
        return _KINDS[media_type]
    if media_type.endswith("+json") or media_type.startswith("application/x-amz-json-"):
        return Kind.JSON
    return Kind.XML if media_type.endswith("+xml") else Kind.TEXT


class _Undecodable(Exception):
    """A content coding that can't be undone."""


def _read_json(plain: bytes, media_type: str, _content_type: str) -> Body:
    try:
        parsed = parse_json(plain.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Body(Kind.JSON, media_type, problem="not JSON: it is not UTF-8", plain=plain)
    except JsonInvalid as problem:
        return Body(Kind.JSON, media_type, problem=str(problem), plain=plain)
    return Body(
        Kind.JSON,
        media_type,
        parsed.value,
        plain=plain,
        is_plain_json=parsed.is_plain,
        has_repeated_names=parsed.has_repeated_names,
    )


def _read_form(plain: bytes, media_type: str, _content_type: str) -> Body:
    try:
        pairs = read_pairs(plain)
    except TooManyFields as problem:
        return Body(Kind.FORM, media_type, problem=str(problem), plain=plain)
    return Body(Kind.FORM, media_type, nest((pair.name, pair.value) for pair in pairs), plain=plain, pairs=pairs)


def _read_multipart(plain: bytes, media_type: str, content_type: str) -> Body:
    try:
        whole = read_multipart(plain, content_type)
    except MultipartInvalid as problem:
        return Body(Kind.MULTIPART, media_type, problem=f"not multipart: {problem}", plain=plain)
    fields: list[tuple[str, object]] = []
    for part in whole.parts:
        content = plain[part.start : part.end]
        if part.filename is None:
            fields.append((part.name, content.decode("utf-8", "surrogateescape")))
        else:
            digest = hashlib.sha256(content).hexdigest()
            fields.append(
                (part.name, {"name": part.filename, "type": part.content_type, "size": len(content), "digest": digest})
            )
    return Body(Kind.MULTIPART, media_type, nest(fields), plain=plain, multipart=whole)


def _read_xml(plain: bytes, media_type: str, _content_type: str) -> Body:
    try:
        return Body(Kind.XML, media_type, read_xml(plain), plain=plain)
    except XmlInvalid as problem:
        return Body(Kind.XML, media_type, problem=str(problem), plain=plain)


def _read_text(plain: bytes, media_type: str, _content_type: str) -> Body:
    try:
        return Body(Kind.TEXT, media_type, plain.decode(), plain=plain)
    except UnicodeDecodeError:
        return Body(Kind.BYTES, media_type, plain=plain)


def _read_graphql(plain: bytes, media_type: str, _content_type: str) -> Body:
    try:
        return Body(Kind.GRAPHQL, media_type, plain.decode(), plain=plain)
    except UnicodeDecodeError:
        return Body(Kind.GRAPHQL, media_type, problem="not GraphQL: it is not UTF-8", plain=plain)


_Reader = Callable[[bytes, str, str], Body]
_READERS: Final[Mapping[Kind, _Reader]] = MappingProxyType(
    {
        Kind.JSON: _read_json,
        Kind.FORM: _read_form,
        Kind.MULTIPART: _read_multipart,
        Kind.XML: _read_xml,
        Kind.GRAPHQL: _read_graphql,
        Kind.TEXT: _read_text,
    }
)
_KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "application/json": Kind.JSON,
        "text/json": Kind.JSON,
        "application/x-www-form-urlencoded": Kind.FORM,
        "multipart/form-data": Kind.MULTIPART,
        "application/xml": Kind.XML,
        "text/xml": Kind.XML,
        "application/graphql": Kind.GRAPHQL,
    }
)
_VAGUE: Final = frozenset({"", "text/plain", "text/html", "application/octet-stream", "binary/octet-stream"})


def _decoded(content: bytes, codings: Sequence[bytes]) -> bytes:
    if len(codings) > CODINGS_MAX:
        raise _Undecodable(f"it has more than {CODINGS_MAX} content codings")
    if not content:
        return content
    for coding in reversed(codings):
        if coding in (b"gzip", b"x-gzip"):
            content = _inflated(content, 16 + zlib.MAX_WBITS)
        elif coding == b"deflate":
            # RFC 9110 8.4.1.2: some senders leave the zlib wrapper out.
            has_wrapper = content[:1] and content[0] & 0x0F == zlib.DEFLATED and int.from_bytes(content[:2]) % 31 == 0
            content = _inflated(content, zlib.MAX_WBITS if has_wrapper else -zlib.MAX_WBITS)
        else:
            raise _Undecodable("its content coding is not one we undo (gzip, deflate)")
    return content


def _inflated(content: bytes, wbits: int) -> bytes:
    pieces: list[bytes] = []
    room = DECODED_BYTES_MAX
    while content:
        if len(pieces) == GZIP_MEMBERS_MAX:
            raise _Undecodable(f"it has more than {GZIP_MEMBERS_MAX} gzip members")
        unfolding = zlib.decompressobj(wbits)
        try:
            piece = unfolding.decompress(content, room + 1)
        except zlib.error:
            raise _Undecodable("its content coding is broken") from None
        room -= len(piece)
        if room < 0:
            raise _Undecodable(f"it unfolds to more than {DECODED_BYTES_MAX} bytes")
        if not unfolding.eof:
            raise _Undecodable("its content coding breaks off")
        pieces.append(piece)
        content = unfolding.unused_data  # gzip members may follow each other (RFC 1952 2.2)
    return b"".join(pieces)
