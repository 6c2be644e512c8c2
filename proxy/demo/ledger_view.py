"""What the proxy's admin listener says: whether it is ready, and its entries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

_PAGE: Final = 1000
_PAGES_MAX: Final = 1000


class LedgerUnreadable(Exception):
    """The admin listener did not answer as it should."""


@dataclass(frozen=True, slots=True)
class Row:
    """An entry of the ledger. ``is_held``: only a person can tell what became of it."""

    entry: str
    provider: str
    status: str
    executed: str
    is_held: bool


class LedgerView:
    """Reads a running proxy's ledger."""

    def __init__(self, session: aiohttp.ClientSession, admin_url: str) -> None:
        self._session = session
        self._url = admin_url

    async def is_ready(self) -> bool:
        """Whether the proxy says that it can serve."""
        try:
            async with self._session.get(f"{self._url}/readyz", timeout=aiohttp.ClientTimeout(total=2)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def rows(self, *, since: str, status: str | None = None) -> AsyncIterator[Row]:
        """All entries made *since* (RFC 3339), page by page. Raises :class:`LedgerUnreadable`."""
        query = {"since": since, "limit": str(_PAGE), **({"status": status} if status else {})}
        for _ in range(_PAGES_MAX):
            page = await self._page(query)
            for entry in page["entries"]:
                yield _row(entry)
            if not page.get("next_cursor"):
                return
            query = {**query, "cursor": page["next_cursor"]}

    async def _page(self, query: dict[str, str]) -> dict[str, Any]:
        try:
            async with self._session.get(
                f"{self._url}/v1/entries", params=query, timeout=aiohttp.ClientTimeout(total=10)
            ) as answer:
                page = await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as problem:
            raise LedgerUnreadable(f"the proxy's admin listener gave no page of entries: {problem!r}") from problem
        if answer.status != 200:
            raise LedgerUnreadable(f"the proxy's admin listener answered {answer.status}: {page}")
        return dict(page)


def _row(entry: dict[str, Any]) -> Row:
    settling = entry.get("settling") or {}
    return Row(
        entry=entry["id"],
        provider=entry["provider"],
        status=entry["status"],
        executed=entry["executed"],
        is_held=settling.get("state") == "held",
    )
