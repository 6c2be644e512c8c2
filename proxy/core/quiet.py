"""Quiet time: after it, nothing of an attempt can still take effect.

It must have passed by the ledger's clock *and* by this process's own boot-time clock since it first read of the attempt:
either clock alone can jump, and an hour that nobody lived through must not make an absent effect look final.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from proxy.core.model import SECOND_US, Attempt, Token


def is_quiet(attempts: Iterable[Attempt], *, now: int, boot: float, first_read: Mapping[Token, float]) -> bool:
    """Whether the quiet time of all *attempts* has passed.

    *now* is ledger time, *boot* this process's boot clock in seconds, *first_read* its reading when this process first
    saw each attempt; an attempt it has not seen is not quiet.
    """
    return seconds_to_quiet(attempts, now=now, boot=boot, first_read=first_read) <= 0


def seconds_to_quiet(
    attempts: Iterable[Attempt], *, now: int, boot: float, first_read: Mapping[Token, float]
) -> float:  # fmt: skip
    """How many seconds the quiet time of all *attempts* still takes, by the slower clock; 0 or less when it is over."""
    waits = [0.0]
    for attempt in attempts:
        seen = first_read.get(attempt.token, boot)
        waits.append((attempt.quiet_at - now) / SECOND_US)
        waits.append(seen + (attempt.quiet_at - attempt.claimed_at) / SECOND_US - boot)
    return max(waits)
