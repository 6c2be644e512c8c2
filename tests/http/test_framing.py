"""An answer as bytes: what is added, what is left out, where the body ends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxy.core.model import Executed, Headers
from proxy.core.reasons import Reason
from proxy.exchange.told import Facts
from proxy.server.facts import fact_headers, rfc3339
from proxy.server.framing import Answer, Framed, chunk, frame
from proxy.server.preferences import wait_seconds


async def stream() -> AsyncIterator[bytes]:
    yield b"never asked for here"


STREAM = stream()

CASES: dict[str, tuple[Answer, dict[str, object], bytes, dict[str, object]]] = {
    "a body of bytes": (Answer(200, (), b"ok"), {}, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", {"body": b"ok"}),
    "a length that is not the body's is put right, in its place": (
        Answer(200, ((b"content-length", b"9"), (b"A", b"1")), b"ok"), {},
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nA: 1\r\n\r\n", {"body": b"ok"},
    ),
    "a phrase of its own": (Answer(299, (), b"", b"Fine, thanks"), {}, b"HTTP/1.1 299 Fine, thanks\r\nContent-Length: 0\r\n\r\n", {}),
    "an empty phrase": (Answer(200, (), b"", b""), {}, b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", {}),
    "a status without a usual phrase": (Answer(299, (), b""), {}, b"HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n", {}),
    "a stream with its length": (
        Answer(200, ((b"Content-Length", b"5"),), STREAM), {}, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        {"body": STREAM, "length": 5},
    ),
    "a stream without": (
        Answer(200, (), STREAM), {}, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", {"body": STREAM, "chunked": True},
    ),
    "a stream with two lengths": (
        Answer(200, ((b"Content-Length", b"5"), (b"content-length", b"6")), STREAM), {},
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", {"body": STREAM, "chunked": True},
    ),
    "a stream with a length that is none": (
        Answer(200, ((b"Content-Length", b"-5"),), STREAM), {},
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", {"body": STREAM, "chunked": True},
    ),
    "a stream without, to HTTP/1.0": (
        Answer(200, (), STREAM), {"is_http_10": True}, b"HTTP/1.1 200 OK\r\n\r\n", {"body": STREAM, "is_last": True},
    ),
    "bytes to HTTP/1.0 that keeps its connection": (
        Answer(200, (), b"ok"), {"is_http_10": True}, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n",
        {"body": b"ok"},
    ),
    "the last on its connection": (
        Answer(200, (), b"ok"), {"keep_alive": False}, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n",
        {"body": b"ok", "is_last": True},
    ),
    "HEAD of a stream": (Answer(200, ((b"Content-Length", b"5"),), STREAM), {"method": "HEAD"}, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", {}),
    "HEAD of bytes": (Answer(403, (), b"no"), {"method": "HEAD"}, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n", {}),
    "204": (Answer(204, ((b"Content-Length", b"0"), (b"A", b"1")), b""), {}, b"HTTP/1.1 204 No Content\r\nA: 1\r\n\r\n", {}),
    "304": (Answer(304, ((b"Content-Length", b"77"),), b""), {}, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n", {}),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "asked", "head", "rest"), CASES.values(), ids=CASES)
def test_framed(answer: Answer, asked: dict[str, object], head: bytes, rest: dict[str, object]) -> None:
    how = {"method": "GET", "is_http_10": False, "keep_alive": True, **asked}
    assert frame(answer, **how) == Framed(**{"head": head, "body": b"", **rest})  # type: ignore[arg-type]


def test_a_chunk() -> None:
    assert chunk(b"x" * 255) == b"ff\r\n" + b"x" * 255 + b"\r\n"


def test_facts_become_headers() -> None:
    facts = Facts(
        reason=Reason.REPLAYED, sent=False, status="succeeded", executed=Executed.YES, entry="ab-1", expires=1_700_000_000_999_999,
        replayed=True, recorded=False,
    )  # fmt: skip
    assert fact_headers(facts) == [
        (b"Dedup-Entry", b"ab-1"),
        (b"Dedup-Status", b"succeeded"),
        (b"Dedup-Executed", b"yes"),
        (b"Dedup-Sent", b"no"),
        (b"Dedup-Reason", b"replayed"),
        (b"Dedup-Expires", b"2023-11-14T22:13:20Z"),
        (b"Idempotent-Replayed", b"true"),
        (b"Dedup-Recorded", b"false"),
    ]


def test_what_is_not_known_is_not_told() -> None:
    assert fact_headers(Facts(reason=Reason.SAFE_METHOD, sent=True)) == [
        (b"Dedup-Sent", b"yes"),
        (b"Dedup-Reason", b"safe-method"),
    ]


@pytest.mark.parametrize(("moment", "text"), [(0, "1970-01-01T00:00:00Z"), (10**18, "9999-12-31T23:59:59Z")])
def test_times_are_rfc_3339(moment: int, text: str) -> None:
    assert rfc3339(moment) == text


PREFERENCES: dict[str, tuple[Headers, float]] = {
    "nothing said": ((), 10.0),
    "less than the limit": (((b"Prefer", b"wait=3"),), 3.0),
    "more than the limit": (((b"prefer", b"wait=60"),), 10.0),
    "not at all": (((b"Prefer", b"wait=0"),), 0.0),
    "among others": (((b"Prefer", b'return=minimal, Wait="2";x=1, respond-async'),), 2.0),
    "in a second line": (((b"Prefer", b"return=minimal"), (b"Prefer", b"wait=4")), 4.0),
    "a fraction": (((b"Prefer", b"wait=1.5"),), 10.0),
    "a negative number": (((b"Prefer", b"wait=-1"),), 10.0),
    "no number": (((b"Prefer", b"wait"),), 10.0),
    "another word": (((b"Prefer", b"await=1"),), 10.0),
    "a number beyond all bounds": (((b"Prefer", b"wait=" + b"9" * 400),), 10.0),
}


@pytest.mark.parametrize(("headers", "seconds"), PREFERENCES.values(), ids=PREFERENCES)
def test_a_caller_says_how_long_it_waits(headers: Headers, seconds: float) -> None:
    assert wait_seconds(headers, 10.0) == seconds
