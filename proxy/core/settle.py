"""Whether an ambiguous call may be asked about again, and when. Pure.

Asking again under the same native key is not a question: it can take effect now. So it is a right with limits (protocol
sections 3 and 6): while the provider is sure to remember the key, once nothing of the earlier attempts can still be on
its way (or where the provider refuses a key that is in progress), never where the provider would run a failed call anew,
and on the proxy's own initiative only for a while after the claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy.core.model import SECOND_US, Entry, Status, Token
from proxy.core.policy import Native, Operation
from proxy.core.quiet import is_quiet, seconds_to_quiet
from proxy.core.reasons import Reason

RESENDS_MAX: Final = 10
"""Attempts under one key, after which asking once more has not helped often enough."""

PAUSE_SECONDS_MIN: Final = 0.2
PAUSE_SECONDS_MAX: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When the question is asked, by the ledger's clock and by this process's own.

    ``first_read`` is this process's boot clock reading when it first saw each attempt. ``by_caller``: a caller repeats the
    call now, so that it isn't the proxy's own initiative.
    """

    now: int
    boot: float
    first_read: Mapping[Token, float]
    by_caller: bool


@dataclass(frozen=True, slots=True)
class Again:
    """May it be sent again: now (``seconds`` is 0), in so many seconds, or not at all (None), and why."""

    seconds: float | None
    reason: Reason

    @property
    def is_now(self) -> bool:
        """Whether this is the moment."""
        return self.seconds == 0


def may_resend(entry: Entry, operation: Operation, native: Native | None, moment: Moment) -> Again:
    """Whether the ambiguous *entry* may be sent again under its key. *native* is the key in force for the request."""
    refused = _why_never(entry, operation, native, moment)
    if refused is not None:
        return Again(None, refused)
    assert native is not None  # without one the answer is never
    waits = [0.0]
    if entry.retry_at is not None:
        waits.append((entry.retry_at - moment.now) / SECOND_US)
    if not (native.locks or native.natural):
        waits.append(seconds_to_quiet(entry.open, now=moment.now, boot=moment.boot, first_read=moment.first_read))
    until = remembered_until(entry, operation, native)
    if until is not None and moment.now + int(max(waits) * SECOND_US) >= until:
        return Again(None, Reason.RETENTION_OVER)
    return Again(max(waits), Reason.RESENT if max(waits) <= 0 else Reason.OUTCOME_UNKNOWN)


def why_ambiguous(operation: Operation, native: Native | None) -> Reason:
    """Whether anything but a person can tell what became of an ambiguous call of *operation*, as far as the rule goes."""
    can_tell = operation.can_look_up or (native is not None and "resend" in operation.settle_by)
    return Reason.OUTCOME_UNKNOWN if can_tell else Reason.NOTHING_CAN_TELL


def is_after_quiet(entry: Entry, moment: Moment) -> bool:
    """Whether an attempt that begins now begins after the quiet time of all that are open."""
    return is_quiet(entry.open, now=moment.now, boot=moment.boot, first_read=moment.first_read)


def remembered_until(entry: Entry, operation: Operation, native: Native) -> int | None:
    """Ledger time until which a repeated key is safe with this provider; None: for ever."""
    if native.retention_us is None:
        return None
    margin_us = 0 if native.natural else int((operation.timeout.total_seconds + operation.quiet_seconds) * SECOND_US)
    return entry.first_sent_at + native.retention_us - margin_us


def pause_seconds(tries: int, *, chance: float) -> float:
    """How long to wait after the *tries*-th useless re-send: doubling, with *chance* (0 to 1) as jitter."""
    return min(PAUSE_SECONDS_MIN * 2.0 ** min(tries, 16), PAUSE_SECONDS_MAX) * (0.5 + chance)


def _why_never(entry: Entry, operation: Operation, native: Native | None, moment: Moment) -> Reason | None:
    """Why it may not be sent again, however long one waits; None where it may."""
    if entry.status is not Status.AMBIGUOUS or native is None or "resend" not in operation.settle_by:
        return Reason.NOTHING_CAN_TELL
    if not native.natural and entry.outgoing_key is None:
        return Reason.NOTHING_CAN_TELL
    if _has_failed_for_good(entry, native) or entry.reason == Reason.UNASKED_KEY_REUSE:
        return Reason.NOTHING_CAN_TELL
    until = remembered_until(entry, operation, native)
    if until is not None and _is_over(until, entry, moment):
        return Reason.RETENTION_OVER
    own_until = entry.created_at + int(operation.resend_seconds * SECOND_US)
    is_own_time_over = entry.attempt.number >= RESENDS_MAX or _is_over(own_until, entry, moment)
    if not moment.by_caller and is_own_time_over:
        return Reason.OUTCOME_UNKNOWN  # a caller that repeats the call may still send it
    return None


def _has_failed_for_good(entry: Entry, native: Native) -> bool:
    """Whether the provider answered with a failure that a repeated key would replay (stored), or run anew (rerun)."""
    answered_failure = entry.upstream_status is not None and entry.upstream_status >= 500
    return answered_failure and native.failures != "resumed" and not native.natural


def _is_over(until: int, entry: Entry, moment: Moment) -> bool:
    """Whether a right that ends at *until* is over. It holds only if neither clock says that it is."""
    if moment.now >= until:
        return True
    read_at = min((moment.first_read[a.token] for a in entry.open if a.token in moment.first_read), default=moment.boot)
    return (moment.boot - read_at) * SECOND_US >= until - entry.first_sent_at
