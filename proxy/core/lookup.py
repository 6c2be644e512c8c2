"""Looking up an ambiguous call at its provider: the rule, and what can come of it.

A look-up is a question beside the call: it changes nothing, so it may be asked at any time. Its answers weigh
differently.

*Found* is evidence at once: the provider shows the effect, and it stays.

*Absent* is a claim about the future: nothing took effect, and nothing of what was sent still will. So it is believed only
if the provider showed everything (``complete``), or said in so many words that there is none (``absent``); if the
look-up began after the quiet time of every open attempt; if the search reaches back to the first send; and if each
attempt carried what is searched for. A final no (``rejected``) speaks of the whole call too and is held to the same.

Everything else is *could not ask*: an error document, a page of HTML, another shape, a further page, an expression that
fails, a candidate that may or may not be ours. It says nothing about the call, and the entry stays as it is.

:func:`~proxy.core.lookup_request.build` makes the question, :func:`~proxy.core.lookup_answer.judge` reads the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from proxy.core.expressions import Expression
from proxy.core.model import Answer
from proxy.core.reasons import Reason
from proxy.core.states import Event

TAG: Final = "outgoing_key"
"""The name by which look-up expressions read the tag: what the provider received with every attempt."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A line of ``where``. Both sides must be there and equal; what is absent equals nothing."""

    theirs: Expression  # asked of the candidate
    ours: Expression  # asked of the call


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` look-ups within ``seconds``."""

    count: int
    seconds: int


@dataclass(frozen=True, slots=True)
class LookupAnswer:
    """What duplicates are answered once the call was found; its expressions see ``item`` and ``id`` too."""

    status: int = 200
    headers: tuple[tuple[str, Expression], ...] = ()
    body: Expression | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """How to ask a provider whether a call took effect (contract section 7.2, ``settle.lookup``)."""

    method: Literal["GET", "HEAD", "POST"]
    path: tuple[str | Expression, ...]  # text as it goes on the wire, and expressions whose value is one encoded part
    query: tuple[tuple[str, Expression], ...] = ()
    headers: tuple[tuple[str, Expression], ...] = ()
    body: tuple[tuple[tuple[str, ...], Expression], ...] = ()  # JSON: the names that lead to a member, and its value
    items: Expression
    where: tuple[Condition, ...] = ()
    id: Expression
    since: Expression | None = None
    complete: Expression | None = None
    absent: Expression | None = None
    absent_after_us: int
    horizon_us: int | None  # None: for ever
    pending: Expression | None = None
    rejected: Expression | None = None
    rate: Rate | None = None
    answer: LookupAnswer | None = None
    body_type: Literal["json", "xml"] = "json"  # how a vaguely typed answer is read

    @property
    def compares_tag(self) -> bool:
        """Whether ``where`` holds a candidate against our tag: one that passes is ours beyond doubt."""
        return any(condition.ours.reads(TAG) for condition in self.where)

    @property
    def relies_on_tag(self) -> bool:
        """Whether an effect of an attempt that went out without our tag may stay unseen."""
        return self.compares_tag or any(expression.reads(TAG) for expression in self._asked())

    def _asked(self) -> Iterator[Expression]:
        """The expressions that make the request."""
        yield from (part for part in self.path if isinstance(part, Expression))
        for fields in (self.query, self.headers):
            yield from (expression for _, expression in fields)
        yield from (expression for _, expression in self.body)


# What a look-up may come to. ``event`` is what it is to the state table; those without one leave the entry as it is.


@dataclass(frozen=True, slots=True)
class Found:
    """Exactly one effect is ours. ``answer`` is what duplicates are to be answered, None if only that it happened."""

    event: ClassVar[Event] = Event.FOUND

    effect_id: str
    item: object = field(repr=False)
    answer: Answer | None = field(default=None, repr=False)
    failed_expressions: int = 0
    reason: Reason = Reason.FOUND


@dataclass(frozen=True, slots=True)
class FoundPending:
    """The provider has the call and has not decided on it."""

    event: ClassVar[Event] = Event.FOUND_PENDING

    effect_id: str
    reason: Reason = Reason.FOUND_PENDING


@dataclass(frozen=True, slots=True)
class FoundRejected:
    """The provider has the call and refused it for good, and nothing else of it can still take effect."""

    event: ClassVar[Event] = Event.FOUND_REJECTED

    effect_id: str
    item: object = field(repr=False)
    reason: Reason = Reason.FOUND_REJECTED


@dataclass(frozen=True, slots=True)
class FoundSeveral:
    """More than one effect matches: the promise was broken somewhere, or ``where`` takes in what isn't ours."""

    event: ClassVar[Event] = Event.FOUND_SEVERAL

    effect_ids: tuple[str, ...]
    reason: Reason = Reason.SEVERAL_FOUND


@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing took effect, and nothing of what was sent still will."""

    event: ClassVar[Event] = Event.FOUND_ABSENT

    reason: Reason = Reason.FOUND_ABSENT


@dataclass(frozen=True, slots=True)
class NotYet:
    """It would be a no, but the look-up began before the quiet time was over: ask again after it."""

    event: ClassVar[None] = None

    reason: Reason = Reason.LOOKUP_TOO_EARLY


@dataclass(frozen=True, slots=True)
class CouldNotAsk:
    """The look-up says nothing about the call. ``detail`` is for people and holds no value of call or answer."""

    event: ClassVar[None] = None

    reason: Reason
    detail: str
    failed_expressions: int = 0


Verdict = Found | FoundPending | FoundRejected | FoundSeveral | Absent | NotYet | CouldNotAsk
"""What a look-up came to."""


class Unaskable(Exception):
    """Ends building or judging a look-up with its ``verdict``."""

    def __init__(self, reason: Reason, detail: str, *, failed_expressions: int = 0) -> None:
        super().__init__(detail)
        self.verdict = CouldNotAsk(reason, detail, failed_expressions)
