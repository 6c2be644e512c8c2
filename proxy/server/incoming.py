"""A request as the data listener read it, before anything is decided about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from proxy.core.model import Headers
from proxy.core.reasons import Reason


class BodyTooLarge(Exception):
    """The body is longer than what is read whole."""


class BodyBroken(Exception):
    """The body ended early, stalled, or is not framed as HTTP says. ``is_gone``: its sender can't be answered any more."""

    def __init__(self, detail: str, *, reason: Reason = Reason.REQUEST_INCOMPLETE, is_gone: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason
        self.is_gone = is_gone


class Body(Protocol):
    """The body of a request. It is asked for only when it is wanted: then a waiting sender is told to go on."""

    length: int | None
    """What ``Content-Length`` says; 0 where the request has no body, None where it comes in chunks."""

    failure: BodyBroken | None
    """Why it could not be read, once that was tried."""

    async def read(self, size_max: int) -> bytes:
        """All of it. Raises :class:`BodyTooLarge`, as early as that is known, or :class:`BodyBroken`."""
        ...

    def stream(self) -> AsyncIterator[bytes]:
        """Its pieces as they come. Raises :class:`BodyBroken`."""
        ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """One request. ``target`` is raw, in whatever form it came; ``peer`` is the address it came from.

    ``certificate_names`` are those of the client certificate on its connection; None where it showed none.
    """

    method: str
    target: str
    headers: Headers
    peer: str
    body: Body
    is_http_10: bool = False
    certificate_names: tuple[str, ...] | None = None
