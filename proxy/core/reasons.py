"""Why: one stable slug for every decision, on the wire (``Dedup-Reason``), in the ledger, the log and the metrics."""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class Reason(StrEnum):
    """A slug. ``docs/reasons.md`` has a heading for each, with what it means and what to do."""

    # a request is let through, or not held back
    NEW = "new"
    WINDOW_OVER = "window-over"
    RETRIED = "retried"
    RESENT = "resent"
    SAFE_METHOD = "safe-method"
    MODE_BYPASS = "mode-bypass"
    MODE_OBSERVE = "mode-observe"
    NO_KEY = "no-key"
    NO_OPERATION = "no-operation"

    # a duplicate
    REPLAYED = "replayed"
    WAITED = "waited"

    # what came back
    ANSWERED = "answered"
    RULE = "rule"
    DECLINED = "declined"
    TURNED_AWAY = "turned-away"
    NOT_SENT = "not-sent"
    REDIRECTED = "redirected"
    SERVER_ERROR = "server-error"
    CONFLICT = "conflict"
    REQUEST_TIMEOUT = "request-timeout"
    ANSWER_LOST = "answer-lost"
    ANSWER_UNREADABLE = "answer-unreadable"
    LATER_CONFLICT = "later-conflict"
    UNASKED_KEY_REUSE = "unasked-key-reuse"
    LEASE_EXPIRED = "lease-expired"
    CLAIM_TOO_LATE = "claim-too-late"

    # what a look-up came to
    FOUND = "found"
    FOUND_PENDING = "found-pending"
    FOUND_REJECTED = "found-rejected"
    FOUND_ABSENT = "found-absent"
    SEVERAL_FOUND = "several-found"
    LOOKUP_TOO_EARLY = "lookup-too-early"
    LOOKUP_REFUSED = "lookup-refused"
    LOOKUP_UNREADABLE = "lookup-unreadable"
    LOOKUP_INCOMPLETE = "lookup-incomplete"
    LOOKUP_UNCERTAIN = "lookup-uncertain"
    LOOKUP_FAILED = "lookup-failed"
    HORIZON_OVER = "horizon-over"
    UNTAGGED = "untagged"
    REQUEST_UNREADABLE = "request-unreadable"

    # problems of our own (contract section 6)
    KEY_MISSING = "key-missing"
    KEY_INVALID = "key-invalid"
    PROVIDER_UNKNOWN = "provider-unknown"
    CALLER_UNKNOWN = "caller-unknown"
    IN_PROGRESS = "in-progress"
    OUTCOME_UNKNOWN = "outcome-unknown"
    NOTHING_CAN_TELL = "nothing-can-tell"
    RETENTION_OVER = "retention-over"
    KEY_REUSED = "key-reused"
    REQUEST_TOO_LARGE = "request-too-large"
    REQUEST_INVALID = "request-invalid"
    REQUEST_INCOMPLETE = "request-incomplete"
    ORIGIN_REFUSED = "origin-refused"
    PROVIDER_UNREACHABLE = "provider-unreachable"
    PROVIDER_BUSY = "provider-busy"
    LEDGER_UNAVAILABLE = "ledger-unavailable"
    ANSWER_NOT_STORED = "answer-not-stored"
    SIGNATURE_WOULD_BREAK = "signature-would-break"
    DRAINING = "draining"
    INTERNAL_ERROR = "internal-error"
