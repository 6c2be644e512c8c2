"""What a caller prefers (RFC 7240)."""

from __future__ import annotations

import re
from typing import Final

from proxy.core.model import Headers
from proxy.core.outgoing import preferences

_WAIT: Final = re.compile(rb"\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?:;.*)?", re.IGNORECASE)


def wait_seconds(headers: Headers, limit: float) -> float:
    """How long a duplicate will wait: ``Prefer: wait=N``, at most *limit*, which also stands where nothing is said."""
    for name, value in headers:
        if name.lower() != b"prefer":
            continue
        for part in preferences(value):
            match = _WAIT.fullmatch(part)
            if match is not None:
                return min(float(match[1]), limit)
    return limit
