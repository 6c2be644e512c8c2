"""The files of a SQLite ledger: who may use them, where they may lie, and whether they are still the ones we opened."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.core.ports import LedgerUnavailable
from proxy.ledger.store import LedgerRefused

ALLOW_TMPFS: Final = "DEDUP_ALLOW_TMPFS"
"""Set to 1, a ledger may lie in memory: for tests, where it may be lost."""

_MOUNTS: Final = Path("/proc/self/mountinfo")
_SHARED: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "glusterfs", "gpfs", "9p", "fuse.sshfs",
     "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse"}
)  # fmt: skip
"""File systems of other machines: their locks and shared memory don't do what WAL needs (sqlite.org/wal.html, section 1)."""
_VOLATILE: Final = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True, slots=True)
class _Identity:
    device: int
    inode: int


class Lock:
    """The one serving process's claim on a ledger. The file stays; the kernel frees the lock when the process ends."""

    def __init__(self, database: Path) -> None:
        """Raises :class:`LedgerRefused` where another process has it."""
        path = database.with_name(database.name + ".lock")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise LedgerRefused(
                f"{database} is in use by another process (pid {holder}): one process serves a SQLite ledger; "
                "for more, use PostgreSQL"
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another process have it."""
        os.close(self._file)


def is_locked(database: Path) -> bool:
    """Whether another process holds the lock of *database*. Leaves no trace."""
    path = database.with_name(database.name + ".lock")
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


class Watch:
    """Notices when the database file or its log is replaced or deleted under an open connection.

    What is committed then goes into a file that nobody will ever read again, while another process may serve the new one.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._log = database.with_name(database.name + "-wal")
        self._was = {path: _identify(path) for path in (self._database, self._log)}

    def check(self) -> None:
        """Raise :class:`LedgerUnavailable` if the files are not those that were opened."""
        for path, was in self._was.items():
            now = _identify(path)
            if now != was:
                what = "was deleted" if now is None else "was replaced"
                raise LedgerUnavailable(
                    f"{path} {what} while this process had it open: nothing is written or read any more; "
                    "stop this process, put the right file in place, and start again"
                )


def check_place(database: Path) -> None:
    """Raise :class:`LedgerRefused` where a ledger at *database* could not keep its promises."""
    directory = database.parent
    if not directory.is_dir():
        raise LedgerRefused(f"there is no directory {directory} for the ledger")
    kind = _file_system(directory)
    if kind in _SHARED:
        raise LedgerRefused(
            f"{directory} is on a network file system ({kind}), where SQLite's locks can't be relied on"
        )
    if kind in _VOLATILE and os.environ.get(ALLOW_TMPFS) != "1":
        raise LedgerRefused(
            f"{directory} is in memory ({kind}): a restart would forget what was sent ({ALLOW_TMPFS}=1 allows it)"
        )


def check_remains(database: Path) -> None:
    """Raise :class:`LedgerRefused` where *database* is not what a ledger leaves behind. A missing file is a new ledger."""
    log = database.with_name(database.name + "-wal")
    if database.exists():
        if database.stat().st_size == 0:
            raise LedgerRefused(
                f"{database} is empty, which a ledger never is: restore it, or delete it to begin a new one"
            )
    elif log.exists() and log.stat().st_size > 0:
        raise LedgerRefused(
            f"{database} is missing but its log {log.name} is there: restore it, or delete both to begin anew"
        )


def _identify(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return _Identity(found.st_dev, found.st_ino)


def _file_system(directory: Path) -> str:
    """The type of the file system that holds *directory*; empty where the machine doesn't say."""
    try:
        lines = _MOUNTS.read_text().splitlines()
    except OSError:
        return ""
    return file_system_of(directory.resolve(), lines)


def file_system_of(directory: Path, mounts: Sequence[str]) -> str:
    """The type of the deepest mount of *mounts* (lines of Linux's mountinfo) that holds *directory*; later ones hide."""
    best: tuple[int, str] = (-1, "")
    for line in mounts:
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].encode().decode("unicode_escape"))
        if directory.is_relative_to(point):
            best = max(best, (len(point.parts), ""), key=lambda found: found[0])
            if len(point.parts) >= best[0]:
                best = (len(point.parts), after.split()[0])
    return best[1]
