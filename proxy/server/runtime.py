"""The world as the product sees it: clock, chance and event loop."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Final

from proxy.core.model import Token

_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Other systems than Linux have no clock that is sure to go on while the machine sleeps."""


class SystemClock:
    """As the port says."""

    def boot(self) -> float:
        """Seconds of ``CLOCK_BOOTTIME``."""
        return time.clock_gettime(_BOOT)

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()


class RandomIds:
    """As the port says."""

    def token(self) -> Token:
        """128 random bits."""
        return Token(secrets.token_hex(16))


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Uvloop's where it is installed: about twice as fast as asyncio's own on the sockets."""
    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
