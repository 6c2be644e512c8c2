"""A proxy's admin API as commands ask it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlencode

from proxy.cli.output import CommandFailed, Exit

_SECONDS_MAX = 30.0


def get(base: str, path: str, *, token: str | None, parameters: Iterable[tuple[str, str]] = ()) -> Any:
    """The document at *path*; None where there is none. Raises :class:`CommandFailed`."""
    if not base.startswith(("http://", "https://")):
        raise CommandFailed(f"--admin wants an http URL, not {base!r}", Exit.USAGE)
    query = urlencode(list(parameters))
    request = urllib.request.Request(f"{base.rstrip('/')}{quote(path)}{'?' + query if query else ''}")  # noqa: S310 - http above
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    # The admin listener is beside us: a proxy named in the environment has no business between.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SECONDS_MAX) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as problem:
        if problem.code == 404:
            return None
        raise CommandFailed(_detail(problem), Exit.USAGE if problem.code < 500 else Exit.UNREACHABLE) from None
    except (OSError, ValueError) as problem:
        raise CommandFailed(f"{base} can't be reached: {problem}", Exit.UNREACHABLE) from None


def _detail(problem: urllib.error.HTTPError) -> str:
    try:
        document = json.load(problem)
    except ValueError:
        document = None
    detail = document.get("detail") if isinstance(document, dict) else None
    return str(detail or f"the admin listener answered {problem.code}")
