"""YAML read strictly: types that are what they look like, lines that are right, and what is filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.problems import Problems
from proxy.config.source import NODES_MAX, parse
from proxy.config.substitution import Substitution
from proxy.config.tree import Text, plain


def read(text, environ=None, directory="."):
    problems = Problems()
    tree = parse(text, "f.yaml", Substitution(environ or {}, Path(directory)), problems)
    return (plain(tree) if tree is not None else None), [str(problem) for problem in problems]


PLAIN = {
    # what is written -> what it is
    "no": "no",
    "yes": "yes",
    "on": "on",
    "NO": "NO",
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "": None,
    "12": 12,
    "-3": -3,
    "0123": "0123",
    "0x1F": "0x1F",
    "1_000": "1_000",
    "12:30:45": "12:30:45",
    "2026-11-23": "2026-11-23",
    "1.5": 1.5,
    "1.2.3": "1.2.3",
    "1e3": "1e3",
    ".inf": ".inf",
    "'12'": "12",
    '"true"': "true",
    "'~'": "~",
}


@pytest.mark.parametrize("written", PLAIN)
def test_a_plain_word_is_what_it_looks_like(written):
    tree, problems = read(f"a: {written}\n")
    assert (tree, problems) == ({"a": PLAIN[written]}, [])
    assert isinstance(tree["a"], bool) == isinstance(PLAIN[written], bool)


PROBLEMS = {
    "a key given twice names both lines": (
        "a: 1\nb: 2\na: 3\n",
        ["f.yaml:3: a: is given twice, first on line 1 (remove one of the two)"],
    ),
    "a key given twice deep down has its path": (
        "p:\n  q:\n    - {x: 1, x: 2}\n",
        ["f.yaml:3: p.q[0].x: is given twice, first on line 3 (remove one of the two)"],
    ),
    "a tag is refused": (
        "a: !!python/name:os.system x\n",
        ["f.yaml:1: a: YAML tags (!...) have no meaning here (write the plain value)"],
    ),
    "a mapping as a key is refused": (
        "? {a: 1}\n: 2\n",
        ["f.yaml:1: a key must be a word (put the whole expression in single quotes (double any single quote inside))"],
    ),
    "<< takes mappings only": (
        "a:\n  <<: 3\n",
        ["f.yaml:2: a: `<<` takes a mapping or a list of mappings (write <<: *name)"],
    ),
    "an unknown alias": ("a: *b\n", ["f.yaml:1: not YAML: found undefined alias 'b'"]),
    "a tab": ("a:\n\tb: 1\n", ["f.yaml:2: not YAML: found character '\\t' that cannot start any token"]),
    "two documents": ("a: 1\n---\nb: 2\n", ["f.yaml:2: not YAML: but found another document"]),
    "a list at the top": ("- a\n", ["f.yaml:1: must be a mapping of sections (begin with `providers:`)"]),
    "a control character": ("a: \x01\n", ["f.yaml:1: not YAML: special characters are not allowed"]),
    "brackets in an unquoted expression inside braces": (
        "a: {b: body.x[0]}\n",
        [
            (
                "f.yaml:1: not YAML: expected ',' or '}', but got '[' (an expression inside [] or {} needs quotes: "
                "put the whole expression in single quotes (double any single quote inside))"
            )
        ],
    ),
    "something that contains itself": ("a: &a\n  b: *a\n", ["f.yaml:1: an alias refers to something that contains it"]),
}


@pytest.mark.parametrize("what", PROBLEMS)
def test_what_is_not_strict_yaml_is_refused_at_its_line(what):
    text, expected = PROBLEMS[what]
    assert read(text)[1] == expected


def test_an_empty_file_is_an_empty_mapping():
    assert read("# nothing\n") == ({}, [])


def test_aliases_that_multiply_are_stopped():
    text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 7)
    )
    assert read(text) == (None, [f"f.yaml:1: more than {NODES_MAX} values"])


def test_nesting_is_bounded():
    for depth in (60, 20_000):
        assert read("a: " + "[" * depth + "]" * depth)[1] == ["f.yaml:1: nested deeper than 40"]


def test_merge_keys_bring_in_what_is_not_said():
    tree, problems = read("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], c: 3}\n")
    assert (tree["z"], problems) == ({"a": 1, "b": 1, "c": 3}, [])


FILLED = {
    # what is written -> what it becomes, with A=one, E= and the file s holding "secret\n"
    "${A}": "one",
    "a-${A}-${A}": "a-one-one",
    "'${A}'": "one",
    "${B:-two}": "two",
    "${A:-two}": "one",
    "${E:-two}": "two",
    "${B:-}": "",
    "${E}": "",
    "${file:s}": "secret",
    "Bearer ${file:s}": "Bearer secret",
    "$${A}": "${A}",
    "$A": "$A",
    "{a}": {"a": None},
}


@pytest.mark.parametrize("written", FILLED)
def test_values_are_filled_in(written, tmp_path):
    (tmp_path / "s").write_text("secret\n")
    assert read(f"a: {written}\n", {"A": "one", "E": ""}, tmp_path) == ({"a": FILLED[written]}, [])


def test_what_is_filled_in_is_text_and_never_read_as_yaml():
    tree, problems = read("a: ${A}\nb: ${B}\n", {"A": "true", "B": "[1, {c: ${A}}]"})
    assert (tree, problems) == ({"a": "true", "b": "[1, {c: ${A}}]"}, [])
    assert isinstance(tree["a"], Text)


NOT_FILLED = {
    "${GONE}": "the environment variable GONE is not set (set it, or give a default: ${GONE:-...})",
    "${1X}": "${1X} is no variable (write ${NAME}, ${NAME:-default}, ${file:/path}, or $${ for a literal ${)",
    "${}": "${} is no variable (write ${NAME}, ${NAME:-default}, ${file:/path}, or $${ for a literal ${)",
    "${A": "a ${ without its } (close it, or write $${ for a literal ${)",
    "${file:gone}": "can't read {directory}/gone: No such file or directory "
    "(create the file, or make it readable for the proxy)",
    "${file:big}": "{directory}/big is larger than 65536 bytes (name a file that holds one value)",
    "${file:binary}": "{directory}/binary is not UTF-8 text (store the value as text, in base64 say)",
}


@pytest.mark.parametrize("written", NOT_FILLED)
def test_what_cannot_be_filled_in_is_told_with_its_line(written, tmp_path):
    (tmp_path / "big").write_text("x" * 70_000)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    expected = NOT_FILLED[written].replace("{directory}", str(tmp_path))
    assert read(f"x: 1\na:\n  b: '{written}'\n", {"A": "one"}, tmp_path)[1] == [f"f.yaml:3: a.b: {expected}"]
