"""JSON as it was written: read without losing what a double or a dict would lose, and written canonically.

Two texts that mean the same are equal here (RFC 8785: order of names, white space, ``1.0`` against ``1``). Two texts
that differ stay different even where most readers would confuse them: a number that a double can't hold, ``NaN``, an
object with the same name twice. Those keep their text and are compared by it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Final, NoReturn, Self

import rfc8785

NESTING_MAX: Final = 128
"""Levels of lists and objects. Deeper than any API nests, shallow enough that no reader of ours runs out of stack; a
limit of our own, since the interpreter's depends on who calls."""

_LONG_DIGITS: Final = 22
"""From 1e21 on RFC 8785 writes integers with an exponent; shorter ones are their own canonical text."""

_RARE: Final = re.compile(r"\\u[d-fD-F]|\d{22}|[\ud800-\U0010ffff]")
"""What keeps a text from the fast way: long numbers, and characters that may sort otherwise in UTF-16 (RFC 8785 3.2.3)."""

_EXACT: Final = 2**53
"""Up to here every integer is a double."""

_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


class JsonInvalid(ValueError):
    """The text is not JSON, or nested too deeply; the message says which, without quoting the text."""


class LiteralNumber(float):
    """A number whose decimal value no double has, or ``NaN`` and the infinities: equal only to the same text.

    As a float it is the nearest double, so that expressions can order it. It never equals that double.
    """

    __slots__ = ("text",)

    def __new__(cls, text: str) -> Self:  # noqa: D102 - the class says what it takes
        self = super().__new__(cls, text)
        self.text = text
        return self

    text: str

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LiteralNumber):
            return self.text == other.text
        return isinstance(other, int) and not isinstance(other, bool) and self.text == str(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.text)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"LiteralNumber({self.text!r})"

    def __reduce__(self) -> tuple[type[LiteralNumber], tuple[str]]:
        return LiteralNumber, (self.text,)


@dataclass(frozen=True, slots=True)
class Repeated:
    """The values of a name that an object has more than once, in order. Readers disagree on which counts; it is none."""

    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class ParsedJson:
    """A JSON text read. ``is_plain``: no number and no order of names in it needs more than :mod:`json` to be canonical."""

    value: object
    is_plain: bool
    has_repeated_names: bool


def parse_json(text: str) -> ParsedJson:
    """Read *text*. Raises :class:`JsonInvalid`; never anything else, whatever the text."""
    is_simple = _RARE.search(text) is None
    reader = _Reader()
    try:
        value = reader.decoder(long_integers=not is_simple).decode(text)
    except json.JSONDecodeError as problem:
        raise JsonInvalid(f"not JSON: {problem.msg} at character {problem.pos}") from None
    except RecursionError:
        _too_deep()
    if text.count("[") + text.count("{") > NESTING_MAX:
        _check_depth(value)
    return ParsedJson(value, is_simple and not reader.has_rare_numbers and not reader.has_repeated, reader.has_repeated)


def parse_number(text: str) -> int | float | None:
    """The number that *text* spells (JSON's spelling; leading zeros and a plus are read too), None if it spells none."""
    if _NUMBER.fullmatch(text) is None:
        return None
    return _real(text) if not text.lstrip("+-").isdigit() else _integer(text)


def canonical_json(value: object, *, is_plain: bool = False) -> str:
    """*value* in RFC 8785 form, extended: literal numbers by their text, a repeated name as ``!`` and its values.

    Injective: two values have the same text only if they are equal. Lone surrogates stay in the text; encode it with
    ``surrogatepass``. ``is_plain`` (from :class:`ParsedJson`) allows the fast way. Raises TypeError for what JSON has not.
    """
    if is_plain:
        return _PLAIN.encode(value)
    pieces: list[str] = []
    _write(value, pieces)
    return "".join(pieces)


def canonical_bytes(value: object, *, is_plain: bool = False) -> bytes:
    """:func:`canonical_json`, encoded."""
    return canonical_json(value, is_plain=is_plain).encode("utf-8", "surrogatepass")


def number_text(value: float) -> str:
    """The canonical text of a number (RFC 8785 3.2.2.3), or its own where a double can't hold it."""
    if isinstance(value, LiteralNumber):
        return value.text
    if isinstance(value, int):
        # Below 1e21 the digits are the canonical form, and where no double has the value, they are its text.
        if abs(value) < 10**21:
            return str(value)
        try:
            nearest = float(value)
        except OverflowError:
            return str(Decimal(value))
        return _double_text(nearest) if Decimal(repr(nearest)) == value else str(Decimal(value))
    return _double_text(value)


class _Reader:
    """What one parse saw on its way."""

    __slots__ = ("has_rare_numbers", "has_repeated")

    def __init__(self) -> None:
        self.has_rare_numbers = False
        self.has_repeated = False

    def decoder(self, *, long_integers: bool) -> json.JSONDecoder:
        return json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_float=self._fraction,
            parse_constant=self._constant,
            parse_int=_integer if long_integers else None,
        )

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        members = dict(pairs)
        if len(members) == len(pairs):
            return members
        self.has_repeated = True
        values: dict[str, list[object]] = {}
        for name, value in pairs:
            values.setdefault(name, []).append(value)
        return {name: all_[0] if len(all_) == 1 else Repeated(tuple(all_)) for name, all_ in values.items()}

    def _fraction(self, text: str) -> float:
        value = _real(text)
        if isinstance(value, LiteralNumber) or not -_EXACT < value < _EXACT:
            self.has_rare_numbers = True
        elif value.is_integer():
            return int(value)  # 10.00 is common, and an int is its own canonical text
        elif "e" in repr(value):
            self.has_rare_numbers = True
        return value

    def _constant(self, text: str) -> float:
        self.has_rare_numbers = True
        return LiteralNumber(text)


def _integer(text: str) -> int | float:
    """Long integers are not made ints: nothing about them is cheap, and Python refuses those over 4,300 digits."""
    return int(text) if len(text) < _LONG_DIGITS else _real(text)


def _real(text: str) -> float:
    """The double of *text* if its shortest spelling denotes the same decimal value, else a literal."""
    value = float(text)
    spelled = repr(value)
    if spelled == text:
        return value
    if not isfinite(value):
        return LiteralNumber(text)
    try:
        return value if Decimal(spelled) == Decimal(text) else LiteralNumber(text)
    except InvalidOperation:
        return LiteralNumber(text)  # an exponent beyond even Decimal's


def _check_depth(value: object) -> None:
    level = _containers([value])
    for _ in range(NESTING_MAX):
        if not level:
            return
        level = _containers(inner for container in level for inner in container)
    if level:
        _too_deep()


def _containers(values: Iterable[object]) -> list[Collection[object]]:
    """What of *values* holds others, as what it holds."""
    found: list[Collection[object]] = []
    for value in values:
        if isinstance(value, dict):
            found.append(value.values())
        elif isinstance(value, list):
            found.append(value)
        elif isinstance(value, Repeated):
            found.extend(_containers(value.values))
    return found


def _too_deep() -> NoReturn:
    raise JsonInvalid(f"nested deeper than {NESTING_MAX} levels")


def _write(value: object, pieces: list[str]) -> None:
    if isinstance(value, str):
        pieces.append(_STRING.encode(value))
    elif value is None or isinstance(value, bool):
        pieces.append({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, (int, float)):
        pieces.append(number_text(value))
    elif isinstance(value, Mapping):
        _write_members(value, pieces)
    elif isinstance(value, (list, tuple)):
        _write_items(value, pieces)
    elif isinstance(value, Repeated):
        pieces.append("!")
        _write_items(value.values, pieces)
    else:
        raise TypeError(f"{type(value).__name__} has no JSON form")


def _write_items(items: list[object] | tuple[object, ...], pieces: list[str]) -> None:
    opening = "["
    for item in items:
        pieces.append(opening)
        _write(item, pieces)
        opening = ","
    pieces.append("]" if items else "[]")


def _write_members(members: Mapping[str, object], pieces: list[str]) -> None:
    opening = "{"
    for name in sorted(members) if all(map(str.isascii, members)) else sorted(members, key=_utf16):
        pieces.append(opening)
        pieces.append(_STRING.encode(name))
        pieces.append(":")
        _write(members[name], pieces)
        opening = ","
    pieces.append("}" if members else "{}")


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")


def _double_text(value: float) -> str:
    if not isfinite(value):
        return str(value)
    return rfc8785.dumps(value).decode("ascii")


_PLAIN: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_STRING: Final = json.JSONEncoder(ensure_ascii=False)
