"""Writing a claim, within the time that a caller will wait for it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final

from proxy.core.arrival import Prepared
from proxy.core.ports import Claim, Landed, Ledger, LedgerUnavailable
from proxy.core.reasons import Reason
from proxy.exchange.attempt import RECORD_SECONDS_MAX, Attempts, Spawn

CLAIM_SECONDS_MAX: Final = 5.0
"""How long a claim may take before the caller is told that the ledger is not available. Nothing is sent then."""


class Late(Exception):
    """A claim that could not be acknowledged in time; nothing was sent under it."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Claims against one ledger."""

    ledger: Ledger
    attempts: Attempts
    spawn: Spawn

    async def claim(self, prepared: Prepared, claim: Claim) -> Landed:
        """Write the claim. One that is acknowledged too late is closed as not sent, and nothing is sent under it."""
        pending = asyncio.ensure_future(self.ledger.claim(claim))
        try:
            async with asyncio.timeout(min(CLAIM_SECONDS_MAX, prepared.operation.timeout.total_seconds)):
                return await asyncio.shield(pending)
        except TimeoutError:
            self.spawn(self._give_up(prepared, claim, pending))
            raise Late from None
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECORD_SECONDS_MAX):
                    await self._give_up(prepared, claim, pending)
            raise
        except LedgerUnavailable:
            self.spawn(self.attempts.not_sent(prepared, claim.entry, reason=Reason.CLAIM_TOO_LATE))
            raise Late from None

    async def _give_up(self, prepared: Prepared, claim: Claim, pending: asyncio.Future[Landed]) -> None:
        try:
            if not (await pending).landed:
                return
        except LedgerUnavailable:
            pass  # it may be durable all the same: close it by its token
        await self.attempts.not_sent(prepared, claim.entry, reason=Reason.CLAIM_TOO_LATE)
