"""The ledger's reader as the admin service asks for it; the two don't know each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from proxy.admin.query import QueryInvalid, Wanted
from proxy.core.model import SECOND_US, Status
from proxy.core.ports import Clock
from proxy.ledger import CursorInvalid, Details, Filter, Listing, Reader


class LedgerReading:
    """Implements :class:`proxy.admin.service.EntryReader`."""

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock

    async def entries(
        self, wanted: Wanted, *, limit: int, order: Literal["newest", "oldest"], cursor: str | None
    ) -> Listing:
        """As the protocol says.

        A key may stand in the ledger in two forms; a caller that knows one of them hardly meets the other, so they are
        asked one after the other.
        """
        listing = Listing((), None)
        for key in wanted.keys or (None,):
            try:
                listing = await self._reader.entries(_filter(wanted, key), limit=limit, order=order, cursor=cursor)
            except CursorInvalid as problem:
                raise QueryInvalid(f"{problem}.") from None
            if listing.entries:
                break
        return listing

    async def entry(self, entry_id: str) -> Details | None:
        """As the protocol says."""
        return await self._reader.entry(entry_id)

    async def counts(self) -> Mapping[tuple[str, Status], int]:
        """As the protocol says."""
        return await self._reader.counts()

    async def oldest_ambiguous(self) -> Mapping[str, int]:
        """As the protocol says."""
        return {found.provider: found.claimed_at for found in await self._reader.oldest_ambiguous()}

    def now(self) -> int:
        """This machine's time, near enough to the ledger's for people."""
        return int(self._clock.wall() * SECOND_US)


def _filter(wanted: Wanted, key: str | None) -> Filter:
    return Filter(
        provider=wanted.provider,
        operation=wanted.operation,
        caller=wanted.caller,
        status=wanted.status,
        reason=wanted.reason,
        key=key,
        outgoing_key=wanted.outgoing_key,
        since=wanted.since,
        until=wanted.until,
        unchanged_since=wanted.unchanged_since,
    )
