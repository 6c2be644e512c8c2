"""A scene: one provider process, proxies on one ledger, a client that writes down what it was told, and the verdict."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.invariants import hold
from tests.support.observations import Observation, observe
from tests.support.postgres import Postgres
from tests.support.process import ProxyProcess
from tests.support.provider import Kind, Settings
from tests.support.provider_process import ProviderProcess, provider_process

TOTAL_SECONDS = 1.0
LEASE_SECONDS = TOTAL_SECONDS + 2.0
CLIENT_SECONDS_MAX = 15.0


@dataclass(slots=True)
class Scene:
    """What a test plays with. ``provider`` and the ledger outlive every proxy."""

    directory: Path
    provider: ProviderProcess
    ledger_url: str
    proxies: list[ProxyProcess] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)

    def config(self, **operation: Any) -> dict[str, Any]:
        """Two operations on the same provider: ``native`` says where its key goes, None that it has none."""
        rule = {"name": "pay", "match": "POST /pay", "wait": "5s", **operation}
        return {
            "ledger": {"url": self.ledger_url},
            "providers": {
                "pay": {
                    "base_url": self.provider.url,
                    "allow_private": True,
                    "timeout": {"connect": "1s", "total": f"{int(TOTAL_SECONDS * 1000)}ms"},
                    "operations": [rule],
                }
            },
        }

    def start(self, *, checkpoint: str | None = None, **operation: Any) -> ProxyProcess:
        """One more proxy on the ledger."""
        name = f"proxy{len(self.proxies) + 1}"
        proxy = ProxyProcess(self.directory, name, self.config(**operation), checkpoint=checkpoint)
        if self.ledger_url.startswith("postgresql") and not self.proxies:
            self._migrate(proxy)
        self.proxies.append(proxy.start())
        return proxy

    def prepare(self) -> ProxyProcess:
        """A proxy that is configured and not started, on a ledger that nobody has made."""
        proxy = ProxyProcess(self.directory, "proxy0", self.config())
        proxy.config_path.write_text(json.dumps({**proxy.config, "version": 1}))
        self.proxies.append(proxy)
        return proxy

    @staticmethod
    def _migrate(proxy: ProxyProcess) -> None:
        proxy.config_path.write_text(json.dumps({**proxy.config, "version": 1}))
        done = proxy.command("migrate")
        assert done.returncode == 0, done.stderr

    async def ask(
        self, proxy: ProxyProcess, intent: str, *, key: str | None = None, behave: str = "ok", number: int = 1
    ) -> Observation:
        """One request, as a client without retries of its own sees it."""
        asked_at = time.time()
        headers = {"Idempotency-Key": key or intent, "x-intent": intent, "x-behave": behave}
        timeout = aiohttp.ClientTimeout(total=CLIENT_SECONDS_MAX)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(
                    f"{proxy.url}/pay/pay", headers=headers, json={"intent": intent}, allow_redirects=False
                ) as answer,
            ):
                body = await answer.read()
                seen = observe(
                    intent, asked_at=asked_at, status=answer.status, headers=list(answer.headers.items()), body=body,
                    key=key or intent, number=number,
                )  # fmt: skip
        except (aiohttp.ClientError, TimeoutError):
            seen = observe(intent, asked_at=asked_at, key=key or intent, number=number)
        self.observations.append(seen)
        return seen

    async def ask_until(self, proxy: ProxyProcess, intent: str, *, statuses: frozenset[str], **how: Any) -> Observation:
        """Repeat the request, as a patient client does, until its entry has one of *statuses*."""
        for number in range(2, 80):
            seen = await self.ask(proxy, intent, number=number, **how)
            if seen.entry_status in statuses:
                return seen
            await asyncio.sleep(0.25)
        raise AssertionError(
            f"{intent} never became one of {sorted(statuses)}: {self.observations[-1]}\n{proxy.logs()}"
        )

    def effects_of(self, intent: str) -> int:
        """How often the provider did it."""
        return sum(effect["intent"] == intent for effect in self.provider.effects)

    def requests_of(self, intent: str) -> int:
        """How many whole requests the provider read for it."""
        return sum(request["intent"] == intent for request in self.provider.requests)

    def rows(self) -> list[dict[str, Any]]:
        """All entries, through the admin API of a proxy that runs."""
        proxy = next(p for p in self.proxies if p.process is not None and p.process.poll() is None)
        with urllib.request.urlopen(f"{proxy.admin_url}/v1/entries?limit=1000", timeout=10) as answer:  # noqa: S310 - http, on loopback
            rows: list[dict[str, Any]] = json.load(answer)["entries"]
        return rows

    def verdict(self) -> None:
        """Hold provider, clients and ledger against each other."""
        hold(self.provider.records(), self.observations, self.rows())


@contextmanager
def scene(directory: Path, *, engine: str, postgres: Postgres, settings: Settings | None = None) -> Iterator[Scene]:
    """A scene on *engine*; everything it started is gone afterwards."""
    with ExitStack() as stack:
        log = directory / "effects.jsonl"
        provider = stack.enter_context(provider_process(log, settings or Settings(kind=Kind.BLIND)))
        if engine == "postgresql":
            url = postgres.create_database()
            stack.callback(postgres.drop_database, url)
        else:
            url = f"sqlite:///{directory}/dedup.db"
        played = Scene(directory, provider, url)
        stack.callback(_end, played)
        yield played


def _end(played: Scene) -> None:
    for proxy in played.proxies:
        if proxy.process is not None and proxy.process.poll() is None:
            proxy.resume()
            proxy.kill()
