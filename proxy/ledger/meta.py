"""What a ledger knows of itself: secrets made with it, its identity, and the mark of its clock."""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from proxy.ledger import tables
from proxy.ledger.sealing import Keyring, Unreadable, place
from proxy.ledger.store import LedgerRefused

_SECRET_BYTES = 32
_SECRETS = ("key_secret", "fingerprint_secret")
_SEALED = "sealed:"
"""Before the base64 of a sealed secret; one in clear is hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """Made once, with the ledger. A copy or a restore carries all of it on."""

    key_secret: bytes = field(repr=False)  # turns an identity into its key_hash
    fingerprint_secret: bytes = field(repr=False)
    incarnation: str  # names this ledger
    mark: int  # ledger time was at least this


def load_meta(connection: sa.Connection, keyring: Keyring, *, serves: bool) -> Meta:
    """Read what the ledger knows of itself; a ledger that nothing was ever kept in gets it now.

    Several processes may do this at once: the first one's values stand. Raises :class:`LedgerRefused` where entries exist
    without the secrets, or the secrets without the key that they are sealed with: under new ones every key would look new,
    and every retry would be sent. Whoever *serves* seals them with the newest key.
    """
    rows = _rows(connection)
    fresh = _fresh(keyring)
    missing = [name for name in fresh if name not in rows]
    if missing:
        if connection.execute(sa.select(tables.entry.c.generation).limit(1)).first() is not None:
            raise LedgerRefused(
                f"the ledger holds entries, but its table meta has lost {', '.join(missing)}: restore it from a backup"
            )
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        values = [{"name": name, "value": value} for name, value in fresh.items()]
        connection.execute(insert(tables.meta).on_conflict_do_nothing(), values)
        rows = _rows(connection)
    found = {name: _opened(name, rows[name], keyring) for name in _SECRETS}
    if serves and keyring.seals:
        for name in _SECRETS:
            if not _is_current(rows[name], keyring):
                _replace(connection, name, rows[name], _written(name, found[name], keyring))
    return Meta(
        key_secret=found["key_secret"],
        fingerprint_secret=found["fingerprint_secret"],
        incarnation=rows["incarnation"],
        mark=int(rows["clock"]),
    )


def _fresh(keyring: Keyring) -> dict[str, str]:
    return {
        **{name: _written(name, secrets.token_bytes(_SECRET_BYTES), keyring) for name in _SECRETS},
        "incarnation": secrets.token_hex(16),
        "clock": "0",
    }


def _written(name: str, secret: bytes, keyring: Keyring) -> str:
    """*secret* as it is stored."""
    if not keyring.seals:
        return secret.hex()
    return _SEALED + base64.b64encode(keyring.seal(secret, place("meta", name))).decode()


def _opened(name: str, text: str, keyring: Keyring) -> bytes:
    """The secret that is stored as *text*. Raises :class:`LedgerRefused`."""
    try:
        if not text.startswith(_SEALED):
            secret = bytes.fromhex(text)
        else:
            sealed = base64.b64decode(text.removeprefix(_SEALED), validate=True)
            secret = keyring.open(sealed, place("meta", name))
    except Unreadable as problem:
        fix = "put that key back" if problem.about is not None else "restore the table meta from a backup"
        raise LedgerRefused(f"the ledger's {name} cannot be read: {problem}; {fix}") from None
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) != _SECRET_BYTES:
        raise LedgerRefused(f"the ledger's {name} is damaged: restore the table meta from a backup")
    return secret


def _is_current(text: str, keyring: Keyring) -> bool:
    """Whether a secret stored as *text*, which could be read, is sealed with the newest key."""
    return text.startswith(_SEALED) and keyring.is_newest(base64.b64decode(text.removeprefix(_SEALED)))


def _replace(connection: sa.Connection, name: str, before: str, after: str) -> None:
    """Write *after* where *before* still stands: another process may have done the same."""
    row = tables.meta.c
    connection.execute(sa.update(tables.meta).where(row.name == name, row.value == before).values(value=after))


def _rows(connection: sa.Connection) -> dict[str, str]:
    found = connection.execute(sa.select(tables.meta.c.name, tables.meta.c.value))
    return {row.name: row.value for row in found}
