"""The providers' process. Says on its standard output where they are and what they did; ends when its standard input does."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aiohttp import web

from proxy.demo.mail import Mail
from proxy.demo.misbehaviour import by_seed
from proxy.demo.pay import Pay
from proxy.demo.provider import Provider, Stage
from proxy.demo.reporting import report_until, stdin_closed

PROVIDERS: Final[tuple[type[Provider], ...]] = (Pay, Mail)
"""Who plays. A further provider joins here, in ``setting`` with its rule, and in ``calls`` with its call."""


class Sandbox:
    """Providers, each behind its own port of the loopback interface."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self.providers = providers
        self._runners: list[web.ServerRunner] = []

    async def open(self) -> dict[str, str]:
        """Listen. Gives each provider's address by its name."""
        return {provider.name: await self._listen(provider) for provider in self.providers}

    async def close(self) -> None:
        """Stop listening, and return once nothing more can happen."""
        for runner in self._runners:
            await runner.cleanup()
        for provider in self.providers:
            await provider.close()

    async def _listen(self, provider: Provider) -> str:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if (request.method, request.path) != ("POST", provider.path):
                return web.json_response({"error": {"code": "no_such_route"}}, status=404)
            return await provider.handle(request)

        runner = web.ServerRunner(web.Server(handle), shutdown_timeout=5)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        port = runner.addresses[0][1]
        return f"http://127.0.0.1:{port}"


async def serve(directory: Path, seed: int) -> None:
    """Serve until standard input ends."""
    sandbox = Sandbox([kind(Stage(directory, by_seed(seed, kind.name))) for kind in PROVIDERS])
    addresses = await sandbox.open()

    def now() -> dict[str, object]:
        return {
            "addresses": addresses,
            "requests": {p.name: p.requests for p in sandbox.providers},
            "effects": {p.name: p.effects.count for p in sandbox.providers},
        }

    await report_until(stdin_closed(), now)
    await sandbox.close()


def main(argv: list[str]) -> int:
    """``python -m proxy.demo.sandbox``."""
    parser = argparse.ArgumentParser(description="providers that misbehave on purpose")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args(argv)
    asyncio.run(serve(options.directory, options.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
