"""Lost answers of providers with native keys, asked for again: the truth comes out, and nothing happens twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.scene import TOTAL_SECONDS, scene
from tests.support.postgres import Postgres
from tests.support.provider import Failures, Kind, Settings

# what the provider does with the first request and the next -> effects, what the caller is told in the end
LOST = {
    "drop|ok": (1, (200, "yes")),
    "effect,drop|ok": (1, (200, "yes")),
    "effect,reset|ok": (1, (200, "yes")),
    "effect,truncate-head|ok": (1, (200, "yes")),
    "effect,hang|ok": (1, (200, "yes")),
    "slow:1500|ok": (1, (200, "yes")),
    "slow-after:1500|ok": (1, (200, "yes")),
    "drop|drop|ok": (1, (200, "yes")),
    "effect,drop|429,retry-after:0|ok": (1, (200, "yes")),
    "effect,drop|401|ok": (1, (200, "yes")),
}
# an answered 5xx: how often it is sent, effects, what is told
FAILED = {
    (Failures.STORED, "500,effect|ok"): (1, 1, (500, "unknown")),
    (Failures.RERUN, "500|ok"): (1, 0, (500, "unknown")),
    (Failures.RESUMED, "500|ok"): (2, 1, (200, "yes")),
    (Failures.RESUMED, "500,effect|ok"): (2, 1, (200, "yes")),
}


def rule(failures: Failures, *, locks: bool = True, wait: str = "8s") -> dict[str, Any]:
    return {
        "native": {
            "header": "Idempotency-Key", "retention": "24h", "locks": locks, "failures": failures.value,
            "in_progress": {"status": 409},
        },
        "wait": wait,
        "settle": {"request_life": "1s"},
    }  # fmt: skip


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_lost_answer_is_asked_for_under_the_same_key(tmp_path: Path, postgres: Postgres, engine: str) -> None:
    """One effect, one key at the provider, yes to the caller, and the duplicate is a replay."""
    with scene(tmp_path, engine=engine, postgres=postgres, settings=Settings(kind=Kind.NATIVE)) as played:
        proxy = played.start(**rule(Failures.STORED))
        for number, (behave, (effects, told)) in enumerate(LOST.items()):
            key = f"k{number}"
            first = await played.ask(proxy, behave, behave=behave, key=key)
            second = await played.ask(proxy, behave, behave=behave, key=key, number=2)

            assert (first.status, first.executed, first.sent, first.entry_status) == (*told, "yes", "succeeded"), behave
            assert (second.status, second.executed, second.sent, second.is_replay) == (*told, "no", True), behave
            assert played.effects_of(behave) == effects, behave
        by_intent: dict[str, set[str]] = {}
        for request in played.provider.requests:
            by_intent.setdefault(request["intent"], set()).add(request["key"])
        assert {len(keys) for keys in by_intent.values()} == {1}
        played.verdict()


@pytest.mark.parametrize(("failures", "behave"), FAILED, ids=str)
async def test_an_answered_failure_is_asked_again_only_where_the_provider_goes_on_with_it(
    tmp_path: Path, postgres: Postgres, failures: Failures, behave: str
) -> None:
    requests, effects, told = FAILED[failures, behave]
    settings = Settings(kind=Kind.NATIVE, failures=failures)
    with scene(tmp_path, engine="sqlite", postgres=postgres, settings=settings) as played:
        proxy = played.start(**rule(failures))
        first = await played.ask(proxy, "one", behave=behave)

        assert (first.status, first.executed) == told
        assert (played.requests_of("one"), played.effects_of("one")) == (requests, effects)
        played.verdict()


async def test_without_a_lock_the_quiet_time_is_waited_out(tmp_path: Path, postgres: Postgres) -> None:
    """A provider that runs two requests under one key at once would do it twice: slow, and nothing refuses the second."""
    settings = Settings(kind=Kind.NATIVE, locks=False)
    with scene(tmp_path, engine="sqlite", postgres=postgres, settings=settings) as played:
        proxy = played.start(**rule(Failures.STORED, locks=False))
        first = await played.ask(proxy, "one", behave="slow:1400|ok")

        assert (first.status, first.executed) == (200, "yes")
        assert played.effects_of("one") == 1
        times = [request["received_at"] for request in played.provider.requests]
        assert times[1] - times[0] >= TOTAL_SECONDS + 0.9
        played.verdict()


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_crash_after_the_send_is_settled_by_the_callers_retry(
    tmp_path: Path, postgres: Postgres, engine: str
) -> None:
    """Kill -9 with the answer in hand; the retry finds out under the same key that it happened."""
    with scene(tmp_path, engine=engine, postgres=postgres, settings=Settings(kind=Kind.NATIVE)) as played:
        doomed = played.start(checkpoint="after_send:crash", **rule(Failures.STORED, wait="300ms"))
        first = await played.ask(doomed, "one")
        assert first.status is None
        doomed.wait_gone()
        survivor = doomed.restart()

        after = await played.ask_until(survivor, "one", statuses=frozenset({"succeeded"}))

        assert (after.status, after.executed) == (200, "yes")
        assert (played.effects_of("one"), played.requests_of("one")) == (1, 2)
        played.verdict()
