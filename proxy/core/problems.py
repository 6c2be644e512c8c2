"""The proxy's own answers: which slug means which status, and whether trying again can help (contract section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from proxy.core.reasons import Reason

TYPE_PREFIX: Final = "urn:dedup-proxy:problem:"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem. ``after_send`` is the status for the request whose own attempt left, where that differs."""

    status: int
    title: str
    is_retryable: bool
    after_send: int | None = None


_HELD: Final = Kind(409, "the outcome is unknown and held", is_retryable=False, after_send=504)

PROBLEMS: Final = MappingProxyType(
    {
        Reason.KEY_MISSING: Kind(400, "the request has no idempotency key", is_retryable=False),
        Reason.KEY_INVALID: Kind(400, "the idempotency key is not valid", is_retryable=False),
        Reason.REQUEST_INVALID: Kind(400, "the request is not valid HTTP", is_retryable=False),
        Reason.REQUEST_INCOMPLETE: Kind(400, "the request body is incomplete", is_retryable=False),
        Reason.SIGNATURE_WOULD_BREAK: Kind(400, "a signed request cannot be forwarded this way", is_retryable=False),
        Reason.PROVIDER_UNKNOWN: Kind(403, "no provider is configured for this request", is_retryable=False),
        Reason.ORIGIN_REFUSED: Kind(403, "browsers of other sites are refused", is_retryable=False),
        Reason.CALLER_UNKNOWN: Kind(401, "the caller is not known", is_retryable=False),
        Reason.IN_PROGRESS: Kind(409, "the same call is still in progress", is_retryable=True),
        Reason.OUTCOME_UNKNOWN: Kind(409, "the outcome is not known yet", is_retryable=True, after_send=504),
        Reason.NOTHING_CAN_TELL: _HELD,
        Reason.RETENTION_OVER: _HELD,
        Reason.ANSWER_NOT_STORED: Kind(409, "the answer is no longer there", is_retryable=False),
        Reason.REQUEST_TOO_LARGE: Kind(413, "the request body is too large", is_retryable=False),
        Reason.KEY_REUSED: Kind(422, "the key was used for another request", is_retryable=False),
        Reason.INTERNAL_ERROR: Kind(500, "the proxy itself failed", is_retryable=False),
        Reason.PROVIDER_UNREACHABLE: Kind(502, "the provider could not be reached", is_retryable=True),
        Reason.PROVIDER_BUSY: Kind(503, "the provider is busy", is_retryable=True),
        Reason.LEDGER_UNAVAILABLE: Kind(503, "the ledger is not available", is_retryable=True),
        Reason.DRAINING: Kind(503, "the proxy is shutting down", is_retryable=True),
    }
)

_SLUGS: Final = MappingProxyType({reason: "outcome-held" for reason, kind in PROBLEMS.items() if kind is _HELD})


def slug(reason: Reason) -> str:
    """The problem's slug; several reasons may share one."""
    return _SLUGS.get(reason, reason.value)


def status_of(reason: Reason, *, sent: bool) -> int:
    """The HTTP status of a problem, for a request of which a byte left or none did."""
    kind = PROBLEMS[reason]
    return kind.after_send if sent and kind.after_send is not None else kind.status
