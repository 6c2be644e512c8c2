"""The callers' process: purchases with retries, timeouts, and the same call several times at once and again later.

Every call that is meant is one line of ``calls.jsonl``, every request and what came of it one of ``observations.jsonl``. Says on its standard output how far it is; ends when it
is done, or when its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import aiohttp

from proxy.demo.calls import STEPS, Step
from proxy.demo.chance import chance
from proxy.demo.observations import REFUSED, YES, Call, Observation, told
from proxy.demo.reporting import report_until, stdin_closed
from proxy.demo.retries import CALL_SECONDS_MAX, Patience

CALLS: Final = "calls.jsonl"
OBSERVATIONS: Final = "observations.jsonl"

PURCHASES_AT_ONCE: Final = 160
REQUESTS_AT_ONCE: Final = 48
SAME_AT_ONCE_SHARE: Final = 0.15
SAME_AT_ONCE: Final = (2, 5)
LATER_SHARE: Final = 0.15
LATER_SECONDS: Final = (0.2, 4.0)
TIMEOUT_SECONDS: Final = (0.6, 3.0)
"""Some give up before the proxy does, some after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What is to be bought: how many purchases, of which run, and where the proxy is."""

    proxy: str
    run: str
    seed: int
    purchases: int

    def __iter__(self) -> Iterator[str]:
        return (intent_name(self.run, number) for number in range(1, self.purchases + 1))


def intent_name(run: str, number: int) -> str:
    """The name of an intent: unlike any other run's, its number the same in each."""
    return f"{run}-{number:05d}"


class Services:
    """Makes all purchases, many at a time."""

    def __init__(self, orders: Orders, session: aiohttp.ClientSession, *, calls: TextIO, observations: TextIO) -> None:
        self._orders = orders
        self._session = session
        self._calls = calls
        self._observations = observations
        self._places = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._done = 0
        self._sent: Counter[str] = Counter()

    async def run(self) -> None:
        """Return once every purchase, and every duplicate of it, has ended."""
        queue = iter(self._orders)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(PURCHASES_AT_ONCE):
                tasks.create_task(self._purchase_all(queue, tasks))

    def report(self) -> dict[str, object]:
        """How far it is."""
        return {"done": self._done, "sent": dict(self._sent)}

    async def _purchase_all(self, queue: Iterator[str], tasks: asyncio.TaskGroup) -> None:
        for order in queue:
            for step in STEPS:
                if await self._call(step, order, tasks) != YES:
                    break
            self._done += 1

    async def _call(self, step: Step, order: str, tasks: asyncio.TaskGroup) -> str | None:
        """One call, perhaps by several at once, perhaps again later. Gives the best that any of them was told."""
        self._calls.write(Call(step.provider, order).line())
        draw = chance(self._orders.seed, "caller", step.provider, order.rpartition("-")[2])
        copies = draw.randint(*SAME_AT_ONCE) if draw.random() < SAME_AT_ONCE_SHARE else 1
        words = await asyncio.gather(*(self._insist(step, order, draw.random()) for _ in range(copies)))
        if draw.random() < LATER_SHARE:
            tasks.create_task(self._again(step, order, draw.uniform(*LATER_SECONDS), draw.random()))
        return YES if YES in words else words[0]

    async def _again(self, step: Step, order: str, seconds: float, who: float) -> None:
        await asyncio.sleep(seconds)
        await self._insist(step, order, who)

    async def _insist(self, step: Step, order: str, who: float) -> str | None:
        """Send until there is a word to go by. Gives that word, None if there never was one."""
        draw = chance(self._orders.seed, "request", step.provider, order.rpartition("-")[2], who)
        timeout_seconds = draw.uniform(*TIMEOUT_SECONDS)
        patience = Patience(until=time.monotonic() + CALL_SECONDS_MAX)
        word: str | None = None
        while True:
            message = step.compose(order, draw)
            async with self._places:
                seen = await self._send(step.provider, order, message, timeout_seconds)
            self._observations.write(seen.line())
            word = seen.executed or word
            pause = patience.pause(seen)
            if pause is None:
                return word
            await asyncio.sleep(pause * draw.uniform(0.5, 1.0))

    async def _send(self, provider: str, intent: str, message: Any, timeout_seconds: float) -> Observation:
        """One request. Whatever goes wrong is part of what is seen."""
        self._sent[provider] += 1
        began = time.monotonic()
        seen: dict[str, Any] = {}
        try:
            async with self._session.post(
                self._orders.proxy + message.path, data=message.body, headers=message.headers,
                timeout=aiohttp.ClientTimeout(total=timeout_seconds), allow_redirects=False,
            ) as answer:  # fmt: skip
                seen = {"status": answer.status, **told(answer.headers)}
                seen["digest"] = hashlib.sha256(await answer.read()).hexdigest()[:16]
        except TimeoutError:
            seen["failure"] = "timeout"
        except aiohttp.ClientConnectorError:
            seen["failure"] = REFUSED
        except (aiohttp.ClientError, OSError):
            seen["failure"] = "broken"
        return Observation(provider=provider, intent=intent, began=began, ended=time.monotonic(), **seen)


async def serve(orders: Orders, directory: Path) -> int:
    """Make the purchases. 0 if they all ended, 1 if the story let go before that."""
    connector = aiohttp.TCPConnector(limit=REQUESTS_AT_ONCE)
    with (
        (directory / CALLS).open("a", encoding="utf-8") as calls,
        (directory / OBSERVATIONS).open("a", encoding="utf-8") as observations,
    ):
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            services = Services(orders, session, calls=calls, observations=observations)
            work, gone = asyncio.create_task(services.run()), asyncio.create_task(stdin_closed())
            either = asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            await report_until(either, services.report)
            gone.cancel()
            if not work.done():
                work.cancel()
                return 1
            await work
    return 0


def main(argv: list[str]) -> int:
    """``python -m proxy.demo.services``."""
    parser = argparse.ArgumentParser(description="services that retry")
    parser.add_argument("--proxy", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--purchases", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args(argv)
    orders = Orders(proxy=options.proxy, run=options.run, seed=options.seed, purchases=options.purchases)
    return asyncio.run(serve(orders, options.directory))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
