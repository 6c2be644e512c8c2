"""Which provider a request means, and what its target is there. Pure (contract section 4).

Two ways in: the first segment of the path names the provider, or the host does. The target is kept byte for byte: no
segment is resolved, nothing is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from proxy.admin.visitors import Authority, is_local_name, is_own_name, parse_authority
from proxy.core.arrival import Refused
from proxy.core.model import Headers
from proxy.core.policy import Policy, Provider
from proxy.core.reasons import Reason

OWN_SEGMENT: Final = ".dedup"
"""First segment of paths that are the proxy's own on the data listener."""

_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Routed:
    """A request's provider, as it stands for this request, and its target relative to the provider's base URL.

    ``host`` is the host that the provider is to see. ``by_prefix`` tells that the caller addressed the proxy itself, so
    that whatever it signed over host and path is not what the provider gets.
    """

    provider: Provider
    host: str
    target: str
    by_prefix: bool


def route(policy: Policy, *, method: str, target: str, headers: Headers, any_name: bool) -> Routed | Refused:
    """Find the provider. *any_name*: callers prove who they are, so the proxy answers to every name in prefix mode."""
    if method == "CONNECT":
        return Refused(Reason.PROVIDER_UNKNOWN, "This listener does not serve CONNECT. Use the provider's path prefix.")
    is_absolute = not target.startswith("/")
    if is_absolute:
        split = _split_absolute(target)
        if split is None:
            return Refused(Reason.REQUEST_INVALID, "The request target is neither a path nor an absolute http URL.")
        authority, target = split
    else:
        found = _host_field(headers)
        if found is None:
            return Refused(Reason.REQUEST_INVALID, "The Host header is not a host name with an optional port.")
        authority = found
    host = authority.host
    prefix = policy.providers.get(_first_segment(target))
    provider = policy.by_host(host)
    if provider is not None and (is_absolute or prefix is None or not is_local_name(host)):
        return _by_host(provider, host, target)
    if is_absolute or not (any_name or is_own_name(host, policy.server.hosts)):
        return Refused(
            Reason.PROVIDER_UNKNOWN,
            f"No provider owns the host {host!r}. Add it to the provider's hosts, or to server.hosts if it names this proxy.",
        )
    if prefix is None:
        return _no_prefix(_first_segment(target))
    return Routed(prefix, prefix.host, _without_segment(target, prefix), by_prefix=True)


def _by_host(provider: Provider, host: str, target: str) -> Routed:
    """The requested host is the upstream host; connections go there too, unless ``connect_to`` sends them elsewhere."""
    if host != provider.host:
        port = _PORTS[provider.scheme]
        there = replace(provider.route, host=host, port=port)
        if provider.connect_to is None:
            there = replace(there, connect_host=host, connect_port=port)
        provider = replace(provider, route=there)
    base = provider.base_path
    path = target.partition("?")[0]
    if path == base or path.startswith(f"{base}/"):
        return Routed(provider, host, target[len(base) :], by_prefix=False)
    # Beside the base URL: no operation speaks of it, and the base path is not to be put before it.
    return Routed(replace(provider, base_path="", operations=()), host, target, by_prefix=False)


def _no_prefix(segment: str) -> Refused:
    if segment == OWN_SEGMENT:
        detail = f"Paths under /{OWN_SEGMENT}/ are the proxy's own, and nothing is served there."
    elif not segment:
        detail = "The path names no provider. Put the provider's name first: /NAME/path."
    else:
        detail = f"There is no provider {segment[:80]!r}. The first segment of the path is the provider's name."
    return Refused(Reason.PROVIDER_UNKNOWN, detail)


def _first_segment(target: str) -> str:
    return target.partition("?")[0][1:].partition("/")[0]


def _without_segment(target: str, provider: Provider) -> str:
    return target[1 + len(provider.name) :]


def _split_absolute(target: str) -> tuple[Authority, str] | None:
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in _PORTS:
        return None
    end = min((at for at in (rest.find("/"), rest.find("?"), rest.find("#")) if at >= 0), default=len(rest))
    authority = parse_authority(rest[:end])
    return None if authority is None else (authority, rest[end:])


def _host_field(headers: Headers) -> Authority | None:
    value = next((value for name, value in headers if name.lower() == b"host"), b"").decode("latin-1")
    return parse_authority(value) if value else Authority("")
