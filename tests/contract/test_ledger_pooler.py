"""A pooler in transaction mode between the ledger and PostgreSQL.

The one here is as strict as can be: after every transaction the client's next one goes to another server connection, so that
nothing a session remembers (a prepared statement, a setting) can be relied on.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from proxy.core.states import Event
from proxy.ledger import Filter
from proxy.ledger.reader import Reader
from tests.contract.ledgers import LEASE, answer, claim, opened, reclaim, write
from tests.contract.test_ledger_claims import begun
from tests.contract.test_ledger_postgresql import through

SSL_REQUEST, CANCEL_REQUEST = 80877103, 80877102


async def message(reader: asyncio.StreamReader) -> bytes:
    """One message of the PostgreSQL protocol, version 3: type, length, content."""
    head = await reader.readexactly(5)
    return head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


class Pooler:
    """Speaks to clients as PostgreSQL, without authentication, and lends them server connections by transaction."""

    def __init__(self, port: int, user: str, database: str, size: int = 3) -> None:
        self.target, self.size = port, size
        self.startup = struct.pack("!i", 196608) + f"user\0{user}\0database\0{database}\0\0".encode()
        self.free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.greeting = b""
        self.transactions = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        for _ in range(self.size):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
            writer.write(struct.pack("!i", len(self.startup) + 4) + self.startup)
            said = [await message(reader)]
            while said[-1][:1] != b"Z":
                said.append(await message(reader))
            self.greeting = b"".join(one for one in said if one[:1] in (b"R", b"S"))
            self.free.put_nowait((reader, writer))

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self.serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                length, code = struct.unpack("!ii", await reader.readexactly(8))
                if code == CANCEL_REQUEST:
                    return
                if code != SSL_REQUEST:
                    break
                writer.write(b"N")
            await reader.readexactly(length - 8)
            writer.write(self.greeting + b"K" + struct.pack("!iii", 12, 4242, 1) + b"Z" + struct.pack("!i", 5) + b"I")
            while (first := await message(reader))[:1] != b"X":
                await self.lend(first, reader, writer)

    async def lend(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One transaction on the server connection that has been free for longest."""
        server_reader, server = await self.free.get()
        try:
            server.write(first)
            while True:
                if first[:1] in (b"S", b"Q"):  # the server says when it is ready again
                    while (said := await message(server_reader))[:1] != b"Z":
                        writer.write(said)
                    writer.write(said)
                    if said[5:6] == b"I":
                        self.transactions += 1
                        return
                elif first[:1] == b"H":
                    await self.relay_what_is_there(server_reader, writer)
                first = await message(reader)
                server.write(first)
        finally:
            self.free.put_nowait((server_reader, server))

    @staticmethod
    async def relay_what_is_there(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """After a flush: what a Describe or an error ends with."""
        while (said := await message(reader))[:1] not in (b"T", b"n", b"E"):
            writer.write(said)
        writer.write(said)


@pytest.fixture
async def pooler(ledger_url) -> AsyncIterator[tuple[Pooler, str]]:
    url = await ledger_url("postgresql")
    parts = urlsplit(url)
    pooler = Pooler(parts.port, parts.username, parts.path[1:])
    await pooler.connect()
    server = await asyncio.start_server(pooler.accept, "127.0.0.1", 0)
    yield pooler, through(url, server.sockets[0].getsockname()[1])
    server.close()
    for task in list(pooler.tasks):
        task.cancel()
    await asyncio.gather(*pooler.tasks, return_exceptions=True)
    while not pooler.free.empty():
        pooler.free.get_nowait()[1].close()


async def test_everything_works_when_each_transaction_gets_another_session(pooler):
    pool, url = pooler
    async with opened("postgresql", url) as bench:
        assert bench.ledger.store.pooled
        before = pool.transactions
        claims = await asyncio.gather(*(bench.ledger.claim(claim()) for _ in range(20)))
        done = await asyncio.gather(
            *(bench.ledger.record(write(one.entry, Event.TURNED_AWAY, answer=answer(1, 429))) for one in claims[:10])
        )
        again = [await bench.ledger.claim(reclaim(one.entry)) for one in done]
        assert all(one.landed for one in (*claims, *done, *again))
        await bench.ledger.touch(claims[0].entry.key_hash, 1)
        bench.clock.advance(LEASE)
        assert await bench.ledger.expire_leases(5) == 5
        for _ in range(5):
            rows = await bench.ledger.poll([one.entry.key_hash for one in claims])
            assert len(rows) == 20
        assert len((await Reader(bench.ledger.store).entries(Filter(), limit=50)).entries) == 20
        await bench.ledger.ping()
        assert pool.transactions - before > 10


async def test_a_direct_connection_is_not_taken_for_a_pooler(on_postgresql):
    await begun(on_postgresql)
    assert not on_postgresql.ledger.store.pooled
