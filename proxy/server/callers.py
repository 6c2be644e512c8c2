"""Who calls: by token or by the network a connection comes from (contract section 5).

Keys of two callers never meet, so a request is either one caller's or refused.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence
from typing import Final

from proxy.core.model import Headers
from proxy.core.policy import Caller

ANONYMOUS: Final = Caller(id="", name="")
"""Everybody, where no callers are configured: they all share their keys."""

TOKEN_HEADER: Final = b"dedup-token"

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Callers:
    """The configured callers."""

    def __init__(self, callers: Sequence[Caller]) -> None:
        self._are_configured = bool(callers)
        self._tokens = [(token.encode(), caller) for caller in callers for token in caller.tokens]
        networks = [(ipaddress.ip_network(text), caller) for caller in callers for text in caller.networks]
        self._networks: list[tuple[_Network, Caller]] = sorted(networks, key=lambda n: n[0].prefixlen, reverse=True)

    @property
    def must_prove(self) -> bool:
        """Whether a caller must show a token: then it matters less under which name it reached us."""
        return bool(self._tokens) and not self._networks

    def identify(self, headers: Headers, peer: str) -> Caller | None:
        """The caller that sent *headers* from the address *peer*; None for nobody we know.

        A token that is sent must be right, whatever the network says. Among networks the narrowest wins.
        """
        if not self._are_configured:
            return ANONYMOUS
        lines = [value for name, value in headers if name.lower() == TOKEN_HEADER]
        if lines:
            return self._by_token(lines[0].strip()) if len(lines) == 1 else None
        return self._by_network(peer)

    def _by_token(self, given: bytes) -> Caller | None:
        """Every token is compared, each in constant time: how long it takes tells nothing."""
        found: Caller | None = None
        for token, caller in self._tokens:
            if hmac.compare_digest(token, given):
                found = caller
        return found

    def _by_network(self, peer: str) -> Caller | None:
        if not self._networks:
            return None
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return next((caller for network, caller in self._networks if address in network), None)


def may_use(caller: Caller, provider: str) -> bool:
    """Whether the provider of that name is this caller's to use."""
    return caller.providers is None or provider in caller.providers
