"""Which candidates of a look-up are ours: by value, by age, by id.

A candidate is ours, is not, or can't be told from ours. A single one of the last kind makes the whole look-up useless: it
might be the effect, or a second one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Final

from proxy.core.expressions import ExpressionFailed, yields
from proxy.core.json_text import canonical_json, number_text
from proxy.core.lookup import Lookup, Unaskable
from proxy.core.lookup_request import ask, scalar_text
from proxy.core.model import SECOND_US
from proxy.core.moments import MomentInvalid, moment
from proxy.core.reasons import Reason

CLOCK_SLACK_US: Final = 5 * 60 * SECOND_US
"""How far a provider's clock is trusted to agree with the ledger's (contract section 7.2, ``since``)."""

EFFECT_ID_LENGTH_MAX: Final = 512
"""Characters of a provider's id: no provider's comes near, and the ledger indexes it."""

_YEAR_10000_US: Final = 253_402_300_800 * SECOND_US
_RFC2822: Final = re.compile(
    r"([A-Za-z]{3}, *)?\d{1,2} [A-Za-z]{3} \d{4} \d{2}:\d{2}(:\d{2})? ([+-]\d{4}|GMT|UTC?)", re.ASCII
)
_UNIX: Final = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)


def matching(
    lookup: Lookup, candidates: Sequence[object], ours: Sequence[object], *, first_sent_at: int
) -> Iterator[object]:
    """The candidates that are ours, given our side of ``where``. Raises Unaskable where that can't be told of one."""
    for item in candidates:
        if _is_alike(lookup, item, ours) and (lookup.since is None or _is_of_our_time(lookup, item, first_sent_at)):
            yield item


def effect_id(lookup: Lookup, item: object) -> str | None:
    """The candidate's id as the ledger keeps it: a text or number, one printable line. None if it has none."""
    value = ask(lookup.id, item, "`id`")
    if isinstance(value, str):
        text = value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        text = number_text(value)
    else:
        return None
    return text if 0 < len(text) <= EFFECT_ID_LENGTH_MAX and text.isprintable() and not text.isspace() else None


def is_same(theirs: object, ours: object) -> bool | None:
    """Whether two values are equal; None where they differ only in being text and number. Nothing equals what is absent.

    Numbers are equal if their decimal values are, however they are spelled and whether or not a double can hold them.
    """
    if not yields(theirs) or not yields(ours):
        return False
    try:
        if canonical_json(theirs) == canonical_json(ours):
            return True
    except (TypeError, ExpressionFailed):
        raise Unaskable(Reason.LOOKUP_FAILED, "`where` compares what is no JSON value") from None
    one, other = scalar_text(theirs), scalar_text(ours)
    if one is None or other is None or (isinstance(theirs, str) and isinstance(ours, str)):
        return False
    if one != other and not _is_same_number(one, other):
        return False
    return None if isinstance(theirs, (str, bool)) or isinstance(ours, (str, bool)) else True


def moment_us(value: object) -> int | None:
    """A time as providers write it (RFC 3339, RFC 2822, Unix seconds) in microseconds; None for anything else.

    Milliseconds since the epoch would lie far in the future, and are none.
    """
    try:
        if isinstance(value, str) and _UNIX.fullmatch(value):
            found = int(Decimal(value) * SECOND_US)
        elif isinstance(value, str) and _RFC2822.fullmatch(value):
            found = moment(parsedate_to_datetime(value))
        else:
            found = moment(value)
    except (MomentInvalid, ValueError, OverflowError):
        return None
    return found if 0 <= found < _YEAR_10000_US else None


def _is_alike(lookup: Lookup, item: object, ours: Sequence[object]) -> bool:
    """Whether all of ``where`` holds."""
    is_doubtful = False
    for condition, value in zip(lookup.where, ours, strict=True):
        same = is_same(ask(condition.theirs, item, "`where`"), value)
        if same is False:
            return False
        is_doubtful = is_doubtful or same is None
    if is_doubtful:
        raise Unaskable(Reason.LOOKUP_UNCERTAIN, "`where` compares a text with a number; use to_string() on both sides")
    return True


def _is_of_our_time(lookup: Lookup, item: object, first_sent_at: int) -> bool:
    """Whether the candidate can come from this call, by its age.

    A time is taken to be as precise as it is written: an effect in the very second of the first send is not older.
    With our tag compared, age speaks against nothing: nobody else has it, so an old one is neither ours nor another's.
    """
    assert lookup.since is not None  # asked only where the rule has it
    made_us = moment_us(ask(lookup.since, item, "`since`"))
    if made_us is not None:
        precision_us = SECOND_US if made_us % SECOND_US == 0 else SECOND_US // 1000
        older_us = first_sent_at - (made_us + precision_us - 1)
        if older_us <= 0:
            return True
        if older_us > CLOCK_SLACK_US:
            if lookup.compares_tag:
                raise Unaskable(Reason.LOOKUP_UNCERTAIN, "a candidate has our tag and is older than the first send")
            return False
    if lookup.compares_tag:
        return True
    raise Unaskable(Reason.LOOKUP_UNCERTAIN, "by its age a candidate may or may not be ours")


def _is_same_number(one: str, other: str) -> bool:
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:  # no number, or one beyond even Decimal's exponents; the texts were compared before
        return False
