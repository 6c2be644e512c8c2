"""The fault proxy spoils connections as it is told, and only those."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.faults import (
    DropAnswer,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
    Way,
    fault_proxy,
)
from tests.support.provider import Provider

REQUEST = b"POST /pay HTTP/1.1\r\nHost: x\r\nX-Intent: i\r\nContent-Length: 0\r\n"
ONCE = REQUEST + b"Connection: close\r\n\r\n"
KEPT = REQUEST + b"\r\n"


async def talk(port: int, request: bytes = ONCE, seconds: float = 5.0) -> bytes:
    """Everything that comes back until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(seconds):
            return await reader.read()
    finally:
        writer.close()


async def test_without_a_toxic_bytes_pass(provider: Provider) -> None:
    async with fault_proxy(provider.port) as proxy:
        assert (await talk(proxy.port)).startswith(b"HTTP/1.1 200 OK")
        assert proxy.links[0].bytes_up == len(ONCE)


async def test_a_dropped_answer_is_a_reset_after_the_thing_was_done(provider: Provider) -> None:
    async with fault_proxy(provider.port, [DropAnswer()]) as proxy:
        with pytest.raises(ConnectionResetError):
            await talk(proxy.port)
        assert len(provider.effects) == 1
        assert await talk(proxy.port)


async def test_the_second_answer_of_a_connection_can_be_the_one_dropped(provider: Provider) -> None:
    async with fault_proxy(provider.port, lambda _: DropAnswer(nth=2)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(KEPT)
        assert await reader.readuntil(b"}")
        writer.write(KEPT)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
    assert len(provider.effects) == 2


# toxic -> is there an answer, effects
CUTS: dict[str, tuple[Toxic, int]] = {
    "a reset before anything was forwarded": (ResetPeer(), 0),
    "a reset after the request was forwarded": (ResetPeer(after_bytes=len(ONCE), forward=True), 1),
    "a reset in the middle of the request": (ResetPeer(after_bytes=10), 0),
}


@pytest.mark.parametrize(("toxic", "effects"), CUTS.values(), ids=CUTS)
async def test_resets(provider: Provider, toxic: Toxic, effects: int) -> None:
    async with fault_proxy(provider.port, [toxic]) as proxy:
        with pytest.raises(ConnectionResetError):
            await talk(proxy.port)
        async with asyncio.timeout(5):
            while len(provider.effects) < effects:
                await asyncio.sleep(0.002)
    assert len(provider.effects) == effects


async def test_a_black_hole_takes_the_request_and_says_nothing(provider: Provider) -> None:
    async with fault_proxy(provider.port, [Timeout(), Timeout(way=Way.DOWN), Timeout(close_ms=10)]) as proxy:
        with pytest.raises(TimeoutError):
            await talk(proxy.port, seconds=0.1)
        assert provider.effects == []
        with pytest.raises(TimeoutError):
            await talk(proxy.port, KEPT, seconds=0.2)
        assert len(provider.effects) == 1
        assert await talk(proxy.port) == b""


async def test_limited_data_breaks_the_answer_off(provider: Provider) -> None:
    async with fault_proxy(provider.port, [LimitData(bytes_max=20)]) as proxy:
        assert len(await talk(proxy.port)) == 20


@pytest.mark.parametrize("toxic", [Latency(ms=60, way=Way.UP), SlowClose(ms=60)], ids=["latency", "slow close"])
async def test_slow_links_are_slow(provider: Provider, toxic: Toxic) -> None:
    async with fault_proxy(provider.port, [toxic]) as proxy:
        began = time.monotonic()
        assert (await talk(proxy.port)).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - began >= 0.06


async def test_a_sliced_request_arrives_whole(provider: Provider) -> None:
    async with fault_proxy(provider.port, [(Slicer(size=7), Latency(ms=0))]) as proxy:
        assert (await talk(proxy.port)).startswith(b"HTTP/1.1 200")
    assert provider.effects[0]["intent"] == "i"


async def test_a_disabled_proxy_refuses_and_an_enabled_one_serves_on_the_same_port(provider: Provider) -> None:
    async with fault_proxy(provider.port) as proxy:
        port = proxy.port
        await proxy.disable()
        with pytest.raises(ConnectionRefusedError):
            await talk(port)
        await proxy.enable()
        assert proxy.port == port
        assert await talk(port)
