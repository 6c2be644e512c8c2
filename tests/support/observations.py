"""What clients were told: one :class:`Observation` per request that a test sent through the proxy."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass

PROBLEM_TYPE = "urn:dedup-proxy:problem:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One request and what came of it. Times are seconds since the Unix epoch; None means absent or not known.

    ``status`` is None where no whole head came back. ``meaning`` is whatever the test takes for the meaning of the
    request (a digest of its body, say): requests under one key that mean different things never share an answer.
    """

    intent: str
    key: str | None = None
    number: int = 1
    caller: str | None = None
    meaning: str | None = None
    asked_at: float = 0.0
    answered_at: float = 0.0
    status: int | None = None
    executed: str | None = None
    sent: str | None = None
    entry: str | None = None
    entry_status: str | None = None
    reason: str | None = None
    is_recorded: bool = True
    is_replay: bool = False
    is_problem: bool = False
    body_sha256: str | None = None

    def __str__(self) -> str:
        if self.status is None:
            return f"client request {self.number} got no answer"
        words = [f"status {self.status}", f"executed={self.executed}", f"sent={self.sent}", f"{self.entry_status}"]
        words += [word for word, is_so in (("replay", self.is_replay), ("unrecorded", not self.is_recorded)) if is_so]
        return f"client request {self.number} was answered: " + ", ".join(
            words + ([self.reason] if self.reason else [])
        )


def observe(
    intent: str,
    *,
    asked_at: float,
    status: int | None = None,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    key: str | None = None,
    number: int = 1,
    caller: str | None = None,
    meaning: str | None = None,
) -> Observation:
    """An observation of an answer, of any client library, made now. ``status`` None: there was none."""
    said = {name.lower(): value for name, value in headers}
    return Observation(
        intent=intent,
        key=key,
        number=number,
        caller=caller,
        meaning=meaning,
        asked_at=asked_at,
        answered_at=time.time(),
        status=status,
        executed=said.get("dedup-executed"),
        sent=said.get("dedup-sent"),
        entry=said.get("dedup-entry"),
        entry_status=said.get("dedup-status"),
        reason=said.get("dedup-reason"),
        is_recorded=said.get("dedup-recorded") != "false",
        is_replay=said.get("idempotent-replayed") == "true",
        is_problem=_is_problem(body),
        body_sha256=None if body is None else hashlib.sha256(body).hexdigest(),
    )


def _is_problem(body: bytes | None) -> bool:
    """Whether the proxy made this answer itself; a provider's ``answers`` may change its content type, not its type."""
    try:
        document = json.loads(body or b"null")
    except ValueError:
        return False
    return isinstance(document, dict) and str(document.get("type", "")).startswith(PROBLEM_TYPE)
