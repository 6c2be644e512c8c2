"""Quiet time passes by two clocks or not at all."""

from __future__ import annotations

import pytest

from proxy.core.quiet import is_quiet
from tests.core.builders import SECOND, START, attempt, token

QUIET = START + 90 * SECOND


@pytest.mark.parametrize(
    ("now", "boot", "first_read", "expected"),
    [
        (QUIET, 190.0, {token(1): 100.0}, True),
        (QUIET - 1, 190.0, {token(1): 100.0}, False),
        (QUIET, 189.9, {token(1): 100.0}, False),
        (QUIET + 10**12, 101.0, {token(1): 100.0}, False),
        (QUIET, 190.0, {}, False),
    ],
    ids=["both say so", "the ledger's clock is early", "ours is early", "the ledger's clock jumped", "never seen"],
)
def test_quiet_time_is_over_when_both_clocks_say_so(now: int, boot: float, first_read: dict, expected: bool) -> None:
    assert is_quiet([attempt(1)], now=now, boot=boot, first_read=first_read) is expected


def test_the_latest_of_several_attempts_counts() -> None:
    both = [attempt(1), attempt(2, at=START + 60 * SECOND)]
    seen = {token(1): 0.0, token(2): 0.0}

    assert not is_quiet(both, now=QUIET, boot=1e9, first_read=seen)
    assert is_quiet(both, now=QUIET + 60 * SECOND, boot=1e9, first_read=seen)
