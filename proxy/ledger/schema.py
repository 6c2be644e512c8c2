"""Which revision of the schema a database has, and how it gets the one that this program needs.

Asking costs one query and doesn't load Alembic; only an upgrade does. SQLite is upgraded by ``serve`` itself, PostgreSQL
by ``migrate``: there an older program may still be running.
"""

from __future__ import annotations

from enum import StrEnum, unique
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from proxy.ledger.store import LedgerRefused

REVISIONS: Final = ("0001",)
"""All revisions, oldest first; the last is the one this program needs. A test compares them with ``migrations/``."""


@unique
class SchemaState(StrEnum):
    """A database's schema beside the one that this program needs."""

    CURRENT = "current"
    BEHIND = "behind"  # made by an older program
    AHEAD = "ahead"  # made by a newer one: its revision is unknown here
    ABSENT = "absent"  # no ledger


def read_state(connection: sa.Connection) -> SchemaState:
    """The state of the database behind *connection*."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return SchemaState.ABSENT
    version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if version is None:
        return SchemaState.ABSENT
    if version not in REVISIONS:
        return SchemaState.AHEAD
    return SchemaState.CURRENT if version == REVISIONS[-1] else SchemaState.BEHIND


def check_state(connection: sa.Connection) -> None:
    """Raise :class:`LedgerRefused` unless the schema is the one that this program needs."""
    match read_state(connection):
        case SchemaState.CURRENT:
            return
        case SchemaState.BEHIND:
            raise LedgerRefused("the ledger's schema is older than this program: run `dedup-proxy migrate`")
        case SchemaState.AHEAD:
            raise LedgerRefused("the ledger's schema is newer than this program: run the newer version")
        case SchemaState.ABSENT:
            raise LedgerRefused("the database holds no ledger yet: run `dedup-proxy migrate`")


def upgrade_on(connection: sa.Connection) -> None:
    """Bring the database behind *connection*, which is in a transaction, to the revision that this program needs."""
    import alembic.command  # noqa: PLC0415 - slow to load, and only an upgrade needs it
    import alembic.config  # noqa: PLC0415 - as above

    import migrations  # noqa: PLC0415 - as above

    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")
