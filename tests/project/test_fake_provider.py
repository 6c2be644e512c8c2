"""The fake provider does what a test asks of it, and its record is on disk before it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.support import behaviour
from tests.support.provider import Failures, Kind, Provider, Settings, serving
from tests.support.provider_process import ProviderProcess, provider_process


@dataclass(frozen=True, slots=True)
class Got:
    """What a plain client got."""

    status: int
    body: bytes
    headers: list[tuple[str, str]]

    @property
    def id(self) -> str | None:
        found: str | None = json.loads(self.body).get("id")
        return found


async def raw(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


async def post(session: aiohttp.ClientSession, url: str, behave: str = "", key: str = "k1", **body: object) -> Got:
    document = {"intent": "i1", **({"behave": behave} if behave else {}), **body}
    async with session.post(
        f"{url}/pay", json=document, headers={"Idempotency-Key": key}, allow_redirects=False
    ) as answer:
        return Got(answer.status, await answer.read(), [(n.lower(), v) for n, v in answer.headers.items()])


# behave -> status of the first answer (None: no answer), effects after one request
ONE_REQUEST = {
    "ok": (200, 1),
    "drop": (None, 0),
    "effect,drop": (None, 1),
    "reset": (None, 0),
    "effect,reset": (None, 1),
    "500": (500, 0),
    "effect,500": (500, 1),
    "429,retry-after:7": (429, 0),
    "402": (402, 0),
    "400": (400, 0),
    "404": (404, 0),
    "302": (302, 0),
    "effect,302": (302, 1),
    "204": (204, 1),
    "no-effect": (200, 0),
    "slow:20": (200, 1),
    "truncate": (None, 1),
    "truncate-head": (None, 1),
    "huge:3000000": (200, 1),
    "garbage-gzip": (200, 1),
    "html,502": (502, 0),
    "cookies,chunked": (200, 1),
    "hints": (200, 1),
    "idle-close": (200, 1),
}


@pytest.mark.parametrize(("behave", "expected"), ONE_REQUEST.items(), ids=ONE_REQUEST)
async def test_it_behaves_as_told(provider: Provider, behave: str, expected: tuple[int | None, int]) -> None:
    async with client() as session:
        try:
            status: int | None = (await post(session, provider.url, behave)).status
        except aiohttp.ClientError:
            status = None
    assert (status, len(provider.effects)) == expected


async def test_words_about_the_answer_are_seen_in_it(provider: Provider) -> None:
    async with client() as session:
        got = await post(session, provider.url, "429,retry-after:7,cookies,html")
    assert [value for name, value in got.headers if name == "set-cookie"] == ["a=1; Path=/", "b=2; Path=/"]
    assert ("retry-after", "7") in got.headers
    assert got.body.startswith(b"<!doctype html>")


async def test_steps_are_taken_in_turn_and_the_last_repeats(provider: Provider) -> None:
    async with client() as session:
        statuses = [(await post(session, provider.url, "503,front|429|201", key=f"k{n}")).status for n in range(4)]
    assert statuses == [503, 429, 201, 201]


def test_an_unknown_word_is_an_error() -> None:
    with pytest.raises(ValueError, match="dorp"):
        behaviour.parse("effect,dorp")


async def test_a_native_provider_replays_its_answer_for_the_same_key_and_body(provider: Provider) -> None:
    async with client() as session:
        with pytest.raises(aiohttp.ClientError):
            await post(session, provider.url, "effect,drop|ok")
        again = await post(session, provider.url, "effect,drop|ok")
    assert (again.status, again.id, len(provider.effects)) == (200, "eff_1", 1)
    assert ("idempotent-replayed", "true") in again.headers


async def test_a_native_provider_refuses_a_key_with_another_body(provider: Provider) -> None:
    async with client() as session:
        await post(session, provider.url)
        other = await post(session, provider.url, amount=2)
    assert (other.status, len(provider.effects)) == (422, 1)


@pytest.mark.parametrize(("locks", "statuses", "effects"), [(True, [200, 409], 1), (False, [200, 200], 2)])
async def test_a_key_in_progress_is_refused_where_the_provider_locks(
    locks: bool, statuses: list[int], effects: int
) -> None:
    async with serving(Settings(locks=locks)) as provider, client() as session:
        first = asyncio.create_task(post(session, provider.url, "slow:200"))
        while not provider.requests:
            await asyncio.sleep(0.002)
        second = await post(session, provider.url, "slow:200")
        assert sorted([(await first).status, second.status]) == statuses
        assert len(provider.effects) == effects


@pytest.mark.parametrize(
    ("failures", "status", "effects"), [(Failures.STORED, 500, 1), (Failures.RERUN, 200, 2), (Failures.RESUMED, 200, 1)]
)
async def test_a_key_after_a_failure(failures: Failures, status: int, effects: int) -> None:
    async with serving(Settings(failures=failures)) as provider, client() as session:
        await post(session, provider.url, "effect,500|ok")
        again = await post(session, provider.url, "effect,500|ok")
    assert (again.status, len(provider.effects)) == (status, effects)


async def test_a_key_is_forgotten_after_its_retention() -> None:
    async with serving(Settings(retention_seconds=0.0)) as provider, client() as session:
        ids = [(await post(session, provider.url)).id for _ in range(2)]
    assert ids == ["eff_1", "eff_2"]


async def test_a_refusal_in_front_leaves_the_key_unused(provider: Provider) -> None:
    async with client() as session:
        refused = await post(session, provider.url, "429|ok")
        done = await post(session, provider.url, "429|ok")
    assert [refused.status, done.status] == [429, 200]
    assert ("x-behind-key", "true") not in refused.headers
    assert ("x-behind-key", "true") in done.headers


async def test_a_blind_provider_does_everything_it_is_sent() -> None:
    async with serving(Settings(kind=Kind.BLIND)) as provider, client() as session:
        ids = [(await post(session, provider.url)).id for _ in range(2)]
    assert ids == ["eff_1", "eff_2"]


async def test_a_thing_may_be_done_after_the_connection_is_gone(provider: Provider) -> None:
    async with client() as session:
        with pytest.raises(aiohttp.ClientError):
            await post(session, provider.url, "later:50,drop")
    assert provider.effects == []
    async with asyncio.timeout(5):
        while not provider.effects:
            await asyncio.sleep(0.005)
    assert provider.effects[0]["received_at"] < provider.effects[0]["at"] - 0.04


async def test_reading_is_no_effect(provider: Provider) -> None:
    async with client() as session, session.get(f"{provider.url}/x?behave=huge:10") as answer:
        assert await answer.read() == b"x" * 10
    assert (provider.effects, len(provider.requests)) == ([], 1)


@pytest.mark.parametrize("place", ["header:x-key", "query:k", "body:k"])
async def test_the_key_is_read_where_the_provider_has_it(place: str) -> None:
    async with serving(Settings(key=place)) as provider, client() as session:
        await session.post(f"{provider.url}/pay?k=v", json={"k": "v"}, headers={"X-Key": "v"})
        assert [effect["key"] for effect in provider.effects] == ["v"]


async def test_connections_whole_requests_and_partial_ones_are_counted(provider: Provider) -> None:
    head = b"POST /pay HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    kept_alive = head + b"\r\nhello" + head + b"Connection: close\r\n\r\nhello"
    assert (await raw(provider.port, kept_alive)).count(b"HTTP/1.1 200") == 2
    _, writer = await asyncio.open_connection("127.0.0.1", provider.port)
    writer.write(head + b"\r\nhel")
    writer.close()
    async with asyncio.timeout(5):
        while not provider.counts.partial:
            await asyncio.sleep(0.002)
    counts = provider.counts
    assert (counts.connections, counts.requests, counts.effects, counts.partial) == (2, 3, 2, 1)


async def test_a_chunked_body_is_read_and_expect_is_answered(provider: Provider) -> None:
    chunked = (
        b"POST /pay HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\nConnection: close\r\n"
        b'Content-Type: application/json\r\n\r\n8\r\n{"intent\r\n6\r\n":"c"}\r\n0\r\n\r\n'
    )
    answer = await raw(provider.port, chunked)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert provider.effects[0]["intent"] == "c"


async def test_an_answer_may_come_before_the_body_is_read(provider: Provider) -> None:
    answer = await raw(
        provider.port, b"POST /pay HTTP/1.1\r\nHost: x\r\nX-Behave: unread,413\r\nContent-Length: 100000\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_process_of_its_own_keeps_its_record_when_killed(outside_provider: ProviderProcess) -> None:
    outside_provider.plan("effect,drop|ok", "i1")
    async with client() as session:
        with pytest.raises(aiohttp.ClientError):
            await post(session, outside_provider.url)
        await post(session, outside_provider.url)
    assert outside_provider.counts() == {"connections": 2, "requests": 2, "effects": 1, "partial": 0}
    outside_provider.kill()
    assert [record["type"] for record in outside_provider.records()] == ["request", "effect", "request", "answer"]


async def test_a_new_process_goes_on_in_the_same_record(tmp_path: Path) -> None:
    for _ in range(2):
        with provider_process(tmp_path / "log", Settings(kind=Kind.BLIND)) as running:
            async with client() as session:
                await post(session, running.url)
    assert [effect["seq"] for effect in running.effects] == [1, 2]
