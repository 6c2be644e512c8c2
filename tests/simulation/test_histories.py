"""Random histories, judged by the provider's own record. A seed that fails can be run again alone."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from proxy.core.model import Status
from tests.simulation.world import QUIET, TOTAL, Kind, VirtualLoop, World

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "150"))
KINDS: list[tuple[Kind, bool]] = [
    ("blind", False), ("stored", True), ("stored", False), ("rerun", True), ("resumed", True), ("resumed", False),
]  # fmt: skip
INTENTS = ("one", "two", "three")
FINAL = {Status.SUCCEEDED, Status.REJECTED}


async def play(world: World) -> None:
    """Callers that repeat themselves, at once and later; then the faults stop, and everybody asks until it is known."""

    async def caller(intent: str) -> None:
        for _ in range(world.rng.randrange(1, 6)):
            await asyncio.sleep(world.rng.random() * 6)
            seen = await world.ask(intent, wait=world.rng.choice((0.0, 1.0, 8.0)))
            if seen is not None and seen.executed == "yes" and world.rng.random() < 0.5:
                return

    async def sweeper() -> None:
        while True:
            await asyncio.sleep(1)
            await world.sweep()

    sweeping = asyncio.create_task(sweeper())
    await asyncio.gather(*(caller(intent) for intent in INTENTS for _ in range(3)))
    world.crashes = world.ledger_trouble = world.provider.trouble = 0.0
    await asyncio.sleep(2 * (TOTAL + QUIET) + 10)
    for intent in INTENTS:
        for _ in range(4):
            await world.ask(intent, wait=10)
            await asyncio.sleep(TOTAL + QUIET + 1)
    sweeping.cancel()
    while everything := [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
        for task in everything:  # what is cancelled may have last words, which are tasks too
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)


def story(world: World) -> str:
    """What happened, in order."""
    moments = [(e.at, f"provider DID {e.intent} for the request of {e.arrived:.2f}") for e in world.provider.effects]
    moments += [(at, f"provider received {intent}") for intent, at in world.provider.arrivals]
    moments += [
        (s.at, f"caller of {s.intent} told {s.status} executed={s.executed} replay={s.is_replay}") for s in world.seen
    ]
    rows = [
        f"ledger {r.entry.key} {r.entry.status} attempt {r.entry.attempt.number}" for r in world.ledger._rows.values()
    ]
    return "\n".join([*(f"{at:9.2f}  {text}" for at, text in sorted(moments)), *rows])


def violations(world: World) -> list[str]:
    """I1 to I4, by the provider's effects."""
    found = []
    for intent in INTENTS:
        effects = [effect for effect in world.provider.effects if effect.intent == intent]
        seen = [each for each in world.seen if each.intent == intent]
        if len(effects) > 1:
            found.append(f"I1: {intent} was done {len(effects)} times")
        if any(each.executed == "yes" for each in seen) and len(effects) != 1:
            found.append(f"I2: {intent} was told yes, and was done {len(effects)} times")
        found += [
            f"I3: {intent} was told no at {each.at:.2f}, and a request of before took effect"
            for each in seen
            if each.executed == "no" and any(effect.arrived <= each.at for effect in effects)
        ]
        if len({each.body for each in seen if each.is_replay}) > 1:
            found.append(f"I4: {intent} was replayed with different answers")
    return found


def unsettled(world: World) -> list[str]:
    """I7, as far as re-sends go: what may be asked again is final once faults have stopped."""
    rule = world.rule
    return [
        f"I7: {row.entry.key} is still {row.entry.status}"
        for row in world.ledger._rows.values()
        if rule.native is not None
        and row.entry.status not in FINAL
        and not (rule.native.failures != "resumed" and (row.entry.upstream_status or 0) >= 500)
    ]


def run(seed: int, kind: Kind, *, locks: bool) -> World:
    loop = VirtualLoop()
    world: list[World] = []

    async def whole() -> None:
        world.append(World(seed, kind=kind, locks=locks))
        await play(world[0])

    try:
        loop.run_until_complete(whole())
    finally:
        loop.close()
    return world[0]


@pytest.mark.parametrize(("kind", "locks"), KINDS)
def test_no_history_breaks_a_promise(kind: Kind, locks: bool, seed: str) -> None:
    first = random.Random(seed).randrange(2**32)
    for number in range(first, first + SEEDS):
        world = run(number, kind, locks=locks)
        broken = [*violations(world), *unsettled(world)]
        assert not broken, f"seed {number}, {kind}, locks={locks}: {broken}\n{story(world)}"
