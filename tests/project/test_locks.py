"""The locked requirements are what pyproject.toml asks for, each with its hashes, from nowhere in particular."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project.paths import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {
    "run": PROJECT["project"]["dependencies"],
    "build": PROJECT["dependency-groups"]["build"],
    "dev": PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"],
}
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?: *; *(?P<marker>[^\\]+))?", re.MULTILINE)


def text(lock: str) -> str:
    return (ROOT / "requirements" / f"{lock}.txt").read_text()


def pins(lock: str) -> dict[str, set[str]]:
    """Every locked version of every package; a universal lock may have several of one."""
    found: dict[str, set[str]] = {}
    for pin in PIN.finditer(text(lock)):
        found.setdefault(canonicalize_name(pin["name"]), set()).add(pin["version"])
    return found


def wanted(lock: str) -> Iterator[Requirement]:
    for item in LOCKS[lock]:
        if isinstance(item, str):
            yield Requirement(item)
        else:
            yield from wanted(item["include-group"])


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_asked_for_is_locked_in_a_fitting_version(lock: str) -> None:
    locked = pins(lock)
    unfit = [
        str(requirement)
        for requirement in wanted(lock)
        if not any(requirement.specifier.contains(v) for v in locked.get(canonicalize_name(requirement.name), ()))
    ]
    assert unfit == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes(lock: str) -> None:
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text(lock).strip())
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert len(blocks) == len(PIN.findall(text(lock)))


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_place(lock: str) -> None:
    assert re.findall(r"://|--index|--find-links|--extra-index|@ ", text(lock)) == []


@pytest.mark.parametrize("lock", ["run", "build"])
def test_what_is_tested_is_what_runs(lock: str) -> None:
    tested = pins("dev")
    assert {name: versions for name, versions in pins(lock).items() if tested.get(name) != versions} == {}


def test_the_backend_that_builds_is_the_one_locked() -> None:
    backend = Requirement(PROJECT["build-system"]["requires"][0])
    assert backend.name in {requirement.name for requirement in wanted("build")}
    assert default_environment()["python_full_version"] >= PROJECT["project"]["requires-python"].removeprefix(">=")
