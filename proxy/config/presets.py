"""Presets: one YAML file per provider, in the ``providers`` package or beside the configuration."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from proxy.config.files import Reader
from proxy.config.problems import did_you_mean
from proxy.config.source import parse
from proxy.config.tree import Mapping, Scalar, Text

PRESET_ONLY = frozenset({"examples", "sources", "unverified"})
"""What a preset says about itself; no part of the rule."""

_BUILT_IN = re.compile(r"[a-z0-9][a-z0-9_-]*")


def names() -> list[str]:
    """The presets that come with the proxy."""
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in resources.files("providers").iterdir()
        if entry.name.endswith(".yaml")
    )


def text_of(name: str) -> str:
    """The YAML text of the preset *name* that comes with the proxy. Raises FileNotFoundError."""
    return resources.files("providers").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def load(preset: Scalar, reader: Reader) -> Mapping | None:
    """The tree of the preset that *preset* names; None, and the problem noted, if there is none."""
    problems = reader.problems
    name = preset.value
    if not isinstance(name, Text):
        problems.add(preset.mark, "must be the name of a preset, or a path")
        return None
    if "/" in name or name.endswith((".yaml", ".yml")):
        return _from_path(name, reader)
    known = names()
    if not _BUILT_IN.fullmatch(name) or name not in known:
        fix = did_you_mean(name, known) or f"known: {' '.join(known)}; a preset of your own is a path such as ./my.yaml"
        problems.add(preset.mark, f"there is no preset {name!r}", fix)
        return None
    return parse(text_of(name), f"providers/{name}.yaml", reader.substitution(Path(preset.mark.file)), problems)


def _from_path(name: Text, reader: Reader) -> Mapping | None:
    path = Path(name.mark.file).parent / name
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):  # not there, not UTF-8, or no name that a file can have
        reader.problems.add(
            name.mark, f"can't read the preset {name!r}", "" if name.is_substituted else f"it is looked for at {path}"
        )
        return None
    reader.read.append(path)
    return parse(text, str(path), reader.substitution(path), reader.problems)
