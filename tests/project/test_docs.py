"""The pages speak of what there is."""

from __future__ import annotations

import re
from pathlib import Path

from proxy.config import check
from proxy.core.problems import PROBLEMS, slug
from proxy.core.reasons import Reason
from tests.project.paths import ROOT, relative

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
REASONS = ROOT / "docs/reasons.md"


def headings(page: Path) -> set[str]:
    return {match.strip("` ") for match in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)}


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


def test_the_configuration_in_the_readme_is_fine(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    example = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    file = tmp_path / "config.yaml"
    file.write_text(example[1])

    report = check(file, {})

    assert (report.problems, report.warnings) == ((), ())
