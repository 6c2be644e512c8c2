"""The tables, as SQLAlchemy declares them; ``migrations/`` makes them, and a test holds the two against each other.

``entry`` is the narrow hot row. Every statement of a request names its primary key, so that the table can be partitioned
or distributed by ``key_hash``. In an ordinary call it is inserted once and updated once, and nothing else is written but
the answer. ``docs/ledger.md`` explains each column, and which updates PostgreSQL can do in place.

Times are ledger times: microseconds since the Unix epoch (:mod:`proxy.ledger.clock`).
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from proxy.core.model import Kept, Status

FILL_PERCENT: Final = 90
"""PostgreSQL: room on each page for moving ``last_request_at`` on in place, the one update that an entry may see often."""


def _hex32() -> sa.types.TypeEngine[str]:
    return sa.CHAR(32).with_variant(postgresql.UUID(as_uuid=False), "postgresql")


def _one_of(column: str, values: type[Status | Kept]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


metadata = sa.MetaData()

entry = sa.Table(
    "entry",
    metadata,
    sa.Column("key_hash", _hex32(), nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("caller", sa.Text, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),  # JSON list
    sa.Column("operation", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("fingerprint_frozen", sa.Boolean, nullable=False),
    sa.Column("credential", sa.Text),
    sa.Column("outgoing_key", sa.Text),
    sa.Column("born_at", sa.BigInteger),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("revise", sa.Boolean, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("assumed", sa.Boolean, nullable=False),
    sa.Column("resolved_by", sa.Text),
    sa.Column("attempt", sa.Integer, nullable=False),  # number of the latest
    sa.Column("token", _hex32(), nullable=False),
    sa.Column("claimed_at", sa.BigInteger, nullable=False),
    sa.Column("quiet_at", sa.BigInteger, nullable=False),
    sa.Column("is_open", sa.Boolean, nullable=False),
    sa.Column(
        "earlier", sa.Text
    ),  # JSON list of open attempts before the latest: [number, token, claimed_at, quiet_at]
    sa.Column("lease_until", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("last_request_at", sa.BigInteger, nullable=False),
    sa.Column("first_sent_at", sa.BigInteger, nullable=False),
    sa.Column("retry_at", sa.BigInteger),
    sa.Column("upstream_status", sa.Integer),
    sa.Column("superseded", sa.Boolean, nullable=False),  # a newer generation exists
    sa.PrimaryKeyConstraint("key_hash", "generation", name="pk_entry"),
    sa.CheckConstraint(_one_of("status", Status), name="ck_entry_status"),
    postgresql_with={"fillfactor": FILL_PERCENT},
)

sa.Index(
    "ix_entry_lease",
    entry.c.lease_until,
    postgresql_where=sa.text("status = 'in_flight'"),
    sqlite_where=sa.text("status = 'in_flight'"),
)
sa.Index(
    "ix_entry_ambiguous",
    entry.c.created_at,
    entry.c.key_hash,
    entry.c.generation,
    postgresql_where=sa.text("status = 'ambiguous'"),
    sqlite_where=sa.text("status = 'ambiguous'"),
)
sa.Index("ix_entry_created", entry.c.created_at, entry.c.key_hash, entry.c.generation)

answer = sa.Table(
    "answer",
    metadata,
    sa.Column("key_hash", _hex32(), nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),  # of HTTP
    sa.Column("headers", sa.LargeBinary, nullable=False),  # JSON list of pairs, Latin-1 as text
    sa.Column("body", sa.LargeBinary, nullable=False),  # zstd
    sa.Column("kept", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),  # the status that the entry had with it
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("key_hash", "generation", name="pk_answer"),
    sa.CheckConstraint(_one_of("kept", Kept), name="ck_answer_kept"),
)

history = sa.Table(
    "history",
    metadata,
    sa.Column("key_hash", _hex32(), nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("token", _hex32(), nullable=False),
    sa.Column("from_status", sa.Text, nullable=False),
    sa.Column("to_status", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("who", sa.Text),
    sa.Column("detail", sa.Text),  # JSON object
    sa.PrimaryKeyConstraint("key_hash", "generation", "seq", name="pk_history"),
)

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("value", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("name", name="pk_meta"),
)
