"""Connections that rest: reused while nothing happened to them, never otherwise."""

import asyncio
import threading
import time

import pytest

from proxy.upstream import pool
from proxy.upstream.connection import BUFFERED_BYTES_MAX
from tests.support.raw_server import OK, Peer, RawServer, serve_forever
from tests.support.upstream_kit import on_each_loop, read, route_to, sending_to

UNASKED = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@on_each_loop
async def test_a_connection_is_used_again():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            for method in ("POST", "GET", "DELETE"):
                assert await sender.exchange(method) == (200, b"ok")

        assert (server.connections, server.begun) == (1, 3)


@on_each_loop
async def test_an_answer_that_is_whole_frees_its_connection_unread():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            first = await sender.send()
            second = await sender.send()

            assert [piece async for piece in first.body()] == [b"ok"]
            assert [piece async for piece in second.body()] == [b"ok"]

        assert server.connections == 1


@on_each_loop
async def test_a_connection_that_ended_with_its_answer_is_not_kept():
    def play(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        go_on.wait(5)
        peer.send(b"k")
        peer.close()

    go_on = threading.Event()
    with RawServer(play) as server:
        async with sending_to(server.port) as sender:
            reply = await sender.send()
            connection = reply._connection
            go_on.set()
            await connection.wait_closed()

            assert [piece async for piece in reply.body()] == [b"o", b"k"]
            assert len(sender.client._pool) == 0


@on_each_loop
async def test_a_connection_whose_request_has_not_all_left_is_not_kept():
    """What the transport still holds would get in the way of the next request's first bytes."""
    ended, go_on = threading.Event(), threading.Event()

    def answer_early(peer: Peer) -> None:
        peer.read_head()
        ended.wait(5)
        peer.send(OK)
        go_on.wait(5)

    with RawServer(answer_early, receive_buffer=4096) as server:
        async with sending_to(server.port) as sender:
            connect = sender.client._connector.connect
            opened = []

            async def connect_watched(route, *, seconds):
                opened.append(await connect(route, seconds=seconds))
                return opened[0]

            async def until_some_stays():
                while not opened[0]._transport.get_write_buffer_size():
                    yield bytes(30_000)
                    await asyncio.sleep(0.001)
                asyncio.get_running_loop().call_later(0.02, ended.set)  # the writer's last words come first

            sender.client._connector.connect = connect_watched
            assert await sender.exchange(body=until_some_stays()) == (200, b"ok")
            assert opened[0].request_written
            assert len(sender.client._pool) == 0
            go_on.set()


@on_each_loop
async def test_a_deadline_that_was_met_does_not_end_the_connection_later():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange(seconds=0.3)
            await asyncio.sleep(0.4)
            await sender.exchange()

        assert server.connections == 1


@on_each_loop
async def test_a_connection_whose_reading_was_paused_is_read_again():
    size = BUFFERED_BYTES_MAX + 1  # the last byte is the one too many
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
    with RawServer(lambda peer: serve_forever(peer, answer)) as server:
        async with sending_to(server.port) as sender:
            for _ in range(2):
                reply = await sender.send()
                await server.until(lambda reply=reply: reply._reader.complete)
                assert len(await read(reply)) == size

        assert server.connections == 1


@on_each_loop
async def test_fresh_is_a_new_connection():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange()
            await sender.exchange(fresh=True)
            assert server.connections == 2
            await sender.exchange()

        assert server.connections == 2


@pytest.mark.parametrize("loop_knows", [True, False], ids=["the loop knows", "only the kernel knows"])
@pytest.mark.parametrize("event", ["end", "close", "reset", "a byte", "an answer"])
@on_each_loop
async def test_whatever_happens_to_an_idle_connection_discards_it(event, loop_knows):
    happen, happened = threading.Event(), threading.Event()

    def play(peer: Peer) -> None:
        peer.answer()
        if peer.number > 1:
            return
        happen.wait(5)
        match event:
            case "end":
                peer.end()
            case "close":
                peer.close()
            case "reset":
                peer.reset()
            case "a byte":
                peer.send(b"\n")
            case _:
                peer.send(UNASKED)
        happened.set()
        if event not in ("close", "reset"):
            peer.read_rest()

    with RawServer(play) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange()
            happen.set()
            if loop_knows:
                await server.until(lambda: sender.idle() == 0)
            else:
                happened.wait(5)
                time.sleep(0.02)  # noqa: ASYNC251 - loopback delivers at once; the loop must not see it before we ask
            assert await sender.exchange() == (200, b"ok")

        assert (server.connections, server.begun, len(server.requests)) == (2, 2, 2)


@pytest.mark.parametrize(
    ("header", "rested", "connections"),
    [
        (b"", 3.9, 1),
        (b"", 4.1, 2),
        (b"Keep-Alive: timeout=60\r\n", 3.9, 1),
        (b"Keep-Alive: timeout=60, max=100\r\n", 4.1, 2),
        (b"Keep-Alive: max=5, timeout=3\r\n", 1.9, 1),
        (b"Keep-Alive: timeout=3\r\n", 2.1, 2),
        (b"Keep-Alive: timeout=1\r\n", 0, 2),
        (b"Keep-Alive: timeout=0\r\n", 0, 2),
        (b"Keep-Alive: timeout=soon\r\n", 3.9, 1),
        (b"Keep-Alive: timeout=99999999999999999999\r\n", 3.9, 1),
        (b"Connection: close\r\n", 0, 2),
        (b"Connection: keep-alive\r\n", 3.9, 1),
    ],
)
@on_each_loop
async def test_how_long_a_connection_may_rest(header, rested, connections):
    answer = b"HTTP/1.1 200 OK\r\n" + header + b"Content-Length: 2\r\n\r\nok"
    with RawServer(lambda peer: serve_forever(peer, answer)) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange()
            sender.clock.skip(rested)
            await sender.exchange()

        assert server.connections == connections


@on_each_loop
async def test_the_route_says_how_long_a_connection_may_rest():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port, idle_seconds_max=0) as sender:
            await sender.exchange()
            await sender.exchange()

        assert server.connections == 2


@on_each_loop
async def test_a_request_that_asks_to_close_is_the_last():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange(headers=((b"Connection", b"close"),))
            await sender.exchange()

        assert server.connections == 2


@on_each_loop
async def test_routes_share_no_connections():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange()
            sender.route = route_to(server.port, host="other.test")
            await sender.exchange()

        assert server.connections == 2


@on_each_loop
async def test_connections_that_nobody_wants_are_closed_in_time(monkeypatch):
    monkeypatch.setattr(pool, "SWEEP_SECONDS", 0.01)
    ended = []

    def play(peer: Peer) -> None:
        peer.answer()
        ended.append(peer.read_rest())

    with RawServer(play) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange()
            await asyncio.sleep(0.03)
            assert sender.idle() == 1
            sender.clock.skip(5)
            await server.until(lambda: ended == [0])
            assert len(sender.client._pool) == 0
            assert not sender.client._pool._idle


@pytest.mark.parametrize(("limits", "kept"), [({"per_route_max": 2}, 2), ({"total_max": 3}, 3), ({}, 5)])
@on_each_loop
async def test_idle_connections_are_few(limits, kept):
    together = threading.Barrier(5)

    def play(peer: Peer) -> None:
        peer.read_request()
        together.wait(5)
        peer.send(OK)
        peer.read_rest()

    with RawServer(play) as server:
        async with sending_to(server.port) as sender:
            sender.client._pool = pool.IdlePool(sender.clock, **{"per_route_max": 100, "total_max": 100, **limits})
            await asyncio.gather(*(sender.exchange() for _ in range(5)))

            assert len(sender.client._pool) == sender.idle() == kept


@on_each_loop
async def test_closing_the_client_closes_what_rests_and_keeps_nothing_more():
    ended = []

    def play(peer: Peer) -> None:
        peer.answer()
        ended.append(peer.read_rest())

    with RawServer(play) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange()
            await sender.client.close()
            await server.until(lambda: ended == [0])
            await sender.exchange()

            assert len(sender.client._pool) == 0
            await server.until(lambda: ended == [0, 0])
