"""Ledger time: the database's clock, which never runs backwards.

One clock judges leases, windows and quiet times: PostgreSQL's own, read in the statement that uses it, or on SQLite, where one
process serves, this machine's. A clock may step back (a corrected time, a fail-over to a host that lags), so a reading
counts only if it is above the *floor*: the latest time this process has told or seen, and the mark stored in the ledger,
which at most once a second rides along with a batch. While a clock is behind its floor, ledger time stands still: leases and
windows then end later, never sooner.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol

from proxy.core.model import SECOND_US
from proxy.core.ports import Clock

MARK_STEP_US: Final = SECOND_US
"""How far ledger time moves on before its mark is stored again: at most this much can be forgotten by a crash."""


class LedgerClock(Protocol):
    """Ledger time as one process knows it. Safe to use from several threads."""

    def now(self) -> int:
        """Ledger time in microseconds."""
        ...

    def stamp(self) -> tuple[int, ...]:
        """What a statement needs to tell ledger time: its last parameters."""
        ...

    def observe(self, at: int, stamp: tuple[int, ...], *, reading: int | None = None) -> None:
        """Take note of the ledger time *at* that a statement given *stamp* has told.

        *reading* is what the database's clock itself said, where the statement tells that too.
        """
        ...

    def is_mark_due(self, now: int) -> bool:
        """Whether *now* is to be stored as the mark."""
        ...

    def marked(self, at: int) -> None:
        """Take note that the mark *at* is durable."""
        ...


class _Floor:
    """The latest time told, which no later one may be below."""

    __slots__ = ("_lock", "_marked", "_told")

    def __init__(self, mark: int) -> None:
        self._lock = threading.Lock()
        self._told = mark
        self._marked = mark

    def rise(self, to: int) -> int:
        """The later of *to* and the floor; the floor from now on."""
        with self._lock:
            self._told = max(self._told, to)
            return self._told

    def is_mark_due(self, now: int) -> bool:
        """See :class:`LedgerClock`."""
        return now - self._marked >= MARK_STEP_US

    def marked(self, at: int) -> None:
        """See :class:`LedgerClock`."""
        self._marked = max(self._marked, at)


class WallClock(_Floor):
    """Ledger time where this process is the only one: the machine's own clock."""

    __slots__ = ("_clock",)

    def __init__(self, clock: Clock, *, mark: int = 0) -> None:
        super().__init__(mark)
        self._clock = clock

    def now(self) -> int:
        """See :class:`LedgerClock`."""
        return self.rise(int(self._clock.wall() * SECOND_US))

    def stamp(self) -> tuple[int, ...]:
        """Ledger time: the statement is told."""
        return (self.now(),)

    def observe(self, at: int, stamp: tuple[int, ...], *, reading: int | None = None) -> None:
        """Nothing to learn from what was told."""


def _no_offset() -> int:
    return 0


class DatabaseClock(_Floor):
    """Ledger time as the database last told it, moved on by this process's boot clock.

    *offset* is added to the database's clock in each statement: it lets a test step that clock.
    """

    __slots__ = ("_at", "_boot", "_clock", "_offset")

    def __init__(self, clock: Clock, *, offset: Callable[[], int] = _no_offset) -> None:
        super().__init__(0)
        self._clock = clock
        self._offset = offset
        self._at = 0
        self._boot = clock.boot()

    def now(self) -> int:
        """See :class:`LedgerClock`."""
        return self.rise(self._at + int((self._clock.boot() - self._boot) * SECOND_US))

    def stamp(self) -> tuple[int, ...]:
        """An offset, and the floor: the statement tells."""
        return (self._offset(), self._told)

    def observe(self, at: int, stamp: tuple[int, ...], *, reading: int | None = None) -> None:
        """See :class:`LedgerClock`."""
        if reading is None and at > stamp[-1]:
            reading = at  # a time at the floor would be the floor's, not the clock's
        if reading is not None:
            self._at, self._boot = reading, self._clock.boot()
        self.rise(at)
