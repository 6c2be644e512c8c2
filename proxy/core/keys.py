"""Where a key comes from, what identity it makes, and what the provider receives for it.

A **given** key is the caller's own: one header, or the place where the provider looks for its native key. It is stored
as ``g:`` and the key. A **computed** key is made of the request by expressions; it is stored and shown only as ``c:``
and a digest of its parts. So the two never meet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import http_sf

from proxy.core.documents import RequestDocument
from proxy.core.expressions import Expression, ExpressionFailed, yields
from proxy.core.json_text import canonical_json, number_text
from proxy.core.model import Identity, KeyHash
from proxy.core.packing import keyed_digest, open_digest

KEY_LENGTH_MAX: Final = 255
"""Characters of a given key; what most providers take, and a limit on what the ledger indexes."""

OutgoingFormat = Literal["raw", "uuid", "hex32"]
"""How a provider receives its native key. ``raw`` is the given key itself."""

OUTGOING_LENGTHS: Final = {"uuid": 36, "hex32": 32}
"""Characters of a derived outgoing key, for comparison with a provider's ``max_length``."""

_OUTGOING_VERSION: Final = "dedup-proxy outgoing key 1"
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_QUOTED: Final = re.compile(r'"(?:\\.|[^"\\])*"')


class KeyInvalid(ValueError):
    """A caller's key breaks a rule. ``detail`` is a sentence for the caller; it doesn't repeat the key."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NoRawKey(ValueError):
    """An outgoing key of format ``raw`` was asked for where the caller gave none."""


@dataclass(frozen=True, slots=True)
class KeyAlternative:
    """One source of a key; every part must yield. ``header`` is set when the source is exactly one request header."""

    parts: tuple[Expression, ...]
    given: bool
    header: str | None
    text: str


@dataclass(frozen=True, slots=True)
class KeyRule:
    """An operation's ``key``: the first alternative that yields wins. ``window_us`` bounds a computed key's meaning."""

    alternatives: tuple[KeyAlternative, ...]
    required: bool
    window_us: int | None


@dataclass(frozen=True, slots=True)
class KeyFound:
    """A key as it stands in an identity, and the source it came from.

    ``given`` is the key as the caller gave it, None for a computed one; ``header`` the request header it was read from.
    """

    key: str
    source: str
    given: str | None
    header: str | None = None

    @property
    def is_computed(self) -> bool:
        """Whether the key was computed from the request."""
        return self.given is None


@dataclass(frozen=True, slots=True)
class KeySearch:
    """The key, None if no alternative yields one, and the expressions that failed on the way: those yield nothing."""

    found: KeyFound | None
    failures: tuple[Expression, ...] = ()

    @property
    def failed(self) -> int:
        """How many expressions failed."""
        return len(self.failures)


def find_key(rule: KeyRule, document: RequestDocument) -> KeySearch:
    """The key of a request. Raises :class:`KeyInvalid` where a caller gave one that breaks the rules."""
    failures: list[Expression] = []
    for alternative in rule.alternatives:
        found = _found(alternative, document, failures)
        if found is not None:
            return KeySearch(found, tuple(failures))
    return KeySearch(None, tuple(failures))


def is_computed(key: str) -> bool:
    """Whether *key*, as it stands in an identity, was computed from the request."""
    return key.startswith("c:")


def parse_given(lines: Sequence[bytes]) -> str:
    """The key in the lines of one header field: a structured-field String (RFC 9651 3.3.3) or bare.

    ``"k1"``, ``"k1";a=1`` and ``k1`` are the same key. Raises :class:`KeyInvalid`.
    """
    if len(lines) > 1:
        raise KeyInvalid("The key's header is there twice; send one line with one key.")
    line = b"".join(lines).strip(b" \t")
    text = line.decode("latin-1")
    is_string = text.startswith('"')
    if "," in (_QUOTED.sub("", text) if is_string else text):
        raise KeyInvalid("The key's header holds a list; send one key, without commas unless it is in quotes.")
    if not is_string:
        return _checked(text)
    try:
        item = http_sf.parse(line, tltype="item")
    except http_sf.StructuredFieldError:
        raise KeyInvalid("The key begins with a quote but is no structured-field String (RFC 9651 3.3.3).") from None
    value = item[0] if isinstance(item, tuple) else item
    assert isinstance(value, str)  # what begins with a quote and parses is a String
    return _checked(value)


def canonical_text(value: object) -> str:
    """A value of a request as a part of an identity: equal for equal values, different for different ones.

    Raises TypeError for what has no JSON form.
    """
    text = canonical_json(value)
    return text.encode(
        "utf-8", "backslashreplace"
    ).decode()  # half a surrogate pair, as the escape that JSON has for it


def key_hash(secret: bytes, identity: Identity) -> KeyHash:
    """The ledger's primary key for *identity*: a keyed digest of 128 bits."""
    return KeyHash(keyed_digest(secret, ("identity 1", *_identity_parts(identity)))[:32])


def digest(secret: bytes, value: str) -> str:
    """A keyed digest of 128 bits of a credential, which must be compared and never stored."""
    return keyed_digest(secret, ("credential 1", value))[:32]


def outgoing_key(
    identity: Identity,
    *,
    born_at: int | None,
    revision: int,
    format: OutgoingFormat,  # noqa: A002 - the configuration's word
    given: str | None = None,
    max_length: int | None = None,
) -> str:
    """What the provider receives as its native key: the same for every attempt, another for every identity.

    128 bits of SHA-256 over a version and the stable ids; no secret goes in, so that a lost ledger loses no key. A
    ``uuid`` gives up six of them to say version 4, variant 10 (RFC 9562 4): some providers take no other. ``raw`` sends
    *given*, whatever *revision*. Raises :class:`NoRawKey` where there is none, :class:`KeyInvalid` where it is too long.
    """
    if format == "raw":
        if given is None:
            raise NoRawKey("A computed key cannot be sent raw.")
        if max_length is not None and len(given) > max_length:
            raise KeyInvalid(f"The key has {len(given)} characters; this provider takes {max_length}.")
        return given
    bits = open_digest((_OUTGOING_VERSION, *_identity_parts(identity), born_at, revision))[:16]
    if format == "hex32":
        return bits.hex()
    marked = bytearray(bits)
    marked[6] = marked[6] & 0x0F | 0x40
    marked[8] = marked[8] & 0x3F | 0x80
    digits = marked.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _found(alternative: KeyAlternative, document: RequestDocument, failures: list[Expression]) -> KeyFound | None:
    if alternative.given and alternative.header is not None:
        name = alternative.header.lower().encode("latin-1")
        lines = [value for header, value in document.request.headers if header.lower() == name]
        if not lines:
            return None
        given = parse_given(lines)
        return KeyFound(f"g:{given}", alternative.text, given, alternative.header)
    values: list[object] = []
    for part in alternative.parts:
        try:
            value = part.search(document)
        except ExpressionFailed:
            failures.append(part)
            return None
        if not yields(value):
            return None
        values.append(value)
    if alternative.given:
        given = _given_value(values[0])
        return KeyFound(f"g:{given}", alternative.text, given)
    return KeyFound(f"c:{open_digest(('computed key 1', canonical_json(values))).hex()}", alternative.text, None)


def _given_value(value: object) -> str:
    if isinstance(value, str):
        return _checked(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _checked(number_text(value))
    raise KeyInvalid("The key in the request is neither a text nor a number, or it is there twice.")


def _checked(key: str) -> str:
    if not key:
        raise KeyInvalid("The key is empty.")
    if len(key) > KEY_LENGTH_MAX:
        raise KeyInvalid(f"The key has more than {KEY_LENGTH_MAX} characters.")
    if _VISIBLE.fullmatch(key) is None:
        raise KeyInvalid("The key holds a space, a control character or one beyond ASCII; it may hold 0x21 to 0x7E.")
    return key


def _identity_parts(identity: Identity) -> tuple[str | tuple[str, ...], ...]:
    return (identity.provider, identity.caller, identity.scope, identity.operation, identity.key)
