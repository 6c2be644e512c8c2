"""Configuration: YAML files, strictly read, merged, checked and compiled to a frozen :mod:`proxy.core.policy`.

==================  =========================================================================================
``source``          YAML text to a tree whose values know their lines; ``substitution`` fills in ``${...}``
``files``           a file and what it includes
``merge``           defaults, preset, own: one tree per provider and operation
``models``          what may be written: strict pydantic models
``reading``         tree to model, pydantic's errors in our words and at our lines
``effective``       all of that for a whole file
``checks``          what no single value can say wrong
``warnings``        what is valid and still worth saying
``compile``         models to policy
``dump``            the effective rules as plain data, secrets masked
``schema``          JSON Schema for editors; ``reference``: the tables of docs/configuration.md
==================  =========================================================================================

Every problem is found in one go, each with file, line, path and, where it is known, the fix.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.config.checks import listeners, providers
from proxy.config.compile import compile_policy
from proxy.config.dump import effective
from proxy.config.effective import read_all
from proxy.config.files import Reader
from proxy.config.problems import ConfigInvalid, Mark, Problem, Problems
from proxy.config.schema import schema
from proxy.config.warnings import find
from proxy.core.policy import Policy


@dataclass(frozen=True, slots=True)
class Report:
    """What ``check`` found. ``policy`` is None exactly where there are problems.

    ``effective`` is the effective rules as plain data without secrets; ``files`` are those that were read, to be watched.
    """

    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    effective: Mapping[str, Any]
    files: tuple[Path, ...]
    policy: Policy | None


def check(path: str | Path, environ: Mapping[str, str] | None = None) -> Report:
    """Read, check and compile the file at *path*. Never raises for what is wrong with it."""
    problems = Problems()
    reader = Reader(os.environ if environ is None else environ, problems)
    found = read_all(Path(path), reader)
    if found is None:
        return Report(tuple(problems), (), {}, tuple(reader.read), None)
    listeners.check(found, problems)
    providers.check(found, problems)
    warnings = find(found)
    policy = None if len(problems) else compile_policy(found, warnings)
    return Report(tuple(problems), warnings, effective(found), tuple(reader.read), policy)


def load(path: str | Path, environ: Mapping[str, str] | None = None) -> Policy:
    """The policy of the file at *path*. Raises :class:`ConfigInvalid` with all problems."""
    report = check(path, environ)
    if report.policy is None:
        raise ConfigInvalid(report.problems)
    return report.policy


__all__ = ["ConfigInvalid", "Mark", "Problem", "Report", "check", "load", "schema"]
