"""Values for tests of the core: each builder makes a consistent one, and takes only what the test is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proxy.core.expressions import compile_expression
from proxy.core.keys import KeyAlternative, KeyRule
from proxy.core.model import Attempt, Entry, KeyHash, Status, Token
from proxy.core.policy import Matcher, Native, Operation, Place, StatusMatch
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


def entry(
    status: Status = Status.IN_FLIGHT, *, attempts: int = 1, is_open: tuple[int, ...] | None = None, **fields: Any
) -> Entry:
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


def operation(**fields: Any) -> Operation:
    """An operation with a given key and no native one, unless *fields* say otherwise."""
    rule = KeyRule(
        alternatives=(given_by_header("idempotency-key"),), required=True, window_us=fields.pop("window_us", None)
    )  # fmt: skip
    return Operation(id="charge", name="charge", **{"key": rule, **fields})


def native(**fields: Any) -> Native:
    """A native key in a header, remembered for a day."""
    return Native(**{"place": Place("header", "Idempotency-Key"), "retention_us": 86_400 * SECOND, **fields})


def matcher(status: int | None = None, when: str | None = None) -> Matcher:
    """An answer with *status* (None: any) for which *when* holds."""
    codes = frozenset() if status is None else frozenset({status})
    return Matcher(StatusMatch(codes=codes), None if when is None else compile_expression(when))


def computed_key(*parts: str, window_us: int | None = None) -> KeyRule:
    """A key that is computed of *parts*."""
    alternative = KeyAlternative(
        tuple(map(compile_expression, parts)), given=False, header=None, text=" + ".join(parts)
    )
    return KeyRule((alternative,), required=True, window_us=window_us)


def given_by_header(name: str) -> KeyAlternative:
    """The key as a caller gives it in header *name*."""
    text = f'headers."{name}"'
    return KeyAlternative(parts=(compile_expression(text),), given=True, header=name, text=text)
