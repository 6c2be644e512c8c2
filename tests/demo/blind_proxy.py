"""A proxy that protects nothing: it forwards whatever comes and believes whatever comes back. The demo must find it out."""

import asyncio
import signal
import sys
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web


async def serve(config):
    addresses = {name: provider["base_url"] for name, provider in config["providers"].items()}
    timeout = aiohttp.ClientTimeout(total=2)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:

        async def forward(request):
            provider, _, path = request.path.lstrip("/").partition("/")
            headers = {
                name: value for name, value in request.headers.items() if name in ("Content-Type", "Idempotency-Key")
            }
            headers.pop("Idempotency-Key", None)
            try:
                async with session.post(
                    f"{addresses[provider]}/{path}", data=await request.read(), headers=headers
                ) as answer:
                    word = "yes" if answer.status < 300 else "no"
                    head = {"Dedup-Executed": word, "Content-Type": answer.content_type}
                    return web.Response(status=answer.status, body=await answer.read(), headers=head)
            except (aiohttp.ClientError, TimeoutError):
                return web.Response(status=502, headers={"Dedup-Executed": "no"})

        async def admin(request):
            return web.json_response({"entries": [], "next_cursor": None})

        for handler, address in ((forward, config["server"]["listen"]), (admin, config["server"]["admin_listen"])):
            runner = web.ServerRunner(web.Server(handler))
            await runner.setup()
            host, _, port = address.rpartition(":")
            await web.TCPSite(runner, host, int(port)).start()
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(yaml.safe_load(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())))
