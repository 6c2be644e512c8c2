"""The ledger's schema, revision by revision (Alembic). A package, so that it ships inside the wheel."""
