"""Alembic's entry: runs revisions on the connection that :mod:`proxy.ledger.schema` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from proxy.ledger.tables import metadata

if context.is_offline_mode():
    raise SystemExit("migrations run through `dedup-proxy migrate`, on a connection")

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",  # SQLite alters a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
