"""Answers and the ledger's secrets under ``ledger.encryption_keys``: what is sealed, what opens, and what a lost key costs."""

# ruff: noqa: S608 - statements that tamper are made of the table of changes below

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from proxy.core.model import Kept, Status
from proxy.core.reasons import Reason
from proxy.core.states import Event
from proxy.exchange.told import Passed, Problem
from proxy.ledger import Hooks, LedgerRefused, Reader, SqlLedger, open_ledger, open_reader, upgrade
from proxy.ledger.sealing import Keyring, Unreadable
from tests.contract.ledgers import DATABASES, TurnedClock, answer, claim, write
from tests.exchange.stage import Answered, stage
from tests.support.postgres import Postgres

OLD, NEW, OTHER = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
BODY = b'{"card": "' + secrets.token_hex(24).encode() + b'"}'
SECRETS = {"key_secret", "fingerprint_secret"}
SEALED_TODAY = "AWMNzSnPy1AEYarErkY0ZPCFIpW0vsI3kfOEMGOSDtYplCpYm7w="  # b"plain" under OLD, at b"here"


@pytest.fixture(scope="module")
def sealing_database(postgres: Postgres) -> Iterator[str]:
    """A database of these tests' own: its secrets are sealed, and made anew for each test."""
    url = postgres.create_database()
    asyncio.run(upgrade(url))
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=DATABASES)
async def url(request: pytest.FixtureRequest, sealing_database: str, tmp_path: Path) -> str:
    """The URL of a ledger that nobody has opened."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    await emptied(sealing_database)
    return sealing_database


async def emptied(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("TRUNCATE entry, answer, history, meta")
    await connection.close()


class Told(list[tuple[str, str]]):
    """Entries whose answers could not be read, and why."""

    def hooks(self) -> Hooks:
        return Hooks(on_unreadable=lambda entry_id, why: self.append((entry_id, why)))


@contextlib.asynccontextmanager
async def serving(url: str, *keys: bytes, told: Told | None = None) -> AsyncIterator[SqlLedger]:
    ledger = await open_ledger(
        url, TurnedClock(), encryption_keys=keys, hooks=(Told() if told is None else told).hooks()
    )
    try:
        yield ledger
    finally:
        await ledger.close()


async def answered(ledger: SqlLedger, body: bytes = BODY, status: int = 200):
    """An entry that succeeded, with its answer."""
    entry = (await ledger.claim(claim())).entry
    landed = await ledger.record(write(entry, Event.ANSWERED, answer=answer(status=status, body=body)))
    assert landed.landed
    return landed.entry


async def rows(ledger: SqlLedger, text: str):
    return await ledger.store.read(lambda connection: connection.exec_driver_sql(text).all())


async def execute(ledger: SqlLedger, text: str) -> None:
    await ledger.store.write(lambda connection: connection.exec_driver_sql(text) and None)


async def stored_meta(ledger: SqlLedger) -> dict[str, str]:
    return {name: value for name, value in await rows(ledger, "SELECT name, value FROM meta") if name in SECRETS}


def secrets_of(ledger: SqlLedger):
    return ledger.meta.key_secret, ledger.meta.fingerprint_secret, ledger.meta.incarnation


# -- what is sealed, and opens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", BODY, secrets.token_bytes(300_000)], ids=["empty", "small", "large"])
async def test_a_sealed_answer_is_read_back_as_it_was(url, body):
    async with serving(url, NEW) as ledger:
        entry = await answered(ledger, body)
        assert entry.answer == answer(body=body)
        assert await ledger.read(entry.key_hash) == entry
        details = await Reader(ledger.store).entry(entry.id)
        assert details is not None and details.entry == entry
        [(headers, stored)] = await rows(ledger, "SELECT headers, body FROM answer")
    assert (headers[:1], stored[:1]) == (b"\x01", b"\x01")
    assert body == b"" or body not in stored


async def test_a_sealed_ledger_has_the_same_secrets_each_time_it_is_opened(url):
    async with serving(url, NEW) as first:
        found = secrets_of(first)
        stored = await stored_meta(first)
    assert all(value.startswith("sealed:") for value in stored.values())
    async with serving(url, NEW) as second:
        assert secrets_of(second) == found
        assert await stored_meta(second) == stored
    reader = await open_reader(url, TurnedClock(), encryption_keys=[NEW])
    assert reader.meta is not None and reader.meta.key_secret == found[0]
    await reader.close()


async def test_a_new_key_seals_and_the_old_one_still_opens(url):
    async with serving(url, OLD) as ledger:
        before, found = await answered(ledger), secrets_of(ledger)
    async with serving(url, NEW, OLD) as ledger:
        assert secrets_of(ledger) == found
        assert await ledger.read(before.key_hash) == before
        after = await answered(ledger)
    async with serving(url, NEW) as ledger:  # the secrets were sealed again, so the old key is needed for answers only
        assert secrets_of(ledger) == found
        assert await ledger.read(after.key_hash) == after


async def test_a_ledger_in_clear_is_sealed_from_now_on(url):
    async with serving(url) as ledger:
        before, found = await answered(ledger), secrets_of(ledger)
        assert set((await stored_meta(ledger)).values()) == {secret.hex() for secret in found[:2]}
    told = Told()
    async with serving(url, NEW, told=told) as ledger:
        assert secrets_of(ledger) == found
        assert await ledger.read(before.key_hash) == before
        after = await answered(ledger)
        assert await ledger.read(after.key_hash) == after
        assert all(value.startswith("sealed:") for value in (await stored_meta(ledger)).values())
        found_bodies = await rows(ledger, "SELECT body FROM answer ORDER BY body")
    assert [body[:1] for (body,) in found_bodies] == [b"\x01", b"\x28"]
    assert told == []


async def test_a_reader_seals_nothing(url):
    async with serving(url) as ledger:
        before = await stored_meta(ledger)
    reader = await open_reader(url, TurnedClock(), encryption_keys=[NEW])
    await reader.close()
    async with serving(url) as ledger:
        assert await stored_meta(ledger) == before


async def test_processes_that_seal_a_ledger_at_once_agree_on_its_secrets(sealing_database):
    await emptied(sealing_database)
    for keys in ([NEW], [OTHER, NEW]):
        opening = (open_ledger(sealing_database, TurnedClock(), encryption_keys=keys) for _ in range(4))
        ledgers = await asyncio.gather(*opening)
        assert len({secrets_of(ledger) for ledger in ledgers}) == 1
        await asyncio.gather(*(ledger.close() for ledger in ledgers))


# -- a key is lost ----------------------------------------------------------------------------------------------------


async def test_an_answer_whose_key_is_lost_is_a_tombstone_and_told_once(url):
    async with serving(url, OLD) as ledger:
        entries = [await answered(ledger) for _ in range(2)]
    async with serving(url, NEW, OLD):
        pass
    told = Told()
    async with serving(url, NEW, told=told) as ledger:
        for entry in entries * 2:
            found = await ledger.read(entry.key_hash)
            assert found is not None and found.answer is not None
            assert (found.status, found.answer.kept, found.answer.body) == (Status.SUCCEEDED, Kept.TOMBSTONE, b"")
    [(entry_id, why)] = told
    assert entry_id == entries[0].id
    assert "sealed with encryption key 630dcd29, which is not among ledger.encryption_keys" in why
    async with serving(url, NEW, OLD) as ledger:  # nothing was lost but the key
        assert await ledger.read(entries[1].key_hash) == entries[1]


async def test_a_duplicate_whose_answer_can_not_be_opened_gets_answer_not_stored_and_nothing_is_sent(url):
    async with serving(url, OLD) as ledger:
        played = stage(ledger=ledger)
        played.provider.script = [Answered(pieces=(BODY,))]
        assert isinstance(await played.ask(), Passed)
        replay = await played.ask()
        assert isinstance(replay, Passed) and replay.facts.replayed and replay.body == BODY
    async with serving(url, NEW, OLD):
        pass
    async with serving(url, NEW) as ledger:
        played = stage(ledger=ledger)
        told = await played.ask()
        assert played.provider.sent == []
    assert isinstance(told, Problem)
    assert (told.reason, told.facts.executed) == (Reason.ANSWER_NOT_STORED, "yes")


@pytest.mark.parametrize("keys", [(), (OTHER,)], ids=["no key", "another key"])
async def test_a_ledger_whose_secrets_can_not_be_opened_is_refused_and_left_as_it_is(url, keys):
    async with serving(url, OLD) as ledger:
        entry, found, stored = await answered(ledger), secrets_of(ledger), await stored_meta(ledger)
    for opening in (open_ledger, open_reader):
        with pytest.raises(LedgerRefused, match="encryption key 630dcd29, which is not among"):
            await opening(url, TurnedClock(), encryption_keys=keys)
    async with serving(url, OLD) as ledger:
        assert (secrets_of(ledger), await stored_meta(ledger)) == (found, stored)
        assert await ledger.read(entry.key_hash) == entry


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("UPDATE meta SET value = substr(value, 1, 90) WHERE name = 'key_secret'", "is damaged"),
        ("UPDATE meta SET value = 'sealed:AQ==' WHERE name = 'key_secret'", "cut short"),
        ("UPDATE meta SET value = 'what' WHERE name = 'key_secret'", "is damaged"),
        (
            "UPDATE meta SET value = (SELECT value FROM meta WHERE name = 'key_secret') WHERE name = 'fingerprint_secret'",
            "changed or moved",
        ),
    ],
)
async def test_secrets_that_were_changed_are_refused(url, change, complaint):
    async with serving(url, NEW) as ledger:
        await execute(ledger, change)
    with pytest.raises(LedgerRefused, match=complaint):
        await open_ledger(url, TurnedClock(), encryption_keys=[NEW])


# -- somebody changes what is stored ----------------------------------------------------------------------------------


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda sealed: bytes(byte ^ (at % len(sealed) == index) for index, byte in enumerate(sealed))


TAMPERING: dict[str, Callable[[bytes], bytes]] = {
    "version": flipped(0), "key id": flipped(1), "nonce": flipped(5), "ciphertext": flipped(17), "tag": flipped(-1),
    "cut short": lambda sealed: sealed[:-1], "cut to nothing": lambda _: b"", "cut to its version": lambda _: b"\x01",
    "in clear": lambda _: b"[]",
}  # fmt: skip


@pytest.mark.parametrize("column", ["headers", "body"])
@pytest.mark.parametrize("change", TAMPERING.values(), ids=TAMPERING)
async def test_a_sealed_answer_that_was_changed_is_a_tombstone(url, column, change):
    told = Told()
    async with serving(url, NEW, told=told) as ledger:
        entry = await answered(ledger)
        [(sealed,)] = await rows(ledger, f"SELECT {column} FROM answer")
        literal = f"'\\x{change(sealed).hex()}'" if url.startswith("postgresql") else f"x'{change(sealed).hex()}'"
        await execute(ledger, f"UPDATE answer SET {column} = {literal}")
        for _ in range(2):
            found = await ledger.read(entry.key_hash)
            assert found is not None and found.answer is not None and found.answer.kept is Kept.TOMBSTONE
    assert [entry_id for entry_id, _ in told] == [entry.id]


@pytest.mark.parametrize(
    "change",
    [
        "(headers, body) = (SELECT headers, body FROM answer AS other WHERE other.key_hash <> answer.key_hash)",
        "headers = body, body = headers",
        "status = 201",
        "kept = 'status'",
        "attempt = 2",
    ],
    ids=["another entry's", "columns swapped", "another status", "another share of it", "another attempt"],
)
async def test_a_sealed_answer_opens_only_where_it_was_put(url, change):
    async with serving(url, NEW) as ledger:
        entries = [await answered(ledger), await answered(ledger)]
        await execute(ledger, f"UPDATE answer SET {change} WHERE key_hash = '{entries[1].key_hash}'")
        found = [await ledger.read(entry.key_hash) for entry in entries]
        assert [entry.answer.kept for entry in found if entry and entry.answer] == [Kept.FULL, Kept.TOMBSTONE]


async def test_a_damaged_answer_in_clear_is_a_tombstone_too(url):
    told = Told()
    async with serving(url, told=told) as ledger:
        entry = await answered(ledger)
        await execute(ledger, "UPDATE answer SET body = headers")
        found = await ledger.read(entry.key_hash)
    assert found is not None and found.answer is not None and found.answer.kept is Kept.TOMBSTONE
    assert told == [(entry.id, "it is damaged")]


# -- who looks at the database ----------------------------------------------------------------------------------------


def needles(ledger: SqlLedger) -> dict[str, list[bytes]]:
    """What a search of the files may be for. Of a secret, quarters of its digits: part of it might have been overwritten."""
    quarters = {
        name: [secret.hex()[at : at + 16].encode() for at in range(0, 64, 16)]
        for name, secret in zip(("key_secret", "fingerprint_secret"), secrets_of(ledger)[:2], strict=True)
    }
    return {"body": [BODY[10:58]], "header": [b"application/json"], "raw secret": [ledger.meta.key_secret], **quarters}


def found_in(directory: Path, ledger: SqlLedger) -> set[str]:
    content = b"".join(path.read_bytes() for path in directory.iterdir())
    return {name for name, looked in needles(ledger).items() if any(needle in content for needle in looked)}


async def test_nothing_sealed_is_found_in_the_files(tmp_path):
    """And what is in clear is found, so that the search is one."""
    found = {}
    for name, keys in {"clear": (), "sealed": (NEW,)}.items():
        directory = tmp_path / name
        directory.mkdir()
        async with serving(f"sqlite:///{directory}/ledger.db", *keys) as ledger:
            await answered(ledger)
            assert (directory / "ledger.db-wal").stat().st_size > 0
            in_log = found_in(directory, ledger)
        found[name] = in_log | found_in(directory, ledger)
    assert found == {"clear": {"body", "header", "key_secret", "fingerprint_secret"}, "sealed": set()}


async def test_secrets_that_get_sealed_stay_nowhere_in_the_files(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    async with serving(url):
        pass
    async with serving(url, NEW) as ledger:
        while_served = found_in(tmp_path, ledger)
    assert (while_served, found_in(tmp_path, ledger)) == (set(), set())


async def test_nothing_sealed_is_found_in_the_tables(url):
    async with serving(url, NEW) as ledger:
        await answered(ledger)
        content = repr(await rows(ledger, "SELECT * FROM answer")) + repr(await rows(ledger, "SELECT * FROM meta"))
        assert not [needle for looked in needles(ledger).values() for needle in looked if repr(needle)[2:-1] in content]


# -- the keyring ------------------------------------------------------------------------------------------------------


def test_what_is_sealed_twice_looks_different():
    keyring = Keyring([NEW])
    assert len({keyring.seal(b"same", b"here") for _ in range(100)}) == 100


def test_a_keyring_opens_what_this_version_of_the_format_holds():
    """A ledger of today must open tomorrow: version, key id, nonce, ciphertext, tag."""
    sealed = base64.b64decode(SEALED_TODAY)
    assert (sealed[:5].hex(), len(sealed)) == ("01630dcd29", 1 + 4 + 12 + len(b"plain") + 16)
    assert Keyring([NEW, OLD]).open(sealed, b"here") == b"plain"
    with pytest.raises(Unreadable, match="changed or moved"):
        Keyring([OLD]).open(sealed, b"there")


def test_a_keyring_never_shows_its_keys():
    assert repr(Keyring([OLD, NEW])).startswith("<Keyring 630dcd29, ")
    assert repr(Keyring()) == "<Keyring empty>"


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33])
def test_a_key_of_another_length_is_refused(size):
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring([bytes(size)])
