"""Expressions that are valid and mean something else than they look like. ``check`` refuses them, each with its fix.

Two kinds: those of the language (:func:`traps`), and those of YAML, which may cut an expression before we see it
(:func:`yaml_traps`).
"""

from __future__ import annotations

import re
from typing import Final

from proxy.core.expressions import QUOTED, Expression, Node, walk

_COMPARED_BEFORE: Final = re.compile(r"(==|!=|<=|>=|<|>)\s*$")
_COMPARED_AFTER: Final = re.compile(r"\s*(==|!=|<=|>=|<|>)")
_CONTINUED: Final = re.compile(r"\s*[.\[]")
_WORDS: Final = frozenset({"true", "false", "null"})
_BINDS_LOOSER: Final = frozenset({"subexpression", "filter_projection", "value_projection", "flatten"})
_BRACKETS: Final = {")": "(", "]": "[", "}": "{"}


def traps(expression: Expression) -> tuple[str, ...]:
    """What *expression* silently gets wrong, one sentence each with the fix; empty if nothing."""
    found: list[str] = []
    for node in walk(expression.tree):
        if node["type"] == "comparator":
            found.extend(_bare_words(node))
        elif node["type"] in _BINDS_LOOSER and node["children"][0]["type"] == "not_expression":
            found.append("! binds tighter than the dot: !a.b is (!a).b; write !(a.b)")
        elif node["type"] == "subexpression":
            found.extend(_header_case(node))
    return tuple(dict.fromkeys([*found, *_quoted_texts(expression.text)]))


def yaml_traps(text: str, *, flow: bool, after: str) -> tuple[str, ...]:
    """What YAML silently did to an expression that stands unquoted in a file.

    *text* is the scalar as YAML read it, *flow* says that it stands inside ``{}`` or ``[]``, *after* is the rest of its
    line behind it. Quoted and block scalars have no traps: don't ask for them.
    """
    is_cut = not _is_balanced(text)
    if is_cut and after.lstrip().startswith("#"):
        return (f"a # cut this expression short: YAML read only {text!r}; put the whole of it in quotes",)
    if flow and is_cut:
        return (
            f"inside {{}} or [] YAML ends plain text at , [ or {{ and read only {text!r}; put the expression in quotes",
        )
    return ()


def _bare_words(comparator: Node) -> list[str]:
    return [
        f"{child['value']} without backticks is a field of that name; write `{child['value']}`"
        for child in comparator["children"]
        if child["type"] == "field" and child["value"] in _WORDS
    ]


def _header_case(path: Node) -> list[str]:
    names = [child["value"] if child["type"] == "field" else None for child in path["children"]]
    if names[0] in ("request", "response"):
        del names[0]
    match names:
        case ["headers", str(name), *_] if name != name.lower():
            return [f'header names are lower-case here; write headers."{name.lower()}"']
        case _:
            return []


def _quoted_texts(text: str) -> list[str]:
    found = []
    for match in QUOTED.finditer(text):
        if not match[0].startswith('"'):
            continue
        before, after = text[: match.start()], text[match.end() :]
        is_right = _COMPARED_BEFORE.search(before) and not _CONTINUED.match(after)
        # On the left a filter may well ask an item for an oddly named field; the document's own names need no quotes.
        is_left = _COMPARED_AFTER.match(after) and not before.rstrip().endswith(".") and "[?" not in before
        if is_right or is_left:
            inner = match[0][1:-1]
            found.append(f"\"{inner}\" in double quotes is a field of that name; write '{inner}' for the text")
    return found


def _is_balanced(text: str) -> bool:
    """Whether quotes and brackets are closed."""
    rest = QUOTED.sub("", text)
    if any(quote in rest for quote in "'\"`"):
        return False
    open_: list[str] = []
    for character in rest:
        if character in _BRACKETS.values():
            open_.append(character)
        elif character in _BRACKETS and (not open_ or open_.pop() != _BRACKETS[character]):
            return False
    return not open_
