"""Bodies that stream: bounded memory both ways, back-pressure, callers and providers that go away in the middle."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.core.policy import Timeouts
from proxy.server import wire
from tests.http.kit import Running, ask, operation, policy, provider, proxying, request, talking
from tests.support.raw_server import Peer, RawServer

MIB = 1 << 20
LARGE = 64 * MIB
QUICK = Timeouts(connect_seconds=1.0, total_seconds=0.5)


def rss() -> int:
    """The memory this process has now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def until(happened: Callable[[], object], *, seconds: float = 5.0) -> None:
    """Wait for what the other side brings about."""
    async with asyncio.timeout(seconds):
        while not happened():
            await asyncio.sleep(0.005)


def large(peer: Peer) -> None:
    """Answer with a large body."""
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
    piece = b"x" * MIB
    for _ in range(LARGE // MIB):
        peer.send(piece)


async def test_a_large_download_passes_without_being_held_and_outlives_the_total_timeout(tmp_path: Path) -> None:
    with RawServer(large) as server:
        async with proxying(policy(provider(server.port, timeout=QUICK)), tmp_path) as run, talking(run.port) as talk:
            before = rss()
            await talk.send(request("/pay/export", method="GET", body=None, key=None))
            await talk.head()
            received = 0
            await asyncio.sleep(QUICK.total_seconds + 0.1)  # longer than timeout.total allows for a whole answer
            while received < LARGE:
                received += len(await talk.reader.read(MIB))
                assert rss() - before < 24 * MIB
            await until(lambda: run.said("request.answered"))
    assert run.said("request.answered")[0]["seconds"] > QUICK.total_seconds


async def test_a_caller_that_reads_nothing_stops_the_provider_from_sending(tmp_path: Path) -> None:
    sent = 0

    def script(peer: Peer) -> None:
        nonlocal sent
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        for _ in range(LARGE // MIB):
            peer.send(b"x" * MIB)
            sent += MIB

    with RawServer(script) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            with socket.socket() as caller:
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
                caller.setblocking(False)
                await asyncio.get_running_loop().sock_connect(caller, ("127.0.0.1", run.port))
                await asyncio.get_running_loop().sock_sendall(caller, request("/pay/x", method="GET", body=None))
                quiet, last = 0, -1
                while quiet < 10:
                    quiet, last = (quiet + 1, last) if sent == last else (0, sent)
                    await asyncio.sleep(0.02)
                assert sent < LARGE // 2
            await until(lambda: run.proxy._handler.running == 0)


async def test_a_caller_that_takes_nothing_for_too_long_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "WRITE_STALL_SECONDS", 0.2)
    with RawServer(large) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run, talking(run.port) as talk:
            await talk.send(request("/pay/x", method="GET", body=None))
            await until(lambda: run.said("answer.stalled"))
            await until(lambda: run.proxy._handler.running == 0)


async def test_an_upload_passes_without_being_held(tmp_path: Path) -> None:
    received = 0

    def script(peer: Peer) -> None:
        nonlocal received
        peer.read_head()
        while received < LARGE:
            received += len(peer._read(MIB))
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with RawServer(script) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run, talking(run.port) as talk:
            before = rss()
            await talk.send(b"POST /pay/up HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % LARGE)
            piece = b"x" * MIB
            for _ in range(LARGE // MIB):
                await talk.send(piece)
                assert rss() - before < 24 * MIB
            answer = await talk.answer()
            assert (answer.status, answer.get("dedup-status")) == (200, "unprotected")
    assert received == LARGE


async def test_a_silent_provider_ends_a_streamed_answer(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        peer.read_rest()

    with RawServer(script) as server:
        async with proxying(policy(provider(server.port, timeout=QUICK)), tmp_path) as run:
            answer = await ask(run.port, request("/pay/x", method="GET", body=None))
            assert (answer.status, answer.body, answer.complete) == (200, b"abc", False)
            assert run.said("answer.cut")[0]["kind"] == "timeout"


async def test_a_provider_that_gives_no_head_in_time_is_a_504(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.read_rest()

    with RawServer(script) as server:
        async with proxying(policy(provider(server.port, timeout=QUICK)), tmp_path) as run:
            answer = await ask(run.port, request("/pay/x", method="GET", body=None))
    assert (answer.status, answer.get("dedup-sent")) == (504, "yes")


async def nothing_is_left(run: Running, server: RawServer) -> None:
    """Wait until no handler runs and the provider saw its connection end."""
    await until(lambda: run.proxy._handler.running == 0)


@pytest.mark.parametrize("path", ["/pay/x", "/pay/charges"])
async def test_a_caller_that_leaves_in_the_middle_of_an_answer_frees_the_provider(path: str, tmp_path: Path) -> None:
    gone = []

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        peer.send(b"x" * 3 * MIB)
        peer.read_rest()
        gone.append(peer.number)

    with RawServer(script) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            async with talking(run.port) as talk:
                await talk.send(request(path, method="GET" if path == "/pay/x" else "POST"))
                await talk.head()
                await talk.reader.readexactly(1000)
                talk.writer.transport.abort()
            await until(lambda: gone)
            await nothing_is_left(run, server)


async def test_a_caller_that_leaves_does_not_stop_its_call_and_the_next_gets_its_answer(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(peer: Peer) -> None:
        peer.read_request()
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(5)
        peer.send(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok")

    with RawServer(script) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            async with talking(run.port) as talk:
                await talk.send(request())
                await server.until(lambda: len(server.requests) == 1)
                talk.writer.transport.abort()
            await until(lambda: run.proxy._handler.running == 0)
            go_on.set()
            again = await ask(run.port, request())
            assert (again.status, again.body, again.get("dedup-executed")) == (201, b"ok", "yes")
            assert again.get("dedup-sent") == "no"
    assert len(server.requests) == 1


async def test_a_caller_that_leaves_while_it_waits_disturbs_nobody(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(peer: Peer) -> None:
        peer.read_request()
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(5)
        peer.send(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok")

    with RawServer(script) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run, talking(run.port) as first:
            await first.send(request())
            await server.until(lambda: len(server.requests) == 1)
            async with talking(run.port) as second:
                await second.send(request())
                await until(lambda: run.proxy._handler.running == 2)
            await until(lambda: run.proxy._handler.running == 1)
            go_on.set()
            assert (await first.answer()).status == 201
    assert len(server.requests) == 1


async def test_a_caller_that_stops_sending_is_answered_and_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "BODY_IDLE_SECONDS", 0.1)
    async with proxying(policy(provider(1)), tmp_path) as run, talking(run.port) as talk:
        await talk.send(request()[:-3])
        answer = await talk.answer()
        assert (answer.status, answer.get("dedup-reason"), answer.get("connection")) == (
            400,
            "request-incomplete",
            "close",
        )
        entries = await ask(run.admin_port, request("/v1/entries", method="GET", body=None, key=None))
        assert entries.json["entries"] == []


async def test_an_unprotected_upload_that_stops_is_told_and_the_provider_gets_no_whole_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "BODY_IDLE_SECONDS", 0.1)

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with RawServer(script) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run, talking(run.port) as talk:
            await talk.send(request("/pay/up", key=None)[:-3])
            answer = await talk.answer()
            assert (answer.status, answer.get("dedup-reason"), answer.get("dedup-sent")) == (
                400,
                "request-incomplete",
                "yes",
            )
            assert answer.json["retryable"] is False
    assert server.requests == []


async def test_a_place_comes_free_with_the_end_of_each_answer_however_it_ends(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        while True:
            length = 2 if b"whole" in peer.read_request().line else LARGE
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nok" % length)

    narrow = Timeouts(connect_seconds=0.5, total_seconds=3.0)
    with RawServer(script) as server:
        async with proxying(policy(provider(server.port, concurrency=1, timeout=narrow)), tmp_path) as run:
            for path in ("/pay/whole", "/pay/left", "/pay/whole", "/pay/whole"):
                async with talking(run.port) as talk:
                    await talk.send(request(path, method="GET", body=None))
                    assert (await talk.head()).startswith(b"HTTP/1.1 200")


async def test_slow_downloads_take_no_places_from_protected_calls(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        if peer.read_request().line.startswith(b"GET"):
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            peer.read_rest()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    rule = operation(timeout=Timeouts(connect_seconds=0.2, total_seconds=3.0))
    narrow = provider(0)
    with RawServer(script) as server:
        narrow = provider(server.port, concurrency=1, operations=(rule,), timeout=Timeouts(0.2, 3.0))
        async with proxying(policy(narrow), tmp_path) as run, talking(run.port) as download:
            await download.send(request("/pay/x", method="GET", body=None))
            await download.head()
            assert (await ask(run.port, request())).status == 200
            crowded = await ask(run.port, request("/pay/y", method="GET", body=None))
            assert (crowded.status, crowded.get("dedup-reason"), crowded.get("retry-after")) == (
                503,
                "provider-busy",
                "1",
            )
