"""Many equal requests at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.scene import scene
from tests.support.postgres import Postgres


@pytest.mark.parametrize(("engine", "proxies"), [("sqlite", 1), ("postgresql", 2)])
async def test_a_hundred_equal_requests_are_one_send_and_one_answer(
    tmp_path: Path, postgres: Postgres, engine: str, proxies: int
) -> None:
    """Through two processes too: one sends, all get its answer."""
    with scene(tmp_path, engine=engine, postgres=postgres) as played:
        running = [played.start() for _ in range(proxies)]

        seen = await asyncio.gather(
            *(played.ask(running[n % proxies], "one", behave="slow:300", number=n) for n in range(100))
        )

        assert played.requests_of("one") == 1
        assert Counter(each.status for each in seen) == {200: 100}
        assert Counter(each.sent for each in seen) == {"yes": 1, "no": 99}
        assert len({each.body_sha256 for each in seen}) == 1
        assert {each.executed for each in seen} == {"yes"}
        played.verdict()


async def test_waiters_of_a_429_are_not_a_hundred_sends(tmp_path: Path, postgres: Postgres) -> None:
    """They get that very answer; only who comes later may try again."""
    with scene(tmp_path, engine="postgresql", postgres=postgres) as played:
        running = [played.start(), played.start()]

        seen = await asyncio.gather(
            *(played.ask(running[n % 2], "one", behave="429,slow:400|ok", number=n) for n in range(60))
        )
        later = await played.ask(running[0], "one", behave="429,slow:400|ok", number=61)

        statuses = Counter(each.status for each in seen)
        assert statuses[429] >= 50, statuses
        assert played.requests_of("one") <= 2 + (60 - statuses[429])
        assert (later.status, later.executed) == (200, "yes")
        assert played.effects_of("one") == 1
        played.verdict()
