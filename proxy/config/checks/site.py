"""Where a check stands, so that it can complain about values by their path."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass

from proxy.config.problems import Problems
from proxy.config.tree import Node, Path, mark_below, node_at


@dataclass(frozen=True, slots=True)
class Site:
    """A node under check and where complaints go."""

    node: Node
    problems: Problems
    left_out: Collection[Path] = ()

    def wrong(self, *path: str | int, message: str, fix: str = "") -> None:
        """Complain about the value under *path*, there or missing; not where something in it couldn't be read at all."""
        if not self.is_partial(*path):
            self.problems.add(mark_below(self.node, path), message, fix)

    def is_partial(self, *path: str | int) -> bool:
        """Whether anything under *path* was left out for not being well-formed."""
        return any(left_out[: len(path)] == path for left_out in self.left_out)

    def says(self, *path: str | int) -> bool:
        """Whether anything is written under *path*."""
        return node_at(self.node, path) is not None


def is_loopback(host: str) -> bool:
    """Whether *host* is a name or literal address of this machine."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_private(host: str) -> bool:
    """Whether *host* is a literal address, or a name, that no public provider can have."""
    name = host.strip("[]")
    if is_loopback(name):
        return True
    try:
        return not ipaddress.ip_address(name).is_global
    except ValueError:
        return False


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, brackets of an IPv6 address taken off."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
