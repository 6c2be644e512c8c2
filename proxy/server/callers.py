"""Who calls: by token, by client certificate, or by the network a connection comes from (contract section 5).

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

    def __init__(self, callers: Sequence[Caller], *, asks_certificates: bool = False) -> None:
        self._are_configured = bool(callers)
        self._asks_certificates = asks_certificates
        self._tokens = [(token.encode(), caller) for caller in callers for token in caller.tokens]
        self._certificates = [(_folded(name), caller) for caller in callers for name in caller.certificates]
        networks = [(ipaddress.ip_network(text), caller) for caller in callers for text in caller.networks]
        self._networks: list[tuple[_Network, Caller]] = sorted(networks, key=lambda n: n[0].prefixlen, reverse=True)

    @property
    def needs_certificate(self) -> bool:
        """Whether nobody is let in without a client certificate: one is asked for, and nothing else names a caller."""
        return self._asks_certificates and not self._tokens and not self._networks

    @property
    def must_prove(self) -> bool:
        """Whether a caller must show a token or a certificate: then it matters less under which name it reached us."""
        return self.needs_certificate or (bool(self._tokens) and not self._networks)

    @property
    def how_to_be_known(self) -> str:
        """What somebody we don't know is told to do."""
        ways = []
        if self._tokens or not self._certificates:
            ways.append("send a configured caller's token in the Dedup-Token header")
        if self._certificates:
            ways.append("show a client certificate that names one configured caller")
        both = " Who does both must name the same caller twice." if len(ways) > 1 else ""
        text = ", or ".join(ways)
        return f"{text[0].upper()}{text[1:]}.{both}"

    def identify(self, headers: Headers, peer: str, certificate_names: Sequence[str] | None = None) -> Caller | None:
        """The caller that sent *headers* from the address *peer*; None for nobody we know.

        A token that is sent must be right, and a certificate that is shown must name one caller, the token's if there is
        one; only beside a token may it name nobody. Whoever shows neither is known by its network, the narrowest.
        """
        if not self._are_configured:
            return ANONYMOUS
        lines = [value for name, value in headers if name.lower() == TOKEN_HEADER]
        named = self._by_certificate(certificate_names or ())
        if lines:
            caller = self._by_token(lines[0].strip()) if len(lines) == 1 else None
            return caller if caller is not None and named.keys() <= {caller.id} else None
        if certificate_names is not None:
            return next(iter(named.values())) if len(named) == 1 else None
        return self._by_network(peer)

    def _by_certificate(self, names: Sequence[str]) -> dict[str, Caller]:
        """The callers that a certificate's *names* name, by id."""
        shown = {_folded(name) for name in names}
        return {caller.id: caller for name, caller in self._certificates if name in shown}

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


def _folded(name: str) -> bytes:
    """*name* in lower case, of ASCII only (RFC 4343): no two names become one that DNS keeps apart."""
    return name.encode("utf-8", "surrogatepass").lower()


def may_use(caller: Caller, provider: str) -> bool:
    """Whether the provider of that name is this caller's to use."""
    return caller.providers is None or provider in caller.providers
