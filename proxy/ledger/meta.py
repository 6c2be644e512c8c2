"""What a ledger knows of itself: secrets made with it, its identity, and the mark of its clock."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from proxy.ledger import tables
from proxy.ledger.store import LedgerRefused

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """Made once, with the ledger. A copy or a restore carries all of it on."""

    key_secret: bytes = field(repr=False)  # turns an identity into its key_hash
    fingerprint_secret: bytes = field(repr=False)
    incarnation: str  # names this ledger
    mark: int  # ledger time was at least this


def load_meta(connection: sa.Connection) -> Meta:
    """Read what the ledger knows of itself; a ledger that nothing was ever kept in gets it now.

    Several processes may do this at once: the first one's values stand. Raises :class:`LedgerRefused` where entries exist
    without the secrets: under new ones every key would look new, and every retry would be sent.
    """
    rows = _rows(connection)
    fresh = _fresh()
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
    return Meta(
        key_secret=bytes.fromhex(rows["key_secret"]),
        fingerprint_secret=bytes.fromhex(rows["fingerprint_secret"]),
        incarnation=rows["incarnation"],
        mark=int(rows["clock"]),
    )


def _fresh() -> dict[str, str]:
    return {
        "key_secret": secrets.token_hex(_SECRET_BYTES),
        "fingerprint_secret": secrets.token_hex(_SECRET_BYTES),
        "incarnation": secrets.token_hex(16),
        "clock": "0",
    }


def _rows(connection: sa.Connection) -> dict[str, str]:
    found = connection.execute(sa.select(tables.meta.c.name, tables.meta.c.value))
    return {row.name: row.value for row in found}
