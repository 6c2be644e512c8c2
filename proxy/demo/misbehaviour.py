"""What goes wrong at a provider. Drawn per request, from the seed, the intent and how often the intent has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from proxy.demo.chance import chance, number_of


@unique
class Behaviour(StrEnum):
    """What a provider does with one request."""

    SERVE = "serve"  # does it and says so
    LATE = "late"  # the same, past the patience of some callers
    BUSY = "busy"  # 429 with Retry-After; nothing done
    DECLINE = "decline"  # a final no
    FAIL = "fail"  # 500; nothing done
    FAIL_AFTER = "fail-after"  # does it, then 500
    DROP = "drop"  # closes the connection; nothing done
    DROP_AFTER = "drop-after"  # does it, then closes the connection
    CUT = "cut"  # does it, and the answer breaks off in its body
    STALL = "stall"  # does it after everybody has given up


Draw = Callable[[str, int], Behaviour]
"""Of an intent and the number of its request at this provider, from 1."""

SHARES: Final = MappingProxyType(
    {
        Behaviour.LATE: 0.012,
        Behaviour.BUSY: 0.04,
        Behaviour.DECLINE: 0.02,
        Behaviour.FAIL: 0.008,
        Behaviour.FAIL_AFTER: 0.008,
        Behaviour.DROP: 0.008,
        Behaviour.DROP_AFTER: 0.01,
        Behaviour.CUT: 0.006,
        Behaviour.STALL: 0.006,
    }
)
"""Far above what a real provider would dare; everything else is served. About four in a hundred calls end in doubt."""


def by_seed(seed: int, provider: str, shares: Mapping[Behaviour, float] = SHARES) -> Draw:
    """The draw of one provider."""
    behaviours = [*shares, Behaviour.SERVE]
    weights = [*shares.values(), 1.0 - sum(shares.values())]

    def draw(intent: str, request: int) -> Behaviour:
        return chance(seed, provider, number_of(intent), request).choices(behaviours, weights)[0]

    return draw
