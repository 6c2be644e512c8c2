"""Leases that ran out: their holders are gone or stalled, and nobody knows what they did, so their entries are ambiguous.

A request that comes for such an entry says so itself; the sweep is for entries that nobody asks for again.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from proxy.core.ports import LedgerUnavailable
from proxy.telemetry.log import Log

SWEEP_SECONDS: Final = 2.0
SWEEP_ENTRIES_MAX: Final = 500
"""One pass is one short write; what is left over follows at once."""


class Leases(Protocol):
    """A ledger that keeps leases."""

    async def expire_leases(self, limit: int) -> int:
        """As the ledger's port says."""
        ...


async def sweep_forever(ledger: Leases, log: Log) -> None:
    """Sweep every few seconds, whatever becomes of the ledger meanwhile."""
    is_down = False
    while True:
        try:
            expired = await sweep(ledger)
        except LedgerUnavailable as problem:
            if not is_down:
                log.warning("leases.unswept", detail=str(problem))
            is_down = True
        else:
            is_down = False
            if expired:
                log.warning("leases.expired", entries=expired)
        await asyncio.sleep(SWEEP_SECONDS)


async def sweep(ledger: Leases) -> int:
    """One pass: turn every entry whose lease is over into an ambiguous one; tell how many there were."""
    total = 0
    while True:
        count = await ledger.expire_leases(SWEEP_ENTRIES_MAX)
        total += count
        if count < SWEEP_ENTRIES_MAX:
            return total
