"""The pages speak of what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.core.problems import PROBLEMS, slug
from proxy.core.reasons import Reason
from tests.project.paths import ROOT, relative

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
REASONS = ROOT / "docs/reasons.md"


def headings(page: Path) -> set[str]:
    return {match.strip("` ") for match in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)}


@pytest.mark.skipif(not REASONS.exists(), reason="there is no page of reasons yet")
def test_each_reason_has_its_heading_and_each_heading_its_reason() -> None:
    known = {reason.value for reason in Reason} | {slug(reason) for reason in PROBLEMS}
    slugs = {heading for heading in headings(REASONS) if re.fullmatch(r"[a-z]+(-[a-z]+)*", heading)}
    assert (known - slugs, slugs - known) == (set(), set())


def test_a_link_leads_to_a_file() -> None:
    dead = [
        f"{relative(page)}: {link}"
        for page in PAGES
        for link in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert dead == []
