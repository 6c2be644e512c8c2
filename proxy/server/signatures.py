"""Requests signed for AWS (SigV4): host, path and chosen headers are under the signature. Pure.

Such a request can only be passed on as it is. Where the proxy would have to change what is signed, the provider would
answer with a puzzling 403, so it is refused here with the reason.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.core.model import Headers
from proxy.core.policy import Operation, Provider

_SCHEME: Final = b"aws4-"  # AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256
_SIGNED: Final = re.compile(rb"signedheaders=([^,\s]+)", re.IGNORECASE)
_IN_QUERY: Final = re.compile(r"(?:^|&)x-amz-signature=", re.IGNORECASE)
_SIGNED_IN_QUERY: Final = re.compile(r"(?:^|&)x-amz-signedheaders=([^&]*)", re.IGNORECASE)


def signed_names(headers: Headers, query: str) -> frozenset[bytes] | None:
    """Lower-case names of the signed headers; None for a request that carries no such signature."""
    for name, value in headers:
        if name.lower() == b"authorization" and value.lower().startswith(_SCHEME):
            match = _SIGNED.search(value)
            return frozenset(match[1].lower().split(b";")) if match else frozenset()
    if _IN_QUERY.search(query) is None:
        return None
    signed = _SIGNED_IN_QUERY.search(query)
    names = re.split(r";|%3b", signed[1].lower()) if signed else []
    return frozenset(name.encode("latin-1", "replace") for name in names)


def why_breaks(signed: frozenset[bytes], provider: Provider, operation: Operation | None) -> str | None:
    """What would be changed of a request with these signed headers; None if the signature stays whole.

    *operation* is None where the request passes without protection.
    """
    if provider.auth_headers:
        return "this provider's credentials are injected"
    if operation is None:
        return None
    if operation.native is not None and not operation.native.natural:
        return f"operation {operation.name!r} puts its key into the request"
    if operation.tag is not None:
        return f"operation {operation.name!r} puts a tag into the request"
    if not operation.key_passes:
        for alternative in operation.key.alternatives:
            if alternative.header is not None and alternative.header.lower().encode() in signed:
                return f"the key is read from the header {alternative.header!r}, which is signed and would be consumed"
    return None
