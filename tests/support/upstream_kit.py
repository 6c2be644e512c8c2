"""What the tests of the upstream client share: both event loops, a clock, and short ways to send."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from proxy.core.model import Headers
from proxy.core.ports import Outgoing, Reply, Route
from proxy.upstream.client import SingleSendClient

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class BootClock:
    """The real clock; ``skip`` makes it jump, as if the process had been stopped."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def boot(self) -> float:
        """As the port says."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) + self.skipped

    def wall(self) -> float:
        """As the port says."""
        return time.time()

    def skip(self, seconds: float) -> None:
        """Let *seconds* pass at once."""
        self.skipped += seconds


def run_on(loop_name: str, story: Awaitable[Any]) -> Any:
    """Run *story* on a loop of that kind; anything a loop would only log, and anything left open, is an error."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        return await story

    gc.freeze()  # only what the story makes is looked through at its end
    try:
        with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
            result = runner.run(watched())
        gc.collect()
    finally:
        gc.unfreeze()
    assert not complaints
    return result


def on_each_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test once on asyncio's loop and once on uvloop's."""

    @pytest.mark.parametrize("loop_name", LOOPS)
    @functools.wraps(test)
    def run(*, loop_name: str, **asked: Any) -> None:
        run_on(loop_name, test(**asked))

    signature = inspect.signature(test)
    loop_name = inspect.Parameter("loop_name", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), loop_name])
    result: Callable[..., None] = run
    return result


class Sender:
    """A client and the route to one server, with the arguments that most tests don't care about filled in."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.clock = BootClock()
        self.client = SingleSendClient(self.clock)

    async def send(
        self,
        method: str = "POST",
        *,
        body: bytes | AsyncIterator[bytes] = b"pay 10",
        headers: Headers = (),
        target: str = "/pay",
        fresh: bool = False,
        seconds: float = 5.0,
        connect_seconds_max: float = 5.0,
        body_idle_seconds_max: float | None = None,
    ) -> Reply:
        """Send one request whose deadline is *seconds* from now."""
        outgoing = Outgoing(method=method, target=target, headers=((b"Host", b"provider.test"), *headers), body=body)
        return await self.client.send(
            outgoing,
            self.route,
            deadline=self.clock.boot() + seconds,
            connect_seconds_max=connect_seconds_max,
            fresh=fresh,
            body_idle_seconds_max=body_idle_seconds_max,
        )

    def idle(self) -> int:
        """How many connections rest and could carry another request."""
        waiting = self.client._pool._idle.get(self.route, ())
        return sum(connection.is_untouched() for connection, _ in waiting)

    async def exchange(self, method: str = "POST", **how: Any) -> tuple[int, bytes]:
        """Send, read the whole answer and close; tell status and body."""
        reply = await self.send(method, **how)
        body = await read(reply)
        await reply.close()
        return reply.status, body


async def read(reply: Reply) -> bytes:
    """The whole body of *reply*."""
    return b"".join([piece async for piece in reply.body()])


def route_to(
    port: int, *, scheme: str = "http", host: str = "provider.test", connect_host: str = "127.0.0.1", **more: Any
) -> Route:
    """A route to a server of the test."""
    return Route(
        scheme=scheme,
        host=host,
        port=443,
        connect_host=connect_host,
        connect_port=port,
        **{"allow_private": True, **more},
    )


@contextlib.asynccontextmanager
async def sending_to(port: int, **route: Any) -> AsyncIterator[Sender]:
    """A :class:`Sender` whose client is closed at the end."""
    sender = Sender(route_to(port, **route))
    try:
        yield sender
    finally:
        await sender.client.close()
