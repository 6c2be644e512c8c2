"""Whether an ambiguous call may be sent again, and when: one row a case."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.core.model import Entry, Status
from proxy.core.policy import Native, Timeouts
from proxy.core.reasons import Reason
from proxy.core.settle import PAUSE_SECONDS_MAX, RESENDS_MAX, Moment, is_after_quiet, may_resend, pause_seconds
from tests.core.builders import SECOND, START, entry, native, operation, token

DAY = 86_400
QUIET = 90  # seconds, as the builder's attempts have it
UNKNOWN, HELD, OVER = Reason.OUTCOME_UNKNOWN, Reason.NOTHING_CAN_TELL, Reason.RETENTION_OVER
RULE = {"settle_by": ("resend",), "timeout": Timeouts(5, 30), "quiet_seconds": 60.0}


def doubtful(**fields: Any) -> Entry:
    return entry(Status.AMBIGUOUS, **{"outgoing_key": "out", **fields})


def at(seconds: float, *, lived: float | None = None, by_caller: bool = True, attempts: int = 1) -> Moment:
    """*seconds* after the first send by the ledger's clock; this process has *lived* through so many (default: all)."""
    boot = 1000.0
    read = boot - (seconds if lived is None else lived)
    seen = {token(n): read for n in range(1, attempts + 1)}
    return Moment(now=START + int(seconds * SECOND), boot=boot, first_read=seen, by_caller=by_caller)


# row, native key, when -> in how many seconds (None: never), why
CASES: dict[str, tuple[Entry, Native | None, Moment, dict[str, Any], tuple[float | None, Reason]]] = {
    "without a native key never": (doubtful(), None, at(1000), {}, (None, HELD)),
    "where the rule doesn't say so never": (doubtful(), native(), at(1000), {"settle_by": ("lookup",)}, (None, HELD)),
    "what is final never": (entry(Status.SUCCEEDED, outgoing_key="out"), native(), at(1000), {}, (None, HELD)),
    "what was sent without a key never": (doubtful(outgoing_key=None), native(), at(1000), {}, (None, HELD)),
    "after quiet time": (doubtful(), native(), at(QUIET), {}, (0, Reason.RESENT)),
    "not before it": (doubtful(), native(), at(QUIET - 10), {}, (10, UNKNOWN)),
    "not before this process has lived through it": (doubtful(), native(), at(1000, lived=QUIET - 20), {}, (20, UNKNOWN)),
    "not at all early where the ledger's clock jumped": (doubtful(), native(), at(3600, lived=0), {}, (QUIET, UNKNOWN)),
    "at once where the provider locks": (doubtful(), native(locks=True), at(0), {}, (0, Reason.RESENT)),
    "at once where repeating changes nothing": (
        doubtful(outgoing_key=None), native(place=None, natural=True), at(0), {}, (0, Reason.RESENT)),
    "when the provider said": (
        doubtful(retry_at=START + 7 * SECOND), native(locks=True), at(2), {}, (5, UNKNOWN)),
    "never where the provider says to come back too late": (
        doubtful(retry_at=START + 2 * DAY * SECOND), native(locks=True), at(2), {}, (None, OVER)),
    "never where somebody else used the key": (
        doubtful(reason=Reason.UNASKED_KEY_REUSE), native(locks=True), at(2), {}, (None, HELD)),
    "while the provider remembers, less a margin": (doubtful(), native(), at(DAY - 91), {}, (0, Reason.RESENT)),
    "not after that": (doubtful(), native(), at(DAY - 90), {}, (None, OVER)),
    "not after that by this process's clock either": (
        doubtful(), native(retention_us=200 * SECOND), at(95, lived=110), {}, (None, OVER)),
    "for ever where the provider never forgets": (doubtful(), native(retention_us=None), at(1000 * DAY), {}, (0, Reason.RESENT)),
    "without a margin where repeating changes nothing": (
        doubtful(), native(place=None, natural=True, retention_us=30 * SECOND), at(29), {}, (0, Reason.RESENT)),
    "never after a failure that the provider replays": (
        doubtful(upstream_status=500), native(failures="stored"), at(QUIET), {}, (None, HELD)),
    "never after a failure that it would run anew": (
        doubtful(upstream_status=503), native(failures="rerun"), at(QUIET), {}, (None, HELD)),
    "after a failure that it resumes": (
        doubtful(upstream_status=500), native(failures="resumed"), at(QUIET), {}, (0, Reason.RESENT)),
    "after an answer that is no failure": (doubtful(upstream_status=409), native(), at(QUIET), {}, (0, Reason.RESENT)),
    "on our own initiative for a while": (doubtful(), native(), at(899, by_caller=False), {}, (0, Reason.RESENT)),
    "on our own initiative not longer": (doubtful(), native(), at(900, by_caller=False), {}, (None, UNKNOWN)),
    "on the caller's word longer": (doubtful(), native(), at(901), {}, (0, Reason.RESENT)),
    "on our own initiative not too often": (
        doubtful(attempts=RESENDS_MAX), native(locks=True), at(1, by_caller=False), {}, (None, UNKNOWN)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_ambiguous_call_is_sent_again(name: str) -> None:
    row, key, moment, rule, (seconds, reason) = CASES[name]

    again = may_resend(row, operation(native=key, **{**RULE, **rule}), key, moment)

    assert again.reason is reason
    assert again.seconds == (None if seconds is None else pytest.approx(seconds))


def test_the_quiet_time_of_every_open_attempt_counts() -> None:
    row = doubtful(attempts=2, is_open=(1, 2))
    only_one_seen = Moment(now=START + 10**12, boot=1000.0, first_read={token(1): 0.0}, by_caller=True)

    assert is_after_quiet(row, at(QUIET, attempts=2))
    assert not is_after_quiet(row, only_one_seen)


def test_pauses_double_up_to_a_bound_and_are_jittered() -> None:
    assert [pause_seconds(n, chance=0.5) for n in range(4)] == [0.2, 0.4, 0.8, 1.6]
    assert pause_seconds(0, chance=0.0) == pytest.approx(0.1)
    assert pause_seconds(10**9, chance=1.0) == PAUSE_SECONDS_MAX * 1.5
