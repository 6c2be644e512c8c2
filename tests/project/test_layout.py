"""What the code's readers rely on and no other tool checks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.project.paths import ROOT, product_files, relative

LINES_MAX = 400
FUNCTION_LINES_MAX = 70
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
# The code of the exception, then why: on the line itself, or in a comment that the line carries.
BARE_EXCEPTION = re.compile(r"#\s*(?:noqa|type:\s*ignore)(?![^#\n]*(?:- |# )\S)")

PRODUCT = list(product_files())
ALL = [*PRODUCT, *sorted((ROOT / "tests").rglob("*.py"))]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_a_file_can_be_read_in_one_go() -> None:
    sizes = {relative(path): len(path.read_text().splitlines()) for path in PRODUCT}
    assert {path: lines for path, lines in sizes.items() if lines > LINES_MAX} == {}


def test_a_function_fits_a_page() -> None:
    sizes = {
        f"{relative(path)}:{function.name}": (function.end_lineno or 0) - function.lineno
        for path in PRODUCT
        for function in functions(path)
    }
    assert {place: lines for place, lines in sizes.items() if lines > FUNCTION_LINES_MAX} == {}


def test_nothing_is_marked_unfinished() -> None:
    assert [relative(path) for path in ALL if UNFINISHED.search(path.read_text())] == []


def test_an_exception_from_a_rule_says_why() -> None:
    bare = [
        f"{relative(path)}:{number}: {line.strip()}"
        for path in PRODUCT
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if BARE_EXCEPTION.search(line)
    ]
    assert bare == []


def test_the_pattern_for_bare_exceptions_tells_them_apart() -> None:
    assert BARE_EXCEPTION.search("x = 1  # " + "noqa: BLE001")
    assert BARE_EXCEPTION.search("x = 1  # " + "type: ignore[misc]")
    assert not BARE_EXCEPTION.search("x = 1  # " + "noqa: BLE001 - a hook may raise anything")
    assert not BARE_EXCEPTION.search("x = 1  # " + "type: ignore[misc]  # the stub is wrong")


def test_no_file_is_a_drawer_for_anything() -> None:
    assert [relative(path) for path in ALL if path.stem in {"utils", "util", "helpers", "misc", "common"}] == []


def test_every_package_of_the_product_is_one() -> None:
    directories = {path.parent for path in PRODUCT if "versions" not in path.parts}
    assert [relative(d) for d in directories if not (d / "__init__.py").exists()] == []


def test_imports_go_one_way() -> None:
    linter = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    ended = subprocess.run(linter, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 kept, 0 broken" in ended.stdout
