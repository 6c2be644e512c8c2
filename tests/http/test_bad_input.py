"""What is no honest HTTP/1.1 gets a clear 4xx of ours; nothing of it reaches a provider, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from proxy.server import wire
from tests.http.kit import Answer, ask, computed_key, operation, policy, provider, proxying, request, talking
from tests.support.raw_server import RawServer, serve_forever

HOST = b"Host: 127.0.0.1\r\n"
KEY = b"Idempotency-Key: k1\r\n"
POST = b"POST /pay/charges HTTP/1.1\r\n" + HOST + KEY
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /pay/x HTTP/1.1\r\n"

INVALID = {
    # message length (RFC 9112 6)
    "two equal Content-Lengths": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "two different Content-Lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "a list as Content-Length": POST + b"Content-Length: 2, 2\r\n\r\nhi",
    "a signed Content-Length": POST + b"Content-Length: +2\r\n\r\nhi",
    "a negative Content-Length": POST + b"Content-Length: -2\r\n\r\nhi",
    "a hexadecimal Content-Length": POST + b"Content-Length: 0x2\r\n\r\nhi",
    "an empty Content-Length": POST + b"Content-Length: \r\n\r\n",
    "a Content-Length beyond all bounds": POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "Content-Length before Transfer-Encoding": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding before Content-Length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "two Transfer-Encodings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a coding before chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding after chunked": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a control character in the coding": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /pay/charges HTTP/1.0\r\n" + KEY + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    # chunks (RFC 9112 7.1)
    "a chunk size that is none": CHUNKED + b"zz\r\nhi\r\n0\r\n\r\n",
    "a chunk longer than it said": CHUNKED + b"2\r\nhiXX0\r\n\r\n",
    "a negative chunk size": CHUNKED + b"-2\r\nhi\r\n0\r\n\r\n",
    "a chunk size with 0x": CHUNKED + b"0x2\r\nhi\r\n0\r\n\r\n",
    "an empty chunk size": CHUNKED + b"\r\nhi\r\n0\r\n\r\n",
    "chunk lines that end in LF": CHUNKED + b"2\nhi\n0\n\n",
    "a chunk size beyond all bounds": CHUNKED + b"fffffffffffffffff\r\n",
    # header fields (RFC 9112 5)
    "a folded header line": GET + HOST + b"X-A: a\r\n b\r\n\r\n",
    "a bare LF after the request line": b"GET /pay/x HTTP/1.1\n" + HOST + b"\r\n",
    "a bare LF after a header": GET + b"Host: 127.0.0.1\nX-A: b\r\n\r\n",
    "a bare CR in a header": GET + b"Host: 127.0.0.1\rX-A: b\r\n\r\n",
    "a NUL in a header": GET + HOST + b"X-A: b\x00c\r\n\r\n",
    "a blank in a header name": GET + HOST + b"X A: b\r\n\r\n",
    "a header line without a colon": GET + HOST + b"XA\r\n\r\n",
    "an empty header name": GET + HOST + b": b\r\n\r\n",
    "two Hosts": GET + HOST + HOST + b"\r\n",
    "no Host": GET + b"\r\n",
    "a Host that is none": GET + b"Host: a b\r\n\r\n",
    "a Host with a user": GET + b"Host: u@127.0.0.1\r\n\r\n",
    "a Host with a path": GET + b"Host: 127.0.0.1/pay\r\n\r\n",
    "a Host with a port that is none": GET + b"Host: 127.0.0.1:x\r\n\r\n",
    "a header line that is too long": GET + HOST + b"X-A: " + b"a" * 20_000 + b"\r\n\r\n",
    "too many header lines": GET + HOST + b"".join(b"X-%d: a\r\n" % n for n in range(200)) + b"\r\n",
    # request line (RFC 9112 3)
    "an unknown method": b"FOO /pay/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method in lower case": b"post /pay/charges HTTP/1.1\r\n" + HOST + KEY + b"\r\n",
    "a target that is too long": b"GET /pay/" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target beyond ASCII": "GET /pay/ä HTTP/1.1\r\n".encode() + HOST + b"\r\n",
    "a blank in the target": b"GET /pay/a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "an absolute target of another scheme": b"GET ftp://127.0.0.1/pay/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "an absolute target with a user": b"GET http://u:p@127.0.0.1/pay/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2 in the request line": b"GET /pay/x HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/1.2": b"GET /pay/x HTTP/1.2\r\n" + HOST + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}  # fmt: skip


def is_problem(answer: Answer, status: int, slug: str) -> bool:
    """Whether *answer* is that problem, with what each of them must say."""
    problem = answer.json
    assert answer.get("content-type") == "application/problem+json"
    assert (answer.get("dedup-sent"), answer.get("dedup-reason")) == ("no", slug)
    assert answer.get("dedup-executed") == problem["executed"]
    assert problem["title"].startswith("Dedup Proxy: ")
    return (answer.status, problem["status"], problem["type"]) == (status, status, f"urn:dedup-proxy:problem:{slug}")


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID)
async def test_what_is_no_http_is_refused_and_the_connection_ends(data: bytes, tmp_path: Path) -> None:
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run, talking(run.port) as talk:
            await talk.send(data)
            async with asyncio.timeout(5):
                answer = await talk.answer("GET")
            assert is_problem(answer, 400, "request-invalid")
            entries = await ask(run.admin_port, request("/v1/entries", method="GET", body=None, key=None))
            assert entries.json["entries"] == []
    assert server.begun == 0


@pytest.mark.parametrize("path", ["/pay/charges", "/pay/passed"])
async def test_chunks_that_break_later_end_the_wait_for_them(path: str, tmp_path: Path) -> None:
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run, talking(run.port) as talk:
            await talk.send(
                POST.replace(b"/pay/charges", path.encode()).replace(KEY, KEY if "charges" in path else b"")
            )
            await talk.send(b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
            await asyncio.sleep(0.05)  # so that the handler waits for the next chunk; nothing depends on it
            await talk.send(b"zz\r\n")
            async with asyncio.timeout(5):
                answer = await talk.answer()
            assert (answer.status, answer.get("dedup-reason")) == (400, "request-invalid")
            assert await talk.is_closed()
    assert server.requests == []


@pytest.mark.parametrize("framing", [b"Content-Length: 10\r\n\r\nhi", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"])
async def test_a_body_that_is_never_finished_claims_nothing(framing: bytes, tmp_path: Path) -> None:
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            async with talking(run.port) as talk:
                await talk.send(POST + framing)
                await asyncio.sleep(0.05)  # so that the handler waits for the rest; nothing depends on it
            async with asyncio.timeout(5):
                while not run.said("request.abandoned"):
                    await asyncio.sleep(0.01)
            entries = await ask(run.admin_port, request("/v1/entries", method="GET", body=None, key=None))
            assert entries.json["entries"] == []
    assert server.begun == 0


async def test_a_head_that_takes_too_long_ends_its_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "IDLE_SECONDS", 0.1)
    async with proxying(policy(provider(1)), tmp_path) as run, talking(run.port) as talk:
        await talk.send(b"GET /pay/x HTTP/1.1\r\nHost: 127")
        assert await talk.is_closed()


async def test_a_connection_too_many_is_closed_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "CONNECTIONS_MAX", 1)
    async with proxying(policy(provider(1)), tmp_path) as run, talking(run.port) as first:
        await first.send(request("/x/y", method="GET", body=None))
        assert (await first.answer("GET")).status == 403
        async with talking(run.port) as second:
            assert await second.is_closed()
        await first.send(request("/x/y", method="GET", body=None))
        assert (await first.answer("GET")).status == 403


TOO_LARGE = {
    "by its length": POST + b"Content-Length: 20971520\r\n\r\n",
    "by its chunks": CHUNKED + b"80000\r\n" + b"x" * 0x80000 + b"\r\n80001\r\n" + b"x" * 0x80001 + b"\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("data", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_a_body_that_is_too_large_is_refused_before_anything_is_claimed(data: bytes, tmp_path: Path) -> None:
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run, talking(run.port) as talk:
            await talk.send(data)
            answer = await talk.answer()
            assert is_problem(answer, 413, "request-too-large")
            assert answer.get("connection") == "close" or data is TOO_LARGE["by its chunks"]
            entries = await ask(run.admin_port, request("/v1/entries", method="GET", body=None, key=None))
            assert entries.json["entries"] == []
    assert server.begun == 0


async def test_a_20_mib_body_that_is_on_its_way_already_gets_its_answer(tmp_path: Path) -> None:
    async with proxying(policy(provider(1)), tmp_path) as run, talking(run.port) as talk:
        talk.writer.write(POST + b"Content-Length: 20971520\r\n\r\n" + b"x" * 20_971_520)
        assert is_problem(await talk.answer(), 413, "request-too-large")


FOREIGN = {
    "an absolute target of a foreign host": request("http://foreign.test/pay/charges"),
    "an absolute target that names the proxy": request("http://127.0.0.1/pay/charges"),
    "a foreign Host": request(host="foreign.test"),
    "CONNECT": b"CONNECT api.foreign.test:443 HTTP/1.1\r\nHost: api.foreign.test:443\r\n\r\n",
    "no such provider": request("/nobody/charges"),
    "no provider at all": request("/"),
    "a path that is the proxy's own": request("/.dedup/entries/x", method="GET", body=None),
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
async def test_what_no_provider_owns_is_refused(data: bytes, tmp_path: Path) -> None:
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            assert is_problem(await ask(run.port, data), 403, "provider-unknown")
    assert server.begun == 0


BROKEN_JSON = {
    "cut": b'{"order": ',
    "a NaN": b'{"order": NaN}',
    "not UTF-8": b'{"order": "\xff"}',
    "repeated names": b'{"order": 1, "order": 2}',
    "deep": b'{"order":' + b"[" * 100_000,
    "empty": b"",
}


@pytest.mark.parametrize("body", BROKEN_JSON.values(), ids=BROKEN_JSON)
async def test_a_body_that_cannot_be_read_where_the_key_is_computed_from_it_is_a_400(
    body: bytes, tmp_path: Path
) -> None:
    rule = operation(key=computed_key("body.order"))
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port, operations=(rule,))), tmp_path) as run:
            answer = await ask(run.port, request(body=body, key=None))
            if answer.status == 200:  # a value that is read by its text is a key all the same
                assert body in (BROKEN_JSON["a NaN"], BROKEN_JSON["repeated names"])
                return
            assert is_problem(answer, 400, "key-missing")
    assert server.begun == 0


BAD_KEYS = {
    "empty": ("", "key-invalid"),
    "only quotes": ('""', "key-invalid"),
    "too long": ("k" * 256, "key-invalid"),
    "a blank inside": ("a b", "key-invalid"),
    "beyond ASCII": ("k\xe4", "key-invalid"),
    "a list": ("a, b", "key-invalid"),
    "a broken string": ('"abc', "key-invalid"),
}


@pytest.mark.parametrize(("key", "slug"), BAD_KEYS.values(), ids=BAD_KEYS)
async def test_a_key_that_breaks_the_rules_is_a_400(key: str, slug: str, tmp_path: Path) -> None:
    async with proxying(policy(provider(1)), tmp_path) as run:
        answer = await ask(run.port, request(key=key))
        assert is_problem(answer, 400, slug)
        assert answer.json["executed"] == "no"


async def test_two_lines_of_the_key_are_a_400(tmp_path: Path) -> None:
    async with proxying(policy(provider(1)), tmp_path) as run:
        assert is_problem(await ask(run.port, request(idempotency_key="k2")), 400, "key-invalid")


async def test_many_bad_requests_leave_nothing_behind(tmp_path: Path) -> None:
    async with proxying(policy(provider(1)), tmp_path) as run:
        for data in [*INVALID.values()] * 4:
            async with talking(run.port) as talk:
                await talk.send(data)
        async with asyncio.timeout(10):
            while run.proxy._data is not None and run.proxy._data.connections:
                await asyncio.sleep(0.01)
        gc.collect()
        assert run.proxy._handler.running == 0
        assert len(asyncio.all_tasks()) < 10
