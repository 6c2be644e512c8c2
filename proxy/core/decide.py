"""What to do with a request that arrives, given what the ledger knows. Pure; asked again after every lost claim."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique

from proxy.core.keys import is_computed
from proxy.core.model import FINAL, Entry, Status
from proxy.core.policy import Native, Operation
from proxy.core.reasons import Reason
from proxy.core.settle import Moment, may_resend

LEASE_MARGIN_US = 2_000_000
"""Beyond the deadline: time for an outcome in hand to be written."""

RETENTION_STEP_US = 86_400_000_000
"""The kept time of the last request moves on at most once a day where only retention depends on it."""


@unique
class Kind(StrEnum):
    """What happens to the request."""

    CLAIM = "claim"  # begin a new entry
    RECLAIM = "reclaim"  # begin the next attempt of an entry that was not executed
    RESEND = "resend"  # begin the next attempt of an ambiguous entry, under the same key
    WAIT = "wait"  # another request's attempt is running
    EXPIRE = "expire"  # the holder's lease is over: say so in the ledger, then look again
    REPLAY = "replay"  # tell what the ledger knows
    REFUSE = "refuse"  # a problem answer


@dataclass(frozen=True, slots=True)
class Decision:
    """A kind and its reason. ``seconds`` is when trying again can help, where that is known."""

    kind: Kind
    reason: Reason
    generation: int = 1
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request as the decision sees it."""

    fingerprint: str
    credential: str | None
    native: Native | None  # in force for this request
    moment: Moment

    @property
    def now(self) -> int:
        """Ledger time."""
        return self.moment.now


def on_arrival(entry: Entry | None, arrival: Arrival, operation: Operation) -> Decision:
    """Decide. *entry* is the latest generation under the key, as last read; None if there is none."""
    if entry is None:
        return Decision(Kind.CLAIM, Reason.NEW)
    if has_window_ended(entry, window_us(entry.key, operation), arrival.now):
        return Decision(Kind.CLAIM, Reason.WINDOW_OVER, generation=entry.generation + 1)
    same = entry.fingerprint == arrival.fingerprint and entry.credential == arrival.credential
    if not same and not may_differ(entry, arrival, operation):
        return Decision(Kind.REFUSE, Reason.KEY_REUSED)
    if entry.status is Status.IN_FLIGHT:
        if arrival.now >= entry.lease_until:
            return Decision(Kind.EXPIRE, Reason.LEASE_EXPIRED)
        return Decision(Kind.WAIT, Reason.IN_PROGRESS)
    if entry.status is Status.AMBIGUOUS:
        return _on_ambiguous(entry, arrival, operation)
    if entry.status is Status.NOT_EXECUTED:
        if entry.retry_at is not None and arrival.now < entry.retry_at:
            return Decision(Kind.REFUSE, Reason.PROVIDER_BUSY, seconds=(entry.retry_at - arrival.now) / 1e6)
        return Decision(Kind.RECLAIM, Reason.RETRIED, generation=entry.generation)
    return Decision(Kind.REPLAY, Reason.REPLAYED)


def _on_ambiguous(entry: Entry, arrival: Arrival, operation: Operation) -> Decision:
    """A caller repeats a call whose outcome is unknown: ask again under its key, if that is safe now."""
    again = may_resend(entry, operation, arrival.native, arrival.moment)
    if again.is_now:
        return Decision(Kind.RESEND, Reason.RESENT, generation=entry.generation)
    reason = Reason.OUTCOME_UNKNOWN if operation.can_look_up else again.reason
    return Decision(Kind.REFUSE, reason, generation=entry.generation, seconds=again.seconds)


def may_differ(entry: Entry, arrival: Arrival, operation: Operation) -> bool:
    """Whether a corrected request may take the key: nothing happened, and each attempt itself was told so.

    A ``raw`` native key has no revisions, so the provider would see two bodies under one key.
    """
    if entry.status is not Status.NOT_EXECUTED or entry.fingerprint_frozen:
        return False
    is_raw = operation.native is not None and operation.native.format == "raw"
    return not (is_raw and entry.fingerprint != arrival.fingerprint)


def next_revision(entry: Entry, fingerprint: str, operation: Operation) -> int:
    """The outgoing key's revision for the next attempt of an entry that was not executed."""
    if operation.native is not None and operation.native.format == "raw":
        return entry.revision
    return entry.revision + int(entry.fingerprint != fingerprint or entry.revise)


def window_us(key: str, operation: Operation) -> int | None:
    """The window of *key* as identities hold it. A caller's own key means the same call for as long as it is kept."""
    return operation.key.window_us if is_computed(key) else None


def has_window_ended(entry: Entry, window_us: int | None, now: int) -> bool:
    """Whether the next request under a computed key is a new intent (contract section 7.4)."""
    return window_us is not None and entry.status in FINAL and now >= entry.last_request_at + window_us


def is_touch_due(entry: Entry, window_us: int | None, now: int) -> bool:
    """Whether the kept time of the last request has fallen behind by more than may be ignored."""
    step = RETENTION_STEP_US if window_us is None else window_us // 100
    return now - entry.last_request_at > step


def expires_at(entry: Entry, window_us: int | None, retention_us: int | None) -> int | None:
    """Until when a duplicate is recognised; None: for ever."""
    if window_us is not None:
        return entry.last_request_at + window_us
    return None if retention_us is None else max(entry.last_request_at, entry.updated_at) + retention_us
