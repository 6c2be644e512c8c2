"""Every answer of the proxy's own: status, headers and members, as contract and docs/http.md have them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from proxy.core.policy import ANSWER_NAMES, Answers, Caller, Operation, Policy, Store, Timeouts
from proxy.core.reasons import Reason
from proxy.server import wire
from proxy.server.front import Front, refusal
from proxy.server.problems import render
from tests.http.kit import Answer, Running, ask, native, operation, policy, provider, proxying, request, talking
from tests.support.raw_server import Peer, RawServer, refused_port

QUICK = Timeouts(connect_seconds=0.2, total_seconds=0.4)


SOME = "some"  # Retry-After is there, and how long it says is another test's business


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a problem answer must be."""

    status: int
    slug: str
    sent: str = "no"
    executed: str = "unknown"
    retry_after: str | None = None
    reason: str | None = None  # where it isn't the slug
    names: dict[str, str] | None = None  # members that must have this value


def check(answer: Answer, problem: Problem) -> None:
    """Hold *answer* against *problem*, headers against members."""
    members = answer.json
    assert set(members) >= ANSWER_NAMES
    assert (answer.status, members["status"]) == (problem.status, problem.status)
    assert members["type"] == f"urn:dedup-proxy:problem:{problem.slug}"
    assert members["title"].startswith("Dedup Proxy: ")
    assert len(members["detail"]) > 20
    assert answer.get("content-type") == "application/problem+json"
    for name in ("sent", "executed", "reason"):
        assert answer.get(f"dedup-{name}") == members[name]
    assert (members["sent"], members["executed"]) == (problem.sent, problem.executed)
    assert members["reason"] == (problem.reason or problem.slug)
    assert members["retryable"] is (answer.get("retry-after") is not None)
    if problem.retry_after == SOME:
        assert int(answer.get("retry-after") or 0) >= 1
    else:
        assert answer.get("retry-after") == problem.retry_after
    assert answer.get("dedup-entry") == members["entry"]
    if members["entry"] is None:
        assert members["instance"].startswith("urn:dedup-proxy:request:")
        assert members["entry_status"] in (None, "in_flight")  # a running attempt is known without its row
    else:
        assert members["instance"] == f"urn:dedup-proxy:entry:{members['entry']}"
        assert members["entry_status"] == answer.get("dedup-status")
    assert answer.get("via") is None
    assert problem.names is None or {name: members[name] for name in problem.names} == problem.names


CHARGE = {"provider": "pay", "operation": "charge"}
KEYED = {**CHARGE, "key": "k1"}

REFUSED: dict[str, tuple[Callable[[Policy], Policy], bytes, Problem]] = {
    "a key is required": (lambda p: p, request(key=None), Problem(status=400, slug="key-missing", executed="no", names=CHARGE)),
    "the key is invalid": (lambda p: p, request(key="a b"), Problem(status=400, slug="key-invalid", executed="no", names=CHARGE)),
    "no such provider": (lambda p: p, request("/x/charges"), Problem(status=403, slug="provider-unknown")),
    "no such operation": (
        lambda p: replace(p, providers={"pay": replace(p.providers["pay"], unmatched="refuse")}),
        request("/pay/other"),
        Problem(status=403, slug="provider-unknown", names={"provider": "pay"}),
    ),
    "not this caller's provider": (
        lambda p: replace(p, callers=(Caller(id="shop", name="shop", tokens=("t1",), providers=("mail",)),)),
        request(Dedup_Token="t1"),
        Problem(status=403, slug="provider-unknown"),
    ),
    "no token": (
        lambda p: replace(p, callers=(Caller(id="shop", name="shop", tokens=("t1",)),)),
        request(),
        Problem(status=401, slug="caller-unknown"),
    ),
    "a wrong token": (
        lambda p: replace(p, callers=(Caller(id="shop", name="shop", tokens=("t1",)),)),
        request(Dedup_Token="t2"),
        Problem(status=401, slug="caller-unknown"),
    ),
    "too large": (
        lambda p: replace(p, server=replace(p.server, max_request_body=5)),
        request(),
        Problem(status=413, slug="request-too-large", names=CHARGE),
    ),
    "a browser of another site": (lambda p: p, request(Origin="https://evil.test"), Problem(status=403, slug="origin-refused")),
    "signed, by prefix": (
        lambda p: p,
        request(Authorization="AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=b"),
        Problem(status=400, slug="signature-would-break", names=CHARGE),
    ),
    "no HTTP": (lambda p: p, b"GET\r\n\r\n", Problem(status=400, slug="request-invalid")),
    "the provider is not there": (
        lambda p: p,
        request(),
        Problem(status=502, slug="provider-unreachable", executed="no", retry_after="1", names=KEYED),
    ),
    "the provider is not there, unprotected": (
        lambda p: p,
        request("/pay/other", key=None),
        Problem(status=502, slug="provider-unreachable", retry_after="1", names={"provider": "pay"}),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rules", "data", "problem"), REFUSED.values(), ids=REFUSED)
async def test_refused_before_anything_was_sent(
    rules: Callable[[Policy], Policy], data: bytes, problem: Problem, tmp_path: Path
) -> None:
    async with proxying(rules(policy(provider(refused_port()))), tmp_path) as run:
        answer = await ask(run.port, data)
        check(answer, problem)
        assert len(run.said("request.answered")) == 1


def dropping(peer: Peer) -> None:
    """Read the request, then close."""
    peer.read_request()
    peer.close()


AMBIGUOUS = {
    "settling can tell": (operation(native=native()), "outcome-unknown", "outcome-unknown", SOME),
    "nothing can tell": (operation(), "outcome-held", "nothing-can-tell", None),
}


@pytest.mark.parametrize(("rule", "slug", "reason", "retry_after"), AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_an_answer_that_was_lost(
    rule: Operation, slug: str, reason: str, retry_after: str | None, tmp_path: Path
) -> None:
    with RawServer(dropping) as server:
        async with proxying(policy(provider(server.port, operations=(rule,))), tmp_path) as run:
            first, second = await ask(run.port, request()), await ask(run.port, request())
    common = {"slug": slug, "reason": reason, "retry_after": retry_after}
    check(first, Problem(status=504, sent="yes", names={**KEYED, "entry_status": "ambiguous"}, **common))
    check(second, Problem(status=409, sent="no", names={**KEYED, "entry_status": "ambiguous"}, **common))
    assert first.get("proxy-status") == "dedup-proxy; error=connection_terminated"
    assert second.get("proxy-status") is None
    assert server.begun == 1


UNPROTECTED = {
    "a safe method may be tried again": (
        "GET",
        Problem(status=504, slug="outcome-unknown", sent="yes", retry_after="1"),
    ),
    "an unsafe one not": ("POST", Problem(status=504, slug="outcome-held", sent="yes", reason="nothing-can-tell")),
}


@pytest.mark.parametrize(("method", "problem"), UNPROTECTED.values(), ids=UNPROTECTED)
async def test_an_answer_that_was_lost_without_protection(method: str, problem: Problem, tmp_path: Path) -> None:
    with RawServer(dropping) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            answer = await ask(run.port, request("/pay/other", method=method, key=None))
    check(answer, problem)
    assert answer.get("dedup-status") == ("bypassed" if method == "GET" else "unprotected")


async def test_a_providers_own_ambiguous_answer_is_passed_and_its_duplicates_are_told(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nsick"
    with RawServer(lambda peer: [peer.answer(answer) for _ in range(2)]) as server:  # type: ignore[arg-type, return-value]
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            first, second = await ask(run.port, request()), await ask(run.port, request())
    assert (first.status, first.phrase, first.body, first.get("dedup-executed")) == (500, b"Oops", b"sick", "unknown")
    assert (first.get("dedup-status"), first.get("dedup-sent")) == ("ambiguous", "yes")
    check(second, Problem(status=409, slug="outcome-held", reason="nothing-can-tell", names=KEYED))


async def test_the_same_key_with_another_body(tmp_path: Path) -> None:
    with RawServer(lambda peer: peer.answer() and None) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            await ask(run.port, request())
            answer = await ask(run.port, request(body=b"{}"))
    check(answer, Problem(status=422, slug="key-reused", names=KEYED))


KEPT = {
    "a success": (b"200 OK", "yes", "succeeded"),
    "a final no": (b"402 Payment Required", "no", "rejected"),
}


@pytest.mark.parametrize(("line", "executed", "status"), KEPT.values(), ids=KEPT)
async def test_the_answer_is_withheld(line: bytes, executed: str, status: str, tmp_path: Path) -> None:
    answer = b"HTTP/1.1 " + line + b"\r\nContent-Length: 2\r\n\r\nok"
    rule = operation(store=Store(answer="none"))
    with RawServer(lambda peer: peer.answer(answer) and None) as server:
        async with proxying(policy(provider(server.port, operations=(rule,))), tmp_path) as run:
            first, second = await ask(run.port, request()), await ask(run.port, request())
    assert (first.body, first.get("dedup-executed")) == (b"ok", executed)
    names = {**KEYED, "entry_status": status}
    check(second, Problem(status=409, slug="answer-not-stored", executed=executed, names=names))


async def test_a_body_that_stalls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BODY_IDLE_SECONDS", 0.1)
    async with proxying(policy(provider(1)), tmp_path) as run:
        check(await ask(run.port, request()[:-1]), Problem(status=400, slug="request-incomplete", names=CHARGE))


async def with_one_running(
    tmp_path: Path, rules: Callable[[int], Policy], then: Callable[[Running], Coroutine[Any, Any, None]]
) -> None:
    """Do *then* while the provider works on a request under key ``k1``; that one is answered in the end."""
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(peer: Peer) -> None:
        peer.read_request()
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(5)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with RawServer(script) as server:
        async with proxying(rules(server.port), tmp_path) as run, talking(run.port) as first:
            await first.send(request())
            await server.until(lambda: len(server.requests) == 1)
            await then(run)
            go_on.set()
            assert (await first.answer()).status == 200
    assert len(server.requests) == 1


@pytest.mark.parametrize("prefer", ["wait=0", 'respond-async, wait="0"', "wait = 0 ; x=1"])
async def test_another_request_is_still_running(prefer: str, tmp_path: Path) -> None:
    async def then(run: Running) -> None:
        answer = await ask(run.port, request(Prefer=prefer))
        check(answer, Problem(status=409, slug="in-progress", retry_after="1", names=KEYED))

    await with_one_running(tmp_path, lambda port: policy(provider(port)), then)


async def test_all_places_are_taken(tmp_path: Path) -> None:
    async def then(run: Running) -> None:
        busy = Problem(status=503, slug="provider-busy", executed="no", retry_after="1", names={**CHARGE, "key": "k2"})
        check(await ask(run.port, request(key="k2")), busy)

    rule = operation(timeout=Timeouts(connect_seconds=0.1, total_seconds=3.0))
    await with_one_running(tmp_path, lambda port: policy(provider(port, concurrency=1, operations=(rule,))), then)


async def test_a_callers_places_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def then(run: Running) -> None:
        check(await ask(run.port, request(key="k2")), Problem(status=503, slug="provider-busy", retry_after="1"))

    monkeypatch.setattr("proxy.server.front._PLACE_SECONDS", 0.1)
    caller = Caller(id="shop", name="shop", networks=("127.0.0.0/8",), concurrency=1)
    await with_one_running(tmp_path, lambda port: policy(provider(port), callers=(caller,)), then)


async def test_a_providers_retry_after_is_obeyed(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 429 Too Many\r\nRetry-After: 30\r\nContent-Length: 4\r\n\r\nslow"
    with RawServer(lambda peer: peer.answer(answer) and None) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            first, second = await ask(run.port, request()), await ask(run.port, request())
    assert (first.status, first.body, first.get("dedup-executed"), first.get("retry-after")) == (
        429,
        b"slow",
        "no",
        "30",
    )
    names = {**KEYED, "entry_status": "not_executed"}
    check(second, Problem(status=503, slug="provider-busy", executed="no", retry_after="30", names=names))


async def test_the_ledger_cannot_be_written(tmp_path: Path) -> None:
    rule = operation(timeout=QUICK)
    async with proxying(policy(provider(refused_port(), operations=(rule,))), tmp_path) as run:
        other = sqlite3.connect(tmp_path / "dedup.db", isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            answer = await ask(run.port, request())
        finally:
            other.close()
    check(answer, Problem(status=503, slug="ledger-unavailable", retry_after="1", names=KEYED))


async def test_a_proxy_that_shuts_down_says_so_and_ends_the_connection(tmp_path: Path) -> None:
    draining: list[asyncio.Task[int]] = []

    async def then(run: Running) -> None:
        async with talking(run.port) as talk:
            await talk.send(request("/x/y", method="GET", body=None))
            assert (await talk.answer("GET")).status == 403
            draining.append(asyncio.create_task(run.proxy.drain()))
            while not run.proxy._front.is_draining:
                await asyncio.sleep(0)
            await talk.send(request(key="k2"))
            answer = await talk.answer()
            check(answer, Problem(status=503, slug="draining", retry_after="1"))
            assert answer.get("connection") == "close"
            assert await talk.is_closed()
        ready = await ask(run.admin_port, request("/readyz", method="GET", body=None, key=None))
        assert ready.status == 503

    await with_one_running(tmp_path, lambda port: policy(provider(port)), then)
    assert await draining[0] == 0


async def test_a_failure_of_the_proxy_itself_is_told_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("made up")

    monkeypatch.setattr(Front, "answer", fail)
    async with proxying(policy(provider(1)), tmp_path) as run:
        answer = await ask(run.port, request())
        assert run.said("request.answered")[0]["reason"] == "internal-error"
    check(answer, Problem(status=500, slug="internal-error", sent="yes"))
    assert b"made up" not in answer.body
    assert "made up" in caplog.text


async def test_a_head_request_gets_the_problem_without_its_body(tmp_path: Path) -> None:
    async with proxying(policy(provider(1)), tmp_path) as run, talking(run.port) as talk:
        await talk.send(request("/x/y", method="HEAD", body=None))
        answer = await talk.answer("HEAD")
        assert (answer.status, answer.get("dedup-reason")) == (403, "provider-unknown")
        assert int(answer.get("content-length") or 0) > 100
        await talk.send(request("/x/y", method="GET", body=None))
        assert (await talk.answer("GET")).status == 403


ANSWERS = Answers(
    members={
        "message": "{detail}",
        "error": {
            "message": "Proxy: {detail} ({reason})",
            "status": "{status}",
            "retry": "{retryable}",
            "list": ["{sent}", 7],
        },
        "unknown": "{nothing} {key}",
        "title": "not ours to replace",
    },
    headers={"x-should-retry": "{retryable}", "x-detail": "{detail}\r\nx-evil: 1", "Content-Length": "3"},
    content_type="application/json; charset=utf-8",
)


async def test_a_providers_answers_add_what_its_sdk_wants_to_see(tmp_path: Path) -> None:
    async with proxying(policy(provider(1, answers=ANSWERS)), tmp_path) as run:
        answer = await ask(run.port, request(key=None))
    members = answer.json
    assert answer.get("content-type") == "application/json; charset=utf-8"
    assert members["title"].startswith("Dedup Proxy: ")
    assert members["message"] == members["detail"]
    assert members["error"] == {
        "message": f"Proxy: {members['detail']} (key-missing)", "status": 400, "retry": False, "list": ["no", 7],
    }  # fmt: skip
    assert members["unknown"] == "{nothing} "
    assert answer.get("x-should-retry") == "false"
    assert answer.get("x-detail") == f"{members['detail']} x-evil: 1"
    assert answer.get("x-evil") is None


async def test_an_operations_answers_stand_over_its_providers(tmp_path: Path) -> None:
    own = Answers(members={"message": "own"}, headers={"x-should-retry": "own"})
    rule = operation(answers=own)
    async with proxying(policy(provider(1, answers=ANSWERS, operations=(rule,))), tmp_path) as run:
        answer = await ask(run.port, request(key=None))
    assert (answer.json["message"], answer.get("x-should-retry")) == ("own", "own")
    assert answer.json["error"]["status"] == 400
    assert answer.get("content-type") == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.0, b"1"), (0.2, b"1"), (1.0, b"1"), (1.01, b"2"), (86_400.0, b"86400")]
)
def test_retry_after_is_whole_seconds_and_never_too_few(seconds: float, told: bytes) -> None:
    problem = replace(refusal(Reason.DRAINING, "x"), retry_after=seconds)
    assert (b"Retry-After", told) in render(problem, provider=None, request_id="r").headers
