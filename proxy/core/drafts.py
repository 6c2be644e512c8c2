"""An attempt as it is to be: the row for the ledger, and the request that goes out under it. Pure."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from proxy.core import decide
from proxy.core.arrival import Prepared
from proxy.core.decide import Decision, Kind
from proxy.core.keys import outgoing_key
from proxy.core.model import SECOND_US, Attempt, Entry, Status, Token
from proxy.core.outgoing import build
from proxy.core.ports import Claim, Outgoing
from proxy.core.states import Event, begin

EVENTS: Final = MappingProxyType({Kind.CLAIM: Event.CLAIMED, Kind.RECLAIM: Event.RECLAIMED, Kind.RESEND: Event.RESENT})
"""The event that a decision to send begins."""


def draft(
    prepared: Prepared, previous: Entry | None, decision: Decision, *, token: Token, now: int
) -> tuple[Claim, Outgoing]:  # fmt: skip
    """The claim and the request of an attempt. *previous* is the row that the decision was made on, *now* ledger time.

    Raises ``CannotPlace`` and ``KeyInvalid`` where the provider's key has no place in this request.
    """
    operation = prepared.operation
    lease_us = int(operation.timeout.total_seconds * SECOND_US) + decide.LEASE_MARGIN_US
    quiet_us = int((operation.timeout.total_seconds + operation.quiet_seconds) * SECOND_US)
    number = 1 if previous is None or decision.kind is Kind.CLAIM else previous.attempt.number + 1
    attempt = Attempt(number, token, now, now + quiet_us)
    row = _row(prepared, previous, decision, attempt, lease_until=now + lease_us)
    event = EVENTS[decision.kind]
    begun = begin(row, event, attempt, reason=decision.reason)
    assert begun is not None  # decided on this very row
    claim = Claim(
        begun,
        lease_us,
        quiet_us,
        event,
        after=previous.attempt.token if previous is not None else None,
        window_us=decide.window_us(prepared.identity.key, operation),
    )
    outgoing = build(
        prepared.provider, operation, prepared.request, native=prepared.native, key_header=prepared.found.header,
        outgoing_key=row.outgoing_key,
    )  # fmt: skip
    return claim, outgoing


def _row(
    prepared: Prepared, previous: Entry | None, decision: Decision, attempt: Attempt, *, lease_until: int
) -> Entry:
    """The row before the attempt begins. A re-send changes nothing of it, least of all its outgoing key."""
    if decision.kind is Kind.CLAIM or previous is None:
        row = _newborn(prepared, decision, attempt, lease_until=lease_until)
        return replace(row, outgoing_key=_outgoing_key(prepared, row))
    if decision.kind is Kind.RESEND:
        return previous
    revision = decide.next_revision(previous, prepared.fingerprint, prepared.operation)
    row = replace(previous, fingerprint=prepared.fingerprint, credential=prepared.credential, revision=revision)
    return replace(row, outgoing_key=_outgoing_key(prepared, row))


def _newborn(prepared: Prepared, decision: Decision, attempt: Attempt, *, lease_until: int) -> Entry:
    identity, now = prepared.identity, attempt.claimed_at
    has_window = decide.window_us(identity.key, prepared.operation) is not None
    return Entry(
        key_hash=prepared.key_hash, generation=decision.generation, provider=identity.provider, caller=identity.caller,
        scope=identity.scope, operation=prepared.operation.id, key=identity.key, fingerprint=prepared.fingerprint,
        credential=prepared.credential, born_at=now if has_window else None, status=Status.IN_FLIGHT,
        reason=decision.reason, attempt=attempt, open=(attempt,), lease_until=lease_until, created_at=now, updated_at=now,
        last_request_at=now, first_sent_at=now,
    )  # fmt: skip


def _outgoing_key(prepared: Prepared, row: Entry) -> str | None:
    native = prepared.native
    if native is None and prepared.operation.tag is None:
        return None
    return outgoing_key(
        prepared.identity, born_at=row.born_at, revision=row.revision, format=native.format if native else "uuid",
        given=prepared.found.given, max_length=native.max_length if native else None,
    )  # fmt: skip
