"""Entries as JSON (contract section 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from proxy.core import decide
from proxy.core.model import Entry, Kept, Status
from proxy.core.policy import Operation, Policy
from proxy.core.reasons import Reason
from proxy.core.settle import why_ambiguous

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class AttemptSeen(Protocol):
    """An attempt as the ledger tells of it."""

    @property
    def number(self) -> int:
        """From 1."""
        ...

    @property
    def claimed_at(self) -> int | None:
        """Ledger time."""
        ...

    @property
    def quiet_at(self) -> int | None:
        """Ledger time by which nothing of it can still take effect."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether it may have left and is not accounted for."""
        ...

    @property
    def status(self) -> Status:
        """Of the entry when the next attempt began, or now."""
        ...

    @property
    def reason(self) -> str:
        """Of that status."""
        ...


class TraceSeen(Protocol):
    """A step of an entry's history as the ledger tells of it."""

    @property
    def at(self) -> int:
        """Ledger time."""
        ...

    @property
    def event(self) -> str:
        """As the state table names it."""
        ...

    @property
    def attempt(self) -> int:
        """Number of the attempt that the event speaks of."""
        ...

    @property
    def from_status(self) -> Status:
        """Before."""
        ...

    @property
    def to_status(self) -> Status:
        """After."""
        ...

    @property
    def reason(self) -> str:
        """Why."""
        ...

    @property
    def who(self) -> str | None:
        """The person, where it was one's word."""
        ...

    @property
    def detail(self) -> Mapping[str, Any]:
        """What else is known."""
        ...


class Rules:
    """The rules that entries were made under, found by the ids in them, old ids included."""

    def __init__(self, policy: Policy) -> None:
        self.retention_us = policy.ledger.retention_entry_us
        self._operations: dict[tuple[str, str], Operation] = {}
        for provider in policy.providers.values():
            unmatched = (provider.unmatched,) if isinstance(provider.unmatched, Operation) else ()
            for operation in (*provider.operations, *unmatched):
                for provider_id in (provider.id, *provider.was):
                    for operation_id in (operation.id, *operation.was):
                        self._operations.setdefault((provider_id, operation_id), operation)

    def operation(self, entry: Entry) -> Operation | None:
        """The operation of *entry*; None where the configuration no longer has it."""
        return self._operations.get((entry.provider, entry.operation))


def entry_json(entry: Entry, rules: Rules, *, answer_is_read: bool) -> dict[str, Any]:
    """*entry* as listings show it. ``answer_stored`` is null unless *answer_is_read*: a listing doesn't look."""
    operation = rules.operation(entry)
    window_us = decide.window_us(entry.key, operation) if operation is not None else None
    return {
        "id": entry.id,
        "provider": entry.provider,
        "operation": entry.operation,
        "caller": entry.caller,
        "key": entry.key[2:],
        "generation": entry.generation,
        "outgoing_key": entry.outgoing_key,
        "status": entry.status.value,
        "executed": entry.executed.value,
        "reason": entry.reason,
        "doubt": entry.doubt,
        "attempts": entry.attempt.number,
        "fingerprint": entry.fingerprint,
        "created_at": time_text(entry.created_at),
        "updated_at": time_text(entry.updated_at),
        "expires_at": time_text(decide.expires_at(entry, window_us, rules.retention_us)),
        "facts": {},
        "upstream_status": entry.upstream_status,
        "answer_stored": _is_answer_stored(entry) if answer_is_read else None,
        "settling": _settling(entry, operation),
    }


def show_json(
    entry: Entry, attempts: Sequence[AttemptSeen], history: Sequence[TraceSeen], rules: Rules
) -> dict[str, Any]:
    """*entry* with its attempts and its history."""
    return {
        **entry_json(entry, rules, answer_is_read=True),
        "attempt_log": [_attempt_json(attempt) for attempt in attempts],
        "history": [_trace_json(trace) for trace in history],
    }


def time_text(moment_us: int | None) -> str | None:
    """A ledger time in RFC 3339, UTC, to the microsecond; null for none."""
    if moment_us is None:
        return None
    try:
        moment = _EPOCH + timedelta(microseconds=moment_us)
    except OverflowError:
        return None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _is_answer_stored(entry: Entry) -> bool:
    return entry.answer is not None and entry.answer.kept is not Kept.TOMBSTONE


def _settling(entry: Entry, operation: Operation | None) -> dict[str, Any] | None:
    """How an entry in doubt will end: ``waiting`` for what can tell, or ``held`` for a person."""
    if entry.status is not Status.AMBIGUOUS:
        return None
    can_tell = operation is not None and why_ambiguous(operation, operation.native) is Reason.OUTCOME_UNKNOWN
    return {"state": "waiting" if can_tell else "held", "next_at": None, "tries": 0}


def _attempt_json(attempt: AttemptSeen) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "claimed_at": time_text(attempt.claimed_at),
        "quiet_at": time_text(attempt.quiet_at),
        "open": attempt.is_open,
        "status": attempt.status.value,
        "reason": attempt.reason,
    }


def _trace_json(trace: TraceSeen) -> dict[str, Any]:
    return {
        "at": time_text(trace.at),
        "event": trace.event,
        "attempt": trace.attempt,
        "from": trace.from_status.value,
        "to": trace.to_status.value,
        "reason": trace.reason,
        "who": trace.who,
        "detail": dict(trace.detail),
    }
