"""Proxy processes: started from a configuration, waited for, killed in every way there is.

Each runs in a process group of its own, so that a signal reaches workers too. Its output is a file beside its
configuration; a test that fails can print :meth:`ProxyProcess.logs`. ``checkpoint="after_claim:crash"`` (or ``stop``,
``sleep``) reaches the process as ``DEDUP_CHECKPOINT``.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.postgres import free_port

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS_MAX = 20.0
CHECKPOINT = "DEDUP_CHECKPOINT"

Config = Mapping[str, Any]


class NotReady(AssertionError):
    """The process did not do what was waited for; the message holds its output."""


def complete(config: Config, directory: Path, *, port: int, admin_port: int) -> dict[str, Any]:
    """*config* with listeners on loopback and, unless it names one, a ledger in *directory*."""
    server = {"listen": f"127.0.0.1:{port}", "admin_listen": f"127.0.0.1:{admin_port}", **config.get("server", {})}
    ledger = {"url": f"sqlite:///{directory}/dedup.db", **config.get("ledger", {})}
    return {"version": 1, **config, "server": server, "ledger": ledger}


@dataclass(slots=True)
class ProxyProcess:
    """One proxy: ``serve`` on a configuration file of its own."""

    directory: Path
    name: str
    config: Config
    checkpoint: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The data listener."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        """The admin listener."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def config_path(self) -> Path:
        """The configuration file; commands take it too."""
        return self.directory / f"{self.name}.yaml"

    @property
    def log_path(self) -> Path:
        """Standard output and error of all runs."""
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """The running process."""
        assert self.process is not None, "not started"
        return self.process.pid

    def start(self, *, wait: bool = True) -> ProxyProcess:
        """Write the configuration and start; with *wait*, return once ``/readyz`` says yes."""
        chosen = complete(self.config, self.directory, port=self.port, admin_port=self.admin_port)
        self.config_path.write_text(yaml.safe_dump(chosen, sort_keys=False))
        command = [sys.executable, "-m", "proxy", "serve", "--config", str(self.config_path)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()
        return self

    def restart(self, *, checkpoint: str | None = None) -> ProxyProcess:
        """Start again on the same configuration, ports and ledger, after the process ended."""
        assert self.process is None or self.process.poll() is not None, "still running"
        self.checkpoint = checkpoint
        return self.start()

    def wait_ready(self) -> None:
        """Wait until ``/readyz`` answers 200. Raises :class:`NotReady`."""
        self._wait(self.is_ready, "was not ready")

    def is_ready(self) -> bool:
        """Whether ``/readyz`` answers 200 now."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=2)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False

    def wait_stopped(self) -> None:
        """Wait until the process stopped itself (a ``stop`` checkpoint)."""
        self._wait(lambda: _state(self.pid) == "T", "did not stop")

    def wait_gone(self) -> int:
        """Wait until the process ended; give its exit status (negative: the signal)."""
        assert self.process is not None, "not started"
        try:
            return self.process.wait(READY_SECONDS_MAX)
        except subprocess.TimeoutExpired as error:
            raise NotReady(f"{self.name} did not end\n{self.logs()}") from error

    def kill(self) -> None:
        """SIGKILL, workers and all."""
        self._signal(signal.SIGKILL)
        self.wait_gone()

    def pause(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)
        self.wait_stopped()

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def terminate(self) -> int:
        """SIGTERM, and wait; give the exit status."""
        self._signal(signal.SIGTERM)
        return self.wait_gone()

    def reload(self) -> None:
        """SIGHUP."""
        self._signal(signal.SIGHUP)

    def logs(self) -> str:
        """All it has said."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the CLI on this proxy's configuration."""
        command = [sys.executable, "-m", "proxy", *arguments, "--config", str(self.config_path)]
        return subprocess.run(
            command,
            cwd=self.directory,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("DEDUP_")
            and name.lower() not in {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
        }
        path = os.pathsep.join([str(ROOT), *filter(None, [inherited.get("PYTHONPATH")])])
        chosen = {**inherited, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **self.env}
        return {**chosen, CHECKPOINT: self.checkpoint} if self.checkpoint else chosen

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None, "not started"
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def _wait(self, is_so: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not is_so():
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                status = None if self.process is None else self.process.returncode
                raise NotReady(f"{self.name} {otherwise} (exit status {status})\n{self.logs()}")
            time.sleep(0.02)


def _state(pid: int) -> str:
    """The process's state letter as the kernel has it; ``T`` is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@contextlib.contextmanager
def proxy_process(
    directory: Path,
    config: Config,
    *,
    name: str = "proxy",
    checkpoint: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[ProxyProcess]:
    """A running proxy; killed at the end if it still runs. Two of one ledger take the same *directory*, other names."""
    proxy = ProxyProcess(directory, name, config, checkpoint, env or {})
    try:
        yield proxy.start()
    finally:
        if proxy.process is not None and proxy.process.poll() is None:
            proxy.kill()  # also where it is stopped: SIGCONT first would let it go on
