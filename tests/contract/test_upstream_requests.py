"""What goes on the wire: heads to the byte, bodies whole, nothing that could be read as two requests."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time

import pytest

from proxy.core.ports import Outgoing, Phase, SendFailed
from proxy.upstream.connect import _make_socket
from proxy.upstream.request import encode
from tests.support.raw_server import LINGER_NONE, OK, Gone, Peer, RawServer, serve_forever
from tests.support.upstream_kit import LOOPS, on_each_loop, read, sending_to

HOST = (b"Host", b"provider.test")
EARLY = b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge"


async def stream(*pieces: bytes):
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


@on_each_loop
async def test_a_head_goes_out_as_it_was_given():
    headers = (
        (b"X-b", b"2"),
        (b"x-B", b"1"),
        (b"ACCEPT", b""),
        (b"X-Raw", b"\xff\xc3\xa9 inside"),
        (b"Cookie", b"a=1"),
        (b"Cookie", b"b=2"),
    )
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange(headers=headers, target="/a%2Fb//../c;d?q=%20&q=+&=\udcff\u00e9", body=b"{}")

        assert server.requests[0].line == b"POST /a%2Fb//../c;d?q=%20&q=+&=\xff\xc3\xa9 HTTP/1.1"
        assert server.requests[0].header_lines == [
            b"Host: provider.test",
            b"X-b: 2",
            b"x-B: 1",
            b"ACCEPT: ",
            b"X-Raw: \xff\xc3\xa9 inside",
            b"Cookie: a=1",
            b"Cookie: b=2",
            b"Content-Length: 2",
        ]
        assert server.requests[0].body == b"{}"


BODIES = {
    # method, headers, body -> the lines added, the body on the wire
    "a body gets its length": ("POST", (), b"abc", [b"Content-Length: 3"], b"abc"),
    "an empty POST says so": ("POST", (), b"", [b"Content-Length: 0"], b""),
    "an empty PUT says so": ("PUT", (), b"", [b"Content-Length: 0"], b""),
    "an empty PATCH says so": ("PATCH", (), b"", [b"Content-Length: 0"], b""),
    "an empty method of one's own says so": ("PURCHASE", (), b"", [b"Content-Length: 0"], b""),
    "GET has no body": ("GET", (), b"", [], b""),
    "HEAD has no body": ("HEAD", (), b"", [], b""),
    "DELETE has no body": ("DELETE", (), b"", [], b""),
    "OPTIONS has no body": ("OPTIONS", (), b"", [], b""),
    "TRACE has no body": ("TRACE", (), b"", [], b""),
    "a GET with a body": ("GET", (), b"abc", [b"Content-Length: 3"], b"abc"),
    "a length of one's own": ("GET", ((b"content-LENGTH", b"0"),), b"", [b"content-LENGTH: 0"], b""),
    "chunks by wish": (
        "POST", ((b"TE-", b""), (b"transfer-encoding", b"chunked")), b"abc",
        [b"TE-: ", b"transfer-encoding: chunked"], b"3\r\nabc\r\n0\r\n\r\n",
    ),
    "no chunk but the last by wish": (
        "POST", ((b"Transfer-Encoding", b"chunked"),), b"", [b"Transfer-Encoding: chunked"], b"0\r\n\r\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("method", "headers", "body", "lines", "wired"), BODIES.values(), ids=BODIES)
@on_each_loop
async def test_framing_of_bodies(method, headers, body, lines, wired):
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange(method, headers=headers, body=body)

        assert server.requests[0].header_lines == [b"Host: provider.test", *lines]
        assert server.requests[0].body == wired


@on_each_loop
async def test_a_stream_without_a_length_is_sent_in_chunks():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            assert await sender.exchange(body=stream(b"abc", b"", b"d" * 20)) == (200, b"ok")
            assert await sender.exchange(body=stream()) == (200, b"ok")

        assert server.requests[0].header_lines[-1] == b"Transfer-Encoding: chunked"
        assert server.requests[0].body == b"3\r\nabc\r\n14\r\n" + b"d" * 20 + b"\r\n0\r\n\r\n"
        assert server.requests[1].body == b"0\r\n\r\n"
        assert server.connections == 1


@on_each_loop
async def test_a_stream_with_a_length_is_sent_as_it_is():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            how = {"headers": ((b"Content-Length", b"5"),)}
            assert await sender.exchange(body=stream(b"abc", b"de"), **how) == (200, b"ok")

        assert server.requests[0].header_lines == [b"Host: provider.test", b"Content-Length: 5"]
        assert server.requests[0].body == b"abcde"


@pytest.mark.parametrize("pieces", [[b"abc"], [b"abc", b"def"], [b"abcdef"]], ids=["short", "long", "long at once"])
@on_each_loop
async def test_a_stream_of_another_length_than_promised_is_cut_off(pieces):
    received = []

    def listen(peer: Peer) -> None:
        peer.read_head()
        received.append(peer.read_rest())

    with RawServer(listen) as server:
        async with sending_to(server.port) as sender:
            with pytest.raises(SendFailed) as failed:
                await sender.send(body=stream(*pieces), headers=((b"Content-Length", b"5"),))
            await server.until(lambda: bool(received))

    assert (failed.value.phase, failed.value.kind) == (Phase.WRITE, "protocol")
    assert received[0] < 5


@on_each_loop
async def test_a_stream_that_raises_cuts_the_request_off():
    async def broken():
        yield b"abc"
        raise RuntimeError("the caller left")

    with RawServer(lambda peer: (peer.read_head(), peer.read_rest())) as server:
        async with sending_to(server.port) as sender:
            with pytest.raises(SendFailed, match="the caller left") as failed:
                await sender.send(body=broken())

    assert (failed.value.phase, failed.value.kind) == (Phase.WRITE, "error")


@on_each_loop
async def test_a_stream_is_closed_when_its_request_ends_early():
    ended = []

    async def endless():
        try:
            while True:
                yield bytes(1000)
        finally:
            ended.append(True)

    def refuse(peer: Peer) -> None:
        peer.read_head()
        peer.send(EARLY)
        peer.read_rest()

    with RawServer(refuse) as server:
        async with sending_to(server.port) as sender:
            assert await sender.exchange(body=endless()) == (413, b"large")

    assert ended == [True]


@on_each_loop
async def test_a_stream_that_waits_for_its_caller_does_not_hold_up_an_early_answer():
    async def stuck():
        yield b"abc"
        await asyncio.Event().wait()

    def refuse(peer: Peer) -> None:
        peer.read_head()
        peer.send(EARLY)
        peer.read_rest()

    with RawServer(refuse) as server:
        async with sending_to(server.port) as sender:
            assert await sender.exchange(body=stuck()) == (413, b"large")
            assert sender.idle() == 0


@pytest.mark.parametrize("ending", ["read on", "stop reading", "close", "reset"])
@on_each_loop
async def test_an_answer_before_the_body_is_written_ends_the_writing(ending):
    rest = []

    def refuse(peer: Peer) -> None:
        peer.read_head()
        peer.send(EARLY)
        if ending == "close":
            peer.close()
        elif ending == "reset":
            time.sleep(0.1)
            peer.reset()
        else:
            time.sleep(0.2 if ending == "stop reading" else 0)
            rest.append(peer.read_rest())

    size = 50_000_000
    with RawServer(refuse, receive_buffer=65536) as server:
        async with sending_to(server.port) as sender:
            assert await sender.exchange(body=bytes(size)) == (413, b"large")
            assert sender.idle() == 0
            if not rest and ending in ("read on", "stop reading"):
                await server.until(lambda: bool(rest))

    assert sum(rest) < size // 2


@on_each_loop
async def test_an_answer_is_read_even_if_the_server_is_gone_before_we_write():
    def refuse(peer: Peer) -> None:
        peer.answer()
        peer.read_head()
        peer.send(EARLY)
        peer.close()  # with bytes of the body unread: a reset

    with RawServer(refuse) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange()
            sending = asyncio.create_task(sender.send(body=stream(bytes(100_000), *[bytes(100_000)] * 50)))
            await asyncio.sleep(0)
            await server.until(lambda: server.begun == 2)
            time.sleep(0.05)  # noqa: ASYNC251 - the loop is to learn of answer, reset and failed write all at once
            reply = await sending

            assert (reply.status, await read(reply)) == (413, b"large")


@on_each_loop
async def test_a_large_body_arrives_whole():
    body = bytes(range(256)) * 40_000
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            assert await sender.exchange("PUT", body=body) == (200, b"ok")
            assert await sender.exchange("PUT", body=stream(*[body[at : at + 300_000] for at in range(0, len(body), 300_000)]),
                                         headers=((b"Content-Length", b"%d" % len(body)),)) == (200, b"ok")  # fmt: skip

        assert [request.body == body for request in server.requests] == [True, True]
        assert server.connections == 1


@on_each_loop
async def test_writing_a_large_body_lets_others_run():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange()
            connection = sender.client._pool.take(sender.route)
            connection.expect("POST", 5)
            others = asyncio.create_task(asyncio.sleep(0))
            await connection.has_room()
            await asyncio.sleep(0)

            assert others.done()
            connection.close()


@on_each_loop
async def test_a_write_that_the_kernel_refuses_counts_as_sent():
    done = threading.Event()
    with RawServer(lambda peer: done.wait(5)) as server:
        async with sending_to(server.port) as sender:
            connect = sender.client._connector.connect

            async def connect_one_way(route, *, seconds):
                connection = await connect(route, seconds=seconds)
                connection._sock.shutdown(socket.SHUT_WR)
                return connection

            sender.client._connector.connect = connect_one_way
            with pytest.raises(SendFailed) as failed:
                await sender.send()
            done.set()

    assert (failed.value.phase, failed.value.kind, failed.value.sent) == (Phase.WRITE, "reset", True)


@on_each_loop
async def test_a_small_request_is_written_at_once():
    heads = []

    def listen(peer: Peer) -> None:
        peer._receive()  # one recv
        heads.append(peer._unread)
        peer.send(OK)

    with RawServer(listen) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange(body=b"pay 10" * 100)

    assert heads[0].endswith(b"\r\n\r\n" + b"pay 10" * 100)


def bytes_after_abort(linger: bytes | None) -> int:
    """How many bytes a server can still read after a client, written in ten lines, closed with much unsent."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = socket.create_connection(listener.getsockname())
        if linger is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.send(bytes(400_000))
        peer, _ = listener.accept()
        client.close()
        peer.settimeout(5)
        count = 0
        with contextlib.suppress(ConnectionError), peer:
            while data := peer.recv(4096):
                count += len(data)
        return count


def test_without_linger_the_kernel_goes_on_delivering():
    """The control of the next test: what it measures is there to be measured."""
    assert bytes_after_abort(None) > 3 * bytes_after_abort(LINGER_NONE)


@on_each_loop
async def test_after_an_abort_the_kernel_delivers_no_more():
    counts = []
    aborted = asyncio.Event()
    loop = asyncio.get_running_loop()

    def listen(peer: Peer) -> None:
        peer._receive()
        server.begun += 1
        asyncio.run_coroutine_threadsafe(aborted.wait(), loop).result(5)
        peer._unread = b""
        counts.append(peer.read_rest())

    with RawServer(listen, receive_buffer=4096) as server:
        async with sending_to(server.port) as sender:
            sending = asyncio.create_task(sender.send("PUT", body=bytes(4_000_000)))
            await server.until(lambda: server.begun == 1)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            aborted.set()
            await server.until(lambda: bool(counts))

    assert counts[0] < 50_000


SEND_MUCH = """
import asyncio, sys
from tests.support.upstream_kit import LOOPS, sending_to

async def send():
    async with sending_to(int(sys.argv[1])) as sender:
        await sender.send("PUT", body=bytes(4_000_000), seconds=30)

with asyncio.Runner(loop_factory=LOOPS[sys.argv[2]]) as runner:
    runner.run(send())
"""


@pytest.mark.parametrize("loop_name", LOOPS)
def test_after_a_kill_the_kernel_delivers_no_more(loop_name):
    counts = []
    began, killed = threading.Event(), threading.Event()

    def listen(peer: Peer) -> None:
        peer._receive()
        began.set()
        killed.wait(10)
        peer._unread = b""
        counts.append(peer.read_rest())

    with RawServer(listen, receive_buffer=4096) as server:
        process = subprocess.Popen([sys.executable, "-c", SEND_MUCH, str(server.port), loop_name])
        try:
            assert began.wait(10)
        finally:
            process.kill()
            process.wait(10)
        killed.set()
        deadline = time.monotonic() + 5
        while not counts and time.monotonic() < deadline:
            time.sleep(0.002)

    assert counts[0] < 50_000


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_sockets_have_their_options_before_they_connect(family):
    with _make_socket((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("", 0))) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == LINGER_NONE
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN) == 0


@on_each_loop
async def test_a_sent_requests_socket_has_its_options():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            await sender.exchange(seconds=7)
            connection = sender.client._pool.take(sender.route)
            sock = connection._sock

            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == LINGER_NONE
            assert 6000 < sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 7000
            connection.close()


REFUSED = {
    "a line break in a value": {"headers": (HOST, (b"A", b"b\r\nC: d"))},
    "a line feed in a value": {"headers": (HOST, (b"A", b"b\nC: d"))},
    "a carriage return in a value": {"headers": (HOST, (b"A", b"b\rc"))},
    "NUL in a value": {"headers": (HOST, (b"A", b"b\0c"))},
    "a line break in a name": {"headers": (HOST, (b"A\r\nB", b"c"))},
    "a colon in a name": {"headers": (HOST, (b"A:B", b"c"))},
    "a blank in a name": {"headers": (HOST, (b"Content-Length ", b"0"))},
    "an empty name": {"headers": (HOST, (b"", b"c"))},
    "no Host": {"headers": ()},
    "two Hosts": {"headers": (HOST, HOST)},
    "two lengths": {"headers": (HOST, (b"Content-Length", b"1"), (b"content-length", b"1")), "body": b"a"},
    "a length that is none": {"headers": (HOST, (b"Content-Length", b"+1")), "body": b"a"},
    "another length than the body's": {"headers": (HOST, (b"Content-Length", b"2")), "body": b"a"},
    "a length and chunks": {
        "headers": (HOST, (b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")),
        "body": b"a",
    },
    "another coding": {"headers": (HOST, (b"Transfer-Encoding", b"gzip, chunked"))},
    "chunked twice": {"headers": (HOST, (b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked"))},
    "Upgrade": {"headers": (HOST, (b"Upgrade", b"websocket"))},
    "a line break in the target": {"target": "/a\r\nHost: b"},
    "a blank in the target": {"target": "/a HTTP/1.1"},
    "NUL in the target": {"target": "/a\0"},
    "no target": {"target": ""},
    "a line break in the method": {"method": "GET / HTTP/1.1\r\n\r\nGET"},
    "a blank in the method": {"method": "GET "},
    "letters of elsewhere in the method": {"method": "GÉT"},
    "no method": {"method": ""},
    "CONNECT": {"method": "CONNECT"},
}


@pytest.mark.parametrize("request_parts", REFUSED.values(), ids=REFUSED)
def test_what_could_be_read_as_something_else_is_refused(request_parts):
    with pytest.raises(ValueError):
        encode(Outgoing(**{"method": "POST", "target": "/", "headers": (HOST,), "body": b"", **request_parts}))


@on_each_loop
async def test_a_refused_request_opens_nothing():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port) as sender:
            with pytest.raises(ValueError):
                await sender.send(headers=((b"A", b"b\r\nc"),))
            await asyncio.sleep(0.02)

        assert server.connections == 0


@on_each_loop
async def test_a_route_of_another_scheme_is_refused():
    async with sending_to(1, scheme="ftp") as sender:
        with pytest.raises(ValueError):
            await sender.send()


def test_gone_is_what_a_script_sees_when_no_request_comes():
    """The raw server's own promise: a connection without a request isn't counted as one."""
    with RawServer(lambda peer: peer.read_request()) as server:
        socket.create_connection(("127.0.0.1", server.port)).close()
        deadline = time.monotonic() + 5
        while not server.connections and time.monotonic() < deadline:
            time.sleep(0.001)

        assert (server.begun, server.requests) == (0, [])
    assert issubclass(Gone, Exception)
