"""The problems that a deduplicated request may end in, in words."""

from __future__ import annotations

from dataclasses import replace

from proxy.core.arrival import Prepared
from proxy.core.decide import Decision
from proxy.core.model import Entry, Executed, Status
from proxy.core.reasons import Reason
from proxy.core.settle import why_ambiguous
from proxy.exchange.told import Facts, Problem, Told, facts_of, is_streaming, unknown


def named(prepared: Prepared, told: Told) -> Told:
    """*told*, a problem with the names that help a person find it."""
    if not isinstance(told, Problem):
        return told
    return replace(
        told, provider=prepared.provider.name, operation=prepared.operation.name, key=prepared.shown_key,
        operation_rule=prepared.operation,
    )  # fmt: skip


def still_running(entry: Entry | None) -> Problem:
    """The wait is over and another request's attempt is not. *entry* is its row, where it was read."""
    facts = Facts(
        reason=Reason.IN_PROGRESS, sent=False, status=Status.IN_FLIGHT, executed=Executed.UNKNOWN,
        entry=entry.id if entry is not None else None,
    )  # fmt: skip
    detail = "Another request under the same key is still running. Send the same request again to get its answer."
    return Problem(facts=facts, reason=Reason.IN_PROGRESS, detail=detail, retry_after=1.0)


def told_to_wait(prepared: Prepared, entry: Entry, decision: Decision, retention_us: int | None) -> Problem:
    """The provider's last Retry-After for this key is not over."""
    facts = facts_of(entry, reason=decision.reason, sent=False, operation=prepared.operation, retention_us=retention_us)
    detail = "The provider asked to be left alone for a while; nothing was sent. Send the same request again then."
    return Problem(facts=facts, reason=decision.reason, detail=detail, retry_after=decision.seconds)


def busy(prepared: Prepared, row: Entry | None) -> Problem:
    """No place was free in time. *row* is what the ledger has under the key."""
    executed = Executed.NO if row is None else row.executed
    facts = Facts(
        reason=Reason.PROVIDER_BUSY, sent=False, executed=executed, entry=row.id if row else None,
        status=row.status.value if row else None,
    )  # fmt: skip
    detail = f"All places for {prepared.provider.name} are taken; nothing was sent. Send the same request again."
    return Problem(facts=facts, reason=Reason.PROVIDER_BUSY, detail=detail, retry_after=1.0)


def ledger_down() -> Problem:
    """The ledger can't be read or written: nothing was sent. Why is in the log: callers needn't know its place."""
    facts = Facts(reason=Reason.LEDGER_UNAVAILABLE, sent=False, executed=Executed.UNKNOWN)
    detail = "The ledger can't be read or written now, so nothing was sent. Send the same request again."
    return Problem(facts=facts, reason=Reason.LEDGER_UNAVAILABLE, detail=detail, retry_after=1.0)


def cut_short(prepared: Prepared) -> Problem:
    """The proxy shut down before the attempt ended; the ledger says ambiguous."""
    facts = Facts(reason=Reason.ANSWER_LOST, sent=True, status=Status.AMBIGUOUS, executed=Executed.UNKNOWN)
    return unknown(facts, why_ambiguous(prepared.operation, prepared.native), prepared.operation)


def draining() -> Problem:
    """The process is shutting down: what runs may end, nothing new begins."""
    facts = Facts(reason=Reason.DRAINING, sent=False, executed=Executed.UNKNOWN)
    detail = "The proxy is shutting down; nothing was sent. Send the same request again."
    return Problem(facts=facts, reason=Reason.DRAINING, detail=detail, retry_after=1.0)


def key_reused() -> Problem:
    """The same key with another fingerprint or credential. Tells nothing of the entry: it may be somebody else's."""
    facts = Facts(reason=Reason.KEY_REUSED, sent=False, executed=Executed.UNKNOWN)
    detail = "This key was used before with another request or credential. Use a new key for a new call."
    return Problem(facts=facts, reason=Reason.KEY_REUSED, detail=detail)


def key_invalid(why: str) -> Problem:
    """The caller's key breaks a rule of this provider. Nothing was claimed."""
    facts = Facts(reason=Reason.KEY_INVALID, sent=False, executed=Executed.NO)
    detail = f"{why} Nothing was sent; send the request again with a valid key."
    return Problem(facts=facts, reason=Reason.KEY_INVALID, detail=detail)


def cannot_place(prepared: Prepared, why: str) -> Problem:
    """The native key does not fit into this request, so nothing was claimed."""
    facts = Facts(reason=Reason.REQUEST_INVALID, sent=False, executed=Executed.UNKNOWN)
    detail = f"The key of operation {prepared.operation.name!r} has no place in this request: {why}."
    return Problem(facts=facts, reason=Reason.REQUEST_INVALID, detail=detail)


def second_hand(told: Told) -> Told:
    """The answer of an attempt whose outcome could not be recorded, for those who waited for it."""
    if is_streaming(told):
        return ledger_down()
    return replace(told, facts=replace(told.facts, sent=False))
