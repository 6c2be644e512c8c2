"""SIGKILL at every checkpoint from claim to answer, on both engines, alone and with a second proxy on the same ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.scene import scene
from tests.support.postgres import Postgres

# where it dies -> how often the provider did it by then, and what the ledger ends up saying
CRASHES = {
    "after_claim": (0, "ambiguous"),
    "before_send": (0, "ambiguous"),
    "after_send": (1, "ambiguous"),
    "before_record": (1, "ambiguous"),
    "after_record": (1, "succeeded"),
}
SETUPS = [("sqlite", 1), ("postgresql", 1), ("postgresql", 2)]


@pytest.mark.parametrize(("engine", "proxies"), SETUPS, ids=str)
@pytest.mark.parametrize("checkpoint", CRASHES)
async def test_a_killed_proxy_never_doubles_a_call_and_never_lies(
    tmp_path: Path, postgres: Postgres, checkpoint: str, engine: str, proxies: int
) -> None:
    """What was claimed and not recorded is ambiguous, whoever asks; what was recorded is replayed."""
    effects, status = CRASHES[checkpoint]
    with scene(tmp_path, engine=engine, postgres=postgres) as played:
        doomed = played.start(checkpoint=f"{checkpoint}:crash", wait="300ms")
        other = played.start(wait="300ms") if proxies == 2 else None

        first = await played.ask(doomed, "one")
        assert first.status is None, "the checkpoint was not reached"
        assert doomed.wait_gone() < 0
        survivor = other or doomed.restart()
        after = await played.ask_until(survivor, "one", statuses=frozenset({status}))

        assert played.effects_of("one") == effects
        assert after.executed == {"succeeded": "yes", "ambiguous": "unknown"}[status]
        assert after.sent == "no"
        again = await played.ask(survivor, "one", number=99)
        assert (again.entry_status, again.sent) == (status, "no")
        untouched = await played.ask(survivor, "two")
        assert (untouched.status, untouched.executed) == (200, "yes")
        played.verdict()


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_crash_before_the_claim_is_no_entry_at_all(tmp_path: Path, postgres: Postgres, engine: str) -> None:
    """A retry after it is the first."""
    with scene(tmp_path, engine=engine, postgres=postgres) as played:
        proxy = played.start()
        proxy.kill()
        lost = await played.ask(proxy, "one")
        proxy.restart()

        first = await played.ask(proxy, "one", number=2)

        assert lost.status is None
        assert (first.status, first.executed, first.sent) == (200, "yes", "yes")
        assert played.effects_of("one") == 1
        played.verdict()
