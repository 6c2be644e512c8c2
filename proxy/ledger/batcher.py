"""Group commit: what is asked while a batch runs becomes the next batch.

Nobody waits for more than one batch ahead of it, as long as what queues fits into one. There is no timer and no minimum:
a lone operation goes at once, and the busier the ledger, the larger its batches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from proxy.core.ports import LedgerUnavailable

QUEUE_MAX: Final = 20_000
"""Operations that may wait. More than any process has requests in flight; past it the ledger is not keeping up."""

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one batch may be.

    A batch ends before *count* operations or *weight* bytes are exceeded (one operation is always taken). After
    *stall_seconds* everybody who waits is told that the ledger does not answer; the batch itself goes on.
    """

    count: int
    weight: int
    stall_seconds: float
    lanes: int = 1  # batches that may run at once


@dataclass(slots=True)
class _Pending(Generic[Asked, Answered]):
    asked: Asked
    future: asyncio.Future[Answered]
    weight: int
    may_drop: bool  # nobody waits any more and nothing is lost: need not be done


class Batcher(Generic[Asked, Answered]):
    """Runs what is submitted in batches.

    *run* takes what was asked, in order, and gives an answer or an exception for each; what it raises itself goes to all.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Asked]], Awaitable[Sequence[Answered | BaseException]]],
        limits: Limits,
        *,
        name: str,
    ) -> None:
        self._run = run
        self._limits = limits
        self._name = name
        self._queue: deque[_Pending[Asked, Answered]] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._stalled = 0  # lanes whose batch has run for too long
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"<Batcher {self._name}: {len(self._queue)} waiting, {len(self._lanes)} running, {self._stalled} stalled>"
        )

    def submit(self, asked: Asked, *, weight: int = 0, may_drop: bool = False) -> asyncio.Future[Answered]:
        """Queue *asked*; its answer comes by the future. Raises :class:`LedgerUnavailable`.

        If the future is cancelled, *asked* is done all the same, unless it has not begun and *may_drop*.
        """
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")
        if self._stalled == self._limits.lanes:
            raise LedgerUnavailable(f"the ledger has not answered for {self._limits.stall_seconds:g} s")
        if len(self._queue) >= QUEUE_MAX:
            raise LedgerUnavailable(f"{QUEUE_MAX} operations wait for the ledger already")
        future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._queue.append(_Pending(asked, future, weight, may_drop))
        if len(self._lanes) < self._limits.lanes:
            self._lanes.add(asyncio.create_task(self._work(), name=f"ledger {self._name}"))
        return future

    async def close(self) -> None:
        """Take nothing more; return when all that was queued is done."""
        self._closed = True
        while self._lanes:
            await asyncio.wait(tuple(self._lanes))

    async def _work(self) -> None:
        """One lane: batch after batch until nothing waits."""
        try:
            while batch := self._take():
                await self._work_off(batch)
        finally:
            # Not in a done callback: that would run later, and what is submitted until then would find no lane.
            self._lanes.remove(_this_task())

    async def _work_off(self, batch: list[_Pending[Asked, Answered]]) -> None:
        running = asyncio.ensure_future(self._answers([pending.asked for pending in batch]))
        done, _ = await asyncio.wait((running,), timeout=self._limits.stall_seconds)
        if not done:
            self._stalled += 1
            try:
                self._tell_stalled(batch)
                await asyncio.wait((running,))
            finally:
                self._stalled -= 1
        for pending, answer in zip(batch, running.result(), strict=True):
            _settle(pending.future, answer)

    async def _answers(self, asked: list[Asked]) -> Sequence[Answered | BaseException]:
        try:
            answers = await self._run(asked)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must learn of it, and the lane goes on
            answers = [error] * len(asked)
        return answers

    def _take(self) -> list[_Pending[Asked, Answered]]:
        batch: list[_Pending[Asked, Answered]] = []
        weight = 0
        while self._queue and len(batch) < self._limits.count:
            pending = self._queue[0]
            weight += pending.weight
            if batch and weight > self._limits.weight:
                break
            self._queue.popleft()
            if not (pending.may_drop and pending.future.done()):
                batch.append(pending)
        return batch

    def _tell_stalled(self, batch: Sequence[_Pending[Asked, Answered]]) -> None:
        """Everybody who waits on this lane, or for one; what is queued is done when its turn comes, unless it may be dropped."""
        waiting = [*batch, *self._queue] if self._stalled == self._limits.lanes else batch
        for pending in waiting:
            _settle(
                pending.future, LedgerUnavailable(f"no answer from the ledger within {self._limits.stall_seconds:g} s")
            )


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None  # a lane is a task
    return task


def _settle(future: asyncio.Future[Answered], answer: Answered | BaseException) -> None:
    if future.done():  # given up by its caller, or told of a stall
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)
