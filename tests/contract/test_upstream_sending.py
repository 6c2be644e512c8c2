"""One call is one send, for every method, whatever the server does; and how far a failed send got."""

import asyncio
import time

import pytest

from proxy.core.ports import UNSENT, Phase, SendFailed
from tests.support.raw_server import OK, Peer, RawServer, full_backlog, refused_port, serve_forever
from tests.support.upstream_kit import on_each_loop, read, sending_to

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURCHASE"]


def drop(peer: Peer) -> None:
    peer.read_request()
    peer.close()


def reset(peer: Peer) -> None:
    peer.read_request()
    peer.reset()


def drop_inside_head(peer: Peer) -> None:
    peer.read_request()
    peer.send(OK[:20])
    peer.close()


def answer_once_then(script):
    """A server whose connection works for one request."""

    def play(peer: Peer) -> None:
        if peer.number == 1:
            peer.answer(b"HTTP/1.1 204 No Content\r\n\r\n")
        script(peer)

    return play


@pytest.mark.parametrize("misdeed", [drop, reset, drop_inside_head])
@pytest.mark.parametrize("method", METHODS)
@on_each_loop
async def test_a_request_that_the_server_read_and_dropped_was_sent_once(method, misdeed):
    with RawServer(misdeed) as server:
        async with sending_to(server.port) as sender:
            with pytest.raises(SendFailed) as failed:
                await sender.send(method)
            await asyncio.sleep(0.02)  # room for a second send, if anything made one

        assert (failed.value.phase, failed.value.sent) == (Phase.WAIT, True)
        assert (server.begun, server.connections) == (1, 1)


@pytest.mark.parametrize("misdeed", [drop, reset, drop_inside_head])
@pytest.mark.parametrize("method", METHODS)
@on_each_loop
async def test_a_request_dropped_on_a_reused_connection_was_sent_once(method, misdeed):
    with RawServer(answer_once_then(misdeed)) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange("GET", body=b"")
            with pytest.raises(SendFailed) as failed:
                await sender.send(method)
            await asyncio.sleep(0.02)

        assert (failed.value.phase, failed.value.sent) == (Phase.WAIT, True)
        assert (server.begun, server.connections) == (2, 1)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 407, 408, 421, 425, 429, 500, 502, 503])
@on_each_loop
async def test_an_answer_that_invites_another_request_is_just_an_answer(status):
    answer = b"HTTP/1.1 %d x\r\nLocation: /again\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n" % status
    with RawServer(lambda peer: serve_forever(peer, answer)) as server:
        async with sending_to(server.port) as sender:
            assert await sender.exchange("PUT") == (status, b"")

        assert server.begun == 1


@pytest.mark.parametrize(
    ("misdeed", "kind"),
    [(drop, "closed"), (reset, "reset"), (drop_inside_head, "closed")],
    ids=lambda value: str(value)[:12],
)
@on_each_loop
async def test_the_kind_says_how_a_connection_ended(misdeed, kind):
    with RawServer(misdeed) as server:
        async with sending_to(server.port) as sender:
            with pytest.raises(SendFailed) as failed:
                await sender.send()

    assert failed.value.kind == kind


@on_each_loop
async def test_a_refused_connection_is_unsent():
    async with sending_to(refused_port()) as sender:
        with pytest.raises(SendFailed) as failed:
            await sender.send()

    assert (failed.value.phase, failed.value.kind) == (Phase.CONNECT, "refused")


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 64 + ".test", "a..b"])
@on_each_loop
async def test_a_name_without_an_address_is_unsent(name):
    async with sending_to(1, connect_host=name) as sender:
        with pytest.raises(SendFailed) as failed:
            await sender.send()

    assert (failed.value.phase, failed.value.kind) == (Phase.DNS, "unresolved")


@on_each_loop
async def test_a_connection_that_does_not_come_about_in_time_is_unsent():
    with full_backlog() as port:
        async with sending_to(port) as sender:
            began = time.monotonic()
            with pytest.raises(SendFailed) as failed:
                await sender.send(connect_seconds_max=0.1)

    assert (failed.value.phase, failed.value.kind) == (Phase.CONNECT, "timeout")
    assert time.monotonic() - began < 2


@on_each_loop
async def test_the_deadline_bounds_connecting_too():
    with full_backlog() as port:
        async with sending_to(port) as sender:
            began = time.monotonic()
            with pytest.raises(SendFailed) as failed:
                await sender.send(seconds=0.1)

    assert failed.value.phase in UNSENT
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b""])
@on_each_loop
async def test_a_server_that_speaks_or_hangs_up_before_it_is_asked_is_not_asked(greeting):
    def greet(peer: Peer) -> None:
        peer.send(greeting) if greeting else peer.end()
        peer.read_rest()

    with RawServer(greet) as server:
        async with sending_to(server.port) as sender:
            connect = sender.client._connector.connect

            async def connect_late(route, *, seconds):
                connection = await connect(route, seconds=seconds)
                time.sleep(0.05)  # noqa: ASYNC251 - the kernel learns of the greeting, the loop doesn't
                return connection

            sender.client._connector.connect = connect_late
            with pytest.raises(SendFailed) as failed:
                await sender.send()

        assert failed.value.phase is Phase.CONNECT
        assert (server.connections, server.received) == (1, 0)


@pytest.mark.parametrize("reused", [False, True])
@on_each_loop
async def test_past_the_deadline_nothing_is_written(reused):
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            if reused:
                await sender.exchange()
            before = server.received
            with pytest.raises(SendFailed) as failed:
                await sender.send(seconds=-0.001)

        assert (failed.value.phase, failed.value.sent) == (Phase.DEADLINE, False)
        assert server.received == before


@on_each_loop
async def test_a_deadline_that_passes_while_the_connection_opens_is_seen_before_the_first_byte():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            connect = sender.client._connector.connect

            async def connect_while_stopped(route, *, seconds):
                connection = await connect(route, seconds=seconds)
                sender.clock.skip(60)
                return connection

            sender.client._connector.connect = connect_while_stopped
            with pytest.raises(SendFailed) as failed:
                await sender.send()
            await server.until(lambda: server.connections == 1)

    assert failed.value.phase is Phase.DEADLINE
    assert server.received == 0


@on_each_loop
async def test_the_deadline_ends_waiting_for_an_answer():
    with RawServer(lambda peer: (peer.read_request(), peer.read_rest())) as server:
        async with sending_to(server.port) as sender:
            began = time.monotonic()
            with pytest.raises(SendFailed) as failed:
                await sender.send(seconds=0.1)

    assert (failed.value.phase, failed.value.kind) == (Phase.WAIT, "timeout")
    assert time.monotonic() - began < 2


@on_each_loop
async def test_the_deadline_ends_a_head_that_trickles():
    def trickle(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(1000):
            peer.send(b"a" * 20, slices=1)

    with RawServer(trickle) as server:
        async with sending_to(server.port) as sender:
            with pytest.raises(SendFailed) as failed:
                await sender.send(seconds=0.1)

    assert (failed.value.phase, failed.value.kind) == (Phase.WAIT, "timeout")


@on_each_loop
async def test_the_deadline_ends_a_body_that_stalls():
    def stall(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        peer.read_rest()

    with RawServer(stall) as server:
        async with sending_to(server.port) as sender:
            reply = await sender.send(seconds=0.5)
            with pytest.raises(SendFailed) as failed:
                await read(reply)

    assert (failed.value.phase, failed.value.kind) == (Phase.BODY, "timeout")


@on_each_loop
async def test_the_deadline_ends_a_write_that_the_server_does_not_take():
    with RawServer(lambda peer: peer.read_head() and time.sleep(0.5), receive_buffer=4096) as server:
        async with sending_to(server.port) as sender:
            with pytest.raises(SendFailed) as failed:
                await sender.send(body=bytes(20_000_000), seconds=0.2)

    assert (failed.value.phase, failed.value.kind, failed.value.sent) == (Phase.WRITE, "timeout", True)


@pytest.mark.parametrize("moment", ["waiting", "writing"])
@on_each_loop
async def test_a_cancelled_send_closes_its_connection(moment):
    rest = []

    def listen(peer: Peer) -> None:
        peer.read_head()
        if moment == "writing":
            time.sleep(0.1)
        rest.append(peer.read_rest())

    with RawServer(listen, receive_buffer=4096) as server:
        async with sending_to(server.port) as sender:
            body = b"" if moment == "waiting" else bytes(20_000_000)
            sending = asyncio.create_task(sender.send("PUT", body=body))
            await server.until(lambda: server.begun == 1)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await server.until(lambda: bool(rest))

    assert rest[0] < 10_000_000


@on_each_loop
async def test_a_send_cancelled_while_connecting_leaves_nothing_open():
    with full_backlog() as port:
        async with sending_to(port) as sender:
            sending = asyncio.create_task(sender.send())
            await asyncio.sleep(0.02)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending


@on_each_loop
async def test_a_server_may_be_at_a_v6_address():
    try:
        server = RawServer(serve_forever, host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        async with sending_to(server.port, connect_host="::1") as sender:
            assert await sender.exchange() == (200, b"ok")


@on_each_loop
async def test_a_name_with_no_address_left_is_unsent(monkeypatch):
    async def resolve(host, port):
        return []

    monkeypatch.setattr("proxy.upstream.connect._resolve", resolve)
    async with sending_to(1, allow_private=False) as sender:
        with pytest.raises(SendFailed) as failed:
            await sender.send()

    assert (failed.value.phase, failed.value.kind) == (Phase.DNS, "unresolved")


@on_each_loop
async def test_many_sends_at_once_are_as_many_requests():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            answers = await asyncio.gather(*(sender.exchange(body=b"%d" % number) for number in range(100)))

        assert answers == [(200, b"ok")] * 100
        assert sorted(int(request.body) for request in server.requests) == list(range(100))
