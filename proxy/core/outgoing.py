"""The request as it goes on the wire: what is consumed, what is injected, the rest untouched. Pure."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final

from proxy.core.model import Headers, Request
from proxy.core.policy import Native, Operation, Place, Provider
from proxy.core.ports import Outgoing
from proxy.core.rewrite import put_header, put_in_body, put_query

HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
     b"transfer-encoding", b"upgrade"}
)  # fmt: skip
"""RFC 9110 7.6.1, and the two Proxy- fields that speak to us alone."""

VIA: Final = b"1.1 dedup-proxy"
_PREFERENCE: Final = re.compile(rb'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_OURS: Final = b"dedup-"
_OUR_PREFERENCES: Final = (b"wait", b"respond-async")


class CannotPlace(Exception):
    """The native key or tag has no place in this request; the message says why."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a request looks like without the body that an injection may change."""

    host: bytes
    target: str
    headers: Headers


def end_to_end(headers: Headers) -> Headers:
    """*headers* without hop-by-hop ones, those that ``Connection`` names included."""
    named = {
        name.strip().lower() for key, value in headers if key.lower() == b"connection" for name in value.split(b",")
    }
    drop = HOP_BY_HOP | named
    return tuple((key, value) for key, value in headers if key.lower() not in drop)


def forward_head(provider: Provider, request: Request, *, consumed: frozenset[bytes] = frozenset()) -> Head:
    """Host, target and headers for the provider. *consumed* are lower-case names that stop here."""
    host = authority(provider, request.host)
    injected = {name.lower() for name, _ in provider.auth_headers}
    headers: list[tuple[bytes, bytes]] = [(b"Host", host)]
    for name, value in end_to_end(request.headers):
        lower = name.lower()
        if lower in consumed or lower in injected or lower in (b"host", b"expect") or lower.startswith(_OURS):
            continue
        if lower == b"prefer":
            rest = other_preferences(value)
            if rest:
                headers.append((name, rest))
            continue
        headers.append((name, value))
    headers.extend(provider.auth_headers)
    headers.append((b"Via", VIA))
    target = provider.base_path + request.target
    return Head(host, target if target.startswith("/") else f"/{target}", tuple(headers))


def authority(provider: Provider, host: str) -> bytes:
    """The ``Host`` a provider sees: its base URL's, or the one a caller asked for in host mode."""
    name = host or provider.host
    default = 443 if provider.scheme == "https" else 80
    port = provider.port if name == provider.host else default
    shown = f"[{name}]" if ":" in name else name
    return (shown if port == default else f"{shown}:{port}").encode("ascii")


def build(
    provider: Provider, operation: Operation, request: Request, *, native: Native | None, key_header: str | None,
    outgoing_key: str | None,
) -> Outgoing:  # fmt: skip
    """The provider's request under its native key and tag. *native* is the one in force for this request.

    *key_header* names the header that the caller's key was read from; it stops here unless the rule lets it pass. A tag
    that has no place is left out: an attempt without it is only harder to find. A native key that has none is refused:
    raises :class:`CannotPlace`.
    """
    consumed = set()
    if key_header is not None and not operation.key_passes:
        consumed.add(key_header.lower().encode())
    head = forward_head(provider, request, consumed=frozenset(consumed))
    out = Outgoing(request.method, head.target, head.headers, request.body)
    if outgoing_key is None:
        return out
    if native is not None and native.place is not None:
        out = _place(out, request, native.place, outgoing_key, overwrite=True)
    if operation.tag is not None:
        out = _place(out, request, operation.tag, outgoing_key, overwrite=False)
    return out


def stream(provider: Provider, request: Request, body: AsyncIterator[bytes] | bytes) -> Outgoing:
    """A request that passes without protection, its body as it comes."""
    head = forward_head(provider, request)
    return Outgoing(request.method, head.target, head.headers, body)


def preferences(value: bytes) -> list[bytes]:
    """The members of a ``Prefer`` value; a comma within quotes parts nothing."""
    return _PREFERENCE.findall(value)


def other_preferences(value: bytes) -> bytes:
    """A ``Prefer`` value without the tokens that are ours (RFC 7240)."""
    kept = [part for part in preferences(value) if _preference_name(part) not in _OUR_PREFERENCES]
    return b",".join(kept).strip()


def _preference_name(part: bytes) -> bytes:
    return part.split(b"=")[0].split(b";")[0].strip().lower()


def _place(out: Outgoing, request: Request, place: Place, value: str, *, overwrite: bool) -> Outgoing:
    if place.where == "header":
        return replace(out, headers=put_header(out.headers, place.name, value, overwrite=overwrite))
    if place.where == "query":
        return replace(out, target=put_query(out.target, place.name, value))
    assert isinstance(out.body, bytes)  # injection is only ever asked for a buffered request
    path = (place.name,) if place.where == "field" else tuple(place.name.split("."))
    placed = put_in_body(
        out.body, request.headers, path, value, overwrite=overwrite, literal=place.where == "field"
    )  # fmt: skip
    if placed.problem is not None:
        if not overwrite:
            return out
        raise CannotPlace(placed.problem)
    length = str(len(placed.body)).encode()
    headers = tuple((name, length if name.lower() == b"content-length" else line) for name, line in out.headers)
    return replace(out, body=placed.body, headers=headers)
