"""A listing's filters as words: the same in a query string and as options of a command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from proxy.core.model import Status
from proxy.core.moments import MomentInvalid, moment, offset_us

FILTERS: Final = (
    "provider", "operation", "caller", "status", "reason", "key", "outgoing_key", "since", "until", "older_than",
)  # fmt: skip
"""What a listing can be narrowed by."""

LIMIT_MAX: Final = 1000
LIMIT_DEFAULT: Final = 100

_ORDERS: Final = ("newest", "oldest")
_KNOWN: Final = frozenset({*FILTERS, "order", "limit", "cursor"})


class QueryInvalid(ValueError):
    """A filter that there is not, or a value that none can have; the message is for the one who asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries; what is None doesn't matter. Times are ledger times.

    ``keys`` are the forms that the key asked for may have in the ledger. ``since`` and ``until`` bound the first claim,
    ``unchanged_since`` the last change of the status.
    """

    provider: str | None = None
    operation: str | None = None
    caller: str | None = None
    status: Status | None = None
    reason: str | None = None
    keys: tuple[str, ...] = ()
    outgoing_key: str | None = None
    since: int | None = None
    until: int | None = None
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One page of a listing."""

    wanted: Wanted = field(default_factory=Wanted)
    limit: int = LIMIT_DEFAULT
    order: Literal["newest", "oldest"] = "newest"
    cursor: str | None = None


def read_query(parameters: Iterable[tuple[str, str]], *, now: int) -> Query:
    """The query that *parameters* ask. *now* is ledger time. Raises :class:`QueryInvalid`."""
    words: dict[str, str] = {}
    for name, value in parameters:
        if name not in _KNOWN:
            raise QueryInvalid(
                f"There is no filter {name[:40]!r}; there are {', '.join(FILTERS)}, order, limit and cursor."
            )
        if name in words:
            raise QueryInvalid(f"{name} is there twice.")
        words[name] = value
    wanted = Wanted(
        provider=words.get("provider"),
        operation=words.get("operation"),
        caller=words.get("caller"),
        status=_status(words.get("status")),
        reason=words.get("reason"),
        keys=_keys(words.get("key")),
        outgoing_key=words.get("outgoing_key"),
        since=_time("since", words.get("since")),
        until=_time("until", words.get("until")),
        unchanged_since=_older_than(words.get("older_than"), now),
    )
    return Query(
        wanted=wanted, limit=_limit(words.get("limit")), order=_order(words.get("order")), cursor=words.get("cursor")
    )


def _status(text: str | None) -> Status | None:
    if text is None:
        return None
    try:
        return Status(text)
    except ValueError:
        raise QueryInvalid(f"status is one of {', '.join(Status)}.") from None


def _keys(text: str | None) -> tuple[str, ...]:
    """A given key is stored as ``g:`` and itself, a computed one as ``c:`` and its digest, shown without that."""
    return () if text is None else (f"g:{text}", f"c:{text}")


def _time(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return moment(text)
    except MomentInvalid:
        raise QueryInvalid(f"{name} is an RFC 3339 time with its zone, such as 2026-11-23T00:00:00Z.") from None


def _older_than(text: str | None, now: int) -> int | None:
    if text is None:
        return None
    try:
        age = offset_us(text)
    except MomentInvalid:
        age = -1
    if age < 0:
        raise QueryInvalid("older_than is a duration, such as 90s, 5m or 24h.")
    return now - age


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT_DEFAULT
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= LIMIT_MAX):
        raise QueryInvalid(f"limit is a number from 1 to {LIMIT_MAX}.")
    return int(text)


def _order(text: str | None) -> Literal["newest", "oldest"]:
    orders: Sequence[Literal["newest", "oldest"]] = ("newest", "oldest")
    for order in orders:
        if text in (None, order):
            return order
    raise QueryInvalid(f"order is one of {', '.join(_ORDERS)}.")
