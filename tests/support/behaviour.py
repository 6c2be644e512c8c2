"""A small language in which a test tells the fake provider how to behave.

``effect,drop|ok`` means: for the first request of an intent do the thing, then close the connection without an answer;
for every later one answer normally. Steps are parted by ``|`` (the last one repeats), the words of a step by commas:

====================  =================================================================================================
``ok``                200, and the thing is done
``402``, any status   this status; the thing is done for a 2xx only, unless the next two words say otherwise
``effect``            the thing is done, whatever is answered
``no-effect``         the thing is not done, whatever is answered
``later:MS``          the thing is done that long after the request was read, whatever became of the connection
``front``             a layer in front answers, before keys are looked at (the default for 4xx but 402, 409 and 422)
``behind``            the provider itself answers, after it looked at keys
``slow:MS``           works that long before it is done; a key is in progress meanwhile
``slow-after:MS``     waits between doing it and answering
``drop``              closes the connection instead of answering; without ``effect``, nothing is done
``reset``             the same with a TCP reset
``hang``              never answers
``truncate``          the body breaks off in the middle
``truncate-head``     the head breaks off in the middle
``huge:BYTES``        a body of that many bytes
``garbage-gzip``      a body that says gzip and isn't
``html``              an HTML page instead of JSON
``empty``             no body
``cookies``           two Set-Cookie lines
``chunked``           chunked transfer coding
``hints``             a 103 and a 102 before the answer
``retry-after:S``     a Retry-After header
``close``             answers with Connection: close
``idle-close``        answers as if it kept the connection, then closes it
``unread``            answers right after the head, without reading the body
====================  =================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class Ending(StrEnum):
    """What becomes of the connection."""

    ANSWER = "answer"
    DROP = "drop"
    RESET = "reset"
    HANG = "hang"
    TRUNCATE = "truncate"
    TRUNCATE_HEAD = "truncate-head"


class Content(StrEnum):
    """What the body of an answer holds."""

    JSON = "json"
    HUGE = "huge"
    GARBAGE_GZIP = "garbage-gzip"
    HTML = "html"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One step: what the provider does with one request."""

    status: int = 200
    effect: bool | None = None
    front: bool | None = None
    later_ms: int | None = None
    slow_ms: int = 0
    slow_after_ms: int = 0
    ending: Ending = Ending.ANSWER
    content: Content = Content.JSON
    huge_bytes: int = 0
    cookies: bool = False
    chunked: bool = False
    hints: bool = False
    retry_after: int | None = None
    close: bool = False
    idle_close: bool = False
    unread: bool = False

    @property
    def has_effect(self) -> bool:
        """Whether the thing is done before the answer."""
        if self.effect is not None:
            return self.effect
        gone = self.ending in (Ending.DROP, Ending.RESET)
        return self.later_ms is None and not gone and 200 <= self.status < 300

    @property
    def is_in_front(self) -> bool:
        """Whether a layer in front of the provider's keys answers."""
        if self.front is not None:
            return self.front
        if self.ending in (Ending.DROP, Ending.RESET) and not self.effect and self.later_ms is None:
            return True
        return 400 <= self.status < 500 and self.status not in (402, 409, 422)


OK: Final = Behaviour()

_PLAIN: Final[dict[str, dict[str, object]]] = {
    "ok": {"status": 200},
    "effect": {"effect": True},
    "no-effect": {"effect": False},
    "front": {"front": True},
    "behind": {"front": False},
    "cookies": {"cookies": True},
    "chunked": {"chunked": True},
    "hints": {"hints": True},
    "close": {"close": True},
    "idle-close": {"idle_close": True},
    "unread": {"unread": True, "front": True, "close": True},
    "garbage-gzip": {"content": Content.GARBAGE_GZIP},
    "html": {"content": Content.HTML},
    "empty": {"content": Content.EMPTY},
    **{ending.value: {"ending": ending} for ending in Ending},
}
_WITH_NUMBER: Final = {
    "later": "later_ms",
    "slow": "slow_ms",
    "slow-after": "slow_after_ms",
    "huge": "huge_bytes",
    "retry-after": "retry_after",
}


def parse(text: str) -> tuple[Behaviour, ...]:
    """The steps that *text* names. Raises ValueError for a word it doesn't know."""
    return tuple(_step(step) for step in text.split("|"))


def _step(text: str) -> Behaviour:
    behaviour = OK
    for word in (part.strip() for part in text.split(",")):
        name, _, argument = word.partition(":")
        if word.isdecimal():
            behaviour = replace(behaviour, status=int(word))
        elif word in _PLAIN:
            behaviour = replace(behaviour, **_PLAIN[word])  # type: ignore[arg-type]  # the table holds fields only
        elif name in _WITH_NUMBER and argument.isdecimal():
            fields: dict[str, object] = {_WITH_NUMBER[name]: int(argument)}
            if name == "huge":
                fields["content"] = Content.HUGE
            behaviour = replace(behaviour, **fields)  # type: ignore[arg-type]  # as above
        else:
            raise ValueError(f"the fake provider knows no behaviour {word!r}")
    return behaviour
