"""Expressions that mean something else than they look like."""

from __future__ import annotations

import pytest

from proxy.core.expressions import compile_expression
from proxy.core.traps import traps, yaml_traps

BARE = "without backticks is a field of that name"
QUOTED = "in double quotes is a field of that name"
NOT = "binds tighter than the dot"
CASE = "header names are lower-case"


@pytest.mark.parametrize(
    ("text", "trap"),
    [
        ("body.paid == false", BARE),
        ("true != body.paid", BARE),
        ("body.items[?active == true]", BARE),
        ("body.next == null", BARE),
        ('body.code == "x"', QUOTED),
        ('"x" == body.code', QUOTED),
        ('body.code != "x" && body.a', QUOTED),
        ('body.items[?a == "b"]', QUOTED),
        ("!body.a", NOT),
        ("!body.a && doubt", NOT),
        ("doubt && !(body).a.b", NOT),
        ("!body.items[?a]", NOT),
        ("!items[?a]", NOT),
        ("!items[]", NOT),
        ('headers."X-Id"', CASE),
        ("request.headers.Authorization == 'x'", CASE),
        ("response.headers.ETag", CASE),
    ],
)
def test_a_trap_is_found_and_its_fix_is_told(text: str, trap: str):
    found = traps(compile_expression(text))
    assert len(found) == 1
    assert trap in found[0]
    assert "write" in found[0]


@pytest.mark.parametrize(
    "text",
    [
        "body.paid == `false`",
        "body.code == 'x'",
        "body.code == 'a == \"x\"'",
        'body.code == `"x"`',
        "headers.\"x-id\" == 'y'",
        "'y' == headers.\"x-id\"",
        'body.a == body."b-c"',
        'body.a == @."b"',
        "body.items[?\"a-b\" == 'c']",
        'body.items[?@."a-b" == "c-d".e]',
        "!(body.a)",
        "!doubt",
        "(!doubt) && body.a",
        "!contains(body.a, 'x')",
        "body.false_positive",
        "body.headers.idempotencyKey",
        "@.headers.X",
        "body.Headers.X",
        "headers.x",
    ],
)
def test_what_is_meant_as_it_stands_is_no_trap(text: str):
    assert traps(compile_expression(text)) == ()


def test_the_fix_quotes_what_was_written():
    assert traps(compile_expression('body.code == "late"')) == (
        "\"late\" in double quotes is a field of that name; write 'late' for the text",
    )


def test_each_trap_is_told_once():
    assert len(traps(compile_expression('a == false || b == false || c == "x" || !d.e'))) == 3


# how YAML read it: text, in {} or []?, rest of the line -> what is wrong
YAML = {
    "a comment after a whole expression": ("body.messages", False, "     # the candidates", None),
    "a comment after a whole expression in quotes of its own": ("status == 'queued'", False, "  # of the item", None),
    "a # inside a text": ("body.code == 'a", False, " #1'", "a # cut this expression short"),
    "a # inside a call": ("join('-', [a,", False, " # first\n", "a # cut this expression short"),
    "a call in a list": ("join('-'", True, ", [body.a])]", "inside {} or []"),
    "a text with a comma in an object": ("body.a || 'b", True, ", c'}", "inside {} or []"),
    "a quoted name with a comma": ('body."a', True, ', b"]', "inside {} or []"),
    "a closing bracket that is left over": ("b)", True, "]", "inside {} or []"),
    "a quoted header in a list": ('headers."x-account"', True, "]", None),
    "a plain path in an object": ("body.id", True, "}", None),
    "an escaped quote": ("body.a == 'it\\'s'", True, "]", None),
}  # fmt: skip


@pytest.mark.parametrize("name", YAML)
def test_what_yaml_did_to_an_expression(name: str):
    text, flow, after, problem = YAML[name]
    found = yaml_traps(text, flow=flow, after=after)
    assert [message.startswith(problem) for message in found] == ([True] if problem else [])
