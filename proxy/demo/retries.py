"""When a caller tries again. As services do in earnest: on timeouts, resets, 409, 429 and 5xx; ``Retry-After`` capped small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.demo.observations import NO, YES, Observation

PAUSE_SECONDS: Final = 0.1
PAUSE_SECONDS_MAX: Final = 0.5
"""A demo doesn't wait; the proxy holds a request that comes before the provider's own Retry-After is over."""

SILENCE_SECONDS_MAX: Final = 1.0
"""Where no answer comes, each pause is twice the one before, up to this."""

TRIES_AFTER_NO: Final = 12
TRIES_AFTER_UNKNOWN: Final = 2
"""So often a caller asks again about an outcome that nobody knows. Blind retries like these are what doubles charges."""

CALL_SECONDS_MAX: Final = 25.0
"""Beyond a crash, the restart and the lease of what ran then."""

_WORTH_ANOTHER: Final = frozenset({429, 500, 502, 503, 504})


@dataclass(slots=True)
class Patience:
    """One caller's, for one call."""

    until: float
    noes: int = 0
    unknowns: int = 0
    silences: int = 0

    def pause(self, last: Observation) -> float | None:
        """Seconds until the next try after *last*; None: no further try."""
        if last.executed == YES or last.ended > self.until:
            return None
        self.silences = self.silences + 1 if last.executed is None else 0
        if last.executed == NO:
            self.noes += 1
            if last.status not in _WORTH_ANOTHER or self.noes > TRIES_AFTER_NO:
                return None
        elif last.entry_status == "ambiguous":
            self.unknowns += 1
            if self.unknowns > TRIES_AFTER_UNKNOWN:
                return None
        if self.silences:
            return min(PAUSE_SECONDS * 2.0 ** (self.silences - 1), SILENCE_SECONDS_MAX)
        wanted = PAUSE_SECONDS if last.retry_after is None else last.retry_after
        return min(max(wanted, PAUSE_SECONDS / 4), PAUSE_SECONDS_MAX)
