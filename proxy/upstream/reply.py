"""An answer whose head has arrived, on its way to whoever asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from proxy.core.ports import Phase, SendFailed
from proxy.upstream.answer import AnswerReader, Head
from proxy.upstream.connection import Connection


class ReceivedReply:
    """The Reply port. *release* takes the connection back as soon as the whole answer is in, read or not.

    Nobody has to read a body or close a reply for the connection to end: the attempt's deadline ends it.
    """

    def __init__(
        self, head: Head, reader: AnswerReader, connection: Connection, release: Callable[[Connection, Head], None]
    ) -> None:
        self.status = head.status
        self.reason = head.reason
        self.headers = head.headers
        self._head = head
        self._reader = reader
        self._release = release
        self._connection: Connection | None = connection
        self._release_if_complete()

    def __repr__(self) -> str:
        return f"<ReceivedReply {self.status} {'complete' if self._reader.complete else 'arriving'}>"

    async def body(self) -> AsyncIterator[bytes]:
        """The raw body in pieces. Raises SendFailed (phase ``BODY``) if it breaks off; to be iterated once."""
        try:
            while piece := await self._next():
                yield piece
        finally:
            self._end()

    async def close(self) -> None:
        """Give the connection back if the answer is whole and it is reusable, else close it. Safe to call twice."""
        self._end()

    async def _next(self) -> bytes:
        connection = self._connection
        if connection is None:
            return self._reader.take()
        piece = await connection.piece()
        self._release_if_complete()
        if not piece and not self._reader.complete:
            failure = connection.failure
            raise SendFailed(
                Phase.BODY,
                "closed" if failure is None else failure.kind,
                "the reply was closed" if failure is None else failure.detail,
            )
        return piece

    def _release_if_complete(self) -> None:
        if self._connection is not None and self._reader.complete:
            self._release(self._connection, self._head)
            self._connection = None

    def _end(self) -> None:
        self._release_if_complete()
        if self._connection is not None:
            self._connection.close()
