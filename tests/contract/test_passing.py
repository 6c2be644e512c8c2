"""Requests that pass: what they are told, whatever becomes of their one send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Self

import pytest

from proxy.core.model import Executed, Request
from proxy.core.policy import Provider, Timeouts
from proxy.core.ports import Outgoing, Phase, Reply, SendFailed
from proxy.core.reasons import Reason
from proxy.exchange.passing import STATUSES, Passage, Passing
from proxy.exchange.told import Passed, Problem
from proxy.server.runtime import SystemClock
from proxy.telemetry.metrics import Metrics
from proxy.upstream.client import SingleSendClient
from tests.http.kit import operation, provider
from tests.support.raw_server import Peer, RawServer, full_backlog, refused_port, serve_forever

QUICK = Timeouts(connect_seconds=0.2, total_seconds=0.4)


class Bench:
    """Passes requests to a server on loopback with the real client."""

    def __init__(self, port: int, **fields: Any) -> None:
        self.provider: Provider = provider(port, **{"timeout": QUICK, **fields})
        self.client = SingleSendClient(SystemClock())
        self.metrics = Metrics()
        self.passing = Passing(upstream=self.client, clock=SystemClock(), observer=self.metrics)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    def passage(self, method: str = "GET", reason: Reason = Reason.SAFE_METHOD, **fields: Any) -> Passage:
        """A request that passes for *reason*."""
        asked = Request(method, "127.0.0.1", "/x", fields.pop("headers", ()), b"", "")
        return Passage(**{"provider": self.provider, "request": asked, "body": b"", "reason": reason, **fields})

    async def run(self, method: str = "GET", reason: Reason = Reason.SAFE_METHOD, **fields: Any) -> Passed | Problem:
        return await self.passing.run(self.passage(method, reason, **fields))


async def read(told: Passed | Problem) -> bytes:
    """The body of a provider's answer; closed afterwards."""
    assert isinstance(told, Passed)
    assert not isinstance(told.body, bytes)
    try:
        return b"".join([piece async for piece in told.body])
    finally:
        await told.close()


async def collect(told: Passed, pieces: list[bytes]) -> None:
    """The body's pieces, as far as they come."""
    assert not isinstance(told.body, bytes)
    async for piece in told.body:
        pieces.append(piece)  # noqa: PERF401 - what came before a failure counts


@pytest.mark.parametrize(("reason", "status"), STATUSES.items())
async def test_an_answer_is_told_with_why_it_passed(reason: Reason, status: str) -> None:
    with RawServer(serve_forever) as server:
        async with Bench(server.port) as bench:
            told = await bench.run("POST", reason, body=b"x")
            assert await read(told) == b"ok"
    assert isinstance(told, Passed)
    assert (told.facts.reason, told.facts.status, told.facts.sent, told.facts.executed) == (reason, status, True, None)


@pytest.mark.parametrize(
    ("method", "reason", "counted"),
    [
        ("POST", Reason.NO_KEY, 1),
        ("GET", Reason.NO_KEY, 0),
        ("POST", Reason.MODE_BYPASS, 0),
        ("GET", Reason.SAFE_METHOD, 0),
    ],
)
async def test_unsafe_requests_without_a_key_are_counted(method: str, reason: Reason, counted: int) -> None:
    with RawServer(serve_forever) as server:
        async with Bench(server.port) as bench:
            await read(await bench.run(method, reason))
            found = bench.metrics.registry.get_sample_value("dedup_unprotected_total", {"provider": "pay"})
    assert (found or 0) == counted


def dropping(peer: Peer) -> None:
    peer.read_request()


def hanging(peer: Peer) -> None:
    peer.read_request()
    peer.read_rest()


FAILURES: dict[str, tuple[str, Callable[[Peer], None] | None, tuple[Reason, bool, float | None, str]]] = {
    "GET, nobody listens": ("GET", None, (Reason.PROVIDER_UNREACHABLE, False, 1.0, "connection_refused")),
    "POST, nobody listens": ("POST", None, (Reason.PROVIDER_UNREACHABLE, False, 1.0, "connection_refused")),
    "GET, dropped": ("GET", dropping, (Reason.OUTCOME_UNKNOWN, True, 1.0, "connection_terminated")),
    "POST, dropped": ("POST", dropping, (Reason.NOTHING_CAN_TELL, True, None, "connection_terminated")),
    "GET, no answer in time": ("GET", hanging, (Reason.OUTCOME_UNKNOWN, True, 1.0, "http_response_timeout")),
    "DELETE, no answer in time": ("DELETE", hanging, (Reason.NOTHING_CAN_TELL, True, None, "http_response_timeout")),
}


@pytest.mark.parametrize(("method", "script", "expected"), FAILURES.values(), ids=FAILURES)
async def test_a_send_that_failed_is_told_by_how_far_it_got(
    method: str, script: Callable[[Peer], None] | None, expected: tuple[Reason, bool, float | None, str]
) -> None:
    with RawServer(script or dropping) as server:
        port = server.port if script is not None else refused_port()
        async with Bench(port) as bench:
            told = await bench.run(method, Reason.NO_KEY, operation=operation(timeout=QUICK))
    assert isinstance(told, Problem)
    reason, sent, retry_after, error = expected
    assert (told.reason, told.facts.sent, told.retry_after) == (reason, sent, retry_after)
    assert (told.facts.reason, told.facts.status) == (reason, "unprotected")
    assert told.facts.executed is Executed.UNKNOWN
    assert (told.provider, told.operation) == ("pay", "charge")
    assert told.proxy_status == f"dedup-proxy; error={error}"


async def test_a_connection_that_never_stands_is_unsent() -> None:
    with full_backlog() as port:
        async with Bench(port) as bench:
            told = await bench.run("POST", Reason.NO_KEY)
    assert isinstance(told, Problem)
    assert (told.reason, told.facts.sent) == (Reason.PROVIDER_UNREACHABLE, False)


async def test_what_must_not_go_on_any_wire_is_refused() -> None:
    async with Bench(1) as bench:
        told = await bench.run(headers=((b"X-A", b"a\r\nX-B: b"),))
    assert isinstance(told, Problem)
    assert (told.reason, told.facts.sent) == (Reason.REQUEST_INVALID, False)


async def test_an_unsafe_request_takes_no_connection_that_may_be_stale() -> None:
    with RawServer(serve_forever) as server:
        async with Bench(server.port) as bench:
            for method in ("GET", "GET", "POST", "GET"):
                await read(await bench.run(method, Reason.NO_KEY))
    assert (len(server.requests), server.connections) == (4, 2)


async def test_the_total_timeout_bounds_the_head_and_then_each_silence() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for piece in (b"a", b"b", b"c"):
            peer._sock.settimeout(0.25)
            try:
                peer._sock.recv(1)  # nothing comes: a pause that is shorter than timeout.total
            except TimeoutError:
                peer._sock.settimeout(None)
            peer.send(piece)
        peer.read_rest()

    with RawServer(script) as server:
        async with Bench(server.port) as bench:
            told = await bench.run()
            assert isinstance(told, Passed)
            pieces: list[bytes] = []
            with pytest.raises(SendFailed) as failure:
                await collect(told, pieces)
            await told.close()
    assert b"".join(pieces) == b"abc"
    assert (failure.value.phase, failure.value.kind) == (Phase.BODY, "timeout")


async def test_a_place_is_held_until_the_answer_is_closed() -> None:
    with RawServer(serve_forever) as server:
        async with Bench(server.port, concurrency=1) as bench:
            first = await bench.run()
            second = await bench.run()
            assert isinstance(second, Problem)
            assert (second.reason, second.retry_after, second.facts.sent) == (Reason.PROVIDER_BUSY, 1.0, False)
            await read(first)
            await read(await bench.run())


async def test_a_place_comes_free_whatever_fails() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise RuntimeError("made up")

    with RawServer(hanging) as server:
        async with Bench(server.port, concurrency=1) as bench:
            for body in (b"", broken()):
                assert isinstance(await bench.run("POST", Reason.NO_KEY, body=body), Problem)
            gone = asyncio.create_task(bench.run())
            await server.until(lambda: server.begun == 3)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            bench.provider = replace(bench.provider, timeout=QUICK)
            assert isinstance(await bench.run(), Problem)
    assert server.begun == 4


class Unreadable:
    """A client whose send fails in a way that it doesn't tell: a bug."""

    async def send(self, outgoing: Outgoing, route: object, **_: object) -> Reply:
        raise KeyError(outgoing.method)

    async def close(self) -> None:
        return None


async def test_a_bug_is_not_taken_for_an_outcome() -> None:
    async with Bench(1) as bench:
        passing = Passing(upstream=Unreadable(), clock=SystemClock(), observer=bench.metrics)
        with pytest.raises(KeyError):
            await passing.run(bench.passage())
