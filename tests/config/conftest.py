"""Configuration files in a directory of their own, which is the working directory: messages name them by a short path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.config import Report, check

Check = Callable[..., Report]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def checked(directory: Path) -> Check:
    """Check a file's text, with further files beside it and an environment."""

    def run(text: str, *, files: dict[str, str] | None = None, environ: dict[str, str] | None = None) -> Report:
        for name, content in {**(files or {}), "config.yaml": text}.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return check("config.yaml", environ or {})

    return run
