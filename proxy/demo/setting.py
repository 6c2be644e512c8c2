"""Where the story plays: a directory on a real disk, ports that stay ours, and the proxy's configuration."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from proxy.demo.places import a_real_disk, lasting_ports

RULES: Final[Mapping[str, Mapping[str, Any]]] = {
    "pay": {
        "category": "payments",
        "operations": [
            {
                "name": "charge",
                "match": "POST /v1/charges",
                "key": {"from": ['headers."idempotency-key"']},
                "native": {
                    "header": "Idempotency-Key",
                    "retention": "1h",
                    "locks": True,
                    "failures": "resumed",
                    "in_progress": {"status": 409, "when": "body.error.code == 'key_in_progress'"},
                    "mismatch": {"status": 422, "when": "body.error.code == 'key_reused'"},
                    "behind_key": {"status": 402},
                },
                "settle": {"by": ["resend"], "request_life": "3s"},
            }
        ],
    },
    "mail": {
        "category": "email",
        "operations": [
            {
                "name": "send",
                "match": "POST /v3/messages",
                "key": {"from": [["body.template", "body.order_id"]], "window": "24h"},
                "settle": {"request_life": "3s"},
            }
        ],
    },
}
"""By provider, but for where it is. Computed keys for mail, the callers' own for pay."""

_EVERY_PROVIDER: Final[Mapping[str, Any]] = {
    "allow_private": True,
    "timeout": {"connect": "1s", "total": "2s"},
    "wait": "1s",
    "concurrency": 64,
    # These providers fail on purpose all the time: stopping to send, which is right in earnest, would end the story.
    "fuse": {"ambiguous": 1_000_000},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Paths, addresses and names of one run. ``run`` makes its intents unlike any other run's."""

    directory: Path
    run: str
    seed: int
    ledger: str
    data_port: int
    admin_port: int

    @property
    def proxy_url(self) -> str:
        """Where services send."""
        return f"http://127.0.0.1:{self.data_port}"

    @property
    def admin_url(self) -> str:
        """Where the story looks at the ledger."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def config(self) -> Path:
        """The proxy's configuration."""
        return self.directory / "config.yaml"

    def write_config(self, providers: Mapping[str, str]) -> None:
        """Write the configuration for *providers*, addresses by name."""
        config = {
            "version": 1,
            "server": {
                "listen": f"127.0.0.1:{self.data_port}",
                "admin_listen": f"127.0.0.1:{self.admin_port}",
                "drain": "5s",
            },
            "ledger": {"url": self.ledger},
            "defaults": dict(_EVERY_PROVIDER),
            "providers": {name: {"base_url": url, **RULES[name]} for name, url in providers.items()},
        }
        self.config.write_text(yaml.safe_dump(config, sort_keys=False, width=120), encoding="utf-8")


class NoPlace(Exception):
    """There is nowhere to play. The message says what to do."""


@contextmanager
def prepared(*, seed: int, ledger: str | None, keep: Path | None) -> Iterator[Setting]:
    """A setting, gone afterwards unless *keep* names its directory. Raises :class:`NoPlace`."""
    directory = _kept(keep) if keep is not None else Path(tempfile.mkdtemp(prefix="dedup-demo-", dir=a_real_disk()))
    try:
        data_port, admin_port = lasting_ports(2)
        yield Setting(
            directory=directory,
            run=f"{seed}x{secrets.token_hex(3)}",
            seed=seed,
            ledger=ledger or f"sqlite:///{directory / 'ledger.db'}",
            data_port=data_port,
            admin_port=admin_port,
        )
    finally:
        if keep is None:
            shutil.rmtree(directory, ignore_errors=True)


def _kept(keep: Path) -> Path:
    directory = keep.absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise NoPlace(f"--keep {keep}: the directory is not empty; name one that is, or that does not exist yet")
    except OSError as problem:
        raise NoPlace(f"--keep {keep}: {problem.strerror or problem}") from None
    return directory
