"""Processes are started, waited for and ended as told: shown on a stand-in that does nothing but answer ``/readyz``."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import yaml

from tests.support.process import NotReady, ProxyProcess, complete, proxy_process

STAND_IN = """
import http.server, os, signal, sys, yaml

config = yaml.safe_load(open(sys.argv[-1]))
print("checkpoint", os.environ.get("DEDUP_CHECKPOINT"), flush=True)
if config.get("x-broken"):
    sys.exit("this configuration is broken")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if self.path == "/stop":
            os.kill(os.getpid(), signal.SIGSTOP)

signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
http.server.HTTPServer(("127.0.0.1", int(config["server"]["admin_listen"].split(":")[1])), Handler).serve_forever()
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The stand-in is found before the product: ``python -m`` looks in the working directory first."""
    (tmp_path / "proxy").mkdir()
    (tmp_path / "proxy" / "__init__.py").touch()
    (tmp_path / "proxy" / "__main__.py").write_text(STAND_IN)
    return tmp_path


def test_a_configuration_is_completed_with_addresses_and_a_ledger(tmp_path: Path) -> None:
    given = {"providers": {"a": {}}, "server": {"drain": "1s"}}
    assert complete(given, tmp_path, port=1, admin_port=2) == {
        "version": 1,
        "providers": {"a": {}},
        "server": {"listen": "127.0.0.1:1", "admin_listen": "127.0.0.1:2", "drain": "1s"},
        "ledger": {"url": f"sqlite:///{tmp_path}/dedup.db"},
    }


def test_it_is_ready_when_started_and_gone_when_left(directory: Path) -> None:
    with proxy_process(directory, {"x-a": 1}, checkpoint="after_claim:crash") as proxy:
        assert proxy.is_ready()
        assert yaml.safe_load(proxy.config_path.read_text())["x-a"] == 1
        assert "checkpoint after_claim:crash" in proxy.logs()
        pid = proxy.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_ends_by_the_signal_it_is_sent_and_starts_again_on_the_same_ports(directory: Path) -> None:
    with proxy_process(directory, {}) as proxy:
        url = proxy.admin_url
        assert proxy.terminate() == 7
        proxy.restart()
        proxy.kill()
        assert proxy.wait_gone() == -signal.SIGKILL
        assert proxy.restart(checkpoint="before_send:stop").is_ready()
        assert proxy.admin_url == url
        assert "checkpoint before_send:stop" in proxy.logs()


def test_a_paused_process_does_not_answer_until_it_is_resumed(directory: Path) -> None:
    with proxy_process(directory, {}) as proxy:
        proxy.pause()
        proxy.resume()
        assert proxy.is_ready()
        proxy.pause()  # and a paused one is killed all the same


def test_one_that_does_not_start_is_an_error_with_its_words(directory: Path) -> None:
    proxy = ProxyProcess(directory, "proxy", {"x-broken": True})
    with pytest.raises(NotReady, match=r"exit status 1\)\n(?s:.*)this configuration is broken"):
        proxy.start()


def test_variables_of_the_developer_do_not_reach_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEDUP_CHECKPOINT", "after_send:crash")
    with proxy_process(directory, {}) as proxy:
        assert "checkpoint None" in proxy.logs()
