"""The commands that people, CI and docs use are the same ones."""

from __future__ import annotations

import os
import re
import subprocess

from tests.project.paths import ROOT, relative

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def make(*arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_pages_name_commands_that_exist() -> None:
    named = {
        (command, relative(page))
        for page in PAGES
        for command in re.findall(r"(?:^|`)(?:\$ )?make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert {(command, page) for command, page in named if command not in TARGETS} == set()


def test_a_bare_make_lists_every_command_with_a_sentence() -> None:
    listed = set(re.findall(r"^make ([a-z-]+) +\S", make(), re.MULTILINE))
    assert listed == TARGETS


def test_ci_runs_what_make_runs() -> None:
    script = (ROOT / ".ci/run").read_text()
    pytest_command = re.search(r"^PYTEST := \$\(BIN\)/(.+)$", MAKEFILE, re.MULTILINE)
    assert pytest_command is not None
    assert script.splitlines()[-1] == f"exec .venv/bin/{pytest_command[1]}"
    assert re.findall(r"^make .*?([a-z]+)$", script, re.MULTILINE) == ["setup", "check"]
    assert "set -euo pipefail" in script
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_serving_and_the_demo_are_started_through_the_package() -> None:
    assert "-m proxy serve --config config.yaml" in make("-n", "run")
    assert "-m proxy serve --config other.yaml" in make("-n", "run", "CONFIG=other.yaml")
    assert "-m proxy demo" in make("-n", "demo")
