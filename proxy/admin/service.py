"""What people can ask of the ledger. One service behind the API and the commands: neither knows a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from proxy.admin.query import QueryInvalid, Wanted, read_query
from proxy.admin.shapes import AttemptSeen, Rules, TraceSeen, entry_json, show_json
from proxy.core.model import Entry, Status
from proxy.core.policy import Policy


class EntryPage(Protocol):
    """A page of a listing."""

    @property
    def entries(self) -> Sequence[Entry]:
        """Entries, without their answers."""
        ...

    @property
    def next_cursor(self) -> str | None:
        """Where the next page begins; None at the end."""
        ...


class EntryDetails(Protocol):
    """One entry with what became of it."""

    @property
    def entry(self) -> Entry:
        """With its stored answer."""
        ...

    @property
    def attempts(self) -> Sequence[AttemptSeen]:
        """Oldest first."""
        ...

    @property
    def history(self) -> Sequence[TraceSeen]:
        """Oldest first."""
        ...


class EntryReader(Protocol):
    """What the service asks of a ledger. Every method may raise ``LedgerUnavailable``."""

    async def entries(
        self, wanted: Wanted, *, limit: int, order: Literal["newest", "oldest"], cursor: str | None
    ) -> EntryPage:
        """A page. Raises :class:`QueryInvalid` for a cursor that no listing gave out."""
        ...

    async def entry(self, entry_id: str) -> EntryDetails | None:
        """The entry of that id; None if there is none."""
        ...

    async def counts(self) -> Mapping[tuple[str, Status], int]:
        """Entries by provider and status."""
        ...

    async def oldest_ambiguous(self) -> Mapping[str, int]:
        """When each provider's oldest entry in doubt was claimed."""
        ...

    def now(self) -> int:
        """Ledger time."""
        ...


class Service:
    """Reads for people, shaped for JSON."""

    def __init__(self, reader: EntryReader, policy: Policy) -> None:
        self._reader = reader
        self._rules = Rules(policy)

    async def entries(self, parameters: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """A page of the listing: ``{"entries": [...], "next_cursor": ...}``. Raises :class:`QueryInvalid`."""
        query = read_query(parameters, now=self._reader.now())
        page = await self._reader.entries(query.wanted, limit=query.limit, order=query.order, cursor=query.cursor)
        shown = [entry_json(entry, self._rules, answer_is_read=False) for entry in page.entries]
        return {"entries": shown, "next_cursor": page.next_cursor}

    async def entry(self, entry_id: str) -> dict[str, Any] | None:
        """One entry with ``attempt_log`` and ``history``; None if there is none."""
        details = await self._reader.entry(entry_id)
        if details is None:
            return None
        return show_json(details.entry, details.attempts, details.history, self._rules)


__all__ = ["EntryReader", "QueryInvalid", "Service"]
