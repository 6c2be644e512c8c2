"""The leaves of the configuration: strict, with messages that say the fix, and never a secret in one of them.

Each is a pydantic type whose validator takes what the YAML tree gave (``None``, a bool, a number or a
:class:`~proxy.config.tree.Text`) and returns the value that the rest of the program uses.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from pydantic_core import PydanticCustomError

from proxy.config.tree import Text
from proxy.config.units import Duration, Size, UnitInvalid, parse_duration, parse_size

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 5.6.2, what a header name is made of."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HOST = re.compile(r"(\*\.)?(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*|(\d{1,3}\.){3}\d{1,3}|\[[0-9a-f:]+\]")
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def wrong(message: str, fix: str = "") -> PydanticCustomError:
    """The error that a validator raises."""
    return PydanticCustomError("wrong", "{message}", {"message": message, "fix": fix})


def shown(value: object) -> str:
    """*value* as a message may quote it: text as it was written, before anything secret was filled in."""
    match value:
        case Text():
            text = value.shown.replace("\n", "\\n")
            return f"'{text if len(text) <= 100 else text[:97] + '...'}'"
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return str(value)


def text(value: object) -> Text:
    """A string that is not empty. YAML's other types are refused rather than converted."""
    if isinstance(value, (bool, int, float)):
        raise wrong(f"must be text, not {shown(value)}", "put it in quotes")
    if not isinstance(value, Text):
        raise wrong(f"must be text, not {shown(value)}")
    if not value.strip():
        raise wrong("must not be empty" if not value.is_substituted else f"{value.shown} is empty")
    if any(ord(c) < 32 and c not in "\t\n" for c in value) or "\x7f" in value:
        raise wrong("must not hold control characters")
    return value


def flag(value: object) -> bool:
    """``true`` or ``false``, nothing else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Text) and value.is_substituted and value in ("true", "false"):
        return value == "true"
    word = _BOOLEANS.get(value.lower()) if isinstance(value, Text) and value.is_plain else None
    raise wrong(f"must be true or false, not {shown(value)}", f"write {word}" if word else "")


def number(value: object) -> int:
    """A whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, Text) and re.fullmatch(r"[0-9]{1,18}", value):
        if value.is_substituted:
            return int(value)
        raise wrong(f"must be a number, not {shown(value)}", "remove the quotes" if not value.is_plain else "")
    raise wrong(f"must be a whole number, not {shown(value)}")


def between(low: int, high: int) -> Callable[[object], int]:
    """A validator for whole numbers from *low* to *high*."""

    def check(value: object) -> int:
        found = number(value)
        if not low <= found <= high:
            raise wrong(f"must be between {low} and {high}, not {found}")
        return found

    return check


def _unit_text(value: object, example: str) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, Text):
        raise wrong(f"must be {example}, not {shown(value)}")
    return value


def duration(*, forever: bool, zero: bool) -> Callable[[object], Duration]:
    """A validator for durations; *forever* and *zero* say whether those are taken."""

    def check(value: object) -> Duration:
        if isinstance(value, Duration):
            return value
        try:
            found = parse_duration(_unit_text(value, "a duration such as 30s"))
        except UnitInvalid as error:
            raise wrong(f"{shown(value)} {error}", error.fix) from None
        if found.us is None and not forever:
            raise wrong("must end some time", "write a duration such as 90d")
        if found.us == 0 and not zero:
            raise wrong("must be longer than 0s")
        return found

    return check


def size(value: object) -> Size:
    """An amount of data, more than nothing."""
    if isinstance(value, Size):
        return value
    try:
        found = parse_size(_unit_text(value, "a size such as 10MiB"))
    except UnitInvalid as error:
        raise wrong(f"{shown(value)} {error}", error.fix) from None
    if found.bytes == 0:
        raise wrong("must be larger than nothing")
    return found


MASK = "********"

_NAMED_SECRET = re.compile(r"((Bearer|Basic) )?\$\{(file:)?[^{}:]+\}")
"""Where all of a secret comes from elsewhere, the place may be shown."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that no message, repr or dump shows. ``shown`` is where it comes from, or a mask."""

    value: str = field(repr=False)
    shown: str = MASK

    def __str__(self) -> str:
        return self.shown


def secret(value: object) -> Secret:
    """A secret of one line; an empty one is refused, since it would let anyone in."""
    if isinstance(value, Secret):
        return value
    if not isinstance(value, Text):
        raise wrong("a secret must be text", "put it in quotes" if isinstance(value, (bool, int, float)) else "")
    if not value.strip():
        raise wrong("a secret must not be empty: anyone would have it" if not value else "a secret must not be blank")
    if value != value.strip() or any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise wrong("a secret must not hold control characters or white space around it")
    is_named = value.is_substituted and _NAMED_SECRET.fullmatch(value.shown) is not None
    return Secret(str(value), value.shown if is_named else MASK)


def header_secret(value: object) -> Secret:
    """A secret that a header can carry."""
    found = secret(value)
    if not found.value.isascii():
        raise wrong("a header carries ASCII only")
    return found


_PASSWORD = re.compile(r"(://[^:/@]*):.*@", re.DOTALL)


def ledger_url(value: object) -> Secret:
    """A database URL; shown without its password."""
    found = secret(value)
    written = value.shown if isinstance(value, Text) else found.value
    return Secret(found.value, _PASSWORD.sub(rf"\1:{MASK}@", written))


def name(value: object) -> Text:
    """A name of a provider, operation, caller or fact."""
    found = text(value)
    if not _NAME.fullmatch(found):
        raise wrong(
            f"{shown(found)} is not a name",
            "up to 64 letters, digits, dots, dashes and underscores, a letter or digit first",
        )
    return found


def header_name(value: object) -> Text:
    """A header's name."""
    found = text(value)
    if not TOKEN.fullmatch(found):
        raise wrong(f"{shown(found)} is not a header name")
    return found


def header_value(value: object) -> Text:
    """One line of ASCII."""
    found = text(value)
    if "\n" in found or not found.isascii():
        raise wrong("a header's value is one line of ASCII")
    return found


def host_pattern(value: object) -> Text:
    """A host name, lower case, or one with a leading ``*.``."""
    found = text(value)
    if not _HOST.fullmatch(found.lower()):
        raise wrong(
            f"{shown(found)} is not a host name",
            "write a name such as api.example.com or *.example.com, without scheme or port",
        )
    return Text.make(found.lower(), found.mark, shown=found.shown if found.is_substituted else None)


def _url_parts(value: object) -> tuple[Text, SplitResult]:
    found = text(value)
    try:
        parts = urlsplit(found)
        _ = parts.port
    except ValueError:
        raise wrong("is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise wrong(
            "must be an http:// or https:// URL",
            f"write https://{found}" if "://" not in found else "",
        )
    if parts.username is not None or parts.password is not None:
        raise wrong("a URL must not hold a user or password", "use `auth`")
    return found, parts


def url(value: object) -> Text:
    """An http or https URL without user, query or fragment."""
    found, parts = _url_parts(value)
    if parts.query or parts.fragment or "?" in found or "#" in found:
        raise wrong("must not hold a query or fragment", "leave out everything from ? or #")
    return found


def origin(value: object) -> Text:
    """A URL that names scheme, host and port only."""
    found = url(value)
    if urlsplit(found).path not in ("", "/"):
        raise wrong("names a host and port only", "leave out the path; the provider's own stays")
    return found


def endpoint(value: object) -> Text:
    """A URL that may hold a query."""
    return _url_parts(value)[0]


def listen(value: object) -> Text:
    """``HOST:PORT``."""
    found = text(value)
    match = _LISTEN.fullmatch(found)
    if match is None or int(match[2]) > 65535:
        raise wrong(
            f"{shown(found)} is not an address to listen on", "write HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080"
        )
    return found


def network(value: object) -> Text:
    """A network in CIDR form."""
    found = text(value)
    try:
        ipaddress.ip_network(found)
    except ValueError as error:
        fix = (
            f"write {ipaddress.ip_network(found, strict=False)}"
            if "host bits" in str(error)
            else "write 10.20.0.0/16, say"
        )
        raise wrong(f"{shown(found)} is not a network", fix) from None
    return found


def file(value: object) -> Path:
    """A file that exists; relative to the configuration file that names it."""
    if isinstance(value, Path):
        return value
    found = text(value)
    path = (Path(found.mark.file).parent / found).absolute()
    try:
        is_there = path.is_file()
    except OSError:  # a name that is too long, say
        is_there = False
    if not is_there:
        raise wrong(f"there is no file {shown(found)} beside {found.mark.file}")
    return path


def one_or_list(value: object) -> object:
    """A single value stands for a list of one."""
    return value if isinstance(value, list) else [value]


def without_null(value: object) -> object:
    """A mapping without its null entries."""
    if isinstance(value, dict):
        return {key: below for key, below in value.items() if below is not None}
    return value
