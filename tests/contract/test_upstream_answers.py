"""What a server's bytes mean: heads, framing, what is refused, and what makes a connection unusable."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest

from proxy.core.ports import Phase, SendFailed
from proxy.upstream.answer import AnswerReader, BrokenAnswer
from tests.support.raw_answers import BROKEN_CHUNKS, BROKEN_OFF, CHUNKED, MALFORMED, WHOLE
from tests.support.raw_server import Peer, RawServer, serve_forever
from tests.support.upstream_kit import on_each_loop, read, sending_to


def whole_then_end(answer: bytes, slices: int | None = None):
    """The same answer to every request; a connection that should end after it is ended by the server."""

    def play(peer: Peer) -> None:
        while True:
            peer.read_request()
            peer.send(answer, slices=slices)
            if b"\r\n\r\n" in answer and not any(word in answer for word in (b"Length", b"Encoding", b" 204 ")):
                peer.end()

    return play


@pytest.mark.parametrize("slices", [None, 1], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(("answer", "status", "body", "reused"), WHOLE.values(), ids=WHOLE)
@on_each_loop
async def test_whole_answers(answer, status, body, reused, slices):
    with RawServer(whole_then_end(answer, slices)) as server:
        async with sending_to(server.port) as sender:
            assert await sender.exchange() == (status, body)
            await server.until(lambda: sender.idle() == reused)  # the last slice may still be on its way
            assert await sender.exchange() == (status, body)

        assert server.connections == (1 if reused else 2)
        assert server.begun == 2


@pytest.mark.parametrize("slices", [None, 7], ids=["at once", "in slices"])
@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED)
@on_each_loop
async def test_malformed_heads_are_no_answer(answer, slices):
    if slices and len(answer) > 10_000:
        slices = 4096

    def play(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer, slices=slices)
        peer.read_rest()

    with RawServer(play) as server:
        async with sending_to(server.port) as sender:
            with pytest.raises(SendFailed) as failed:
                await sender.send()

    assert (failed.value.phase, failed.value.kind, failed.value.sent) == (Phase.WAIT, "protocol", True)


def test_a_head_is_one_only_if_the_parser_agrees():
    reader = AnswerReader("GET")
    reader._parser = SimpleNamespace(feed_data=lambda data: None)
    with pytest.raises(BrokenAnswer):
        reader.feed(b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.parametrize(
    ("lengths", "codings"),
    [([b"1", b"1"], []), ([b"1"], [b"chunked"]), ([], [b"chunked", b"chunked"]), ([], [b"gzip"]), ([], [b""])],
)
def test_where_a_body_ends_is_said_once(lengths, codings):
    """The parser refuses most of these before they get here; its leniency is a flag away."""
    with pytest.raises(BrokenAnswer):
        AnswerReader("GET")._frame(200, lengths, codings)


def test_small_chunks_may_have_much_framing_in_all():
    reader = AnswerReader("GET")
    reader.feed(CHUNKED)
    for byte in b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n":
        reader.feed(bytes([byte]))

    assert (reader.complete, reader.buffered) == (True, 20_000)


@pytest.mark.parametrize("ending", ["end", "reset"])
@pytest.mark.parametrize("answer", BROKEN_OFF.values(), ids=BROKEN_OFF)
@on_each_loop
async def test_a_body_that_breaks_off_is_told_as_such(answer, ending):
    read_so_far = asyncio.Event()
    loop = asyncio.get_running_loop()

    def play(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer)
        if ending == "reset":
            asyncio.run_coroutine_threadsafe(read_so_far.wait(), loop).result(5)  # a reset may overtake what was sent
        peer.close() if ending == "end" else peer.reset()

    with RawServer(play) as server:
        async with sending_to(server.port) as sender:
            reply = await sender.send()
            read_so_far.set()
            with pytest.raises(SendFailed) as failed:
                await read(reply)

    assert reply.status == 200
    assert (failed.value.phase, failed.value.kind) == (Phase.BODY, {"end": "closed"}.get(ending, ending))


@on_each_loop
async def test_a_reset_is_not_the_end_of_a_body_that_ends_with_the_connection():
    read_so_far = asyncio.Event()
    loop = asyncio.get_running_loop()

    def play(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        asyncio.run_coroutine_threadsafe(read_so_far.wait(), loop).result(5)
        peer.reset()

    with RawServer(play) as server:
        async with sending_to(server.port) as sender:
            reply = await sender.send()
            pieces = reply.body()
            assert await anext(pieces) == b"half"
            read_so_far.set()
            with pytest.raises(SendFailed) as failed:
                await anext(pieces)

    assert (failed.value.phase, failed.value.kind) == (Phase.BODY, "reset")


@pytest.mark.parametrize("chunks", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
@on_each_loop
async def test_broken_chunks_are_a_broken_body(chunks):
    def play(peer: Peer) -> None:
        peer.read_request()
        peer.send(CHUNKED)
        peer.send(chunks)
        peer.read_rest()

    with RawServer(play) as server:
        async with sending_to(server.port) as sender:
            reply = await sender.send()
            with pytest.raises(SendFailed) as failed:
                await read(reply)

    assert (failed.value.phase, failed.value.kind) == (Phase.BODY, "protocol")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        CHUNKED,
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\n",
    ],
    ids=["length", "chunked", "close", "404"],
)
@on_each_loop
async def test_an_answer_to_head_has_no_body(answer):
    with RawServer(lambda peer: serve_forever(peer, answer)) as server:
        async with sending_to(server.port) as sender:
            reply = await sender.send("HEAD", body=b"")
            assert await read(reply) == b""
            await sender.exchange("HEAD", body=b"")

        assert server.connections == 1


@on_each_loop
async def test_a_body_after_an_answer_to_head_makes_the_connection_unusable():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    with RawServer(lambda peer: serve_forever(peer, answer)) as server:
        async with sending_to(server.port) as sender:
            assert await sender.exchange("HEAD", body=b"") == (200, b"")
            assert await sender.exchange("HEAD", body=b"") == (200, b"")

        assert server.connections == 2


@on_each_loop
async def test_headers_come_as_they_were_sent():
    head = (
        b"HTTP/1.1 200 All \xe9Good\r\nX-B: 2\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\nX-Empty:\r\nX-Blank: \t \r\n"
        b"X-Raw: \xff\xfe\xc3\xa9  inside\t \r\nX-B: 1\r\nKEEP-alive: timeout=9\r\nContent-Length: 0\r\n\r\n"
    )
    for slices in (None, 1):
        with RawServer(lambda peer, slices=slices: (peer.read_request(), peer.send(head, slices=slices))) as server:
            async with sending_to(server.port) as sender:
                reply = await sender.send()
                await reply.close()

        assert (reply.status, reply.reason) == (200, b"All \xe9Good")
        assert reply.headers == (
            (b"X-B", b"2"),
            (b"set-cookie", b"a=1"),
            (b"Set-Cookie", b"b=2"),
            (b"X-Empty", b""),
            (b"X-Blank", b""),
            (b"X-Raw", b"\xff\xfe\xc3\xa9  inside"),
            (b"X-B", b"1"),
            (b"KEEP-alive", b"timeout=9"),
            (b"Content-Length", b"0"),
        )


@on_each_loop
async def test_a_compressed_body_stays_compressed():
    import gzip

    body = gzip.compress(b"hello" * 100)
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with RawServer(lambda peer: serve_forever(peer, answer)) as server:
        async with sending_to(server.port) as sender:
            assert await sender.exchange() == (200, body)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@on_each_loop
async def test_a_slow_reader_bounds_what_is_held(framing):
    size = 50_000_000
    sent = []

    def pour(peer: Peer) -> None:
        peer.read_request()
        piece = bytes(100_000)
        if framing == "chunked":
            peer.send(CHUNKED)
            piece = b"%x\r\n" % len(piece) + piece + b"\r\n"
        else:
            peer.send(
                b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: %d\r\n" % size if framing == "length" else b"") + b"\r\n"
            )
        for _ in range(size // 100_000):
            peer.send(piece)
            sent.append(None)
        if framing == "chunked":
            peer.send(b"0\r\n\r\n")

    with RawServer(pour) as server:
        async with sending_to(server.port) as sender:
            reply = await sender.send(seconds=30)
            await asyncio.sleep(0.3)  # long enough for all 50 MB, if anybody took them
            held = len(sent)
            total = 0
            async for piece in reply.body():
                total += len(piece)
            await reply.close()

    assert held < len(sent) // 2
    assert total == size


@on_each_loop
async def test_an_unread_reply_that_is_closed_closes_its_connection():
    counts = []

    def pour(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        counts.append(peer.read_rest())

    with RawServer(pour) as server:
        async with sending_to(server.port) as sender:
            reply = await sender.send(seconds=30)
            await reply.close()
            await reply.close()
            await server.until(lambda: counts == [0])
            with pytest.raises(SendFailed) as failed:
                await read(reply)

    assert failed.value.phase is Phase.BODY


@on_each_loop
async def test_a_reply_that_nobody_reads_ends_with_the_deadline():
    counts = []

    def pour(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        counts.append(peer.read_rest())

    with RawServer(pour) as server:
        async with sending_to(server.port) as sender:
            await sender.send(seconds=0.5)
            await server.until(lambda: counts == [0])


@on_each_loop
async def test_a_reader_that_leaves_in_the_middle_closes_the_connection():
    counts = []

    def pour(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        counts.append(peer.read_rest())

    with RawServer(pour) as server:
        async with sending_to(server.port) as sender:
            reply = await sender.send(seconds=30)
            reading = asyncio.create_task(read(reply))
            await asyncio.sleep(0.02)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await server.until(lambda: counts == [0])


@on_each_loop
async def test_surplus_closes_the_connection_though_nobody_reads():
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()
    counts = []

    def play(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(5)
        peer.send(b"cde")
        counts.append(peer.read_rest())

    with RawServer(play) as server:
        async with sending_to(server.port) as sender:
            reply = await sender.send(seconds=30)
            go_on.set()
            await server.until(lambda: counts == [0])
            assert await read(reply) == b"abcd"


@on_each_loop
async def test_a_body_bounded_piece_by_piece_may_outlast_the_deadline():
    def trickle(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
        for _ in range(20):
            time.sleep(0.05)
            peer.send(b"a")

    with RawServer(trickle) as server:
        async with sending_to(server.port) as sender:
            assert await sender.exchange(seconds=0.6, body_idle_seconds_max=0.6) == (200, b"a" * 20)


@on_each_loop
async def test_a_body_bounded_piece_by_piece_ends_when_the_server_falls_silent():
    def stall(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
        peer.send(b"half")
        peer.read_rest()

    with RawServer(stall) as server:
        async with sending_to(server.port) as sender:
            reply = await sender.send(seconds=30, body_idle_seconds_max=0.1)
            with pytest.raises(SendFailed) as failed:
                await read(reply)

    assert (failed.value.phase, failed.value.kind) == (Phase.BODY, "timeout")


@on_each_loop
async def test_a_reader_that_is_slow_is_not_a_server_that_is_silent():
    size = 20_000_000

    def pour(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        peer.send(bytes(size))

    with RawServer(pour) as server:
        async with sending_to(server.port) as sender:
            reply = await sender.send(body_idle_seconds_max=0.05)
            await asyncio.sleep(0.2)
            assert len(await read(reply)) == size


@on_each_loop
async def test_the_time_in_which_a_reader_was_slow_is_not_the_servers():
    resumed = threading.Event()

    def pour(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 350000\r\n\r\n" + bytes(300_000))
        resumed.wait(5)
        time.sleep(0.5)
        peer.send(bytes(50_000))

    with RawServer(pour) as server:
        async with sending_to(server.port) as sender:
            reply = await sender.send(body_idle_seconds_max=0.8)
            await asyncio.sleep(0.6)
            pieces = reply.body()
            count = 0
            while count < 300_000:
                count += len(await anext(pieces))
            resumed.set()
            assert count + len(b"".join([piece async for piece in pieces])) == 350_000


@on_each_loop
async def test_the_deadline_bounds_the_head_even_if_the_body_is_bounded_piece_by_piece():
    with RawServer(lambda peer: (peer.read_request(), peer.read_rest())) as server:
        async with sending_to(server.port) as sender:
            with pytest.raises(SendFailed) as failed:
                await sender.send(seconds=0.1, body_idle_seconds_max=30.0)

    assert (failed.value.phase, failed.value.kind) == (Phase.WAIT, "timeout")
