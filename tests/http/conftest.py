"""These tests run on the event loop that the product runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from proxy.server.runtime import new_event_loop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The product's loop."""
    return {"product": new_event_loop}
