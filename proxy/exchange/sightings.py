"""When this process first saw each attempt, by its own boot clock: quiet time must pass by it too."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from proxy.core.model import Entry, Token
from proxy.core.ports import Clock

_KEPT_MAX: Final = 65_536
"""The oldest are forgotten first; an attempt that is forgotten is first seen anew, and its quiet time starts again."""


class Sightings:
    """First sightings of open attempts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: OrderedDict[Token, float] = OrderedDict()

    def note(self, entry: Entry) -> None:
        """Take note of the attempts of *entry* that are open."""
        for attempt in entry.open:
            if attempt.token not in self._seen:
                self._seen[attempt.token] = self._clock.boot()
        while len(self._seen) > _KEPT_MAX:
            self._seen.popitem(last=False)

    @property
    def first_read(self) -> Mapping[Token, float]:
        """Boot clock readings by token."""
        return self._seen
