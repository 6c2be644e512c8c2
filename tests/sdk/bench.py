"""Brings each situation about with real proxies, and lets both SDKs meet it, with their retries off and on.

All of it happens at once: where an SDK tries again it sleeps for a second and a half. Requests are counted on the wire
between SDK and proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sdk.relay import Gate, Relay, Wire
from tests.sdk.sdks import Heard, NodeSdk, Order, Sdk
from tests.sdk.situations import RETRIES, Before, Situation
from tests.support.faults import fault_proxy
from tests.support.postgres import free_port
from tests.support.process import ProxyProcess
from tests.support.provider import Provider, Settings, serving

Case = tuple[int, str, int]
"""A situation's place in the table, the SDK's name, its retries."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the SDK's caller got, how many requests the SDK made for it, and what the proxy's problems said."""

    heard: Heard
    requests: int
    details: Sequence[str]


@dataclass(frozen=True, slots=True)
class Bench:
    """The running world. ``background`` holds the calls that are kept running until the gate is opened."""

    provider: Provider
    gate: Gate
    proxies: Mapping[str, ProxyProcess]
    node: NodeSdk
    background: list[asyncio.Task[Heard]] = field(default_factory=list)
    open_connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def prepare(self, situations: Sequence[Situation]) -> None:
        """Bring about what holds for all calls of a situation: a provider without a free place, a proxy that drains."""
        for situation in situations:
            occupier = Order(
                call="create customer",
                base=f"{self.proxies[situation.proxy].url}/{situation.provider}",
                params={"intent": f"occupies {situation.proxy}"},
                key="occupier",
                retries=0,
            )
            if situation.before is Before.OTHER_RUNS:
                await self._begin(occupier)
            if situation.proxy == "draining":
                await self._begin(occupier)
                await self._drain(self.proxies["draining"])

    async def before(self, situation: Situation, order: Order) -> None:
        """Bring about what is to precede the call *order*."""
        direct = dataclasses.replace(order, base=f"{self.proxies[situation.proxy].url}/{situation.provider}", retries=0)
        match situation.before:
            case Before.SAME:
                await self.node.carry_out(direct)
            case Before.OTHER:
                params = {**order.params, "name": "somebody else"}
                await self.node.carry_out(dataclasses.replace(direct, params=params))
            case Before.RUNS:
                await self._begin(direct)
            case Before.OTHER_RUNS | Before.NOTHING:
                pass

    def relay(self, situation: Situation, wire: Wire) -> Relay:
        """What the SDK talks to.

        Where the proxy drains, the first connection is one from before; the next ones go to another proxy, as behind a
        load balancer.
        """
        if situation.proxy == "draining":
            return Relay(self.proxies["open"].port, wire, first=self.open_connections.pop())
        return Relay(self.proxies[situation.proxy].port, wire)

    async def finish(self) -> None:
        """Let through what was held."""
        self.gate.opened.set()
        await asyncio.gather(*self.background)

    async def _begin(self, order: Order) -> None:
        """Call, and return once the provider has the request."""
        task = asyncio.create_task(self.node.carry_out(order))
        self.background.append(task)
        async with asyncio.timeout(10):
            while all(request["intent"] != order.params["intent"] for request in self.provider.requests):
                assert not task.done(), task.result()
                await asyncio.sleep(0.005)

    async def _drain(self, proxy: ProxyProcess) -> None:
        for _ in range(2 * 2):  # both SDKs, with and without retries
            self.open_connections.append(await asyncio.open_connection("127.0.0.1", proxy.port))
        assert proxy.is_ready()
        assert proxy.process is not None
        proxy.process.terminate()
        async with asyncio.timeout(10):
            while proxy.is_ready():
                await asyncio.sleep(0.005)


async def measure(bench: Bench, situations: Sequence[Situation], sdks: Sequence[Sdk]) -> dict[Case, Measured]:
    """All situations with all SDKs, with and without retries."""

    async def one(number: int, situation: Situation, sdk: Sdk, retries: int) -> tuple[Case, Measured]:
        wire = Wire()
        key = f"{number}-{sdk.name}-{retries}"
        async with bench.relay(situation, wire) as relay:
            order = Order(
                call=situation.call,
                base=f"{relay.url}/{situation.provider}",
                params={"intent": key, "behave": situation.behave, **situation.params},
                key=key + situation.key_suffix,
                retries=retries,
                path=situation.path,
                headers=situation.headers,
            )
            await bench.before(situation, order)
            heard = await sdk.carry_out(order)
        return (number, sdk.name, retries), Measured(heard, wire.requests, wire.details)

    await bench.prepare(situations)
    found = await asyncio.gather(
        *(
            one(number, situation, sdk, retries)
            for number, situation in enumerate(situations)
            for sdk in sdks
            for retries in (0, RETRIES)
        )
    )
    await bench.finish()
    return dict(found)


@contextlib.asynccontextmanager
async def bench(directory: Path, node: NodeSdk) -> AsyncIterator[Bench]:
    """Start everything."""
    gate = Gate()
    async with (
        serving(Settings(fsync=False)) as provider,
        fault_proxy(provider.port, lambda _: gate) as gated,
        _proxies(directory, _configs(provider.port, gated.port)) as proxies,
    ):
        (directory / "ledgerless" / "dedup.db").rename(directory / "ledgerless" / "moved.db")
        try:
            yield Bench(provider, gate, proxies, node)
        finally:
            gate.opened.set()


def _configs(port: int, gated_port: int) -> dict[str, dict[str, Any]]:
    def stripe(port: int, **rules: Any) -> dict[str, Any]:
        return {
            "preset": "stripe",
            "hosts": [],
            "connect_to": f"http://127.0.0.1:{port}",
            "allow_private": True,
            "timeout": {"connect": "300ms", "total": "20s"},
            **rules,
        }

    key = {"from": ['headers."idempotency-key"']}
    operations = [
        {"name": "delete_customer", "match": "DELETE /v1/customers/{id}", "key": key},
        {"name": "refund", "match": "POST /v1/refunds", "key": key},
        {"name": "payout", "match": "POST /v1/payouts", "key": key, "store": {"answer": "none"}},
    ]
    plain = {"providers": {"stripe": stripe(port)}}
    return {
        "open": {
            "server": {"max_request_body": "64KiB"},
            "providers": {
                "stripe": stripe(port, operations=operations),
                "slow": stripe(gated_port, wait="200ms"),
                "busy": stripe(gated_port, concurrency=1),
                # Without a lock the same call is asked for again only after its quiet time: until then nobody knows.
                "lockless": stripe(port, operations=[{"name": "v1", "native": {"locks": False}}]),
                "gone": stripe(free_port()),
            },
        },
        "guarded": {**plain, "callers": {"shop": {"tokens": ["a-token-that-the-sdk-does-not-send"]}}},
        "ledgerless": plain,
        "draining": {"providers": {"stripe": stripe(gated_port)}},
    }


@contextlib.asynccontextmanager
async def _proxies(directory: Path, configs: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[dict[str, ProxyProcess]]:
    proxies: dict[str, ProxyProcess] = {}
    for name, config in configs.items():
        (directory / name).mkdir()
        proxies[name] = ProxyProcess(directory / name, name, config)
    try:
        for proxy in proxies.values():
            proxy.start(wait=False)
        for proxy in proxies.values():
            await asyncio.to_thread(proxy.wait_ready)
        yield proxies
    finally:
        for proxy in proxies.values():
            if proxy.process is not None and proxy.process.poll() is None:
                proxy.kill()
