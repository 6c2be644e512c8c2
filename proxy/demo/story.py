"""``dedup-proxy demo``: the story from beginning to end, and its exit status.

0: every promise was kept. 1: one was not, or a part did not end as it should. 2: usage. 3: a part did not start or broke.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import aiohttp

from proxy.demo.effects import read_effects
from proxy.demo.ledger_view import LedgerUnreadable, LedgerView, Row
from proxy.demo.observations import read_calls, read_observations
from proxy.demo.processes import Child, ChildFailed, Children
from proxy.demo.progress import Progress, progress_line
from proxy.demo.report import Report, tally
from proxy.demo.services import CALLS, OBSERVATIONS
from proxy.demo.setting import NoPlace, Setting, prepared
from proxy.demo.verdict import LedgerWord, judge

READY_SECONDS_MAX: Final = 20.0
REST_SECONDS_MAX: Final = 10.0
"""Until all that the crash left in flight is known to be in doubt: the proxy's timeout, its lease, a little more."""

PROXY: Final = ("-m", "proxy")

_LOOK_SECONDS: Final = 0.02
_SEEDS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says. ``ledger`` None: SQLite in the directory of the run. ``proxy``: what Python runs as proxy."""

    purchases: int
    seed: int
    keep: Path | None
    ledger: str | None
    is_json: bool
    with_kill: bool
    proxy: tuple[str, ...]

    @property
    def seconds_max(self) -> float:
        """How long the services may take on a very slow machine, before the story is given up."""
        return 90.0 + self.purchases / 20


def main(argv: list[str], *, proxy: tuple[str, ...] = PROXY) -> int:
    """Tell the story; give its exit status. *proxy* is what Python runs as the proxy."""
    options = _options(argv, proxy)
    try:
        report = asyncio.run(_run(options))
    except NoPlace as problem:
        sys.stderr.write(f"dedup-proxy demo: {problem}\n")
        return 2
    except (ChildFailed, LedgerUnreadable) as problem:
        sys.stderr.write(f"dedup-proxy demo, seed {options.seed}: {problem}\n")
        return 3
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    sys.stdout.write(f"{json.dumps(report.as_json())}\n" if options.is_json else f"\n{report.as_table()}\n")
    return 0 if report.is_good else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is known once everything has come to rest, beside the logs.

    ``reached`` are the requests that each provider counted, ``problems`` what did not end as it should.
    """

    rows: tuple[Row, ...]
    reached: Mapping[str, int]
    is_killed: bool
    problems: tuple[str, ...] = ()


class Story:
    """One run: starts the parts, kills the proxy in the middle, waits for everything to come to rest."""

    def __init__(
        self, options: Options, setting: Setting, progress: Progress, children: Children, view: LedgerView
    ) -> None:
        self._options = options
        self._setting = setting
        self._progress = progress
        self._children = children
        self._view = view
        self._since = (datetime.now(UTC) - timedelta(minutes=1)).isoformat().replace("+00:00", "Z")
        self._reports: dict[str, Child] = {}
        self._problems: list[str] = []
        self._is_killed = False

    def line(self) -> str:
        """How far it is."""
        services, sandbox = self._reports.get("services"), self._reports.get("sandbox")
        return progress_line(
            self._options.purchases, services.report if services else {}, sandbox.report if sandbox else {}
        )

    async def play(self) -> Ending:
        """From first to last."""
        sandbox = await self._open_sandbox()
        proxy = await self._start_proxy()
        self._progress.say(f"{self._options.purchases} purchases, seed {self._options.seed}: the services begin")
        services = await self._start_services()
        proxy = await self._watch(services, sandbox, proxy)
        self._expect("services", await services.let_go())
        rows = await self._rows_at_rest()
        self._expect("proxy", await proxy.terminate())
        self._expect("sandbox", await sandbox.let_go())
        return Ending(
            rows=rows, reached=sandbox.report["requests"], is_killed=self._is_killed, problems=tuple(self._problems)
        )

    async def _open_sandbox(self) -> Child:
        sandbox = await self._children.start(
            "sandbox", "-m", "proxy.demo.sandbox", "--directory", str(self._setting.directory),
            "--seed", str(self._options.seed), reports=True,
        )  # fmt: skip
        await self._until(lambda: "addresses" in sandbox.report, sandbox)
        self._setting.write_config(sandbox.report["addresses"])
        self._reports["sandbox"] = sandbox
        return sandbox

    async def _start_services(self) -> Child:
        services = await self._children.start(
            "services", "-m", "proxy.demo.services", "--proxy", self._setting.proxy_url, "--run", self._setting.run,
            "--seed", str(self._options.seed), "--purchases", str(self._options.purchases),
            "--directory", str(self._setting.directory), reports=True,
        )  # fmt: skip
        self._reports["services"] = services
        return services

    async def _start_proxy(self) -> Child:
        """Start it, or start it again: the same configuration, ports and ledger."""
        proxy = await self._children.start(
            "proxy", *self._options.proxy, "serve", "--config", str(self._setting.config), reports=False
        )
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not await self._view.is_ready():
            if not proxy.is_running:
                raise proxy.failed(f"ended with status {proxy.exit_status} before it was ready")
            if time.monotonic() > deadline:
                raise proxy.failed(f"was not ready within {READY_SECONDS_MAX:.0f} seconds")
            await asyncio.sleep(_LOOK_SECONDS)
        return proxy

    async def _watch(self, services: Child, sandbox: Child, proxy: Child) -> Child:
        """Wait for the services; in the middle, kill the proxy. Gives the proxy that runs in the end."""
        deadline = time.monotonic() + self._options.seconds_max
        while services.is_running:
            for child in (sandbox, proxy):
                if not child.is_running:
                    raise child.failed(f"ended with status {child.exit_status} while it was needed")
            if time.monotonic() > deadline:
                raise services.failed(f"did not end within {self._options.seconds_max:.0f} seconds")
            if self._is_kill_due(services):
                proxy = await self._kill_and_restart(proxy)
            await asyncio.sleep(_LOOK_SECONDS)
        return proxy

    def _is_kill_due(self, services: Child) -> bool:
        wanted = self._options.with_kill and not self._is_killed
        return wanted and services.report.get("done", 0) >= self._options.purchases // 2

    async def _kill_and_restart(self, proxy: Child) -> Child:
        self._progress.say("kill -9 of the proxy")
        await proxy.kill()
        self._is_killed = True
        restarted = await self._start_proxy()
        self._progress.say("the proxy is back, on the same ports and ledger")
        return restarted

    async def _rows_at_rest(self) -> tuple[Row, ...]:
        """The ledger's rows once nothing runs any more, or it has been waited for long enough."""
        self._progress.say("the services are done; what may still happen does")
        deadline = time.monotonic() + REST_SECONDS_MAX
        while time.monotonic() < deadline:
            if not [row async for row in self._view.rows(since=self._since, status="in_flight")]:
                break
            await asyncio.sleep(0.2)
        return tuple([row async for row in self._view.rows(since=self._since)])

    async def _until(self, is_so: Callable[[], bool], child: Child) -> None:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not is_so():
            if not child.is_running or time.monotonic() > deadline:
                raise child.failed("did not start")
            await asyncio.sleep(_LOOK_SECONDS)

    def _expect(self, name: str, status: int) -> None:
        if status != 0:
            self._problems.append(f"{name} ended with status {status}")


async def _run(options: Options) -> Report:
    """Play in a setting of its own, then judge by the logs."""
    _end_on_signals()
    began = time.monotonic()
    with prepared(seed=options.seed, ledger=options.ledger, keep=options.keep) as setting:
        async with aiohttp.ClientSession() as session, Children(setting.directory) as children:
            progress = Progress(sys.stderr if options.is_json else sys.stdout)
            story = Story(options, setting, progress, children, LedgerView(session, setting.admin_url))
            async with _shown(progress, story):
                if options.ledger is not None and not options.ledger.startswith("sqlite"):
                    await _migrate(options, setting, children)
                ending = await story.play()
        return judged(options, setting.directory, ending, seconds=time.monotonic() - began)


def judged(options: Options, directory: Path, ending: Ending, *, seconds: float) -> Report:
    """What the logs in *directory* prove."""
    asked = read_calls(directory / CALLS)
    observations = list(read_observations(directory / OBSERVATIONS))
    effects = [
        effect for provider in ending.reached for effect in read_effects(directory / f"{provider}.effects.jsonl")
    ]
    begun = len({call.intent for call in asked})
    problems = list(ending.problems)
    if begun != options.purchases:
        problems.append(f"the services began {begun} of {options.purchases} purchases")
    words = [LedgerWord(row.entry, row.status, row.executed) for row in ending.rows]
    return Report(
        seed=options.seed,
        purchases=options.purchases,
        seconds=seconds,
        is_killed=ending.is_killed,
        tallies=tally(asked, observations, effects, ending.rows, ending.reached),
        violations=judge(asked, observations, effects, words),
        problems=problems,
        kept_in=str(directory) if options.keep is not None else None,
    )


async def _migrate(options: Options, setting: Setting, children: Children) -> None:
    """A shared database is brought up to date by command only, never by serving."""
    setting.write_config({})
    migrate = await children.start("migrate", *options.proxy, "migrate", "--config", str(setting.config), reports=False)
    if await migrate.ended() != 0:
        raise migrate.failed("could not bring the ledger up to date")


@asynccontextmanager
async def _shown(progress: Progress, story: Story) -> AsyncIterator[None]:
    showing = asyncio.create_task(progress.show(story.line), name="progress")
    try:
        yield
    finally:
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing
        progress.clear()


def _end_on_signals() -> None:
    """End by cancellation, cleaning up, where a signal would end the process at once. Ctrl-C does so already."""
    task = asyncio.current_task()
    if task is None:
        return
    with suppress(RuntimeError):  # only the main thread is told of signals
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _options(argv: list[str], proxy: tuple[str, ...]) -> Options:
    parser = argparse.ArgumentParser(
        prog="dedup-proxy demo",
        description="Services that retry, providers that misbehave on purpose, one kill -9 of the proxy; then the count.",
    )
    parser.add_argument("--purchases", type=_positive, default=2000, metavar="N", help="how many (default 2000)")
    parser.add_argument("--seed", type=int, help="of everything drawn; printed, so that it can be given again")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep effect logs, observations, ledger and configuration"
    )
    parser.add_argument("--ledger", metavar="URL", help="postgresql://... instead of SQLite in a temporary directory")
    parser.add_argument("--no-kill", action="store_true", help="spare the proxy")
    parser.add_argument("--json", action="store_true", help="the result as JSON, progress on standard error")
    parser.add_argument(
        "--config", metavar="FILE", help="taken as by every command, and not read: the demo writes its own"
    )
    given = parser.parse_args(argv)
    return Options(
        purchases=given.purchases,
        seed=given.seed if given.seed is not None else secrets.randbelow(_SEEDS),
        keep=given.keep,
        ledger=given.ledger,
        is_json=given.json,
        with_kill=not given.no_kill,
        proxy=proxy,
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
