"""What is generated is what would be generated now."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.project.paths import ROOT

SCHEMA = ROOT / "docs/config.schema.json"


def test_the_json_schema_is_fresh() -> None:
    """``dedup-proxy schema > docs/config.schema.json`` makes it so."""
    done = subprocess.run([sys.executable, "-m", "proxy", "schema"], cwd=ROOT, capture_output=True, check=True)
    assert json.loads(done.stdout) == json.loads(SCHEMA.read_text())
