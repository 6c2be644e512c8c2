"""The diagram in the documentation is the table that the code uses."""

from __future__ import annotations

from tests.project.state_diagram import PAGE, page_with_diagram


def test_the_diagram_is_fresh() -> None:
    text = PAGE.read_text()

    assert page_with_diagram(text) == text, "run: python -m tests.project.state_diagram"
