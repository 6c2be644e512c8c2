"""The fake provider as a process of its own: it outlives whatever the test kills."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tests.support.provider import Failures, Kind, Provider, Settings

ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class ProviderProcess:
    """A handle on the process: its address, its log as the disk has it, its controls."""

    process: subprocess.Popen[str]
    port: int
    log_path: Path

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def records(self) -> list[dict[str, Any]]:
        """The log as it is on disk now; a last line still being written is left out."""
        lines = self.log_path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    @property
    def effects(self) -> list[dict[str, Any]]:
        """The effects so far."""
        return [record for record in self.records() if record["type"] == "effect"]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The whole requests so far."""
        return [record for record in self.records() if record["type"] == "request"]

    def plan(self, behave: str, intent: str | None = None) -> None:
        """As :meth:`tests.support.provider.Provider.plan`."""
        self._call("plan", {"behave": behave, "intent": intent})

    def counts(self) -> dict[str, int]:
        """Connections, requests, effects and partial requests, counted on the raw socket."""
        counts: dict[str, int] = self._call("counts", None)
        return counts

    def kill(self) -> None:
        """SIGKILL; the log stays."""
        self.process.kill()
        self.process.wait()

    def _call(self, name: str, document: object) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("POST", f"/_provider/{name}", json.dumps(document))
            return json.loads(connection.getresponse().read())


@contextlib.contextmanager
def provider_process(log_path: Path, settings: Settings | None = None, port: int = 0) -> Iterator[ProviderProcess]:
    """A provider process; its log is appended to, so a second one with the same path goes on where the first ended."""
    chosen = settings or Settings()
    options = [f"--{f.name.replace('_', '-')}={getattr(chosen, f.name)!s}" for f in fields(chosen)]
    command = [sys.executable, "-m", "tests.support.provider_process", f"--port={port}", f"--log={log_path}", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the fake provider did not start: {' '.join(command)}")
            yield ProviderProcess(process, json.loads(line)["port"], log_path)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=10)


def main() -> None:
    """Serve until SIGTERM; print the port as soon as it is bound."""
    parser = argparse.ArgumentParser(description="a fake provider with its own effect log")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--kind", type=Kind, default=Kind.NATIVE)
    parser.add_argument("--key", default="header:idempotency-key")
    parser.add_argument("--retention-seconds", type=float, default=86_400.0)
    parser.add_argument("--locks", type=_flag, default=True)
    parser.add_argument("--failures", type=Failures, default=Failures.STORED)
    parser.add_argument("--default", default="ok")
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    parser.add_argument("--fsync", type=_flag, default=True)
    options = vars(parser.parse_args())
    port, log = options.pop("port"), options.pop("log")
    asyncio.run(_serve(Settings(**options), log, port))


def _flag(text: str) -> bool:
    return {"True": True, "False": False}[text]


async def _serve(settings: Settings, log: Path, port: int) -> None:
    provider = Provider(settings, log)
    await provider.start(port)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    sys.stdout.write(json.dumps({"port": provider.port}) + "\n")
    sys.stdout.flush()
    await stopped.wait()
    await provider.stop()


if __name__ == "__main__":
    main()
