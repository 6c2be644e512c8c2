"""Draws the state table into ``docs/architecture.md``: ``python -m tests.project.state_diagram``."""

from __future__ import annotations

from pathlib import Path

from proxy.core.states import DECIDED, TABLE

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
BEGIN, END = "<!-- state diagram: begin -->\n", "<!-- state diagram: end -->"


def diagram() -> str:
    """The table as a Mermaid state diagram; arrows on a person's or a rule's word carry a star."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for source, events in TABLE.items():
        by_target: dict[str, list[str]] = {}
        for event, targets in events.items():
            for target in targets:
                by_target.setdefault(target.value, []).append(event.value + ("*" if event in DECIDED else ""))
        for target, names in sorted(by_target.items()):
            lines.append(f"    {source.value if source else '[*]'} --> {target}: {', '.join(names)}")
    return "\n".join([*lines, "```"]) + "\n"


def page_with_diagram(text: str) -> str:
    """*text* with the diagram between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + diagram() + END + after


if __name__ == "__main__":
    PAGE.write_text(page_with_diagram(PAGE.read_text()))
