"""The wheel is whole: installed elsewhere it finds its presets and migrations, and its command runs."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.project.paths import ROOT, relative

FIND = """
import importlib.resources, json, proxy
found = {name: sorted(p.name for p in importlib.resources.files(name).iterdir()) for name in ("providers", "migrations")}
print(json.dumps({"file": proxy.__file__, **found}))
"""
PRESETS = sorted(path.stem for path in (ROOT / "providers").glob("*.yaml"))


@dataclass(frozen=True, slots=True)
class Installed:
    """A fresh environment that has the wheel, and of ours only the dependencies."""

    directory: Path
    wheel: Path

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, away from the source tree."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        program = self.directory / "venv" / "bin" / command
        return subprocess.run(
            [program, *arguments], cwd=self.directory, env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    directory = tmp_path_factory.mktemp("elsewhere")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(directory), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = directory.glob("dedup_proxy-*.whl")
    venv.create(directory / "venv", with_pip=False)
    python = directory / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True)
    # A path line adds our site-packages without reading the .pth files in it, of which one leads to the source tree.
    (site_packages,) = (directory / "venv").glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return Installed(directory, wheel)


def test_the_wheel_holds_the_product_and_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("/licenses/LICENSE")]
    on_disk = {
        relative(path)
        for directory in ("proxy", "providers", "migrations")
        for path in (ROOT / directory).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == on_disk
    assert len(licences) == 1


def test_it_finds_presets_and_migrations_where_it_is_installed(installed: Installed) -> None:
    done = installed.run("python", "-c", FIND)
    assert done.returncode == 0, done.stderr
    assert str(installed.directory) in done.stdout
    assert all(f"{preset}.yaml" in done.stdout for preset in PRESETS)
    assert "env.py" in done.stdout


def test_its_command_checks_a_configuration_with_every_preset(installed: Installed) -> None:
    lines = [f"  {preset}: {{preset: {preset}}}" for preset in PRESETS]
    (installed.directory / "config.yaml").write_text("\n".join(["providers:", *lines, ""]))
    done = installed.run("dedup-proxy", "check", "--config", "config.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
