"""The durable record of what was sent: on SQLite, on PostgreSQL, and in memory for tests.

All three implement :class:`proxy.core.ports.Ledger` and pass ``tests/contract/test_ledger_*``. ``docs/ledger.md`` tells what is
durable when, and what happens when a database fails.
"""

from proxy.ledger.guard import Contradiction, Trace
from proxy.ledger.memory import MemoryLedger
from proxy.ledger.opening import is_served, open_ledger, open_reader, state, upgrade
from proxy.ledger.reader import Ambiguous, AttemptLog, CursorInvalid, Details, Filter, Listing, Reader
from proxy.ledger.schema import SchemaState
from proxy.ledger.sql import Hooks, SqlLedger
from proxy.ledger.store import LedgerRefused

__all__ = [
    "Ambiguous", "AttemptLog", "Contradiction", "CursorInvalid", "Details", "Filter", "Hooks", "LedgerRefused", "Listing",
    "MemoryLedger", "Reader", "SchemaState", "SqlLedger", "Trace", "is_served", "open_ledger", "open_reader", "state", "upgrade",
]  # fmt: skip
