"""What a database engine owes the ledger, and how its errors are read."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, unique
from typing import Protocol, TypeVar

import sqlalchemy as sa

from proxy.core.ports import LedgerUnavailable
from proxy.ledger.clock import LedgerClock
from proxy.ledger.sealing import Keyring
from proxy.ledger.statements import Statements

T = TypeVar("T")


class LedgerRefused(LedgerUnavailable):
    """The ledger cannot be opened as it is: the message says what is wrong and what to do."""


@unique
class Failure(Enum):
    """What an error says about the batch that met it."""

    LOST = "lost"  # the connection went; it may have been committed: run it again
    AGAIN = "again"  # the database ended it in favour of another: run it again
    ROW = "row"  # about some row: find out which
    STORE = "store"  # about the ledger as a whole


class Store(Protocol):
    """A database that runs functions in transactions."""

    @property
    def statements(self) -> Statements:
        """The SQL of its dialect."""
        ...

    @property
    def clock(self) -> LedgerClock:
        """Ledger time."""
        ...

    @property
    def keyring(self) -> Keyring:
        """What seals its answers."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What about the database weakens the ledger's promises, in sentences."""
        ...

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run *work* in one transaction; its effects are durable when this returns. Raises what the database raises."""
        ...

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run *work* on a connection of its own, never behind a write."""
        ...

    def failure(self, error: BaseException) -> Failure:
        """What *error*, raised by :meth:`write` or :meth:`read`, means."""
        ...

    async def close(self) -> None:
        """Give everything back."""
        ...


def read_time(connection: sa.Connection, statements: Statements, clock: LedgerClock) -> int:
    """Ledger time, asked of the database where that is what tells it."""
    stamp = clock.stamp()
    if statements.now is None:
        return clock.now()
    at: int
    at, reading = connection.exec_driver_sql(statements.now, stamp).one()
    clock.observe(at, stamp, reading=reading)
    return at


def unavailable(what: str, error: BaseException) -> LedgerUnavailable:
    """*error* for those who asked: one line, without SQL, parameters or addresses of ours."""
    if isinstance(error, LedgerUnavailable):
        return type(error)(*error.args)
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    text = f"{what}: {type(cause).__name__}" + (f": {lines[0]}" if lines else "")
    problem = LedgerUnavailable(text)
    problem.__cause__ = error
    return problem
