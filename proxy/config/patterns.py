"""``METHOD PATH`` compiled. A path is matched raw, whole and case-sensitively, as :func:`normal_path` spells it."""

from __future__ import annotations

import re
from urllib.parse import quote

from proxy.core.policy import Pattern, normal_path

_KEPT = "!$&'()*+,;=:@%-._~"
"""RFC 3986 3.3: what may stand in a segment as it is, and the percent sign of an escape."""


def compile_pattern(line: str) -> Pattern:
    """``POST /v1/{id}/**`` as a pattern. ``{name}`` is one segment that is not empty, ``**`` is whatever follows its slash."""
    method, _, path = line.partition(" ")
    regex = "".join(f"/{_segment(segment)}" for segment in path.strip()[1:].split("/"))
    return Pattern(method, re.compile(regex, re.DOTALL), line)


def _segment(segment: str) -> str:
    if segment == "**":
        return ".*"
    if segment.startswith("{"):
        return "[^/]+"
    return re.escape(normal_path(quote(segment, safe=_KEPT)))


def sample(pattern: Pattern) -> str:
    """A path that *pattern* matches and that no narrower pattern is likely to: for telling what an earlier rule hides."""
    path = pattern.text.partition(" ")[2].strip()
    return "/".join(
        "~/~~/~~~/~~~~/~~~~~"
        if segment == "**"
        else "~~~~"
        if segment.startswith("{")
        else normal_path(quote(segment, safe=_KEPT))
        for segment in path.split("/")
    )
