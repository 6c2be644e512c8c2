"""Commands on a ledger that is sealed: they open it with the configured keys, and say so when they can't."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.cli.test_commands import CONFIG, FINE, UNREACHABLE, run

KEY, OTHER = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
EXPLAIN = ("explain", "POST", "/pay/charges", "-H", "Idempotency-Key: k1", "-d", "{}", "--json")
LIST = ("ledger", "list", "--json")


def config_with(directory: Path, *keys: str) -> Path:
    path = directory / "config.yaml"
    ledger = f'ledger: {{url: "sqlite:///{directory}/dedup.db", encryption_keys: {json.dumps(keys)}}}'
    path.write_text(CONFIG.replace('ledger: {url: "sqlite:///LEDGER"}', ledger))
    return path


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    config = config_with(tmp_path, KEY)
    done = run("migrate", config=config)
    assert done.returncode == FINE, done.stderr
    return tmp_path


def test_a_sealed_ledger_is_read_with_its_key_and_migrated_again(sealed: Path) -> None:
    config = config_with(sealed, OTHER, KEY)
    fingerprints = set()
    for _ in range(2):
        explained = run(*EXPLAIN, config=config)
        assert explained.returncode == FINE, explained.stderr
        fingerprints.add(json.loads(explained.stdout)["fingerprint"])
        listed = run(*LIST, config=config)
        assert (listed.returncode, json.loads(listed.stdout)["entries"]) == (FINE, []), listed.stderr
        assert run("migrate", config=config).returncode == FINE
    assert len(fingerprints) == 1
    assert None not in fingerprints


@pytest.mark.parametrize(
    "command", [EXPLAIN, LIST, ("migrate",), ("serve",)], ids=["explain", "list", "migrate", "serve"]
)
def test_without_its_key_a_sealed_ledger_is_not_opened(sealed: Path, command: tuple[str, ...]) -> None:
    done = run(*command, config=config_with(sealed, OTHER))

    assert (done.returncode, "which is not among ledger.encryption_keys" in done.stderr) == (UNREACHABLE, True), done
    assert OTHER not in done.stdout + done.stderr
