"""The log's lines, and counts that a scrape can't show by itself."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from proxy.telemetry.log import Bridge, Level, Log, level_named
from proxy.telemetry.metrics import Metrics
from tests.http.kit import ask, operation, policy, provider, proxying, request
from tests.support.raw_server import Peer, RawServer, serve_forever


def log_at(level: Level) -> tuple[Log, io.StringIO]:
    """A log that writes at *level*, and what it wrote."""
    lines = io.StringIO()
    return Log(level=level, wall=lambda: 1_700_000_000.25, stream=lines), lines


def test_a_line_has_its_time_level_and_event_first() -> None:
    log, lines = log_at(Level.INFO)
    log.info("request.answered", status=200, entry=None)
    assert lines.getvalue() == (
        '{"ts":"2023-11-14T22:13:20.250Z","level":"info","event":"request.answered","status":200,"entry":null}\n'
    )


@pytest.mark.parametrize(
    ("level", "said"),
    [("debug", "diwe"), ("info", "iwe"), ("warning", "we"), ("error", "e"), ("off", "")],
)
def test_a_level_says_what_it_says_and_an_announcement_is_always_heard(level: str, said: str) -> None:
    log, lines = log_at(level_named(level))
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    log.announce("a")
    assert "".join(json.loads(line)["event"] for line in lines.getvalue().splitlines()) == said + "a"


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="loud"):
        level_named("loud")


def test_a_reader_that_went_away_stops_nothing() -> None:
    log, lines = log_at(Level.INFO)
    lines.close()
    log.error("server.failed")


def test_what_libraries_log_becomes_lines_of_ours() -> None:
    log, lines = log_at(Level.WARNING)
    logger = logging.Logger("library")  # noqa: LOG001 - one of its own, so that nobody else hears it
    logger.addHandler(Bridge(log))
    logger.info("quiet")
    try:
        raise RuntimeError("made up")
    except RuntimeError:
        logger.exception("it failed: %s", "badly")
    (line,) = [json.loads(text) for text in lines.getvalue().splitlines()]
    assert (line["level"], line["logger"], line["message"], line["error"]) == (
        "error",
        "library",
        "it failed: badly",
        "RuntimeError",
    )
    assert "made up" in line["trace"]


FIELDS = {
    "ts", "level", "event", "method", "provider", "operation", "caller", "decision", "reason", "status", "executed", "sent",
    "entry", "seconds",
}  # fmt: skip


async def test_each_request_is_one_line_without_secrets_keys_paths_or_bodies(tmp_path: Path) -> None:
    secrets = {"Authorization": "Bearer s3cret-1", "Cookie": "session=s3cret-2", "X_Api_Key": "s3cret-3"}
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port)), tmp_path) as run:
            for path in ("/pay/charges?card=s3cret-4", "/pay/s3cret-5", "/pay/charges"):
                await ask(run.port, request(path, key="s3cret-key", body=b'"s3cret-6"', **secrets))
            text = run.lines.getvalue()
            answered = run.said("request.answered")
    assert "s3cret" not in text
    assert len(answered) == 3
    assert all(set(line) == FIELDS for line in answered)


async def test_decisions_are_counted(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        serve_forever(peer, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    rules = (operation(), operation("optional", match="POST /optional"))
    with RawServer(script) as server:
        async with proxying(policy(provider(server.port, operations=rules)), tmp_path) as run:
            for data in (
                request(), request(), request(body=b"{}"), request(key=None), request("/pay/x", method="GET", body=None),
                request("/pay/other", key=None),
            ):  # fmt: skip
                await ask(run.port, data)
            counted = {
                (decision, reason): run.sample(
                    "dedup_requests_total", provider="pay", operation=name, decision=decision, reason=reason
                )
                for name, decision, reason in (
                    ("charge", "sent", "answered"),
                    ("charge", "replayed", "replayed"),
                    ("charge", "refused", "key-reused"),
                    ("charge", "refused", "key-missing"),
                    ("", "passed", "safe-method"),
                    ("unmatched", "passed", "no-key"),
                )
            }
            assert set(counted.values()) == {1.0}
            assert run.sample("dedup_unprotected_total", provider="pay") == 1
            assert run.sample("dedup_ledger_batch_size_count") >= 2


COUNTED: dict[str, tuple[tuple[Any, ...], str, dict[str, str], float]] = {
    "contradicted": ((), "dedup_contradictions_total", {}, 1),
    "transition_refused": ((), "dedup_illegal_transitions_total", {}, 1),
    "became_ambiguous": (("p", "o"), "dedup_ambiguous_total", {"provider": "p", "operation": "o"}, 1),
    "expressions_failed": (("p", "o", 3), "dedup_expression_errors_total", {"provider": "p", "operation": "o"}, 3),
    "passed_unprotected": (("p",), "dedup_unprotected_total", {"provider": "p"}, 1),
    "duplicate_prevented": (("p", "o"), "dedup_duplicates_prevented_total", {"provider": "p", "operation": "o"}, 1),
    "attempt_done": (("p", "o", "answered"), "dedup_upstream_attempts_total", {"provider": "p", "operation": "o", "outcome": "answered"}, 1),
    "upstream_done": (("p", "o", 0.5), "dedup_upstream_seconds_sum", {"provider": "p", "operation": "o"}, 0.5),
    "committed": ((0.5, 7), "dedup_ledger_batch_size_sum", {}, 7),
    "answered": (("p", "sent", 0.5), "dedup_request_seconds_sum", {"provider": "p", "decision": "sent"}, 0.5),
}  # fmt: skip


@pytest.mark.parametrize(("event", "case"), COUNTED.items())
def test_each_event_moves_its_metric(event: str, case: tuple[tuple[Any, ...], str, dict[str, str], float]) -> None:
    arguments, name, labels, value = case
    metrics = Metrics()
    getattr(metrics, event)(*arguments)
    assert metrics.registry.get_sample_value(name, labels) == value


def test_two_processes_worth_of_metrics_in_one_do_not_meet() -> None:
    first, second = Metrics(), Metrics()
    first.contradicted()
    assert second.registry.get_sample_value("dedup_contradictions_total") == 0


def test_a_provider_that_left_the_ledger_leaves_the_gauges() -> None:
    metrics = Metrics()
    metrics.expose({("old", "succeeded"): 1}, {"old": 5.0})
    text = metrics.expose({("new", "ambiguous"): 2}, {}).decode()
    assert '"old"' not in text
    assert 'dedup_entries{provider="new",status="ambiguous"} 2.0' in text
    assert 'dedup_entries{provider="new",status="succeeded"} 0.0' in text
