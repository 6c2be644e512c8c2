"""Where on this machine: a directory that is not memory, ports that nobody takes while the proxy is down."""

from __future__ import annotations

import os
import random
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

_NO_DISK: Final = frozenset({"tmpfs", "ramfs", "nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"})
"""File systems that a SQLite ledger refuses: memory, and networks whose locks and fsyncs can't be trusted."""

_PORT_MIN: Final = 15_000
_PORT_TRIES_MAX: Final = 500


def a_real_disk() -> str | None:
    """A directory for temporary files in which a ledger is durable; None if none is known."""
    candidates = (tempfile.gettempdir(), "/var/tmp", str(Path.cwd()))  # noqa: S108 - only a parent; mkdtemp names the rest
    return next((c for c in candidates if os.access(c, os.W_OK) and file_system_of(Path(c)) not in _NO_DISK), None)


def file_system_of(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The type of the file system that holds *path*; None where the machine doesn't say."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    points = ((Path(fields[1]), fields[2]) for fields in map(str.split, lines) if len(fields) > 2)
    holding = [(len(point.parts), kind) for point, kind in points if path.resolve().is_relative_to(point)]
    return max(holding, key=lambda held: held[0])[1] if holding else None


def lasting_ports(count: int) -> tuple[int, ...]:
    """Free ports of the loopback interface, below those that the system hands out by itself.

    A client that keeps trying a port of that range while nobody listens is in the end given it as its own, is connected
    with itself, and the listener that comes back finds its port taken.
    """
    with ExitStack() as held:
        ports: list[int] = []
        for _ in range(_PORT_TRIES_MAX):
            port = random.randrange(_PORT_MIN, _first_given_out())  # noqa: S311 - any free port will do
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
            if len(ports) == count:
                return tuple(ports)
    raise OSError(f"no {count} free ports between {_PORT_MIN} and {_first_given_out()}")


def _first_given_out() -> int:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
        first = int(text.split()[0])
    except (OSError, ValueError, IndexError):
        first = 32_768
    return first if first > _PORT_MIN + 1_000 else 32_768
