"""Everything a provider can do to one request, and what caller, duplicate and ledger are told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.scene import scene
from tests.support.postgres import Postgres
from tests.support.provider import Failures, Kind, Settings

NATIVE = {"native": {"header": "Idempotency-Key", "retention": "24h", "locks": True}}

# the provider's behaviour -> effects, the first answer's (status, executed), the entry, a duplicate's (status, sent)
CASES: dict[str, tuple[int, tuple[int, str], str, tuple[int, str]]] = {
    "ok": (1, (200, "yes"), "succeeded", (200, "no")),
    "201": (1, (201, "yes"), "succeeded", (201, "no")),
    "chunked": (1, (200, "yes"), "succeeded", (200, "no")),
    "hints": (1, (200, "yes"), "succeeded", (200, "no")),
    "empty": (1, (200, "yes"), "succeeded", (200, "no")),
    "402": (0, (402, "no"), "rejected", (402, "no")),
    "drop": (0, (504, "unknown"), "ambiguous", (409, "no")),
    "effect,drop": (1, (504, "unknown"), "ambiguous", (409, "no")),
    "effect,reset": (1, (504, "unknown"), "ambiguous", (409, "no")),
    "effect,truncate-head": (1, (504, "unknown"), "ambiguous", (409, "no")),
    "no-effect,hang": (0, (504, "unknown"), "ambiguous", (409, "no")),
    "effect,hang": (1, (504, "unknown"), "ambiguous", (409, "no")),
    "slow-after:2500": (1, (504, "unknown"), "ambiguous", (409, "no")),
    "500": (0, (500, "unknown"), "ambiguous", (409, "no")),
    "500,effect": (1, (500, "unknown"), "ambiguous", (409, "no")),
    "503": (0, (503, "unknown"), "ambiguous", (409, "no")),
    "302,effect": (1, (302, "unknown"), "ambiguous", (409, "no")),
    "408": (0, (408, "unknown"), "ambiguous", (409, "no")),
}
# what did not happen is sent again: the second request of the same intent succeeds
AGAIN: dict[str, tuple[int, str]] = {
    "400|ok": (400, "no"),
    "401|ok": (401, "no"),
    "403|ok": (403, "no"),
    "404|ok": (404, "no"),
    "422,front|ok": (422, "no"),
    "429|ok": (429, "no"),
    "501|ok": (501, "no"),
}


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
@pytest.mark.parametrize("kind", [Kind.BLIND, Kind.NATIVE])
async def test_what_a_provider_does_is_told_truly(tmp_path: Path, postgres: Postgres, engine: str, kind: Kind) -> None:
    rule: dict[str, Any] = {**NATIVE, "settle": {"by": []}} if kind is Kind.NATIVE else {}
    with scene(
        tmp_path, engine=engine, postgres=postgres, settings=Settings(kind=kind, failures=Failures.RERUN)
    ) as played:
        proxy = played.start(**rule)
        for behave, (effects, first_told, status, duplicate_told) in CASES.items():
            first = await played.ask(proxy, behave, behave=behave, key=_key(behave))
            second = await played.ask(proxy, behave, behave=behave, key=_key(behave), number=2)

            assert (first.status, first.executed, first.sent, first.entry_status) == (*first_told, "yes", status), (
                behave
            )
            assert (second.status, second.sent, second.entry_status) == (*duplicate_told, status), behave
            assert second.executed == first.executed, behave
            assert (played.effects_of(behave), played.requests_of(behave)) == (effects, 1), behave
        for behave, first_told in AGAIN.items():
            first = await played.ask(proxy, behave, behave=behave, key=_key(behave))
            second = await played.ask(proxy, behave, behave=behave, key=_key(behave), number=2)

            assert (first.status, first.executed, first.sent, first.entry_status) == (
                *first_told,
                "yes",
                "not_executed",
            ), behave
            assert (second.status, second.executed, second.sent) == (200, "yes", "yes"), behave
            assert (played.effects_of(behave), played.requests_of(behave)) == (1, 2), behave
        played.verdict()


async def test_a_cut_success_is_a_success_whose_answer_is_gone(tmp_path: Path, postgres: Postgres) -> None:
    """The first caller sees it break off; a duplicate is told that it happened."""
    with scene(tmp_path, engine="sqlite", postgres=postgres) as played:
        proxy = played.start()
        first = await played.ask(proxy, "one", behave="truncate")
        second = await played.ask(proxy, "one", behave="truncate", number=2)

        assert first.status is None
        assert (second.status, second.executed, second.entry_status) == (409, "yes", "succeeded")
        assert second.reason == "answer-not-stored"
        assert played.effects_of("one") == 1
        played.verdict()


async def test_a_refused_connection_leaves_the_key_usable(tmp_path: Path, postgres: Postgres) -> None:
    """Proven unsent: 502, executed no, and the next request is sent."""
    with scene(tmp_path, engine="sqlite", postgres=postgres) as played:
        proxy = played.start()
        played.provider.kill()
        first = await played.ask(proxy, "one")
        second = await played.ask(proxy, "one", number=2)

        for seen in (first, second):
            assert (seen.status, seen.executed, seen.sent, seen.entry_status) == (502, "no", "no", "not_executed")
        played.verdict()


async def test_the_native_key_is_the_same_on_every_attempt(tmp_path: Path, postgres: Postgres) -> None:
    """A 429 and its retry reach the provider under one key."""
    with scene(tmp_path, engine="sqlite", postgres=postgres, settings=Settings(kind=Kind.NATIVE)) as played:
        proxy = played.start(**NATIVE)
        await played.ask(proxy, "one", behave="429|ok")
        await played.ask(proxy, "one", behave="429|ok", number=2)

        keys = [request["key"] for request in played.provider.requests]
        assert len(keys) == 2
        assert len(set(keys)) == 1
        assert keys[0] != "one"


async def test_a_failure_that_the_provider_stores_is_retried_under_a_new_key(
    tmp_path: Path, postgres: Postgres
) -> None:
    """It would replay its 501 for as long as it remembers the key."""
    stored = {"native": {**NATIVE["native"], "failures": "stored"}}
    with scene(tmp_path, engine="sqlite", postgres=postgres, settings=Settings(kind=Kind.NATIVE)) as played:
        proxy = played.start(**stored)
        first = await played.ask(proxy, "one", behave="501|ok")
        second = await played.ask(proxy, "one", behave="501|ok", number=2)

        assert (first.status, first.executed) == (501, "no")
        assert (second.status, second.executed, second.sent) == (200, "yes", "yes")
        keys = [request["key"] for request in played.provider.requests]
        assert len(set(keys)) == 2
        assert played.effects_of("one") == 1
        played.verdict()


def _key(behave: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in behave)
