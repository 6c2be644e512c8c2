"""A provider that somebody else wrote, behind a network that loses answers: nothing twice, and nobody is told what is false.

localstripe keeps no idempotency keys, so the preset's native key is taken away here: nothing but the first answer can
tell what became of a call.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.sdk.localstripe_process import API_KEY, LocalStripe
from tests.sdk.scenario import Cards, Told, Unreliable, carry_out, duplicates, effects, intents, lies
from tests.sdk.sdks import NodeSdk, Order, PythonSdk, direct_session
from tests.support.faults import fault_proxy
from tests.support.process import proxy_process

EACH = 20


@pytest.fixture(autouse=True)
def _real_sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The SDK as its manual shows it: module-wide, with its default retries. Its connections are closed at the end."""
    with direct_session(connections_max=16) as session:
        monkeypatch.setattr(stripe, "api_key", API_KEY)
        monkeypatch.setattr(stripe, "default_http_client", stripe.RequestsClient(session=session))
        yield


def config(port: int, **more: Any) -> dict[str, Any]:
    keyless = [{"name": name, "native": None} for name in ("v1", "v2")]
    provider = {
        "preset": "stripe",
        "connect_to": f"http://127.0.0.1:{port}",
        "allow_private": True,
        "operations": keyless,
    }
    return {"providers": {"stripe": provider}, **more}


async def test_through_the_proxy_nothing_happens_twice_and_no_caller_is_told_what_is_false(
    strange_stripe: LocalStripe, tmp_path: Path, seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    print("seed", seed)
    async with fault_proxy(strange_stripe.port, lambda _: Unreliable(f"{seed}:up")) as upstream:
        with proxy_process(tmp_path, config(upstream.port)) as proxy:
            async with fault_proxy(proxy.port, lambda _: Unreliable(f"{seed}:down")) as downstream:
                monkeypatch.setattr(stripe, "api_base", f"http://127.0.0.1:{downstream.port}/stripe")
                ends = await carry_out(intents(EACH), Cards.at(strange_stripe))
    told = Counter(end.told for end in ends.values())
    held = effects(strange_stripe)
    print(told, "requests:", sum(link.exchanges for link in downstream.links), "sends:", upstream.connections)

    assert duplicates(strange_stripe) == {}
    assert lies(ends, strange_stripe) == []
    assert upstream.connections <= len(ends), "a call was sent twice"
    # The network did its worst: without these the three lines above would show nothing.
    assert told[Told.YES] > EACH
    assert any(end.told is Told.UNKNOWN and held[intent.key] for intent, end in ends.items())
    assert any(end.told is Told.UNKNOWN and not held[intent.key] for intent, end in ends.items())
    assert sum(link.exchanges for link in downstream.links) > len(ends) + EACH


async def test_without_the_proxy_the_same_services_make_duplicates(
    strange_stripe: LocalStripe, seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    print("seed", seed)
    async with fault_proxy(strange_stripe.port, lambda _: Unreliable(f"{seed}:up")) as upstream:
        monkeypatch.setattr(stripe, "api_base", f"http://127.0.0.1:{upstream.port}")
        ends = await carry_out(intents(EACH), Cards.at(strange_stripe))

    assert duplicates(strange_stripe)
    assert lies(ends, strange_stripe)


async def test_a_refused_connection_is_told_as_no_and_the_same_key_then_works(
    strange_stripe: LocalStripe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fault_proxy(strange_stripe.port) as upstream:
        with proxy_process(tmp_path, config(upstream.port)) as proxy:
            monkeypatch.setattr(stripe, "api_base", f"{proxy.url}/stripe")
            await upstream.disable()
            with pytest.raises(stripe.APIError) as caught:
                await asyncio.to_thread(create_customer)
            assert (caught.value.headers or {})["Dedup-Executed"] == "no"
            assert strange_stripe.list("customers") == []
            await upstream.enable()
            customer = await asyncio.to_thread(create_customer)
            assert [each["id"] for each in strange_stripe.list("customers")] == [customer.id]


async def test_the_same_call_gets_the_same_object_from_either_sdk(
    strange_stripe: LocalStripe, node: NodeSdk, tmp_path: Path
) -> None:
    callers = {"shop": {"tokens": ["a-token-of-the-shop"]}}
    with proxy_process(tmp_path, config(strange_stripe.port, callers=callers)) as proxy:
        order = Order(
            call="create customer",
            base=f"{proxy.url}/stripe",
            params={"name": "Ada", "email": "ada@example.com"},
            key="customer-ada",
            token="a-token-of-the-shop",
        )
        heard = [await sdk.carry_out(order) for sdk in (PythonSdk(), node, node, PythonSdk())]

    (customer,) = strange_stripe.list("customers")
    assert [each.returned["id"] for each in heard] == [customer["id"]] * len(heard)


def create_customer() -> stripe.Customer:
    return stripe.Customer.create(name="x", idempotency_key="one")
