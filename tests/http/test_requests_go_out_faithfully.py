"""What a caller sends is what the provider gets: the bytes on both raw sockets are compared."""

from __future__ import annotations

import asyncio
import gzip
import os
from pathlib import Path

import pytest

from proxy.core.model import Mode
from proxy.core.policy import Provider
from tests.http.kit import ask, computed_key, native, operation, policy, provider, proxying, request, talking
from tests.support.raw_server import RawServer, serve_forever

TARGETS = {
    "an escaped slash": "/a%2Fb",
    "an escape that is none": "/a%zz?q=%zz",
    "lower-case hex": "/%e4%2f",
    "an empty query": "/charges?",
    "two question marks": "/charges?a?b",
    "double slashes": "//a//b",
    "dot segments": "/a/../b/./c",
    "an escaped dot segment": "/a/%2e%2e/b",
    "odd but legal characters": "/a;b=c/$!*'(),:@&=+?x[]=1&y={}|\\^`",
    "plus and space": "/a+b%20c?x=a+b",
    "repeated parameters in order": "/a?x=1&y=2&x=3",
    "a fragment that should not be there": "/a#frag",
    "no path": "",
    "no path, a query": "?x=1",
    "a root": "/",
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("base_path", ["", "/v3"])
async def test_the_target_passes_byte_for_byte(target: str, base_path: str, tmp_path: Path) -> None:
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port, base_path=base_path)), tmp_path) as run:
            answer = await ask(run.port, request(f"/pay{target}", method="GET", body=None))
    assert answer.status == 200
    whole = base_path + target
    expected = whole if whole.startswith("/") else f"/{whole}"
    assert server.requests[0].line == b"GET %b HTTP/1.1" % expected.encode()


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "PURGE", "PROPFIND", "REPORT", "LINK"]


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_passes_with_a_body_of_any_bytes(method: str, tmp_path: Path) -> None:
    body = bytes(range(256)) * 3
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            answer = await ask(run.port, request("/pay/anything", method=method, body=body, key=None))
    assert (answer.status, answer.body) == (200, b"ok")
    assert server.requests[0].line == f"{method} /anything HTTP/1.1".encode()
    assert server.requests[0].body == body


async def test_headers_keep_their_order_case_repetition_and_bytes(tmp_path: Path) -> None:
    sent = (
        b"GET /pay/x HTTP/1.1\r\nHost: 127.0.0.1\r\nX-One: 1\r\nx-two:\t2 \r\nX-ONE: 3\r\nX-Latin: \xe4\xff\r\n"
        b"X-Empty:\r\nCookie: a=b\r\nAuthorization: Bearer t\r\nAccept-Encoding: gzip\r\n\r\n"
    )
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            await ask(run.port, sent)
    assert server.requests[0].header_lines == [
        b"Host: 127.0.0.1:%d" % server.port,
        b"X-One: 1", b"x-two: 2", b"X-ONE: 3", b"X-Latin: \xe4\xff", b"X-Empty: ", b"Cookie: a=b",
        b"Authorization: Bearer t", b"Accept-Encoding: gzip",
        b"Via: 1.1 dedup-proxy",
    ]  # fmt: skip


async def test_hop_by_hop_headers_and_those_that_connection_names_stop_here(tmp_path: Path) -> None:
    hops = (
        b"Connection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n"
        b"Proxy-Authorization: Basic x\r\nTE: trailers\r\nTrailer: X\r\nDedup-Token: t\r\nDedup-Anything: t\r\n"
        b"Expect: 100-continue\r\nPrefer: wait=3, return=minimal\r\n"
    )
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            await ask(run.port, b"GET /pay/x HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Kept: 1\r\n" + hops + b"\r\n")
    names = [line.partition(b":")[0].lower() for line in server.requests[0].header_lines]
    assert names == [b"host", b"x-kept", b"prefer", b"via"]
    assert server.requests[0].values(b"prefer") == [b"return=minimal"]


async def test_a_chunked_upload_arrives_whole_and_protected_ones_with_their_length(tmp_path: Path) -> None:
    chunked = b"Transfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            keyed = b"POST /pay/charges HTTP/1.1\r\nHost: 127.0.0.1\r\nIdempotency-Key: k1\r\n" + chunked
            unkeyed = b"POST /pay/other HTTP/1.1\r\nHost: 127.0.0.1\r\n" + chunked
            assert (await ask(run.port, keyed)).get("Dedup-Status") == "succeeded"
            assert (await ask(run.port, unkeyed)).get("Dedup-Status") == "unprotected"
    protected, passed = server.requests
    assert (protected.body, protected.values(b"content-length")) == (b"abcde", [b"5"])
    assert protected.values(b"transfer-encoding") == []
    assert passed.values(b"transfer-encoding") == [b"chunked"]
    assert b"".join(passed.body.split(b"\r\n")[1::2]) == b"abcde"


@pytest.mark.parametrize("path", ["/pay/charges", "/pay/other"])
async def test_a_zipped_body_stays_zipped(path: str, tmp_path: Path) -> None:
    body = gzip.compress(b'{"amount": 10}')
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            assert (await ask(run.port, request(path, body=body, Content_Encoding="gzip"))).status == 200
    assert (server.requests[0].body, server.requests[0].values(b"content-encoding")) == (body, [b"gzip"])


async def test_the_provider_is_asked_for_the_body_once_and_the_caller_told_to_go_on(tmp_path: Path) -> None:
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run, talking(run.port) as talk:
            for path in ("/pay/charges", "/pay/other"):
                head, _, body = request(path, Expect="100-continue").partition(b"\r\n\r\n")
                await talk.send(head + b"\r\n\r\n")
                assert await talk.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
                await talk.send(body)
                assert (await talk.answer()).status == 200
    assert [each.body for each in server.requests] == [b'{"amount":10}'] * 2


async def test_a_caller_that_waits_to_be_asked_is_not_asked_for_a_body_nobody_wants(tmp_path: Path) -> None:
    async with proxying(policy(provider(1), max_request_body=100), tmp_path) as run:
        for head in (
            b"POST /nobody/x HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            b"POST /pay/charges HTTP/1.1\r\nHost: 127.0.0.1\r\nIdempotency-Key: k\r\nExpect: 100-continue\r\nContent-Length: 101\r\n\r\n",
        ):
            async with talking(run.port) as talk:
                await talk.send(head)
                assert (await talk.head()).startswith((b"HTTP/1.1 403", b"HTTP/1.1 413"))


async def test_the_key_goes_where_the_provider_wants_it_and_nothing_else_changes(tmp_path: Path) -> None:
    body = b'{ "amount" : 10.0, "order":"o1" }'
    rule = operation(key=computed_key("body.order"), native=native())
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port, operations=(rule,))), tmp_path) as run:
            answer = await ask(run.port, request(body=body, key=None, X_Kept="1"))
            assert answer.get("Dedup-Status") == "succeeded"
    sent = server.requests[0]
    assert sent.body == body
    assert len(sent.values(b"idempotency-key")[0]) == 36
    assert sent.values(b"x-kept") == [b"1"]


async def test_the_callers_own_key_is_consumed_where_the_provider_has_none(tmp_path: Path) -> None:
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            await ask(run.port, request("/pay/charges"))
            await ask(run.port, request("/pay/other"))
    matched, unmatched = server.requests
    assert matched.values(b"idempotency-key") == []
    assert unmatched.values(b"idempotency-key") == [b"k1"]


async def test_injected_credentials_replace_the_callers(tmp_path: Path) -> None:
    with RawServer(serve_forever) as server:
        owner = provider(server.port, auth_headers=((b"Authorization", b"Bearer ours"),))
        async with proxying(policy(owner), tmp_path) as run:
            await ask(run.port, request("/pay/x", method="GET", body=None, Authorization="Bearer theirs"))
    assert server.requests[0].values(b"authorization") == [b"Bearer ours"]


HOSTED = {
    "the base URL's host": ("api.pay.test", b"api.pay.test:%d", "/v1/charges"),
    "in capitals, with a port that is not asked about": ("API.pay.TEST:99", b"api.pay.test:%d", "/v1/charges"),
    "another of its hosts": ("eu.pay.test", b"eu.pay.test", "/v1/charges"),
}


def hosted(port: int) -> Provider:
    """A provider that is known by its hosts, whose connections go to the test's server."""
    base = provider(port, base_path="/v1", hosts=("api.pay.test", "*.pay.test"), connect_to=f"http://127.0.0.1:{port}")
    return Provider(**{**{name: getattr(base, name) for name in base.__slots__}, "host": "api.pay.test"})


@pytest.mark.parametrize(("host", "seen", "target"), HOSTED.values(), ids=HOSTED)
@pytest.mark.parametrize("form", ["Host header", "absolute"])
async def test_a_host_names_its_provider_and_stays(
    host: str, seen: bytes, target: str, form: str, tmp_path: Path
) -> None:
    with RawServer(serve_forever) as server:
        async with proxying(policy(hosted(server.port)), tmp_path) as run:
            asked = (
                request(target, host=host)
                if form == "Host header"
                else request(f"http://{host}{target}", host="x.test")
            )
            answer = await ask(run.port, asked)
    assert answer.get("Dedup-Status") == "succeeded"
    assert server.requests[0].line == f"POST {target} HTTP/1.1".encode()
    assert server.requests[0].values(b"host") == [seen % server.port if b"%" in seen else seen]


async def test_a_path_beside_the_base_url_passes_as_it_is_and_meets_no_operation(tmp_path: Path) -> None:
    with RawServer(serve_forever) as server:
        async with proxying(policy(hosted(server.port)), tmp_path) as run:
            beside = await ask(run.port, request("/charges", host="api.pay.test"))
            inside = await ask(run.port, request("/v1/charges", host="api.pay.test"))
            listed = await ask(run.admin_port, request("/v1/entries", method="GET", body=None, key=None))
    assert (beside.get("Dedup-Status"), inside.get("Dedup-Status")) == ("succeeded", "succeeded")
    assert [each.line for each in server.requests] == [b"POST /charges HTTP/1.1", b"POST /v1/charges HTTP/1.1"]
    assert sorted(entry["operation"] for entry in listed.json["entries"]) == ["charge", "unmatched"]


async def test_an_upgrade_is_ignored_and_what_it_came_with_stays_here(tmp_path: Path) -> None:
    upgrade = (
        b"GET /pay/x HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABk\r\n\r\n"
    )
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run, talking(run.port) as talk:
            await talk.send(upgrade)
            answer = await talk.answer("GET")
            assert (answer.status, answer.get("Connection")) == (200, "close")
            assert await talk.is_closed()
    assert [line.partition(b":")[0] for line in server.requests[0].header_lines] == [b"Host", b"Via"]


@pytest.mark.parametrize("mode", [Mode.BYPASS, Mode.OBSERVE])
async def test_a_large_upload_passes_in_pieces_where_nothing_is_deduplicated(mode: Mode, tmp_path: Path) -> None:
    body = os.urandom(1 << 20) * 3
    rule = operation(mode=mode)
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port, operations=(rule,)), max_request_body=1000), tmp_path) as run:
            answer = await ask(run.port, request(body=body))
    assert answer.status == 200
    assert answer.get("Dedup-Status") == {Mode.BYPASS: "bypassed", Mode.OBSERVE: "observed"}[mode]
    assert server.requests[0].body == body


async def test_requests_on_one_connection_are_answered_in_order(tmp_path: Path) -> None:
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run, talking(run.port) as talk:
            await talk.send(b"".join(request(f"/pay/{n}", method="GET", body=None) for n in range(20)))
            async with asyncio.timeout(5):
                answers = [await talk.answer("GET") for _ in range(20)]
    assert [answer.status for answer in answers] == [200] * 20
    assert [each.line for each in server.requests] == [b"GET /%d HTTP/1.1" % n for n in range(20)]
