"""A holder that everybody believes gone can't send; a ledger that answers too late can't either."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.scene import CLIENT_SECONDS_MAX, LEASE_SECONDS, scene
from tests.support.postgres import Postgres

DOUBTFUL = frozenset({"ambiguous"})


@pytest.mark.parametrize("stall", ["after_claim", "before_send"])
async def test_a_proxy_stopped_between_claim_and_first_byte_does_not_send_when_it_wakes_up(
    tmp_path: Path, postgres: Postgres, stall: str
) -> None:
    """SIGSTOP past the lease, SIGCONT: the deadline is read right before the first byte."""
    with scene(tmp_path, engine="postgresql", postgres=postgres) as played:
        sleeper = played.start(checkpoint=f"{stall}:stop", wait="300ms")
        other = played.start(wait="300ms")

        asked = asyncio.create_task(played.ask(sleeper, "one"))
        await asyncio.to_thread(sleeper.wait_stopped)
        believed = await played.ask_until(other, "one", statuses=DOUBTFUL)
        assert believed.executed == "unknown"
        sleeper.resume()
        woken = await asked

        assert (woken.sent, woken.executed, woken.entry_status) == ("no", "no", "not_executed")
        assert played.requests_of("one") == 0
        retried = await played.ask(other, "one", number=98)
        assert (retried.status, retried.executed, retried.sent) == (200, "yes", "yes")
        assert played.effects_of("one") == 1
        played.verdict()


async def test_a_proxy_stopped_while_it_waits_for_the_answer_records_the_truth_when_it_wakes_up(
    tmp_path: Path, postgres: Postgres
) -> None:
    """The lease is over, the entry ambiguous, and the late answer still ends it."""
    with scene(tmp_path, engine="postgresql", postgres=postgres) as played:
        sleeper = played.start(checkpoint="before_record:stop", wait="300ms")
        other = played.start(wait="300ms")

        asked = asyncio.create_task(played.ask(sleeper, "one"))
        await asyncio.to_thread(sleeper.wait_stopped)
        await played.ask_until(other, "one", statuses=DOUBTFUL)
        sleeper.resume()
        woken = await asked
        replayed = await played.ask(other, "one", number=98)

        assert (woken.status, woken.executed, woken.sent) == (200, "yes", "yes")
        assert (replayed.status, replayed.executed, replayed.sent, replayed.is_replay) == (200, "yes", "no", True)
        assert played.effects_of("one") == 1
        played.verdict()


def test_the_client_outlives_a_lease() -> None:
    """Else the stalls above would show a client's patience and not the proxy's."""
    assert CLIENT_SECONDS_MAX > LEASE_SECONDS + 5
