"""The ledger goes away: nothing is sent, nothing false is said, and it goes on by itself when the ledger is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.faults.scene import TOTAL_SECONDS, scene
from tests.support.faults import Link, Way, fault_proxy
from tests.support.invariants import hold
from tests.support.postgres import Postgres

FINAL = frozenset({"succeeded", "not_executed"})


@dataclass
class LateCommits:
    """A toxic: while on, what the database says after a COMMIT comes later than a claim may take."""

    is_on: bool = False
    committed: bool = False

    async def spoil(self, pieces: AsyncIterator[bytes], way: Way, link: Link) -> AsyncIterator[bytes]:
        async for piece in pieces:
            if way is Way.UP:
                self.committed = self.is_on and b"COMMIT" in piece
            elif self.committed:
                await asyncio.sleep(TOTAL_SECONDS * 2.5)
            yield piece


async def test_without_a_ledger_nothing_is_sent_and_it_recovers_without_a_restart(
    tmp_path: Path, own_postgres: Postgres
) -> None:
    """503, executed unknown, sent no; then the same request is the first."""
    with scene(tmp_path, engine="postgresql", postgres=own_postgres) as played:
        proxy = played.start()
        before = await played.ask(proxy, "before")
        own_postgres.stop()
        down = await played.ask(proxy, "one")
        replay = await played.ask(proxy, "before", number=2)
        own_postgres.start()
        after = await played.ask_until(proxy, "one", statuses=FINAL)

        assert (before.status, before.executed) == (200, "yes")
        assert (down.status, down.reason, down.executed, down.sent) == (503, "ledger-unavailable", "unknown", "no")
        assert (replay.status, replay.reason, replay.sent) == (503, "ledger-unavailable", "no")
        assert (after.status, after.executed, after.sent) == (200, "yes", "yes")
        assert (played.effects_of("one"), played.requests_of("one")) == (1, 1)
        played.verdict()


async def test_an_outcome_that_could_not_be_recorded_is_said_so_and_recorded_later(
    tmp_path: Path, own_postgres: Postgres
) -> None:
    """The provider's answer goes out with Dedup-Recorded: false; the ledger learns it when it is back."""
    with scene(tmp_path, engine="postgresql", postgres=own_postgres) as played:
        proxy = played.start()
        asked = asyncio.create_task(played.ask(proxy, "one", behave="slow:800"))
        while played.requests_of("one") == 0:
            await asyncio.sleep(0.05)
        own_postgres.stop()
        seen = await asked
        own_postgres.start()
        later = await played.ask_until(proxy, "one", statuses=FINAL, behave="slow:800")

        assert (seen.status, seen.executed, seen.sent, seen.is_recorded) == (200, "unknown", "yes", False)
        assert (later.status, later.executed, later.sent, later.is_replay) == (200, "yes", "no", True)
        assert later.body_sha256 == seen.body_sha256
        assert played.effects_of("one") == 1
        played.verdict()


async def test_a_claim_acknowledged_too_late_sends_nothing_and_is_closed(tmp_path: Path, postgres: Postgres) -> None:
    """The commit becomes durable after the caller was told 503: its attempt is closed as not sent, and the key is free."""
    late = LateCommits()
    port = urlsplit(postgres.url).port
    assert port is not None
    async with fault_proxy(port, lambda _: late) as link:
        with scene(tmp_path, engine="postgresql", postgres=postgres) as played:
            played.ledger_url = played.ledger_url.replace(f":{port}/", f":{link.port}/")
            proxy = await asyncio.to_thread(played.start)
            warm = await played.ask(proxy, "warm")
            late.is_on = True
            told = await played.ask(proxy, "one")
            late.is_on = False
            after = await played.ask_until(proxy, "one", statuses=frozenset({"succeeded"}))

            assert warm.status == 200
            assert (told.status, told.reason, told.sent) == (503, "ledger-unavailable", "no")
            assert (after.status, after.executed, after.sent) == (200, "yes", "yes")
            assert (played.effects_of("one"), played.requests_of("one")) == (1, 1)
            rows = await asyncio.to_thread(played.rows)
            attempts = {row["key"]: row["attempts"] for row in rows}
            assert attempts["one"] == 2, "the first claim was to become durable"
            hold(played.provider.records(), played.observations, rows)
