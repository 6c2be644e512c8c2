"""The image, as far as reading its recipe can tell."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tests.project.paths import ROOT

Instruction = tuple[str, str]


def instructions() -> list[Instruction]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    joined = text.replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def last_stage() -> list[Instruction]:
    found = instructions()
    start = max(i for i, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


def of(word: str) -> str:
    """The last such instruction of the image itself."""
    return [rest for name, rest in last_stage() if name == word][-1]


def test_it_does_not_run_as_root() -> None:
    user = of("USER").split(":")[0]
    assert user.isdecimal()
    assert int(user) > 0
    assert not [word for word, _ in last_stage()[last_stage().index(("USER", of("USER"))) :] if word == "RUN"]


def test_ledger_and_configuration_are_volumes() -> None:
    assert json.loads(of("VOLUME")) == ["/data", "/etc/dedup-proxy"]


def test_it_serves_the_mounted_configuration() -> None:
    assert json.loads(of("ENTRYPOINT")) == ["dedup-proxy"]
    assert json.loads(of("CMD")) == ["serve", "--config", "/etc/dedup-proxy/config.yaml"]


def test_what_it_copies_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sources = [
        source.rstrip("/")
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source.split('/')[0]}" in {line.rstrip("/") for line in ignored}, source


def test_both_stages_have_the_same_python() -> None:
    images = {rest.split()[0] for word, rest in instructions() if word == "FROM"}
    assert len(images) == 1


def test_dependencies_come_from_the_locks() -> None:
    installs = [
        command
        for word, rest in instructions()
        if word == "RUN"
        for command in rest.split("&&")
        if "pip install" in command
    ]
    assert installs
    assert all("--require-hashes" in command or "--no-index" in command for command in installs)


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 503)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def health() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Health) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("path", "is_healthy"), [("/healthz", True), ("/readyz", False)])
def test_the_health_check_asks_the_admin_listener_past_any_proxy(health: int, path: str, is_healthy: bool) -> None:
    default = re.search(r"HEALTH_URL=(\S+)", of("ENV"))
    assert default is not None
    assert default[1] == "http://127.0.0.1:8081/healthz"
    python, *arguments = ast.literal_eval(of("HEALTHCHECK").partition("CMD ")[2])
    assert python == "python"
    environment = {**os.environ, "HEALTH_URL": f"http://127.0.0.1:{health}{path}", "http_proxy": "http://127.0.0.1:9"}
    ended = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False)
    assert (ended.returncode == 0) is is_healthy
