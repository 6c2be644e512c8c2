"""The payment provider: knows idempotency keys, and remembers them for a while."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.demo.misbehaviour import Behaviour
from proxy.demo.provider import Answer, Provider, Reply, Stage, Visit, busy

REMEMBERED_SECONDS: Final = 3600.0


@dataclass(slots=True)
class _Remembered:
    """A key, what it was used for, since when, and the answer once there is one."""

    meaning: str
    since: float
    answer: Answer | None = None


class Pay(Provider):
    """``POST /v1/charges`` under an ``Idempotency-Key``.

    A repeated key replays the answer of what was done or declined; while the first runs it is a 409, with another body a
    422. Where nothing was done nothing is remembered. A key that was forgotten charges again.
    """

    name = "pay"
    path = "/v1/charges"

    def __init__(self, stage: Stage, *, remembered_seconds: float = REMEMBERED_SECONDS) -> None:
        super().__init__(stage)
        self._keys: dict[str, _Remembered] = {}
        self._remembered_seconds = remembered_seconds

    def intent_of(self, body: Mapping[str, Any]) -> str:
        """The order that the charge is for."""
        return str(body["metadata"]["order_id"])

    async def work(self, visit: Visit) -> Reply:
        """Charge once per remembered key."""
        if visit.behaviour is Behaviour.BUSY:
            return busy()
        now = time.monotonic()
        known = self._keys.get(visit.native_key) if visit.native_key else None
        if known is not None and now - known.since < self._remembered_seconds:
            return _repeated(known, visit)
        entry = _Remembered(visit.meaning, now)
        if visit.native_key:
            self._keys[visit.native_key] = entry

        async def charge() -> Answer:
            effect = await self.record(visit)
            entry.answer = Answer(201, {"id": effect, "status": "succeeded", "amount": visit.body["amount"]})
            return entry.answer

        def decline() -> Answer:
            entry.answer = Answer(402, {"error": {"code": "card_declined"}})
            return entry.answer

        try:
            return await self.misbehave(visit, charge, decline=decline)
        finally:
            if entry.answer is None and visit.native_key:
                del self._keys[visit.native_key]


def _repeated(known: _Remembered, visit: Visit) -> Answer:
    if known.meaning != visit.meaning:
        return Answer(422, {"error": {"code": "key_reused"}})
    if known.answer is None:
        return Answer(409, {"error": {"code": "key_in_progress"}})
    return Answer(known.answer.status, known.answer.body, {"Idempotent-Replayed": "true"})
