"""Who may knock: Host names and requests that a browser makes for another site. For both listeners. Pure.

A page of any site can make a browser on this machine send requests to a loopback address, under the address itself or
under a name that its owner points there (DNS rebinding). So a listener answers only to names that are known to mean it,
and to no request that says a browser sent it for somebody else.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from proxy.core.model import Headers

_NAME: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?")
_LOOPBACK: Final = frozenset({"localhost", "ip6-localhost"})
_OUR_SITE: Final = frozenset({"same-origin", "none"})
"""``none``: a person typed the address."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Host and port of a ``Host`` field or of an absolute URL; ``host`` is lower case, without brackets or final dot."""

    host: str
    port: int | None = None


def parse_authority(text: str) -> Authority | None:
    """Read ``host``, ``host:port`` or ``[address]:port`` (RFC 3986 3.2); None for anything else, user names included."""
    name, colon, port = text.lower(), "", ""
    if name.startswith("["):
        name, bracket, rest = name[1:].partition("]")
        if not bracket or not _is_address(name, version=6):
            return None
        colon, port = rest[:1], rest[1:]
        if colon not in ("", ":"):
            return None
    else:
        name, colon, port = name.partition(":")
        if _NAME.fullmatch(name) is None:
            return None
        name = name.removesuffix(".")
    if not port:
        return Authority(name)
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        return None
    return Authority(name, int(port))


def is_local_name(host: str) -> bool:
    """Whether *host* is a loopback name or an IP literal: names that nobody else can point at us."""
    return host in _LOOPBACK or host.endswith(".localhost") or _is_address(host)


def is_loopback(host: str) -> bool:
    """Whether *host* is a loopback name or address."""
    if host in _LOOPBACK or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_own_name(host: str, names: Collection[str]) -> bool:
    """Whether *host* means this proxy: a local name, or one of the configured *names*. An absent one (HTTP/1.0) does."""
    return not host or is_local_name(host) or host in names


def is_cross_site(headers: Headers) -> bool:
    """Whether a browser made the request for a page of another site, or may have.

    ``Origin`` must name the very host that was asked; ``Sec-Fetch-Site`` must not say otherwise (W3C Fetch Metadata).
    """
    host = b""
    origins: list[bytes] = []
    for name, value in headers:
        match name.lower():
            case b"host":
                host = value.lower()
            case b"origin":
                origins.append(value.lower())
            case b"sec-fetch-site" if value.decode("latin-1").strip().lower() not in _OUR_SITE:
                return True
            case _:
                pass
    return any(not host or origin not in (b"http://" + host, b"https://" + host) for origin in origins)


@functools.lru_cache(maxsize=256)  # asked of every request, about the same few names
def _is_address(text: str, *, version: int | None = None) -> bool:
    try:
        return version in (None, ipaddress.ip_address(text).version)
    except ValueError:
        return False
