"""What each command prints and how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.scene import Scene, scene
from tests.support.postgres import Postgres
from tests.support.process import ROOT

FINE, FOUND, USAGE, UNREACHABLE = 0, 1, 2, 3
CONFIG = """
version: 1
ledger: {url: "sqlite:///LEDGER"}
providers:
  pay:
    base_url: https://pay.example/v1
    operations:
      - name: charge
        match: POST /charges
        native: {header: X-Request-Id, retention: 24h}
      - name: mail
        match: POST /mails
        key: {from: [[body.template, body.order]], window: 1h}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.replace("LEDGER", str(tmp_path / "dedup.db")))
    return path


def run(*words: str, config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxy", *words, "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


def explained(*words: str, config: Path) -> dict[str, Any]:
    done = run("explain", *words, "--json", config=config)
    assert done.returncode == FINE, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_check_prints_the_effective_rules_of_a_configuration_that_is_fine(config: Path) -> None:
    done = run("check", config=config)

    assert (done.returncode, "total: 30s" in done.stdout) == (FINE, True), done.stdout + done.stderr


def test_check_names_every_problem_with_its_line(config: Path) -> None:
    config.write_text(
        config.read_text().replace("retention: 24h", "retention: soon").replace("window: 1h", "windw: 1h")
    )

    done = run("check", config=config)

    assert done.returncode == USAGE
    lines = done.stderr.splitlines()
    assert any("config.yaml:10" in line and "retention" in line for line in lines), done.stderr
    assert any("config.yaml:13" in line and "window" in line for line in lines), done.stderr


@pytest.mark.parametrize("command", [["serve"], ["explain", "GET", "/x"], ["ledger", "list"], ["migrate"]])
def test_no_command_runs_on_a_configuration_that_is_wrong(config: Path, command: list[str]) -> None:
    config.write_text("providers: [")

    done = run(*command, config=config)

    assert (done.returncode, "config.yaml:1" in done.stderr) == (USAGE, True), done.stderr


def test_explain_says_what_would_be_done_and_sends_nothing(config: Path) -> None:
    told = explained("POST", "/pay/charges", "-H", 'Idempotency-Key: "k1"', "-d", '{"a": 1}', config=config)

    assert {name: told[name] for name in ("provider", "operation", "key", "key_is", "decision", "reason", "outgoing_place")} == {
        "provider": "pay", "operation": "charge", "key": "k1", "key_is": "given", "decision": "claim", "reason": "new",
        "outgoing_place": "header X-Request-Id",
    }  # fmt: skip
    assert len(told["outgoing_key"]) == 36
    assert not (config.parent / "dedup.db").exists()


def test_explain_takes_a_providers_own_url(config: Path) -> None:
    by_path = explained("POST", "/pay/charges", "-H", "Idempotency-Key: k1", config=config)
    by_url = explained("POST", "https://pay.example/v1/charges", "-H", "Idempotency-Key: k1", config=config)

    assert by_url["outgoing_key"] == by_path["outgoing_key"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["POST", "/pay/charges"], {"decision": "refuse", "problem": "key-missing", "status": 400}),
        (["POST", "/pay/charges", "-H", "Idempotency-Key: a,b"], {"decision": "refuse", "problem": "key-invalid"}),
        (["POST", "/pay/mails", "-d", "{"], {"decision": "refuse", "problem": "key-missing"}),
        (["POST", "/pay/mails", "-d", '{"template": "t", "order": 7}'], {"decision": "claim", "key_is": "computed"}),
        (["GET", "/pay/anything"], {"decision": "pass", "reason": "safe-method"}),
        (["POST", "/pay/other"], {"decision": "pass", "operation": "unmatched", "protected": False}),
        (["POST", "/nobody/x"], {"decision": "refuse", "problem": "provider-unknown", "status": 403}),
    ],
)  # fmt: skip
def test_explain_gives_its_reason(config: Path, words: list[str], expected: dict[str, Any]) -> None:
    told = explained(*words, config=config)

    assert {name: told.get(name) for name in expected} == expected


def test_explain_refuses_words_it_does_not_understand(config: Path) -> None:
    assert run("explain", "POST", "/pay/charges", "-H", "nonsense", config=config).returncode == USAGE
    assert run("explain", "POST", "/pay/charges", "-d", "@/not/there", config=config).returncode == USAGE


def test_the_schema_is_json(config: Path) -> None:
    done = run("schema", config=config)

    assert done.returncode == FINE
    assert "providers" in json.loads(done.stdout)["properties"]


@pytest.fixture(params=["sqlite", "postgresql"])
def played(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres) -> Iterator[Scene]:
    with scene(tmp_path, engine=request.param, postgres=postgres) as running:
        yield running


async def test_the_ledger_is_listed_and_shown_while_a_proxy_serves_it_and_after(played: Scene) -> None:
    proxy = played.start(wait="300ms")
    await played.ask(proxy, "done")
    await played.ask(proxy, "lost", behave="effect,drop")

    for is_serving in (True, False):
        if not is_serving:
            assert proxy.terminate() == 0, proxy.logs()
        listed = proxy.command("ledger", "list", "--json")
        assert listed.returncode == FINE, listed.stderr
        entries = json.loads(listed.stdout)["entries"]
        assert [(e["key"], e["status"], e["executed"]) for e in entries] == [
            ("lost", "ambiguous", "unknown"),
            ("done", "succeeded", "yes"),
        ]
        filtered = proxy.command("ledger", "list", "--status", "ambiguous", "--fail-on-ambiguous")
        assert (filtered.returncode, "lost" in filtered.stdout, "done" in filtered.stdout) == (FOUND, True, False)
        page = json.loads(proxy.command("ledger", "list", "--limit", "1", "--json").stdout)
        after = proxy.command("ledger", "list", "--limit", "1", "--json", "--cursor", page["next_cursor"])
        assert [e["key"] for e in json.loads(after.stdout)["entries"]] == ["done"]
        shown = proxy.command("ledger", "show", entries[0]["id"], "--json")
        document = json.loads(shown.stdout)
        assert (document["key"], [a["open"] for a in document["attempt_log"]]) == ("lost", [True])
        assert proxy.command("ledger", "show", "f" * 32 + "-1").returncode == FOUND
        assert proxy.command("ledger", "list", "--status", "nonsense").returncode == USAGE


async def test_the_ledger_can_be_read_through_the_admin_listener(played: Scene) -> None:
    proxy = played.start()
    await played.ask(proxy, "done")

    there = proxy.command("ledger", "list", "--admin", proxy.admin_url, "--json")
    nobody = proxy.command("ledger", "list", "--admin", "http://127.0.0.1:1", "--json")

    assert [e["key"] for e in json.loads(there.stdout)["entries"]] == ["done"]
    assert nobody.returncode == UNREACHABLE


def test_serve_refuses_a_postgresql_ledger_that_is_behind_and_migrate_brings_it_up(played: Scene) -> None:
    if not played.ledger_url.startswith("postgresql"):
        proxy = played.start()
        assert proxy.terminate() == 0  # SQLite is made and upgraded by serve itself
        return
    proxy = played.prepare()
    refused = proxy.command("serve")
    assert (refused.returncode, "dedup-proxy migrate" in refused.stderr) == (UNREACHABLE, True), refused.stderr

    for before in ("absent", "current"):
        migrated = proxy.command("migrate", "--json")
        assert (migrated.returncode, json.loads(migrated.stdout)) == (FINE, {"before": before, "after": "current"})
    proxy.start()


def test_a_ledger_that_is_not_reachable_is_exit_3(config: Path) -> None:
    text = config.read_text()
    config.write_text(
        text[: text.index("ledger:")]
        + 'ledger: {url: "postgresql://u:secret@127.0.0.1:1/x"}\n'
        + text[text.index("providers:") :]
    )

    for command in (["ledger", "list"], ["migrate"], ["serve"]):
        done = run(*command, config=config)
        assert done.returncode == UNREACHABLE, done.stderr
        assert "secret" not in done.stderr + done.stdout
