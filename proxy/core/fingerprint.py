"""Whether two requests mean the same: a keyed digest of method, path, query and body.

JSON counts by its canonical form, forms and multipart by their fields, all else by its bytes. Headers don't count, but
for the media type, without which the text of a form and a JSON text could pass for each other. ``docs/keys.md`` tells
users what is equal and what isn't.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from proxy.core.bodies import Body, Kind
from proxy.core.documents import RequestDocument
from proxy.core.forms import TooManyFields, field_path, read_pairs
from proxy.core.json_text import canonical_bytes
from proxy.core.model import Request
from proxy.core.packing import Part, keyed_digest
from proxy.core.policy import Place

VERSION: Final = "1"
"""Goes in front of every fingerprint: those of two versions are not comparable."""

_Path = tuple[str, ...]


def fingerprint(
    secret: bytes, document: RequestDocument, *, ignore: Sequence[str] = (), omit: Sequence[Place] = ()
) -> str:
    """The fingerprint of a request: :data:`VERSION`, a colon, 64 hex digits.

    *ignore* are dotted paths (``body.sent_at``, ``params.x``) and *omit* the places of native key and tag; neither count.
    """
    out = [*(tuple(path.split(".")) for path in ignore), *map(_path_of, omit)]
    request = document.request
    parts: list[Part] = ["fingerprint " + VERSION, request.method, request.path, _query(request, out)]
    body = document.body
    if ("body",) not in out:
        media_type = "" if body.kind is Kind.EMPTY else body.media_type
        parts += [media_type, *_body(body, request, [path[1:] for path in out if path[0] in ("body", "field")])]
    return f"{VERSION}:{keyed_digest(secret, parts)}"


def _path_of(place: Place) -> _Path:
    match place.where:
        case "query":
            return ("params", place.name)
        case "body":
            return ("body", *place.name.split("."))
        case "field":
            return ("field", place.name)
        case "header":
            return ("headers", place.name)


def _query(request: Request, out: Sequence[_Path]) -> Part:
    text = request.query.encode("utf-8", "surrogatepass")
    try:
        pairs = read_pairs(text)
    except TooManyFields:
        return text
    return tuple(part for pair in pairs if ("params", pair.name) not in out for part in (pair.name, pair.value))


def _body(body: Body, request: Request, out: Sequence[_Path]) -> list[Part]:
    if body.plain is None:
        coding = [value for name, value in request.headers if name.lower() == b"content-encoding"]
        return ["coded", tuple(coding), request.body]
    if body.problem is None and not body.has_repeated_names:
        if body.kind is Kind.JSON:
            return ["json", canonical_bytes(_without(body.value, out), is_plain=body.is_plain_json)]
        if body.kind is Kind.FORM:
            return ["form", _fields(((pair.name, (pair.value,)) for pair in body.pairs), out)]
        if body.multipart is not None:
            parts = body.multipart.parts
            contents = ((p.name, (p.filename, p.content_type, body.plain[p.start : p.end])) for p in parts)
            return ["form", _fields(contents, out)]
    return ["bytes", body.plain]


def _fields(fields: Iterable[tuple[str, Part]], out: Sequence[_Path]) -> Part:
    """Fields by name; the order among those of one name counts."""
    kept = [(name, content) for name, content in fields if not _is_out(name, out)]
    return tuple(part for field in sorted(kept, key=lambda field: field[0]) for part in field)


def _is_out(name: str, out: Sequence[_Path]) -> bool:
    path = field_path(name)
    return any(path[: len(gone)] == gone or (name,) == gone for gone in out)


def _without(value: object, out: Sequence[_Path]) -> object:
    """*value* without what the paths lead to; what they don't touch is shared, not copied."""
    if not out or not isinstance(value, dict):
        return value
    kept: dict[str, object] = {}
    for name, inner in value.items():
        deeper = [path[1:] for path in out if path[0] == name]
        if () not in deeper:
            kept[name] = _without(inner, deeper)
    return kept
