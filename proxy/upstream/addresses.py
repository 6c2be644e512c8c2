"""Which addresses belong to the public Internet.

A provider's name is looked up in DNS that others control. A name that resolves to a loopback, private or link-local
address (a cloud's metadata service, a database next door) is not a provider, whatever the configuration calls it.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 2.1: the last 32 bits are the IPv4 address meant


def is_public(address: str) -> bool:
    """Tell whether *address*, as a socket address spells it, is one that anybody on the Internet may own.

    An IPv6 address that stands for an IPv4 one (mapped, 6to4, NAT64) is judged by that one. Raises ValueError if
    *address* is not an IP address.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = _embedded(ip)
        if embedded is not None:
            return _is_plainly_public(embedded)
        if ip.is_site_local:  # RFC 3879 deprecated these; is_global still lets them pass
            return False
    return _is_plainly_public(ip)


def _is_plainly_public(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return None
