"""What a provider's `answers` may add to the proxy's own answers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from proxy.config.checks.operations import FORBIDDEN_HEADERS
from proxy.config.checks.site import Site
from proxy.config.models.shared import Answers
from proxy.config.problems import did_you_mean
from proxy.config.tree import Path, Text
from proxy.core.policy import ANSWER_NAMES

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


def check(answers: Answers, site: Site) -> None:
    """Names that are free, headers that are free, and placeholders that exist."""
    for name in answers.members:
        if name in ANSWER_NAMES:
            site.wrong(
                "answers", "members", name, message="is a member of every answer already", fix="choose another name"
            )
    for path, text in _texts(answers.members, ("answers", "members")):
        _check_placeholders(text, site, path)
    for header, value in answers.headers.items():
        if header.lower() in FORBIDDEN_HEADERS or header.lower().startswith("dedup-"):
            site.wrong("answers", "headers", header, message="belongs to HTTP or to this proxy")
        _check_placeholders(value, site, ("answers", "headers", header))


def _texts(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    match value:
        case str():
            yield path, value
        case dict():
            for name, below in value.items():
                yield from _texts(below, (*path, name))
        case list():
            for index, below in enumerate(value):
                yield from _texts(below, (*path, index))


def _check_placeholders(text: str, site: Site, path: Path) -> None:
    for name in _PLACEHOLDER.findall(text):
        if name not in ANSWER_NAMES:
            known = f"known: {' '.join(sorted(ANSWER_NAMES))}"
            is_filled_in = isinstance(text, Text) and text.is_substituted
            message = "holds a {name} that does not exist" if is_filled_in else f"there is no {{{name}}}"
            site.wrong(*path, message=message, fix=did_you_mean(name, ANSWER_NAMES) or known)
