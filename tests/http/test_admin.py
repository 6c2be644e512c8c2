"""The admin listener: health, metrics, entries, and who may ask."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from pathlib import Path

import pytest

from proxy.admin.query import Query, QueryInvalid, Wanted, read_query
from proxy.core.model import Status
from tests.http.kit import Answer, Running, ask, computed_key, native, operation, policy, provider, proxying, request
from tests.project.paths import ROOT
from tests.support.raw_server import Peer, RawServer, serve_forever

TOKENS = {"ops": ("ops-token", "operator"), "finance": ("fin-token", "reader")}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def get(run: Running, path: str, **headers: str) -> Answer:
    """Ask the admin listener."""
    return await ask(run.admin_port, request(path, method="GET", body=None, key=None, **headers))


async def test_it_is_alive_and_ready(tmp_path: Path) -> None:
    async with proxying(policy(provider(1)), tmp_path) as run:
        alive, ready = await get(run, "/healthz"), await get(run, "/readyz")
    assert (alive.status, alive.json) == (200, {"status": "alive"})
    assert (ready.status, ready.json) == (200, {"status": "ready"})
    assert ready.get("cache-control") == "no-store"


async def test_it_is_not_ready_on_a_ledger_of_another_schema(tmp_path: Path) -> None:
    async with proxying(policy(provider(1)), tmp_path) as run:
        other = sqlite3.connect(tmp_path / "dedup.db")
        with other:
            other.execute("UPDATE alembic_version SET version_num = '9999'")
        other.close()
        ready, alive = await get(run, "/readyz"), await get(run, "/healthz")
    assert (ready.status, ready.json["type"]) == (503, "urn:dedup-proxy:problem:ledger-unavailable")
    assert "newer" in ready.json["detail"]
    assert alive.status == 200


async def test_entries_tell_what_the_ledger_knows(tmp_path: Path) -> None:
    async with RunningWithThree(tmp_path) as run:
        page = await get(run, "/v1/entries")
        entries = page.json["entries"]
        assert [entry["key"] for entry in entries] == ["k3", "k2", "k1"]
        assert page.json["next_cursor"] is None
        first = entries[-1]
        shown = (await get(run, f"/v1/entries/{first['id']}")).json
    assert set(first) == {
        "id", "provider", "operation", "caller", "key", "generation", "outgoing_key", "status", "executed", "reason", "doubt",
        "attempts", "fingerprint", "created_at", "updated_at", "expires_at", "facts", "upstream_status", "answer_stored",
        "settling",
    }  # fmt: skip
    assert all(TIME.fullmatch(first[name]) for name in ("created_at", "updated_at", "expires_at"))
    assert {name: first[name] for name in ("provider", "operation", "caller", "generation", "status", "executed", "doubt")} == {
        "provider": "pay", "operation": "charge", "caller": "", "generation": 1, "status": "succeeded", "executed": "yes",
        "doubt": False,
    }  # fmt: skip
    assert (first["upstream_status"], first["attempts"], first["settling"]) == (200, 1, None)
    assert {**first, "answer_stored": True} == {name: shown[name] for name in first}
    (attempt,) = shown["attempt_log"]
    assert set(attempt) == {"number", "claimed_at", "quiet_at", "open", "status", "reason"}
    assert (attempt["number"], attempt["open"], attempt["status"]) == (1, False, "succeeded")
    assert shown["history"] == []


async def test_an_ambiguous_entry_waits_or_is_held(tmp_path: Path) -> None:
    def dropping(peer: Peer) -> None:
        peer.read_request()

    rules = (operation(), operation("keyed", match="POST /keyed", native=native()))
    with RawServer(dropping) as server:
        async with proxying(policy(provider(server.port, operations=rules)), tmp_path) as run:
            for path in ("/pay/charges", "/pay/keyed"):
                assert (await ask(run.port, request(path))).status == 504
            keyed, blind = (await get(run, "/v1/entries?status=ambiguous")).json["entries"]
    assert (blind["settling"], keyed["settling"]) == (
        {"state": "held", "next_at": None, "tries": 0},
        {"state": "waiting", "next_at": None, "tries": 0},
    )
    assert (blind["doubt"], blind["executed"], blind["reason"]) == (True, "unknown", "answer-lost")


class RunningWithThree:
    """A proxy after three calls."""

    def __init__(self, directory: Path, **server: object) -> None:
        self._server = RawServer(serve_forever)
        self._directory = directory
        self._rules = server

    async def __aenter__(self) -> Running:
        self._server.__enter__()
        self._proxying = proxying(policy(provider(self._server.port), **self._rules), self._directory)
        run = await self._proxying.__aenter__()
        for key in ("k1", "k2", "k3"):
            await ask(run.port, request(key=key))
        return run

    async def __aexit__(self, *error: object) -> None:
        await self._proxying.__aexit__(None, None, None)
        self._server.__exit__(None, None, None)


async def test_pages_follow_each_other_by_an_opaque_cursor(tmp_path: Path) -> None:
    async with RunningWithThree(tmp_path) as run:
        first = (await get(run, "/v1/entries?limit=2")).json
        await ask(run.port, request(key="k4"))
        second = (await get(run, f"/v1/entries?limit=2&cursor={first['next_cursor']}")).json
        oldest = (await get(run, "/v1/entries?order=oldest&limit=1")).json
        wrong = await get(run, "/v1/entries?cursor=nonsense")
        turned = await get(run, f"/v1/entries?order=oldest&cursor={first['next_cursor']}")
    assert [e["key"] for e in first["entries"]] == ["k3", "k2"]
    assert ([e["key"] for e in second["entries"]], second["next_cursor"]) == (["k1"], None)
    assert [e["key"] for e in oldest["entries"]] == ["k1"]
    assert [(answer.status, answer.json["type"]) for answer in (wrong, turned)] == [
        (400, "urn:dedup-proxy:problem:query-invalid")
    ] * 2


FILTERS = {
    "provider=pay": 3, "provider=other": 0, "operation=charge": 3, "operation=x": 0, "caller=": 3, "caller=shop": 0,
    "status=succeeded": 3, "status=ambiguous": 0, "reason=answered": 3, "reason=new": 0, "key=k2": 1, "key=k": 0,
    "key=g:k2": 0, "since=2020-01-01T00:00:00Z": 3, "until=2020-01-01T00:00:00%2B01:00": 0, "older_than=0s": 3,
    "older_than=1h": 0, "outgoing_key=x": 0, "status=succeeded&key=k3&limit=1": 1,
}  # fmt: skip


async def test_filters_narrow_the_listing(tmp_path: Path) -> None:
    async with RunningWithThree(tmp_path) as run:
        found = {query: len((await get(run, f"/v1/entries?{query}")).json["entries"]) for query in FILTERS}
    assert found == FILTERS


async def test_a_computed_key_is_found_by_its_digest(tmp_path: Path) -> None:
    rule = operation(key=computed_key("body.amount"))
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port, operations=(rule,))), tmp_path) as run:
            await ask(run.port, request(key=None))
            shown = (await get(run, "/v1/entries")).json["entries"][0]["key"]
            found = (await get(run, f"/v1/entries?key={shown}")).json["entries"]
    assert re.fullmatch(r"[0-9a-f]{64}", shown)
    assert len(found) == 1


INVALID = ["nonsense=1", "status=gone", "since=yesterday", "since=2026-01-01", "older_than=-5m", "older_than=x", "limit=0",
           "limit=1001", "limit=x", "limit=٣", "order=up", "key=a&key=b"]  # fmt: skip


@pytest.mark.parametrize("query", INVALID)
def test_a_query_that_means_nothing_is_refused(query: str) -> None:
    pairs = [tuple(part.split("=", 1)) for part in query.split("&")]
    with pytest.raises(QueryInvalid):
        read_query(pairs, now=0)  # type: ignore[arg-type]


def test_a_query_is_read() -> None:
    words = {"status": "ambiguous", "key": "k", "since": "1970-01-01T00:00:01Z", "older_than": "1m30s", "limit": "7"}
    assert read_query(words.items(), now=100_000_000) == Query(
        wanted=Wanted(status=Status.AMBIGUOUS, keys=("g:k", "c:k"), since=1_000_000, unchanged_since=10_000_000),
        limit=7,
    )


UNSERVED = {
    "no such entry": ("GET", "/v1/entries/" + "0" * 32 + "-1", 404, "entry-unknown"),
    "an id that is none": ("GET", "/v1/entries/nonsense", 404, "entry-unknown"),
    "an id of another shape": ("GET", "/v1/entries/" + "0" * 32 + "-99999999999999999999", 404, "entry-unknown"),
    "no such path": ("GET", "/v2", 404, "not-served"),
    "another method": ("POST", "/v1/entries", 405, "not-served"),
    "a bad query": ("GET", "/v1/entries?x=1", 400, "query-invalid"),
}


@pytest.mark.parametrize(("method", "path", "status", "slug"), UNSERVED.values(), ids=UNSERVED)
async def test_every_error_is_problem_json(method: str, path: str, status: int, slug: str, tmp_path: Path) -> None:
    async with proxying(policy(provider(1)), tmp_path) as run:
        answer = await ask(run.admin_port, request(path, method=method, body=None))
    assert (answer.status, answer.json["status"], answer.json["type"]) == (
        status,
        status,
        f"urn:dedup-proxy:problem:{slug}",
    )
    assert answer.get("content-type") == "application/problem+json"
    assert answer.json["title"].startswith("Dedup Proxy: ")


ACCESS = {
    # path, Authorization -> status
    "health needs no token": ("/healthz", None, 200),
    "readiness needs no token": ("/readyz", None, 200),
    "metrics do": ("/metrics", None, 401),
    "entries do": ("/v1/entries", None, 401),
    "a path that is not served too": ("/v2", None, 401),
    "a reader's token": ("/v1/entries", "Bearer fin-token", 200),
    "an operator's token": ("/v1/entries", "bearer ops-token", 200),
    "metrics with a token": ("/metrics", "Bearer fin-token", 200),
    "a wrong token": ("/v1/entries", "Bearer fin-toke", 401),
    "another scheme": ("/v1/entries", "Basic fin-token", 401),
    "no scheme": ("/v1/entries", "fin-token", 401),
    "an empty token": ("/v1/entries", "Bearer ", 401),
}


@pytest.mark.parametrize(("path", "authorization", "status"), ACCESS.values(), ids=ACCESS)
async def test_tokens_are_asked_for_where_they_are_configured(
    path: str, authorization: str | None, status: int, tmp_path: Path
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with proxying(policy(provider(1), admin_tokens=TOKENS), tmp_path) as run:
        answer = await get(run, path, **headers)
        assert answer.status == status
        assert (answer.get("www-authenticate") is not None) is (status == 401)
        assert b"-token" not in answer.body.replace(b"token-missing", b"")
        by_name = await ask(run.admin_port, request("/healthz", method="GET", body=None, host="dedup.svc.cluster"))
        assert by_name.status == 200


@pytest.mark.parametrize(
    ("host", "status"), [("localhost:1", 200), ("127.0.0.1", 200), ("ops.internal", 200), ("evil.test", 403)]
)
async def test_without_tokens_it_answers_to_local_names_only(host: str, status: int, tmp_path: Path) -> None:
    async with proxying(policy(provider(1), hosts=("ops.internal",)), tmp_path) as run:
        answer = await ask(run.admin_port, request("/v1/entries", method="GET", body=None, host=host))
    assert answer.status == status


async def test_metrics_are_exposed_with_the_names_of_the_docs(tmp_path: Path) -> None:
    async with RunningWithThree(tmp_path) as run:
        await ask(run.port, request(key="k1"))
        answer = await get(run, "/metrics")
        again = await get(run, "/metrics")
    text = answer.body.decode()
    assert answer.get("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    for line in (
        'dedup_requests_total{decision="sent",operation="charge",provider="pay",reason="answered"} 3.0',
        'dedup_requests_total{decision="replayed",operation="charge",provider="pay",reason="replayed"} 1.0',
        'dedup_duplicates_prevented_total{operation="charge",provider="pay"} 1.0',
        'dedup_upstream_attempts_total{operation="charge",outcome="answered",provider="pay"} 3.0',
        'dedup_entries{provider="pay",status="succeeded"} 3.0',
        'dedup_entries{provider="pay",status="ambiguous"} 0.0',
        'dedup_oldest_ambiguous_seconds{provider="pay"} 0.0',
        "dedup_illegal_transitions_total 0.0",
        "dedup_contradictions_total 0.0",
    ):
        assert line in text.splitlines()
    assert "dedup_ledger_batch_size_count" in text
    assert "process_resident_memory_bytes" in text
    assert "_created" not in text
    assert "k1" not in text
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE dedup_")}
    documented = set(re.findall(r"^### `(dedup_[a-z_]+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    assert names == documented
    assert again.status == 200


async def test_a_ledger_that_cannot_be_counted_leaves_the_other_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxy.core.ports import LedgerUnavailable
    from proxy.server.reading import LedgerReading

    async def down(_: object) -> None:
        raise LedgerUnavailable("made up")

    async with proxying(policy(provider(1)), tmp_path) as run:
        monkeypatch.setattr(LedgerReading, "counts", down)
        answer = await get(run, "/metrics")
        entries = await get(run, "/v1/entries")
    assert (answer.status, entries.status) == (200, 200)
    assert b"dedup_illegal_transitions_total 0.0" in answer.body


async def test_the_oldest_ambiguous_entry_has_an_age(tmp_path: Path) -> None:
    def dropping(peer: Peer) -> None:
        peer.read_request()

    with RawServer(dropping) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            await ask(run.port, request())
            await asyncio.sleep(0.01)
            text = (await get(run, "/metrics")).body.decode()
    age = re.search(r'^dedup_oldest_ambiguous_seconds\{provider="pay"\} ([0-9.e-]+)$', text, re.MULTILINE)
    assert age is not None
    assert 0 < float(age[1]) < 10
