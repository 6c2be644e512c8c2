"""A SQLite ledger's files: made whole, served once, refused when they are not what they should be."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.core.model import Status
from proxy.core.ports import LedgerUnavailable
from proxy.core.states import Event
from proxy.ledger import Filter, LedgerRefused, open_ledger, open_reader, sqlite_files
from proxy.ledger.sealing import Keyring
from proxy.ledger.sqlite import _engine, _prepare
from tests.contract.ledgers import TurnedClock, claim, opened, write
from tests.contract.test_ledger_claims import begun


def url(path: Path) -> str:
    return f"sqlite:///{path}"


async def refusal(path: Path) -> str:
    with pytest.raises(LedgerRefused) as caught:
        await open_ledger(url(path), TurnedClock())
    return str(caught.value)


async def test_a_missing_file_is_a_new_ledger(tmp_path):
    path = tmp_path / "new.db"
    async with opened("sqlite", url(path)) as bench:
        assert (await bench.ledger.claim(claim())).landed
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes == dict.fromkeys(["new.db", "new.db-shm", "new.db-wal", "new.db.lock"], 0o600)
    assert {file.name for file in tmp_path.iterdir()} == {"new.db", "new.db.lock"}


async def test_secrets_are_made_once(tmp_path):
    path = tmp_path / "new.db"
    found = set()
    for _ in range(2):
        async with opened("sqlite", url(path)) as bench:
            found.add(
                (bench.ledger.meta.key_secret, bench.ledger.meta.fingerprint_secret, bench.ledger.meta.incarnation)
            )
    assert len(found) == 1
    key_secret, fingerprint_secret, _ = found.pop()
    assert len(key_secret) == len(fingerprint_secret) == 32 and key_secret != fingerprint_secret
    assert key_secret.hex() not in repr(bench.ledger.meta)


async def test_secrets_that_are_lost_are_not_made_anew(on_sqlite):
    await begun(on_sqlite)
    await on_sqlite.execute("DELETE FROM meta WHERE name = 'key_secret'")
    await on_sqlite.ledger.close()
    assert "has lost key_secret" in await refusal(Path(on_sqlite.url.removeprefix("sqlite:///")))


async def test_what_was_written_is_there_after_reopening(on_sqlite):
    entry = await begun(on_sqlite, Status.SUCCEEDED)
    await on_sqlite.ledger.close()
    async with opened("sqlite", on_sqlite.url) as again:
        assert await again.ledger.read(entry.key_hash) == entry


async def test_commits_are_synchronous_and_logged_ahead(on_sqlite):
    def pragmas(connection):
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]

    assert await on_sqlite.ledger.store.write(pragmas) == ["wal", 2]


# -- who may use it ---------------------------------------------------------------------------------------------------


async def test_a_second_process_is_refused_and_told_who_serves(on_sqlite):
    path = on_sqlite.url.removeprefix("sqlite:///")
    program = (
        "import asyncio, sys; from proxy.ledger import open_ledger, LedgerRefused\n"
        "from tests.contract.ledgers import TurnedClock\n"
        f"try: asyncio.run(open_ledger('sqlite:///{path}', TurnedClock()))\n"
        "except LedgerRefused as error: print(error); sys.exit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert done.returncode == 3, done.stderr
    assert f"pid {os.getpid()}" in done.stdout


async def test_a_second_opening_in_one_process_is_refused(on_sqlite):
    assert "in use by another process" in await refusal(Path(on_sqlite.url.removeprefix("sqlite:///")))


async def test_a_link_to_a_ledger_is_the_same_ledger(on_sqlite, tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(on_sqlite.url.removeprefix("sqlite:///"))
    assert "in use by another process" in await refusal(link)


async def test_a_closed_ledger_can_be_served_again(on_sqlite):
    await on_sqlite.ledger.close()
    async with opened("sqlite", on_sqlite.url) as again:
        assert (await again.ledger.claim(claim())).landed


async def test_a_reader_reads_beside_the_serving_process(on_sqlite):
    entry = await begun(on_sqlite)
    reader = await open_reader(on_sqlite.url, TurnedClock())
    try:
        assert list((await reader.entries(Filter())).entries) == [entry]
        await on_sqlite.ledger.record(write(entry, Event.ANSWERED))
        assert (await reader.entries(Filter())).entries[0].status is Status.SUCCEEDED
    finally:
        await reader.close()
    assert (await on_sqlite.ledger.claim(claim())).landed


async def test_a_reader_makes_nothing(tmp_path):
    with pytest.raises(LedgerRefused, match="no ledger"):
        await open_reader(url(tmp_path / "none.db"), TurnedClock())
    assert list(tmp_path.iterdir()) == []


# -- what is refused --------------------------------------------------------------------------------------------------


async def test_an_empty_file_is_not_taken_for_a_new_ledger(tmp_path):
    path = tmp_path / "ledger.db"
    path.touch()
    assert "is empty" in await refusal(path)


async def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "ledger.db"
    path.write_bytes(b"#!/bin/sh\n" * 1000)
    assert "cannot be read as a ledger" in await refusal(path)
    assert path.read_bytes() == b"#!/bin/sh\n" * 1000


@pytest.mark.parametrize("mode", ["wal", "delete"])
async def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path, mode):
    path = tmp_path / "ledger.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute("CREATE TABLE entry (id)")
    connection.close()
    told = await refusal(path)
    assert "not a ledger" in told or "journal mode delete" in told
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == (mode,)
    connection.close()


async def test_a_damaged_ledger_is_refused(on_sqlite):
    path = Path(on_sqlite.url.removeprefix("sqlite:///"))
    for _ in range(50):
        await begun(on_sqlite)
    await on_sqlite.ledger.close()
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(content)
    assert "damaged" in await refusal(path)


async def test_a_truncated_ledger_is_refused(on_sqlite):
    path = Path(on_sqlite.url.removeprefix("sqlite:///"))
    await on_sqlite.ledger.close()
    os.truncate(path, path.stat().st_size // 2)
    told = await refusal(path)
    assert "damaged" in told or "cannot be read" in told


async def test_a_log_without_its_ledger_is_refused(tmp_path):
    (tmp_path / "ledger.db-wal").write_bytes(b"x" * 4096)
    assert "is missing but its log" in await refusal(tmp_path / "ledger.db")


async def test_a_directory_that_is_not_there_is_refused(tmp_path):
    assert "no directory" in await refusal(tmp_path / "none" / "ledger.db")


async def test_half_a_ledger_that_a_crash_left_behind_is_made_again(tmp_path):
    (tmp_path / "ledger.db.making").write_bytes(b"half")
    (tmp_path / "ledger.db.making-wal").write_bytes(b"half")
    async with opened("sqlite", url(tmp_path / "ledger.db")) as bench:
        assert (await bench.ledger.claim(claim())).landed


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("sqlite://", "begins with"),
        ("sqlite:///", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///x.db?mode=ro", "no parameters"),
        ("mysql://root:hunter2@db/x", "names mysql"),
        ("hunter2", "names nothing"),
    ],
)
async def test_a_url_that_names_no_ledger_is_refused_without_repeating_it(wrong, why):
    with pytest.raises(LedgerRefused, match=why) as caught:
        await open_ledger(wrong, TurnedClock())
    assert "hunter2" not in str(caught.value)


MOUNTS = """\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:40 / /tmp rw - tmpfs tmpfs rw
31 22 0:41 / /mnt/share rw - nfs4 server:/x rw
32 31 0:42 / /mnt/share/local rw - xfs /dev/vdb rw
33 22 0:43 / /mnt/with\\040space rw - fuse.sshfs host: rw
34 22 0:44 / /tmp rw - ext4 /dev/vdc rw
""".splitlines()


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/mnt/share/a", "nfs4"),
        ("/mnt/share/local/a", "xfs"),
        ("/mnt/shared", "ext4"),
        ("/mnt/with space", "fuse.sshfs"),
        ("/tmp/x", "ext4"),
    ],
)
def test_the_deepest_and_latest_mount_holds_a_directory(directory, kind):
    assert sqlite_files.file_system_of(Path(directory), MOUNTS) == kind


@pytest.mark.parametrize(
    ("kind", "allowed", "why"),
    [("nfs4", "1", "network file system"), ("tmpfs", "", "in memory"), ("tmpfs", "1", None), ("ext4", "", None)],
)
def test_where_a_ledger_may_lie(tmp_path, monkeypatch, kind, allowed, why):
    monkeypatch.setattr(sqlite_files, "_file_system", lambda _: kind)
    monkeypatch.setenv(sqlite_files.ALLOW_TMPFS, allowed)
    if why is None:
        sqlite_files.check_place(tmp_path / "ledger.db")
    else:
        with pytest.raises(LedgerRefused, match=why):
            sqlite_files.check_place(tmp_path / "ledger.db")


# -- while it is served -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_a_file_taken_away_ends_all_service_until_it_is_back(on_sqlite, how, suffix):
    path = Path(on_sqlite.url.removeprefix("sqlite:///") + suffix)
    entry = await begun(on_sqlite)
    aside = path.with_name("aside")
    path.rename(aside)
    if how == "replaced":
        shutil.copy(aside, path)
    for call in (on_sqlite.ledger.claim(claim()), on_sqlite.ledger.read(entry.key_hash), on_sqlite.ledger.ping()):
        with pytest.raises(LedgerUnavailable, match=f"was {how}"):
            await call
    aside.replace(path)
    assert (await on_sqlite.ledger.claim(claim())).landed
    await on_sqlite.ledger.ping()


async def test_a_commit_into_a_file_taken_away_meanwhile_is_not_acknowledged(on_sqlite):
    path = Path(on_sqlite.url.removeprefix("sqlite:///"))

    def work(connection):
        connection.exec_driver_sql("UPDATE meta SET value = value")
        path.rename(path.with_name("aside"))

    with pytest.raises(LedgerUnavailable, match="was deleted"):
        await on_sqlite.ledger.store.write(work)


async def test_a_read_waits_for_no_write(on_sqlite):
    """While a write transaction is open, reads are answered, from before it."""
    entry = await begun(on_sqlite)
    seen = []

    def work(connection):
        connection.exec_driver_sql("UPDATE entry SET reason = 'x'")
        asyncio.run_coroutine_threadsafe(read(), loop).result(5)

    async def read():
        seen.append(await on_sqlite.ledger.read(entry.key_hash))

    loop = asyncio.get_running_loop()
    await on_sqlite.ledger.store.write(work)
    assert seen == [entry]


async def test_a_write_has_its_lock_before_it_looks(on_sqlite):
    """Else what it read could have changed by the time it writes, and its commit would be refused."""

    def work(_connection):
        other = sqlite3.connect(on_sqlite.ledger.store.path, timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()

    await on_sqlite.ledger.store.write(work)


async def test_a_disk_that_is_full_fails_the_batch_and_not_the_ledger(on_sqlite):
    pages = (await on_sqlite.rows("PRAGMA page_count"))[0][0]
    await on_sqlite.ledger.store.write(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar())
    wishes = [claim(fingerprint="x" * 2000) for _ in range(200)]
    told = await asyncio.gather(*(on_sqlite.ledger.claim(wish) for wish in wishes), return_exceptions=True)
    assert all(isinstance(one, LedgerUnavailable) and "full" in str(one) for one in told)
    await on_sqlite.ledger.store.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count=100000").scalar())
    assert (await on_sqlite.ledger.claim(claim())).landed


def test_a_ledger_that_is_behind_is_upgraded_by_serving_it(tmp_path, monkeypatch):
    """Its revision is set back, so that serving it finds an older schema and upgrades it."""
    path = tmp_path / "ledger.db"
    _prepare(path, True, Keyring())
    upgraded = []
    engine = _engine(path, writes=True)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    engine.dispose()
    monkeypatch.setattr("proxy.ledger.schema.REVISIONS", ("0000", "0001"))
    monkeypatch.setattr("proxy.ledger.sqlite.upgrade_on", lambda c: upgraded.append(c) or c.exec_driver_sql(
        "UPDATE alembic_version SET version_num = '0001'"))  # fmt: skip
    _prepare(path, True, Keyring())
    assert len(upgraded) == 1
