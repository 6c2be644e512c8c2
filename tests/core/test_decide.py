"""What becomes of a request that arrives: one row a case, decision and reason."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.core.decide import (
    Arrival,
    Decision,
    Kind,
    expires_at,
    has_window_ended,
    is_touch_due,
    next_revision,
    on_arrival,
)
from proxy.core.model import Entry, Status
from proxy.core.policy import Native
from proxy.core.reasons import Reason
from proxy.core.settle import Moment
from tests.core.builders import SECOND, START, entry, native, operation

HOUR = 3_600 * SECOND
SAME, OTHER = "1:aa", "1:bb"

# what is told: row, what arrives (fingerprint, credential, seconds after the start), operation -> kind, reason
CASES: dict[str, tuple[Entry | None, tuple[str, str | None, int], dict[str, Any], tuple[Kind, Reason]]] = {
    "a key the ledger does not know is claimed":
        (None, (SAME, None, 1), {}, (Kind.CLAIM, Reason.NEW)),
    "a duplicate of a running call waits":
        (entry(Status.IN_FLIGHT), (SAME, None, 1), {}, (Kind.WAIT, Reason.IN_PROGRESS)),
    "a running call whose lease is over is not waited for":
        (entry(Status.IN_FLIGHT), (SAME, None, 36), {}, (Kind.EXPIRE, Reason.LEASE_EXPIRED)),
    "a finished call is answered from the ledger":
        (entry(Status.SUCCEEDED), (SAME, None, 1), {}, (Kind.REPLAY, Reason.REPLAYED)),
    "a final no is answered from the ledger":
        (entry(Status.REJECTED), (SAME, None, 1), {}, (Kind.REPLAY, Reason.REPLAYED)),
    "what did not happen is sent again":
        (entry(Status.NOT_EXECUTED), (SAME, None, 1), {}, (Kind.RECLAIM, Reason.RETRIED)),
    "a corrected request takes a key under which nothing happened":
        (entry(Status.NOT_EXECUTED), (OTHER, None, 1), {}, (Kind.RECLAIM, Reason.RETRIED)),
    "other credentials take a key under which nothing happened":
        (entry(Status.NOT_EXECUTED, credential="old"), (SAME, "new", 1), {}, (Kind.RECLAIM, Reason.RETRIED)),
    "a concluded no keeps its fingerprint":
        (entry(Status.NOT_EXECUTED, fingerprint_frozen=True), (OTHER, None, 1), {}, (Kind.REFUSE, Reason.KEY_REUSED)),
    "a concluded no lets the same request through":
        (entry(Status.NOT_EXECUTED, fingerprint_frozen=True), (SAME, None, 1), {}, (Kind.RECLAIM, Reason.RETRIED)),
    "a raw key has no second body":
        (entry(Status.NOT_EXECUTED), (OTHER, None, 1), {"native": native(format="raw")}, (Kind.REFUSE, Reason.KEY_REUSED)),
    "a raw key may be sent again with the same body":
        (entry(Status.NOT_EXECUTED), (SAME, None, 1), {"native": native(format="raw")}, (Kind.RECLAIM, Reason.RETRIED)),
    "the provider's Retry-After is obeyed":
        (entry(Status.NOT_EXECUTED, retry_at=START + 5 * SECOND), (SAME, None, 1), {}, (Kind.REFUSE, Reason.PROVIDER_BUSY)),
    "a Retry-After that is over is over":
        (entry(Status.NOT_EXECUTED, retry_at=START + 5 * SECOND), (SAME, None, 5), {}, (Kind.RECLAIM, Reason.RETRIED)),
    "the same key with another body is refused, whatever the row says":
        (entry(Status.SUCCEEDED), (OTHER, None, 1), {}, (Kind.REFUSE, Reason.KEY_REUSED)),
    "another body is refused while the first runs":
        (entry(Status.IN_FLIGHT), (OTHER, None, 1), {}, (Kind.REFUSE, Reason.KEY_REUSED)),
    "another body is refused while nobody knows":
        (entry(Status.AMBIGUOUS), (OTHER, None, 1), {}, (Kind.REFUSE, Reason.KEY_REUSED)),
    "another credential never gets a replay":
        (entry(Status.SUCCEEDED, credential="old"), (SAME, "new", 1), {}, (Kind.REFUSE, Reason.KEY_REUSED)),
    "an unclear outcome that nothing can tell is held":
        (entry(Status.AMBIGUOUS), (SAME, None, 1), {}, (Kind.REFUSE, Reason.NOTHING_CAN_TELL)),
    "an unclear outcome under a native key is not known yet":
        (entry(Status.AMBIGUOUS, outgoing_key="out"), (SAME, None, 1), {"native": native(), "settle_by": ("resend",)},
         (Kind.REFUSE, Reason.OUTCOME_UNKNOWN)),
    "a provider that refuses a key in progress may be asked again at once":
        (entry(Status.AMBIGUOUS, outgoing_key="out"), (SAME, None, 1),
         {"native": native(locks=True), "settle_by": ("resend",)}, (Kind.RESEND, Reason.RESENT)),
    "another body is never sent again under the same key":
        (entry(Status.AMBIGUOUS, outgoing_key="out"), (OTHER, None, 1),
         {"native": native(locks=True), "settle_by": ("resend",)}, (Kind.REFUSE, Reason.KEY_REUSED)),
    "an unclear outcome that a look-up can tell is not known yet":
        (entry(Status.AMBIGUOUS), (SAME, None, 1), {"can_look_up": True}, (Kind.REFUSE, Reason.OUTCOME_UNKNOWN)),
    "an unclear outcome stays so for ever":
        (entry(Status.AMBIGUOUS, key="c:aa"), (SAME, None, 10**9), {"window_us": HOUR}, (Kind.REFUSE, Reason.NOTHING_CAN_TELL)),
    "a window that is over makes a finished key new":
        (entry(Status.SUCCEEDED, key="c:aa"), (OTHER, None, 3600), {"window_us": HOUR}, (Kind.CLAIM, Reason.WINDOW_OVER)),
    "a window that is not over does not":
        (entry(Status.SUCCEEDED, key="c:aa"), (SAME, None, 3599), {"window_us": HOUR}, (Kind.REPLAY, Reason.REPLAYED)),
    "a window never ends what still runs":
        (entry(Status.IN_FLIGHT, key="c:aa", lease_until=START + 2 * HOUR), (SAME, None, 3600), {"window_us": HOUR},
         (Kind.WAIT, Reason.IN_PROGRESS)),
    "a key that the caller gave has no window":
        (entry(Status.SUCCEEDED, key="g:k1"), (SAME, None, 10**6), {"window_us": HOUR}, (Kind.REPLAY, Reason.REPLAYED)),
    "a key that the caller gave keeps its meaning after a window":
        (entry(Status.SUCCEEDED, key="g:k1"), (OTHER, None, 10**6), {"window_us": HOUR}, (Kind.REFUSE, Reason.KEY_REUSED)),
    "a window ends what did not happen":
        (entry(Status.NOT_EXECUTED, key="c:aa"), (SAME, None, 3600), {"window_us": HOUR}, (Kind.CLAIM, Reason.WINDOW_OVER)),
}  # fmt: skip


def arriving(
    seconds: int, fingerprint: str = SAME, credential: str | None = None, native: Native | None = None
) -> Arrival:
    """A request *seconds* after the start, to a process that has just learnt of the key."""
    moment = Moment(now=START + seconds * SECOND, boot=1000.0, first_read={}, by_caller=True)
    return Arrival(fingerprint=fingerprint, credential=credential, native=native, moment=moment)


@pytest.mark.parametrize("name", CASES)
def test_a_request_is_decided_on(name: str) -> None:
    row, (fingerprint, credential, seconds), rule, expected = CASES[name]
    arrival = arriving(seconds, fingerprint, credential, rule.get("native"))

    decision = on_arrival(row, arrival, operation(**rule))

    assert (decision.kind, decision.reason) == expected


def test_a_new_generation_follows_the_last() -> None:
    arrival = arriving(3600)

    assert on_arrival(
        entry(Status.SUCCEEDED, key="c:aa", generation=4), arrival, operation(window_us=HOUR)
    ) == Decision(Kind.CLAIM, Reason.WINDOW_OVER, generation=5)


def test_a_busy_provider_says_when() -> None:
    arrival = arriving(1)
    decision = on_arrival(entry(Status.NOT_EXECUTED, retry_at=START + 5 * SECOND), arrival, operation())

    assert decision.seconds == 4.0


@pytest.mark.parametrize(
    ("fields", "fingerprint", "rule", "expected"),
    [
        ({}, SAME, {"native": native()}, 0),
        ({}, OTHER, {"native": native()}, 1),
        ({"revise": True}, SAME, {"native": native()}, 1),
        ({"revise": True, "revision": 3}, OTHER, {"native": native()}, 4),
        ({"revise": True}, SAME, {"native": native(format="raw")}, 0),
    ],
)
def test_the_outgoing_key_gets_a_revision_where_the_provider_would_confuse_two(
    fields: dict[str, Any], fingerprint: str, rule: dict[str, Any], expected: int
) -> None:
    assert next_revision(entry(Status.NOT_EXECUTED, **fields), fingerprint, operation(**rule)) == expected


def test_a_given_key_has_no_window() -> None:
    assert not has_window_ended(entry(Status.SUCCEEDED), None, START + 10**15)


def test_the_last_request_is_written_once_a_hundredth_of_the_window_and_once_a_day_without_one() -> None:
    row = entry(Status.SUCCEEDED)

    assert not is_touch_due(row, HOUR, START + 36 * SECOND)
    assert is_touch_due(row, HOUR, START + 37 * SECOND)
    assert not is_touch_due(row, None, START + 24 * HOUR)
    assert is_touch_due(row, None, START + 24 * HOUR + 1)


def test_a_duplicate_is_recognised_until_window_or_retention() -> None:
    row = entry(Status.SUCCEEDED, updated_at=START + 10)

    assert expires_at(row, HOUR, 5) == START + HOUR
    assert expires_at(row, None, HOUR) == START + 10 + HOUR
    assert expires_at(row, None, None) is None
