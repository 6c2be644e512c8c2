"""The fake provider's own record: what was done, on disk before anybody is told."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


class EffectLog:
    """Records in memory and, if a path is given, in a file: ``durable`` ones are on disk when ``append`` returns.

    ``effects_before`` is how many effects the file held already: a provider that starts again goes on counting there.
    """

    def __init__(self, path: Path | None, *, fsync: bool = True) -> None:
        self.records: list[dict[str, Any]] = []
        self.effects_before = 0
        if path is not None and path.exists():
            self.effects_before = path.read_text().count('{"type": "effect"')
        self._fsync = fsync
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._fd = os.open(path, flags, 0o644) if path is not None else None

    def append(self, kind: str, /, *, durable: bool = False, **fields: Any) -> dict[str, Any]:
        """Append one record and give it back."""
        record = {"type": kind, "at": time.time(), **fields}
        self.records.append(record)
        if self._fd is not None:
            os.write(self._fd, json.dumps(record).encode() + b"\n")
            if durable and self._fsync:
                os.fsync(self._fd)
        return record

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
