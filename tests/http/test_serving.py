"""The process: what it says when it serves, how it ends, and with which status when it can't begin."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.core.ports import LedgerUnavailable
from proxy.server.checkpoints import NoCheckpoints, Trap, TrappedCheckpoints, checkpoints_from
from proxy.server.sweep import SWEEP_ENTRIES_MAX, sweep, sweep_forever
from tests.http.kit import ask, request, talking
from tests.support.process import ProxyProcess
from tests.support.raw_server import Peer, RawServer


def config(port: int, **server: Any) -> dict[str, Any]:
    """One provider on loopback with one operation."""
    charge = {"name": "charge", "match": ["POST /charges"], "key": {"from": ['headers."idempotency-key"']}}
    pay = {"base_url": f"http://127.0.0.1:{port}", "allow_private": True, "operations": [charge]}
    return {"server": {"drain": "5s", **server}, "providers": {"pay": pay}}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ProxyProcess]:
    """A proxy process, not started; killed at the end."""
    chosen = ProxyProcess(tmp_path, "proxy", config(1))
    yield chosen
    if chosen.process is not None and chosen.process.poll() is None:
        chosen.kill()


def lines(process: ProxyProcess) -> list[dict[str, Any]]:
    """Its log; what is no JSON is left out."""
    return [json.loads(line) for line in process.logs().splitlines() if line.startswith("{")]


async def test_it_says_once_where_it_serves_and_ends_in_order(process: ProxyProcess) -> None:
    process.env = {"DEDUP_LOG_LEVEL": "off"}
    process.start()
    assert process.terminate() == 0
    said = lines(process)
    assert [line["event"] for line in said] == ["server.started", "server.draining", "server.stopped"]
    assert (said[0]["listen"], said[0]["admin_listen"]) == (
        f"127.0.0.1:{process.port}",
        f"127.0.0.1:{process.admin_port}",
    )
    assert (said[1]["signal"], said[2]["cut_short"]) == ("SIGTERM", 0)


async def test_requests_under_way_are_finished_and_new_ones_refused(process: ProxyProcess) -> None:
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(peer: Peer) -> None:
        peer.read_request()
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with RawServer(script) as server:
        process.config = config(server.port)
        process.start()
        async with talking(process.port) as running, talking(process.port) as resting:
            await running.send(request())
            await resting.send(request("/x/y", method="GET", body=None))
            assert (await resting.answer("GET")).status == 403
            await server.until(lambda: len(server.requests) == 1)
            os.kill(process.pid, signal.SIGTERM)
            while "server.draining" not in process.logs():
                await asyncio.sleep(0.01)
            await resting.send(request(key="k2"))
            refused = await resting.answer()
            assert (refused.status, refused.get("dedup-reason"), refused.get("connection")) == (
                503,
                "draining",
                "close",
            )
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", process.port)
            go_on.set()
            answer = await running.answer()
            assert (answer.status, answer.get("dedup-executed"), answer.get("connection")) == (200, "yes", "close")
        assert process.wait_gone() == 0
    assert lines(process)[-1] == {**lines(process)[-1], "event": "server.stopped", "cut_short": 0}


def hanging(peer: Peer) -> None:
    """Read, and never answer."""
    peer.read_request()
    peer.read_rest()


async def test_what_does_not_end_in_time_is_cut_short_told_and_recorded(process: ProxyProcess) -> None:
    with RawServer(hanging) as server:
        process.config = config(server.port, drain="300ms")
        process.start()
        async with talking(process.port) as talk:
            await talk.send(request())
            await server.until(lambda: len(server.requests) == 1)
            os.kill(process.pid, signal.SIGTERM)
            answer = await talk.answer()
            assert (answer.status, answer.get("dedup-sent"), answer.get("dedup-executed")) == (504, "yes", "unknown")
            assert answer.get("dedup-status") == "ambiguous"
        assert process.wait_gone() == 0
        assert lines(process)[-1]["cut_short"] == 1
        process.restart()
        again = await ask(process.port, request())
        assert (again.status, again.get("dedup-reason"), len(server.requests)) == (409, "nothing-can-tell", 1)


async def test_a_second_signal_ends_it_at_once(process: ProxyProcess) -> None:
    with RawServer(hanging) as server:
        process.config = config(server.port, drain="30s")
        process.start()
        async with talking(process.port) as talk:
            await talk.send(request())
            await server.until(lambda: len(server.requests) == 1)
            os.kill(process.pid, signal.SIGINT)
            while "server.draining" not in process.logs():
                await asyncio.sleep(0.01)
            os.kill(process.pid, signal.SIGINT)
            assert process.wait_gone() == 130


async def test_a_port_that_is_taken_is_status_2(process: ProxyProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process.config = config(1, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        process.start(wait=False)
        assert process.wait_gone() == 2
    assert lines(process)[-1]["event"] == "server.failed"


async def test_a_ledger_that_cannot_be_opened_is_status_3(process: ProxyProcess) -> None:
    process.config = {**config(1), "ledger": {"url": "postgresql://nobody:secret@127.0.0.1:1/none"}}
    process.start(wait=False)
    assert process.wait_gone() == 3
    assert lines(process)[-1]["event"] == "ledger.failed"
    assert "secret" not in process.logs()


@pytest.mark.parametrize("variable", [("DEDUP_CHECKPOINT", "nowhere:crash"), ("DEDUP_LOG_LEVEL", "loud")])
async def test_a_variable_that_means_nothing_is_status_2(variable: tuple[str, str], process: ProxyProcess) -> None:
    process.env = dict([variable])
    process.start(wait=False)
    assert process.wait_gone() == 2
    assert lines(process)[-1]["event"] == "server.failed"


CHECKPOINTS = {
    "after_claim:crash": {"after_claim": Trap("crash", 5.0, 1)},
    "before_send:stop:3": {"before_send": Trap("stop", 5.0, 3)},
    "after_send:sleep=0.5": {"after_send": Trap("sleep", 0.5, 1)},
    "before_record:sleep": {"before_record": Trap("sleep", 5.0, 1)},
    "after_claim:sleep=1:2, after_record:crash": {
        "after_claim": Trap("sleep", 1.0, 2),
        "after_record": Trap("crash", 5.0, 1),
    },
}


@pytest.mark.parametrize(("text", "traps"), CHECKPOINTS.items())
def test_checkpoints_are_read(text: str, traps: dict[str, Trap]) -> None:
    found = checkpoints_from({"DEDUP_CHECKPOINT": text})
    assert isinstance(found, TrappedCheckpoints)
    assert found._traps == traps


def test_without_the_variable_nothing_is_there_to_reach() -> None:
    assert isinstance(checkpoints_from({}), NoCheckpoints)


@pytest.mark.parametrize(
    "text", ["after_claim", "after_claim:", "x:crash", "after_claim:burn", "after_claim:sleep=x", "after_claim:crash:x"]
)
def test_checkpoints_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        checkpoints_from({"DEDUP_CHECKPOINT": text})


async def test_a_checkpoint_is_sprung_the_time_it_says_and_once() -> None:
    reached = checkpoints_from({"DEDUP_CHECKPOINT": "after_claim:sleep=0.05:2"})
    clock = asyncio.get_running_loop().time
    took = []
    for name in ("after_claim", "before_send", "after_claim", "after_claim"):
        began = clock()
        await reached.reach(name)
        took.append(clock() - began >= 0.04)  # a timer may fire a little early
    assert took == [False, False, True, False]


class Leases:
    """A ledger with that many leases over; the first *failures* calls fail."""

    def __init__(self, over: int, failures: int = 0) -> None:
        self.over = over
        self.failures = failures
        self.calls = 0

    async def expire_leases(self, limit: int) -> int:
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise LedgerUnavailable("made up")
        count = min(limit, self.over)
        self.over -= count
        return count


async def test_a_pass_of_the_sweep_goes_on_until_no_lease_is_over() -> None:
    leases = Leases(2 * SWEEP_ENTRIES_MAX + 7)
    assert await sweep(leases) == 2 * SWEEP_ENTRIES_MAX + 7
    assert (leases.over, leases.calls) == (0, 3)


async def test_the_sweep_outlives_the_ledgers_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from proxy.telemetry.log import Level, Log

    monkeypatch.setattr("proxy.server.sweep.SWEEP_SECONDS", 0.001)
    leases, lines_written = Leases(3, failures=3), io.StringIO()
    sweeping = asyncio.create_task(sweep_forever(leases, Log(level=Level.INFO, wall=lambda: 0.0, stream=lines_written)))
    async with asyncio.timeout(5):
        while leases.over:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
    events = [json.loads(line)["event"] for line in lines_written.getvalue().splitlines()]
    assert events == ["leases.unswept", "leases.expired"]
