"""The ledger: entries, answers, history, and what it knows of itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _hex32() -> sa.types.TypeEngine[str]:
    return sa.CHAR(32).with_variant(postgresql.UUID(as_uuid=False), "postgresql")


def upgrade() -> None:
    _entry()
    op.create_table(
        "answer",
        sa.Column("key_hash", _hex32(), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("headers", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("kept", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key_hash", "generation", name="pk_answer"),
        sa.CheckConstraint("kept IN ('full', 'status', 'tombstone')", name="ck_answer_kept"),
    )
    op.create_table(
        "history",
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
        sa.Column("detail", sa.Text),
        sa.PrimaryKeyConstraint("key_hash", "generation", "seq", name="pk_history"),
    )
    op.create_table(
        "meta",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_meta"),
    )


def _entry() -> None:
    op.create_table(
        "entry",
        sa.Column("key_hash", _hex32(), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
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
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("token", _hex32(), nullable=False),
        sa.Column("claimed_at", sa.BigInteger, nullable=False),
        sa.Column("quiet_at", sa.BigInteger, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.Column("earlier", sa.Text),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("last_request_at", sa.BigInteger, nullable=False),
        sa.Column("first_sent_at", sa.BigInteger, nullable=False),
        sa.Column("retry_at", sa.BigInteger),
        sa.Column("upstream_status", sa.Integer),
        sa.Column("superseded", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("key_hash", "generation", name="pk_entry"),
        sa.CheckConstraint(
            "status IN ('in_flight', 'succeeded', 'rejected', 'not_executed', 'ambiguous')", name="ck_entry_status"
        ),
        postgresql_with={"fillfactor": 90},
    )
    order = ["created_at", "key_hash", "generation"]
    for name, columns, status in (
        ("ix_entry_lease", ["lease_until"], "in_flight"),
        ("ix_entry_ambiguous", order, "ambiguous"),
    ):
        where = sa.text(f"status = '{status}'")
        op.create_index(name, "entry", columns, postgresql_where=where, sqlite_where=where)
    op.create_index("ix_entry_created", "entry", order)
