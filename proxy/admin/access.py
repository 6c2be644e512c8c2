"""Who may ask the admin listener, and what an answer to anybody else looks like."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import web

from proxy.admin.visitors import is_cross_site, is_own_name, parse_authority
from proxy.core.problems import TYPE_PREFIX

PUBLIC: Final = frozenset({"/healthz", "/readyz"})
"""Paths that need no token: whoever watches the process asks them."""

HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "dedup-proxy"}


@dataclass(frozen=True, slots=True)
class Access:
    """The rules. *tokens* are name to token and role; without any, only this machine is answered."""

    tokens: Mapping[str, tuple[str, str]]
    hosts: tuple[str, ...]

    def refusal(self, request: web.BaseRequest) -> web.Response | None:
        """The answer to a request that may not ask; None for one that may."""
        if is_cross_site(request.raw_headers):
            return problem(403, "origin-refused", "browsers of other sites are refused", "A browser sent this request.")
        if not self.tokens and not self._is_own(request):
            detail = "Without admin.tokens this listener answers to loopback names, IP addresses and server.hosts only."
            return problem(403, "host-refused", "the host is not this proxy's", detail)
        if not self.tokens or request.path in PUBLIC or self.who(request) is not None:
            return None
        answer = problem(
            401, "token-missing", "a token is needed", "Send Authorization: Bearer and a token of admin.tokens."
        )
        answer.headers["WWW-Authenticate"] = 'Bearer realm="dedup-proxy"'
        return answer

    def who(self, request: web.BaseRequest) -> str | None:
        """The name of the token's owner; None for a token nobody owns. Every token is compared, in constant time."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        shown = given.strip().encode("utf-8", "surrogateescape")
        found: str | None = None
        for name, (token, _) in self.tokens.items():
            if hmac.compare_digest(token.encode(), shown):
                found = name
        return found

    def _is_own(self, request: web.BaseRequest) -> bool:
        text = request.headers.get("Host", "")
        authority = parse_authority(text) if text else None
        return not text or (authority is not None and is_own_name(authority.host, self.hosts))


def problem(status: int, slug: str, title: str, detail: str) -> web.Response:
    """An error as problem+json (RFC 9457)."""
    members = {"type": TYPE_PREFIX + slug, "title": f"Dedup Proxy: {title}", "status": status, "detail": detail}
    return web.Response(
        status=status, body=orjson.dumps(members), content_type="application/problem+json", headers=HEADERS
    )


def as_json(document: Mapping[str, Any], *, status: int = 200) -> web.Response:
    """*document* as JSON."""
    body = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=body, content_type="application/json", headers=HEADERS)
