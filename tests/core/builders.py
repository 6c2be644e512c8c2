"""Values for tests of the core: each builder makes a consistent one, and takes only what the test is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proxy.core.model import Attempt, Entry, KeyHash, Status, Token
from proxy.core.reasons import Reason
from proxy.core.states import Event, Evidence

SECOND = 1_000_000
START = 1_700_000_000 * SECOND


def token(number: int) -> Token:
    """The token of attempt *number*."""
    return Token(f"{number:032x}")


def attempt(number: int = 1, *, at: int = START, quiet_seconds: int = 90) -> Attempt:
    """Attempt *number*, claimed at *at*."""
    return Attempt(number, token(number), at, at + quiet_seconds * SECOND)


def entry(status: Status = Status.IN_FLIGHT, *, attempts: int = 1, is_open: tuple[int, ...] | None = None, **fields: Any) -> Entry:
    """An entry whose latest attempt is number *attempts*; *is_open* are the numbers of the open ones."""
    latest = attempt(attempts)
    if is_open is None:
        is_open = (attempts,) if status in (Status.IN_FLIGHT, Status.AMBIGUOUS) else ()
    base = Entry(
        key_hash=KeyHash("ab" * 16), generation=1, provider="pay", caller="shop", scope=(), operation="charge", key="g:k1",
        fingerprint="1:aa", status=status, reason=Reason.NEW, attempt=latest, open=tuple(attempt(n) for n in is_open),
        lease_until=START + 35 * SECOND, created_at=START, updated_at=START, last_request_at=START, first_sent_at=START,
    )  # fmt: skip
    return replace(base, **fields)


def evidence(event: Event, number: int = 1, **fields: Any) -> Evidence:
    """*event* about attempt *number*."""
    return Evidence(event=event, token=token(number), reason=fields.pop("reason", Reason.RULE), **fields)
