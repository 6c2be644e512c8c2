"""TLS: who is trusted, and that every failure is told by what was written."""

import asyncio
import contextlib
import shutil
import ssl
import threading
import time
import warnings
from pathlib import Path

import pytest

from proxy.core.ports import Phase, SendFailed
from proxy.upstream.connect import _make_context
from tests.support.certificates import Authority
from tests.support.raw_server import OK, Peer, RawServer, serve_forever
from tests.support.upstream_kit import on_each_loop, read, sending_to

HOST = "provider.test"
ENDS_WITH_CONNECTION = b"HTTP/1.1 200 OK\r\n\r\nwhole"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.make(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority.make(tmp_path_factory.mktemp("stranger"), "Stranger CA")


@contextlib.asynccontextmanager
async def calling(server: RawServer, authority: Authority, **route):
    async with sending_to(server.port, scheme="https", ca_file=authority.ca_file, **route) as sender:
        yield sender


@on_each_loop
async def test_a_trusted_server_is_asked_and_its_connection_used_again(authority):
    with RawServer(serve_forever, tls=authority.server_context(HOST)) as server:
        async with calling(server, authority) as sender:
            for _ in range(3):
                assert await sender.exchange() == (200, b"ok")

        assert (server.connections, server.begun) == (1, 3)


MISTRUSTED = {
    "another name": lambda ca, _: ca.server_context("other.test"),
    "an expired certificate": lambda ca, _: ca.server_context(HOST, expired=True),
    "an authority nobody named": lambda _, stranger: stranger.server_context(HOST),
}


@pytest.mark.parametrize("make_context", MISTRUSTED.values(), ids=MISTRUSTED)
@on_each_loop
async def test_a_server_that_is_not_trusted_is_not_asked(make_context, authority, stranger):
    with RawServer(serve_forever, tls=make_context(authority, stranger)) as server:
        async with calling(server, authority) as sender:
            with pytest.raises(SendFailed, match="certificate verify failed") as failed:
                await sender.send()

        assert (failed.value.phase, failed.value.kind, failed.value.sent) == (Phase.TLS, "error", False)
        assert server.received == 0


@on_each_loop
async def test_without_a_ca_file_the_systems_authorities_are_asked(authority):
    with RawServer(serve_forever, tls=authority.server_context(HOST)) as server:
        async with sending_to(server.port, scheme="https") as sender:
            with pytest.raises(SendFailed, match="certificate verify failed") as failed:
                await sender.send()

    assert failed.value.phase is Phase.TLS


def speak_plainly(peer: Peer) -> None:
    peer._receive()
    peer.send(OK)
    peer.read_rest()


def hang_up(peer: Peer) -> None:
    peer._receive()
    peer.close()


def hang_up_hard(peer: Peer) -> None:
    peer._receive()
    peer.reset()


@pytest.mark.parametrize(
    ("misdeed", "kind"),
    [(speak_plainly, "error"), (hang_up, "reset"), (hang_up_hard, "reset"), (Peer.read_rest, "timeout")],
    ids=["speaks plainly", "hangs up", "resets", "says nothing"],
)
@on_each_loop
async def test_a_handshake_that_fails_is_unsent(misdeed, kind, authority):
    with RawServer(misdeed) as server:
        async with calling(server, authority) as sender:
            with pytest.raises(SendFailed) as failed:
                await sender.send(connect_seconds_max=0.2 if kind == "timeout" else 5.0)

    assert (failed.value.phase, failed.value.kind) == (Phase.TLS, kind)


@on_each_loop
async def test_a_cancelled_handshake_leaves_nothing_open(authority):
    counts = []
    with RawServer(lambda peer: counts.append(peer.read_rest())) as server:
        async with calling(server, authority) as sender:
            sending = asyncio.create_task(sender.send())
            await server.until(lambda: server.connections == 1)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await server.until(lambda: bool(counts))


@on_each_loop
async def test_tls_before_1_2_is_refused(authority):
    context = authority.server_context(HOST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with RawServer(serve_forever, tls=context) as server:
        async with calling(server, authority) as sender:
            with pytest.raises(SendFailed) as failed:
                await sender.send()

    assert failed.value.phase is Phase.TLS


@pytest.mark.parametrize("offered", [["h2", "http/1.1"], ["h2"]], ids=["both", "only h2"])
@on_each_loop
async def test_only_http_1_1_is_negotiated(offered, authority):
    chosen = []

    def play(peer: Peer) -> None:
        chosen.append(peer._sock.selected_alpn_protocol())
        serve_forever(peer)

    context = authority.server_context(HOST)
    context.set_alpn_protocols(offered)
    with RawServer(play, tls=context) as server:
        async with calling(server, authority) as sender:
            assert await sender.exchange() == (200, b"ok")

    assert chosen == ["http/1.1" if "http/1.1" in offered else None]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@on_each_loop
async def test_a_client_certificate_is_shown_where_one_is_wanted(version, authority):
    context = authority.server_context(HOST, asks_clients=True)
    context.minimum_version = context.maximum_version = version
    with RawServer(serve_forever, tls=context) as server:
        async with calling(server, authority, client_cert=authority.issue("me.test")) as sender:
            assert await sender.exchange() == (200, b"ok")


@on_each_loop
async def test_tls_1_2_refuses_a_client_before_anything_is_sent(authority):
    context = authority.server_context(HOST, asks_clients=True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with RawServer(serve_forever, tls=context) as server:
        async with calling(server, authority) as sender:
            with pytest.raises(SendFailed) as failed:
                await sender.send()

        assert (failed.value.phase, failed.value.sent) == (Phase.TLS, False)
        assert server.received == 0


@on_each_loop
async def test_tls_1_3_refuses_a_client_after_the_request_was_written(authority):
    """The server looks at the client's part of the handshake only when the request is there too: it had left."""
    context = authority.server_context(HOST, asks_clients=True)
    size = 20_000

    def refuse(peer: Peer) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        peer._receive()
        incoming.write(peer._unread)
        peer._unread = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        peer.send(outgoing.read())
        while len(peer._unread) < size:
            peer._receive()
        incoming.write(peer._unread)
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            tls.do_handshake()
        peer.send(outgoing.read())
        peer.close()

    with RawServer(refuse) as server:
        async with calling(server, authority) as sender:
            with pytest.raises(SendFailed) as failed:
                await sender.send(body=bytes(size))

        assert (failed.value.phase, failed.value.sent) == (Phase.WAIT, True)
        assert (server.connections, server.received > size) == (1, True)


@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@on_each_loop
async def test_a_request_dropped_over_tls_was_sent_once(method, reused, authority):
    def play(peer: Peer) -> None:
        if reused:
            peer.answer()
        peer.read_request()
        peer.close_without_notify()

    with RawServer(play, tls=authority.server_context(HOST)) as server:
        async with calling(server, authority) as sender:
            if reused:
                await sender.exchange()
            with pytest.raises(SendFailed) as failed:
                await sender.send(method)
            await asyncio.sleep(0.02)

        assert failed.value.phase is Phase.WAIT
        assert (server.connections, server.begun) == (1, 1 + reused)


@pytest.mark.parametrize("loop_knows", [True, False], ids=["the loop knows", "only the kernel knows"])
@on_each_loop
async def test_an_idle_tls_connection_that_ended_is_not_used_again(loop_knows, authority):
    happen, happened = threading.Event(), threading.Event()

    def play(peer: Peer) -> None:
        peer.answer()
        if peer.number == 1:
            happen.wait(5)
            peer.notify()
            happened.set()
        peer.read_rest()

    with RawServer(play, tls=authority.server_context(HOST)) as server:
        async with calling(server, authority) as sender:
            await sender.exchange()
            happen.set()
            if loop_knows:
                await server.until(lambda: sender.idle() == 0)
            else:
                happened.wait(5)
                time.sleep(0.02)  # noqa: ASYNC251 - loopback delivers at once; the loop must not see it before we ask
            assert await sender.exchange() == (200, b"ok")

        assert (server.connections, server.begun) == (2, 2)


@on_each_loop
async def test_a_body_that_ends_with_the_connection_ends_with_close_notify(authority):
    def play(peer: Peer) -> None:
        peer.answer(ENDS_WITH_CONNECTION)
        peer.close()

    with RawServer(play, tls=authority.server_context(HOST)) as server:
        async with calling(server, authority) as sender:
            assert await sender.exchange() == (200, b"whole")


@on_each_loop
async def test_a_body_that_ends_with_the_connection_is_broken_without_close_notify(authority):
    def play(peer: Peer) -> None:
        peer.answer(ENDS_WITH_CONNECTION)
        peer.close_without_notify()

    with RawServer(play, tls=authority.server_context(HOST)) as server:
        async with calling(server, authority) as sender:
            reply = await sender.send()
            with pytest.raises(SendFailed) as failed:
                await read(reply)

    assert (failed.value.phase, failed.value.kind) == (Phase.BODY, "closed")


@pytest.mark.parametrize("size", [1000, 600_000, 5_000_000])
@pytest.mark.parametrize("end", [Peer.close, Peer.close_without_notify], ids=["notified", "cut"])
@on_each_loop
async def test_a_slow_reader_gets_all_that_came_before_the_end(end, size, authority):
    def play(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        end(peer)

    with RawServer(play, tls=authority.server_context(HOST)) as server:
        async with calling(server, authority) as sender:
            reply = await sender.send()
            total = 0
            async for piece in reply.body():
                total += len(piece)
                await asyncio.sleep(0.005)

    assert total == size


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 350000\r\n"], ids=["until the end", "a length"])
@on_each_loop
async def test_what_comes_with_the_end_while_the_reader_is_slow_is_not_lost(framing, authority):
    paused = threading.Event()

    def play(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + bytes(300_000))
        paused.wait(5)
        peer.send(bytes(50_000))
        peer.close()

    with RawServer(play, tls=authority.server_context(HOST)) as server:
        async with calling(server, authority) as sender:
            reply = await sender.send()
            await server.until(lambda: reply._connection._reading_paused)
            paused.set()
            await asyncio.sleep(0.1)  # the loop meets the rest and the end
            assert len(await read(reply)) == 350_000


@on_each_loop
async def test_an_end_over_tls_counts_before_the_connection_is_closed(authority):
    """The abort waits until asyncio's TLS has returned; no request may slip in between."""
    with RawServer(serve_forever, tls=authority.server_context(HOST)) as server:
        async with calling(server, authority) as sender:
            await sender.exchange()
            connection = sender.client._pool.take(sender.route)
            connection.data_received(b"x")

            assert not connection.is_untouched()


@pytest.mark.parametrize("size", [0, 600_000])
@on_each_loop
async def test_surplus_before_the_end_of_a_tls_connection(size, authority):
    def play(peer: Peer) -> None:
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size) + b"surplus")
        peer.close()

    with RawServer(play, tls=authority.server_context(HOST)) as server:
        async with calling(server, authority) as sender:
            reply = await sender.send()
            await asyncio.sleep(0.05)
            assert len(await read(reply)) == size
            assert sender.idle() == 0


@on_each_loop
async def test_a_malformed_head_over_tls(authority):
    def play(peer: Peer) -> None:
        peer.answer(b"HTTP/9 200 OK\r\n\r\n")
        peer.close()

    with RawServer(play, tls=authority.server_context(HOST)) as server:
        async with calling(server, authority) as sender:
            with pytest.raises(SendFailed) as failed:
                await sender.send()

    assert (failed.value.phase, failed.value.kind) == (Phase.WAIT, "protocol")


@on_each_loop
async def test_bytes_on_an_idle_tls_connection(authority):
    go_on = threading.Event()

    def play(peer: Peer) -> None:
        peer.answer()
        if peer.number == 1:
            go_on.wait(5)
            peer.send(OK)
        peer.read_rest()

    with RawServer(play, tls=authority.server_context(HOST)) as server:
        async with calling(server, authority) as sender:
            await sender.exchange()
            go_on.set()
            await server.until(lambda: sender.idle() == 0)
            assert await sender.exchange() == (200, b"ok")

        assert (server.connections, server.begun) == (2, 2)


def test_a_context_trusts_nobody_by_default():
    context = _make_context(None, None)

    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@on_each_loop
async def test_an_early_answer_over_tls_ends_the_writing(authority):
    def refuse(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge")
        peer.read_rest()

    with RawServer(refuse, tls=authority.server_context(HOST)) as server:
        async with calling(server, authority) as sender:
            assert await sender.exchange(body=bytes(50_000_000)) == (413, b"large")

        assert server.received < 25_000_000


@on_each_loop
async def test_a_large_body_arrives_whole_over_tls(authority):
    body = bytes(range(256)) * 10_000
    with RawServer(serve_forever, tls=authority.server_context(HOST)) as server:
        async with calling(server, authority) as sender:
            assert await sender.exchange("PUT", body=body) == (200, b"ok")

        assert server.requests[0].body == body


@on_each_loop
async def test_files_that_do_not_fit_are_unsent(authority, stranger, tmp_path):
    (tmp_path / "empty.pem").write_text("")
    sealed = authority.issue("me.test", password=b"secret")
    with RawServer(serve_forever, tls=authority.server_context(HOST)) as server:
        for files in (
            {"ca_file": str(tmp_path / "absent.pem")},
            {"ca_file": str(tmp_path / "empty.pem")},
            {"ca_file": authority.ca_file, "client_cert": str(tmp_path / "empty.pem")},
            {"ca_file": authority.ca_file, "client_cert": sealed},
        ):
            async with sending_to(server.port, scheme="https", **files) as sender:
                with pytest.raises(SendFailed) as failed:
                    await sender.send()

            assert (failed.value.phase, failed.value.kind) == (Phase.TLS, "error")

        assert server.connections == 0


@on_each_loop
async def test_files_are_read_once_for_all_connections(authority, tmp_path):
    ca_file = Path(shutil.copy(authority.ca_file, tmp_path))
    with RawServer(serve_forever, tls=authority.server_context(HOST)) as server:
        async with sending_to(server.port, scheme="https", ca_file=str(ca_file)) as sender:
            await sender.exchange()
            ca_file.unlink()
            assert await sender.exchange(fresh=True) == (200, b"ok")
