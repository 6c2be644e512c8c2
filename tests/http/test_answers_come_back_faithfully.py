"""What a provider answers is what the caller gets, plus our own headers: on a first answer, a replay and a pass."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from proxy.core.policy import Timeouts
from tests.http.kit import ask, operation, policy, provider, proxying, request, talking
from tests.support.raw_server import Peer, RawServer, serve_forever

OURS = {b"dedup-entry", b"dedup-status", b"dedup-executed", b"dedup-sent", b"dedup-reason", b"dedup-expires"}


def theirs(headers: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
    """Headers without those that the proxy adds."""
    return [(name, value) for name, value in headers if name.lower() not in {*OURS, b"via", b"idempotent-replayed"}]


HEADERS = (
    b"X-One: 1\r\nx-ONE: 2\r\nServer: them/1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Latin: \xe4\r\nX-Empty: \r\n"
    b"Content-Type: application/json\r\nX-One: 3\r\n"
)
PARSED = [
    (b"X-One", b"1"), (b"x-ONE", b"2"), (b"Server", b"them/1"), (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"),
    (b"X-Latin", b"\xe4"), (b"X-Empty", b""), (b"Content-Type", b"application/json"), (b"X-One", b"3"),
]  # fmt: skip


@pytest.mark.parametrize("path", ["/pay/charges", "/pay/other"])
async def test_status_phrase_headers_and_body_are_the_providers(path: str, tmp_path: Path) -> None:
    body = bytes(range(256))
    answer = b"HTTP/1.1 201 All Good Here\r\n" + HEADERS + b"Content-Length: 256\r\n\r\n" + body
    with RawServer(lambda peer: serve_forever(peer, answer)) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            got = await ask(run.port, request(path, key="k1" if "charges" in path else None))
    assert (got.status, got.phrase, got.body) == (201, b"All Good Here", body)
    assert theirs(got.headers) == [*PARSED, (b"Content-Length", b"256")]
    assert got.get_all("via") == ["1.1 dedup-proxy"]
    assert got.get("date") is None


async def test_a_replay_is_the_first_answer_but_for_what_belongs_to_one_exchange(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 201 Created\r\n" + HEADERS + b"Content-Length: 2\r\n\r\nok"
    with RawServer(lambda peer: serve_forever(peer, answer)) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            first, second = await ask(run.port, request()), await ask(run.port, request())
    assert len(server.requests) == 1
    assert (second.status, second.phrase, second.body) == (first.status, first.phrase, first.body)
    assert theirs(second.headers) == [header for header in theirs(first.headers) if header[0] != b"Set-Cookie"]
    assert (first.get("idempotent-replayed"), second.get("idempotent-replayed")) == (None, "true")
    assert (first.get("dedup-sent"), second.get("dedup-sent")) == ("yes", "no")
    assert (first.get("dedup-executed"), second.get("dedup-executed")) == ("yes", "yes")
    assert first.get("dedup-entry") == second.get("dedup-entry")


async def test_what_a_provider_says_in_our_name_is_dropped_or_renamed(tmp_path: Path) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nDedup-Executed: no\r\nDEDUP-Anything: x\r\nIdempotent-Replayed: true\r\nVia: 1.0 them\r\n"
        b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nContent-Length: 2\r\n\r\nok"
    )
    with RawServer(lambda peer: serve_forever(peer, answer)) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            got = await ask(run.port, request("/pay/other", method="GET", body=None))
    assert got.headers == (
        (b"Dedup-Upstream-Replayed", b"true"), (b"Via", b"1.0 them"), (b"Content-Length", b"2"),
        (b"Dedup-Status", b"bypassed"), (b"Dedup-Sent", b"yes"), (b"Dedup-Reason", b"safe-method"), (b"Via", b"1.1 dedup-proxy"),
    )  # fmt: skip


BODILESS = {
    "HEAD keeps the length of what a GET would bring": (
        "HEAD",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
        ["5000"],
    ),
    "HEAD without a length": ("HEAD", b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\n", []),
    "204": ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n", []),
    "204 with a length it must not have": ("DELETE", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", []),
    "304 keeps its length": ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 77\r\n\r\n', ["77"]),
    "an empty 200": ("POST", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ["0"]),
}


@pytest.mark.parametrize(("method", "answer", "lengths"), BODILESS.values(), ids=BODILESS)
async def test_answers_without_a_body_end_at_their_head(
    method: str, answer: bytes, lengths: list[str], tmp_path: Path
) -> None:
    protected = operation("any", match=f"{method} /kept")
    with RawServer(lambda peer: serve_forever(peer, answer)) as server:
        async with (
            proxying(policy(provider(server.port, operations=(protected,))), tmp_path) as run,
            talking(run.port) as talk,
        ):
            for path in ("/pay/kept", "/pay/kept", "/pay/passed"):
                await talk.send(request(path, method=method, body=None))
                got = await talk.answer(method)
                assert got.status == int(answer.split(b" ")[1])
                assert got.get_all("content-length") == lengths
                assert got.get_all("transfer-encoding") == []
                assert got.body == b""


async def test_a_zipped_body_stays_zipped(tmp_path: Path) -> None:
    body = gzip.compress(b'{"a": 1}')
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with RawServer(lambda peer: serve_forever(peer, answer)) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            for _ in range(2):
                got = await ask(run.port, request())
                assert (got.get("content-encoding"), got.body) == ("gzip", body)


async def test_redirects_are_passed_and_not_followed(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    with RawServer(lambda peer: serve_forever(peer, answer)) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            got = await ask(run.port, request("/pay/x", method="GET", body=None))
    assert (got.status, got.get("location"), len(server.requests)) == (307, "/elsewhere", 1)


async def test_interim_answers_end_nothing(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with RawServer(lambda peer: serve_forever(peer, answer)) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            got = await ask(run.port, request())
    assert (got.status, got.body) == (200, b"ok")


UNFRAMED = {
    "chunked": b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "until the end of the connection": b"HTTP/1.1 200 OK\r\n\r\nabcde",
}


@pytest.mark.parametrize("answer", UNFRAMED.values(), ids=UNFRAMED)
async def test_a_body_without_a_length_goes_to_http_11_in_chunks_and_to_http_10_until_the_end(
    answer: bytes, tmp_path: Path
) -> None:
    def script(peer: Peer) -> None:
        peer.answer(answer)
        peer.end()
        peer.read_rest()

    with RawServer(script) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            new = await ask(run.port, request("/pay/x", method="GET", body=None))
            async with talking(run.port) as talk:
                await talk.send(b"GET /pay/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                old = await talk.answer("GET")
                assert await talk.is_closed()
            whole = await ask(run.port, request())
    assert (new.body, new.get("transfer-encoding"), new.get("content-length"), new.get("connection")) == (
        b"abcde",
        "chunked",
        None,
        None,
    )
    assert (old.body, old.get("transfer-encoding"), old.get("connection")) == (b"abcde", None, None)
    assert (whole.body, whole.get("transfer-encoding"), whole.get("content-length")) == (b"abcde", None, "5")


async def test_http_10_callers_keep_their_connection_where_they_ask_for_it(tmp_path: Path) -> None:
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run, talking(run.port) as talk:
            for _ in range(2):
                await talk.send(b"GET /pay/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                assert (await talk.answer("GET")).get("connection") == "keep-alive"
            await talk.send(b"GET /pay/x HTTP/1.0\r\n\r\n")
            assert (await talk.answer("GET")).get("connection") is None
            assert await talk.is_closed()


async def test_an_early_answer_is_passed_and_ends_the_callers_connection(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        peer.end()
        peer.read_rest()

    with RawServer(script) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run, talking(run.port) as talk:
            await talk.send(
                b"POST /pay/up HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000
            )
            got = await talk.answer()
            assert (got.status, got.body, got.get("connection")) == (413, b"no", "close")


async def test_an_answer_larger_than_what_is_kept_reaches_the_first_caller_whole(tmp_path: Path) -> None:
    body = b"x" * (3 << 20)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with RawServer(lambda peer: serve_forever(peer, answer)) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            first, second = await ask(run.port, request()), await ask(run.port, request())
    assert (first.status, first.body, first.get("dedup-executed")) == (200, body, "yes")
    assert (second.status, second.get("dedup-executed"), second.json["type"]) == (
        409,
        "yes",
        "urn:dedup-proxy:problem:answer-not-stored",
    )


async def test_store_answer_status_replays_status_and_headers_with_an_empty_body(tmp_path: Path) -> None:
    from proxy.core.policy import Store

    rule = operation(store=Store(answer="status"))
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port, operations=(rule,))), tmp_path) as run:
            first, second = await ask(run.port, request()), await ask(run.port, request())
    assert (first.body, second.status, second.body, second.get("content-length")) == (b"ok", 200, b"", "0")


BROKEN = {
    "a length that is not reached": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
    "chunks without an end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "a chunk that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
}


@pytest.mark.parametrize("path", ["/pay/charges", "/pay/passed"])
@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
async def test_a_body_that_breaks_off_is_never_ended_cleanly(answer: bytes, path: str, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.answer(answer)
        peer.close()

    rule = operation(timeout=Timeouts(2.0, 3.0))
    with RawServer(script) as server:
        async with proxying(policy(provider(server.port, operations=(rule,))), tmp_path) as run:
            got = await ask(run.port, request(path, key="k1" if "charges" in path else None))
            assert run.said("answer.cut")
    assert (got.status, got.complete) == (200, False)
