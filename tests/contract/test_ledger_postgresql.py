"""What PostgreSQL and the way to it can do to the ledger: lost acknowledgements, restarts, standbys, poolers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from proxy.core.model import Status
from proxy.core.ports import LedgerUnavailable
from proxy.core.states import Event
from proxy.ledger import LedgerRefused, open_ledger, postgresql, upgrade
from proxy.ledger.store import Failure
from tests.contract.ledgers import LEASE, Bench, TurnedClock, answer, claim, new_key, opened, reclaim, write
from tests.contract.test_ledger_claims import begun
from tests.support.faults import FaultProxy, Link, Way, fault_proxy
from tests.support.postgres import Postgres


@dataclass
class CommitFault:
    """Once armed, spoils the next COMMIT: ``ack`` loses its acknowledgement, ``commit`` the COMMIT itself."""

    lose: str = ""
    seen: list[str] = field(default_factory=list)
    muted: int = 0  # the link whose answers are lost from now on

    async def spoil(self, pieces: AsyncIterator[bytes], way: Way, link: Link) -> AsyncIterator[bytes]:
        async for piece in pieces:
            if way is Way.UP and self.lose and b"COMMIT" in piece:
                self.seen.append(self.lose)
                lose, self.lose = self.lose, ""
                if lose == "commit":
                    link.reset()
                self.muted = link.number
            if way is Way.DOWN and self.muted == link.number:
                link.reset()
            yield piece


def through(url: str, port: int) -> str:
    """*url* by way of another port."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}"))


@asynccontextmanager
async def behind_faults(url: str) -> AsyncIterator[tuple[Bench, CommitFault, FaultProxy]]:
    fault = CommitFault()
    async with (
        fault_proxy(urlsplit(url).port, lambda _: fault) as proxy,
        opened("postgresql", through(url, proxy.port)) as bench,
    ):
        yield bench, fault, proxy


@pytest.fixture
async def faulty(ledger_url):
    async with behind_faults(await ledger_url("postgresql")) as found:
        yield found


# -- a COMMIT whose acknowledgement is lost ---------------------------------------------------------------------------


@pytest.mark.parametrize("lose", ["ack", "commit"])
async def test_a_claim_is_ours_whichever_way_the_commit_was_lost(faulty, lose):
    bench, fault, _ = faulty
    await begun(bench)
    fault.lose = lose
    landed = await asyncio.gather(*(bench.ledger.claim(claim()) for _ in range(5)))
    assert fault.seen == [lose]
    for one in landed:
        assert one.landed
        assert one.entry == await bench.ledger.read(one.entry.key_hash)


@pytest.mark.parametrize("lose", ["ack", "commit"])
@pytest.mark.parametrize("event", [Event.ANSWERED, Event.NOT_SENT, Event.ANSWER_LOST, Event.LEASE_EXPIRED])
async def test_an_outcome_has_landed_whichever_way_the_commit_was_lost(faulty, event, lose):
    bench, fault, _ = faulty
    entry = await begun(bench)
    bench.clock.advance(LEASE)
    fault.lose = lose
    landed = await bench.ledger.record(write(entry, event, answer=answer()))
    assert fault.seen == [lose]
    assert landed.landed
    assert landed.entry == await bench.ledger.read(entry.key_hash)
    assert await bench.history(entry) == ([] if event is not Event.LEASE_EXPIRED else ["lease_expired"])


@pytest.mark.parametrize("lose", ["ack", "commit"])
async def test_a_next_attempt_is_ours_whichever_way_the_commit_was_lost(faulty, lose):
    bench, fault, _ = faulty
    entry = await begun(bench, Status.NOT_EXECUTED)
    fault.lose = lose
    landed = await bench.ledger.claim(reclaim(entry))
    assert landed.landed
    assert await bench.history(entry) == ["reclaimed"]


async def test_a_contradiction_is_recorded_once_though_its_commit_was_lost(faulty):
    bench, fault, _ = faulty
    entry = await begun(bench, Status.SUCCEEDED)
    fault.lose = "ack"
    await bench.ledger.record(write(entry, Event.DECLINED))
    assert await bench.history(entry) == ["contradiction"]


async def test_a_claim_whose_ledger_cannot_be_asked_again_is_unavailable(faulty):
    bench, fault, proxy = faulty
    await begun(bench)
    wish = claim()
    fault.lose = "ack"
    pending = asyncio.create_task(bench.ledger.claim(wish))
    while not fault.seen:
        await asyncio.sleep(0)
    await proxy.disable()
    with pytest.raises(LedgerUnavailable):
        await pending
    await proxy.enable()
    again = await bench.ledger.claim(wish)
    assert again.landed, "found durable later, it is recognised by its token"


async def test_another_processs_claim_is_not_taken_for_ours_after_a_lost_commit(faulty, ledger_database):
    """The COMMIT never arrived; before we asked again, someone else claimed."""
    bench, fault, _ = faulty
    await begun(bench)
    wish = claim()
    fault.lose = "commit"
    async with opened("postgresql", ledger_database) as other:
        original = bench.ledger.store.failure

        def claim_first(error):
            bench.ledger.store.failure = original
            return original(error)

        bench.ledger.store.failure = claim_first
        theirs = asyncio.create_task(other.ledger.claim(claim(wish.entry.key_hash)))
        ours = await bench.ledger.claim(wish)
        won = await theirs
    assert ours.landed is not won.landed
    assert ours.entry.attempt == won.entry.attempt


# -- a database that goes and comes back ------------------------------------------------------------------------------


async def test_killed_connections_are_replaced_without_anyone_noticing(on_postgresql):
    await asyncio.gather(begun(on_postgresql), on_postgresql.ledger.read(new_key()))
    connection = await asyncpg.connect(on_postgresql.url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    await connection.close()
    entry = await begun(on_postgresql)
    assert await on_postgresql.ledger.read(entry.key_hash) == entry


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
async def test_a_server_that_is_down_refuses_and_that_is_back_serves_again(own_postgres: Postgres, how):
    """Without a restart of ours, and with everything acknowledged still there."""
    url = own_postgres.create_database()
    await upgrade(url)
    async with opened("postgresql", url) as bench:
        entry = await begun(bench, Status.SUCCEEDED)
        await asyncio.to_thread(own_postgres.stop, how)
        for call in (bench.ledger.claim(claim()), bench.ledger.read(entry.key_hash), bench.ledger.ping(),
                     bench.ledger.record(write(entry, Event.ANSWERED)), bench.ledger.expire_leases(1)):  # fmt: skip
            with pytest.raises(LedgerUnavailable):
                await call
        await asyncio.to_thread(own_postgres.start)
        assert await bench.ledger.read(entry.key_hash) == entry
        assert (await bench.ledger.claim(claim())).landed
        await bench.ledger.ping()


async def test_a_server_that_does_not_answer_is_given_up_in_time(own_postgres: Postgres, monkeypatch):
    """Its processes are stopped: connections stand, and nothing comes back. Those who wait learn of it."""
    monkeypatch.setattr(postgresql, "COMMAND_SECONDS_MAX", 0.5)
    monkeypatch.setattr(postgresql, "CONNECT_SECONDS_MAX", 0.5)
    monkeypatch.setattr(postgresql, "BATCH_SECONDS_MAX", 1.0)
    url = own_postgres.create_database()
    await upgrade(url)
    async with opened("postgresql", url) as bench:
        entry = await begun(bench)
        await bench.ledger.read(entry.key_hash)
        wish = claim()
        own_postgres.pause()
        try:
            told = await asyncio.gather(
                bench.ledger.claim(wish), bench.ledger.read(entry.key_hash), return_exceptions=True
            )
        finally:
            own_postgres.resume()
        assert [type(one) for one in told] == [LedgerUnavailable, LedgerUnavailable]
        assert (await bench.ledger.claim(wish)).landed
        assert await bench.ledger.read(entry.key_hash) == entry


async def test_a_batch_that_the_database_ends_over_a_deadlock_runs_again(on_postgresql):
    """Two batches lock two rows crosswise; the one that is ended comes through by itself."""
    ledger = on_postgresql.ledger
    entries = sorted([await begun(on_postgresql, Status.NOT_EXECUTED) for _ in range(2)], key=lambda e: e.key_hash)
    other = await asyncpg.connect(on_postgresql.url)
    try:
        async with other.transaction():
            await other.execute("SET LOCAL deadlock_timeout = '10s'")  # so that ours is the one to find it
            await other.execute("SET LOCAL lock_timeout = 0")
            lock = "SELECT 1 FROM entry WHERE key_hash = $1 FOR UPDATE"
            await other.execute(lock, entries[1].key_hash)
            runs = []
            original = ledger.store.failure
            ledger.store.failure = lambda error: runs.append(original(error)) or runs[-1]
            pending = [asyncio.create_task(ledger.claim(reclaim(entry))) for entry in entries]
            await _until_waiting(on_postgresql.url, 1)
            await other.execute("UPDATE entry SET reason = reason WHERE key_hash = $1", entries[0].key_hash)
        landed = await asyncio.gather(*pending)
    finally:
        await other.close()
    assert all(one.landed for one in landed)
    assert Failure.AGAIN in runs


async def _until_waiting(url: str, count: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(10):
            while (
                await connection.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
                < count
            ):
                await asyncio.sleep(0.005)
    finally:
        await connection.close()


# -- what is refused or warned of -------------------------------------------------------------------------------------


async def test_a_database_without_a_ledger_is_refused(postgres_url):
    with pytest.raises(LedgerRefused, match="migrate"):
        await open_ledger(postgres_url, TurnedClock())


async def test_a_read_only_database_is_refused(on_postgresql, postgres: Postgres):
    name = urlsplit(on_postgresql.url).path[1:]
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        with pytest.raises(LedgerUnavailable, match="read-only or a standby"):
            await open_ledger(on_postgresql.url, TurnedClock())
    finally:
        await connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        await connection.close()


async def test_a_server_that_cannot_be_reached_is_said_so_without_the_password():
    with pytest.raises(LedgerUnavailable, match="cannot be reached") as caught:
        await open_ledger("postgresql://ann:hunter2@127.0.0.1:1/x", TurnedClock())
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://ann:hunter2@host:port/x", "postgres://ann:hun:ter@2@[::1/x"])
async def test_a_url_that_does_not_parse_is_refused_without_repeating_it(url):
    with pytest.raises(LedgerRefused) as caught:
        await open_ledger(url, TurnedClock())
    assert "hun" not in str(caught.value) and caught.value.__cause__ is None


async def test_both_names_of_the_scheme_are_taken(on_postgresql):
    url = on_postgresql.url.replace("postgresql://", "postgres://")
    async with opened("postgresql", url) as bench:
        assert (await bench.ledger.claim(claim())).landed


@pytest.mark.parametrize(
    ("setting", "warning"),
    [("synchronous_commit = off", "synchronous_commit is off"), ("synchronous_commit = on", None)],
)
async def test_a_database_that_may_forget_commits_is_warned_of(on_postgresql, postgres: Postgres, setting, warning):
    name = urlsplit(on_postgresql.url).path[1:]
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute(f'ALTER DATABASE "{name}" SET {setting}')
        async with opened("postgresql", on_postgresql.url) as bench:
            found = [text for text in bench.ledger.warnings if text.startswith("synchronous_commit")]
    finally:
        await connection.execute(f'ALTER DATABASE "{name}" RESET synchronous_commit')
        await connection.close()
    assert [text.partition(":")[0] for text in found] == ([warning] if warning else [])


@pytest.mark.parametrize(("replicas", "names", "count"), [(1, "", 1), (1, "a", 0), (0, "", 0)])
def test_replicas_that_are_not_waited_for_are_warned_of(replicas, names, count):
    about = {"synchronous_commit": "on", "fsync": "on", "replicas": replicas, "standby_names": names}
    assert len(postgresql._warnings(about)) == count


async def test_secrets_are_the_same_for_all_processes(postgres_url):
    await upgrade(postgres_url)
    ledgers = await asyncio.gather(*(open_ledger(postgres_url, TurnedClock()) for _ in range(4)))
    assert len({(ledger.meta.key_secret, ledger.meta.fingerprint_secret) for ledger in ledgers}) == 1
    for ledger in ledgers:
        await ledger.close()


async def test_no_connection_is_left_checked_out(on_postgresql):
    entries = await asyncio.gather(*(begun(on_postgresql) for _ in range(30)))
    await on_postgresql.ledger.poll([entry.key_hash for entry in entries])
    assert [engine.pool.checkedout() for engine in on_postgresql.ledger.store.engines] == [0, 0]


HOT = ("claim", "record", "read", "touch")
COPIES = """
INSERT INTO entry
SELECT (json_populate_record(entry, json_build_object('key_hash', gen_random_uuid()))).* FROM entry, generate_series(1, 20000)
"""


@pytest.mark.parametrize("copies", [None, COPIES])
@pytest.mark.parametrize("name", HOT)
async def test_the_hot_statements_go_by_the_primary_key(on_postgresql, name, copies):
    """On an empty table, as they are planned for a new ledger, and on one that could as well be scanned."""
    store = on_postgresql.ledger.store
    if copies is not None:
        await begun(on_postgresql)
        await on_postgresql.execute(copies)
    text = getattr(store.statements, name)
    parameters = ("[]",) if name == "read" else ("[]", 0, 0)

    def explain(connection):
        return [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {text}", parameters).all()]

    plan = "\n".join(await (store.read if name == "read" else store.write)(explain))
    assert "pk_entry" in plan
    assert "Seq Scan on entry" not in plan
