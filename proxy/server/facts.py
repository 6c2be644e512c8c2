"""The headers in which the proxy tells what it knows of a request (contract section 5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from proxy.core.model import Executed
from proxy.exchange.told import Facts

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = "9999-12-31T23:59:59Z"


def fact_headers(facts: Facts, *, executed: Executed | None = None) -> list[tuple[bytes, bytes]]:
    """``Dedup-*`` for *facts*. *executed* stands where the facts themselves don't say."""
    headers: list[tuple[bytes, bytes]] = []
    if facts.entry is not None:
        headers.append((b"Dedup-Entry", facts.entry.encode()))
    if facts.status is not None:
        headers.append((b"Dedup-Status", facts.status.encode()))
    told = facts.executed or executed
    if told is not None:
        headers.append((b"Dedup-Executed", told.value.encode()))
    headers.append((b"Dedup-Sent", b"yes" if facts.sent else b"no"))
    headers.append((b"Dedup-Reason", facts.reason.value.encode()))
    if facts.expires is not None:
        headers.append((b"Dedup-Expires", rfc3339(facts.expires).encode()))
    if facts.replayed:
        headers.append((b"Idempotent-Replayed", b"true"))
    if not facts.recorded:
        headers.append((b"Dedup-Recorded", b"false"))
    return headers


def rfc3339(moment_us: int) -> str:
    """A ledger time in RFC 3339, UTC, whole seconds."""
    try:
        moment = _EPOCH + timedelta(seconds=moment_us // 1_000_000)
    except OverflowError:
        return _LAST
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
