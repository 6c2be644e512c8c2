"""What the answer to a look-up says about the call. Where it may say nothing, it says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from proxy.core.bodies import Body, Kind, read_body
from proxy.core.documents import Document, header_values
from proxy.core.expressions import Expression, ExpressionFailed
from proxy.core.json_text import canonical_json
from proxy.core.lookup import (
    Absent,
    CouldNotAsk,
    Found,
    FoundPending,
    FoundRejected,
    FoundSeveral,
    Lookup,
    LookupAnswer,
    NotYet,
    Unaskable,
    Verdict,
)
from proxy.core.lookup_items import effect_id, matching
from proxy.core.lookup_request import CallDocument, Sought, ask, header_lines, our_values
from proxy.core.model import Answer
from proxy.core.reasons import Reason

ITEMS_MAX: Final = 10_000
"""Candidates of one answer; a search that finds more is not a search."""

_JSON: Final = ((b"Content-Type", b"application/json"),)
_BODILESS: Final = frozenset({204, 205, 304})


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a no depends on besides the answer. There are no defaults: a forgotten one must not become a no.

    ``is_quiet``: the look-up began after the quiet time of every open attempt, by both clocks. ``is_within_horizon``: by
    neither clock is the first send longer ago than the look-up's horizon. ``is_tagged``: every open attempt went out with
    the outgoing key where the look-up finds it, as tag or as native key.
    """

    is_quiet: bool
    is_within_horizon: bool
    is_tagged: bool


def judge(lookup: Lookup, answer: Answer, sought: Sought, circumstances: Circumstances) -> Verdict:
    """What *answer*, which came to the question about *sought*, says about it. Never raises, whatever came back."""
    try:
        return _Judge(lookup, answer, sought, circumstances).verdict()
    except Unaskable as why:
        return why.verdict


class AnswerDocument(Document):
    """A look-up's answer as ``items``, ``complete`` and ``absent`` see it: its own status, headers, body, and the call."""

    names = CallDocument.names | {"status"}

    def __init__(self, lookup: Lookup, answer: Answer, call: CallDocument) -> None:
        self._lookup: Final = lookup
        self._answer: Final = answer
        self._call: Final = call

    def __getitem__(self, name: str) -> object:
        match name:
            case "status":
                return self._answer.status
            case "headers":
                return header_values(self._answer.headers)
            case "body":
                return self._body.value
            case _:
                return self._call[name]

    def can_tell(self, expression: Expression) -> bool:
        """Whether what *expression* reads is there: a body counts only decoded, and parsed as JSON or XML."""
        if not expression.reads("body"):
            return True
        body = self._body
        return body.kind in (Kind.JSON, Kind.XML) and body.problem is None and not body.has_repeated_names

    @cached_property
    def _body(self) -> Body:
        return read_body(self._answer.body, self._answer.headers, assume=Kind(self._lookup.body_type))


class FoundDocument(Document):
    """The call and the candidate that it is, as ``answer`` sees them."""

    names = CallDocument.names | {"item", "id"}

    def __init__(self, call: CallDocument, item: object, id_: object) -> None:
        self._call: Final = call
        self._found: Final = {"item": item, "id": id_}

    def __getitem__(self, name: str) -> object:
        return self._found[name] if name in self._found else self._call[name]


class _Judge:
    """One answer, judged. Methods raise Unaskable where the answer says nothing."""

    def __init__(self, lookup: Lookup, answer: Answer, sought: Sought, circumstances: Circumstances) -> None:
        self.lookup: Final = lookup
        self.answer: Final = answer
        self.circumstances: Final = circumstances
        self.call: Final = CallDocument(sought)
        self.seen: Final = AnswerDocument(lookup, answer, self.call)
        self.ours: Final = our_values(lookup, self.call)

    def verdict(self) -> Verdict:
        """What the answer comes to."""
        if not self.answer.complete:
            raise Unaskable(Reason.LOOKUP_UNREADABLE, "the answer broke off")
        if self._says_absent():
            return self._nothing() or Absent()
        if not 200 <= self.answer.status < 300:
            raise Unaskable(Reason.LOOKUP_REFUSED, f"the provider answered {self.answer.status}")
        candidates = self._candidates()
        is_whole = self._is_whole()
        matches = self._matches(candidates)
        if len(matches) > 1:
            return FoundSeveral(tuple(matches))
        if not matches:
            self._check_nothing_is_there(is_whole=is_whole)
            return self._nothing() or Absent()
        if self.lookup.complete is not None and not is_whole and not self.lookup.compares_tag:
            raise Unaskable(Reason.LOOKUP_INCOMPLETE, "one was found, and there may be others on a further page")
        ((found_id, items),) = matches.items()
        return self._one(found_id, items, is_whole=is_whole or self.lookup.complete is None)

    def _says_absent(self) -> bool:
        """Whether ``absent`` holds. An answer that shows a candidate of ours all the same contradicts itself."""
        lookup = self.lookup
        if lookup.absent is None or not self.seen.can_tell(lookup.absent):
            return False
        if ask(lookup.absent, self.seen, "`absent`") is not True:
            return False
        if self.seen.can_tell(lookup.items):
            listed = _value_or_none(lookup.items, self.seen)
            ours = self._matching(listed) if isinstance(listed, list) else []
            if any(effect_id(lookup, item) is not None for item in ours):
                raise Unaskable(Reason.LOOKUP_UNCERTAIN, "`absent` holds, and yet the answer shows one")
        return True

    def _candidates(self) -> list[object]:
        if not self.seen.can_tell(self.lookup.items):
            raise Unaskable(Reason.LOOKUP_UNREADABLE, "the body is no JSON or XML, or not well-formed")
        listed = ask(self.lookup.items, self.seen, "`items`")
        if not isinstance(listed, list):
            raise Unaskable(Reason.LOOKUP_UNREADABLE, "`items` finds no list in the answer")
        return listed

    def _is_whole(self) -> bool:
        """Whether the answer shows everything, as far as the rule can tell."""
        if self.lookup.complete is None:
            return False
        if not self.seen.can_tell(self.lookup.complete):
            raise Unaskable(Reason.LOOKUP_UNREADABLE, "the body is no JSON or XML, or not well-formed")
        return ask(self.lookup.complete, self.seen, "`complete`") is True

    def _matching(self, candidates: list[object]) -> list[object]:
        if len(candidates) > ITEMS_MAX:
            raise Unaskable(Reason.LOOKUP_UNREADABLE, f"there are more than {ITEMS_MAX} candidates")
        return list(matching(self.lookup, candidates, self.ours, first_sent_at=self.call.sought.first_sent_at))

    def _matches(self, candidates: list[object]) -> dict[str, list[object]]:
        """The candidates that are ours, by effect: an effect may be shown more than once."""
        matches: dict[str, list[object]] = {}
        for item in self._matching(candidates):
            found_id = effect_id(self.lookup, item)
            if found_id is None:
                raise Unaskable(Reason.LOOKUP_UNCERTAIN, "a candidate that matches has no id")
            matches.setdefault(found_id, []).append(item)
        return matches

    def _check_nothing_is_there(self, *, is_whole: bool) -> None:
        """Nothing was found. Raises Unaskable unless there was something to find it in, all of it."""
        if not is_whole:
            raise Unaskable(Reason.LOOKUP_INCOMPLETE, "nothing was found, and the answer may not show everything")
        if not self.lookup.items.reads("body"):
            return
        for body in (b"null", b"{}"):
            empty = AnswerDocument(self.lookup, replace(self.answer, headers=_JSON, body=body), self.call)
            if isinstance(_value_or_none(self.lookup.items, empty), list):
                detail = "`items` makes a list of an answer that has none; say with `absent` what none looks like"
                raise Unaskable(Reason.LOOKUP_INCOMPLETE, detail)

    def _nothing(self) -> NotYet | None:
        """Why a no is not believed now; None if it is."""
        if not self.circumstances.is_within_horizon:
            raise Unaskable(Reason.HORIZON_OVER, "the first send is longer ago than the search reaches back")
        if self.lookup.relies_on_tag and not self.circumstances.is_tagged:
            raise Unaskable(Reason.UNTAGGED, "an attempt went out without what is searched for")
        return None if self.circumstances.is_quiet else NotYet()

    def _one(self, found_id: str, items: Sequence[object], *, is_whole: bool) -> Verdict:
        """Exactly one effect, shown once or, in a log of events, several times."""
        lookup = self.lookup
        decided = [item for item in items if not _holds(lookup.pending, item, "`pending`")]
        if not decided:
            return FoundPending(found_id)
        refused = [item for item in decided if _holds(lookup.rejected, item, "`rejected`")]
        if not refused:
            return self._found(found_id, decided[0])
        if len(refused) < len(decided):
            raise Unaskable(Reason.LOOKUP_UNCERTAIN, "the same effect is shown as done and as refused")
        if not is_whole:
            raise Unaskable(Reason.LOOKUP_INCOMPLETE, "a refusal was found, and there may be more on a further page")
        return self._nothing() or FoundRejected(found_id, refused[0])

    def _found(self, found_id: str, item: object) -> Found:
        """An answer for duplicates that can't be made doesn't unmake the effect."""
        if self.lookup.answer is None:
            return Found(found_id, item)
        document = FoundDocument(self.call, item, ask(self.lookup.id, item, "`id`"))
        made = _answer(self.lookup.answer, document)
        if isinstance(made, CouldNotAsk):
            return Found(found_id, item, failed_expressions=made.failed_expressions)
        return Found(found_id, item, made)


def _answer(rule: LookupAnswer, found: FoundDocument) -> Answer | CouldNotAsk:
    """What duplicates are answered, or why it can't be made. A text is a body as it is, anything else is written as JSON."""
    headers: list[tuple[bytes, bytes]] = []
    try:
        for name, expression in rule.headers:
            headers += header_lines(name, ask(expression, found, "`answer`"))
        if rule.body is None or rule.status in _BODILESS:
            return Answer(rule.status, tuple(headers), b"")
        value = ask(rule.body, found, "`answer`")
    except Unaskable as why:
        return why.verdict
    if value is None:
        return CouldNotAsk(Reason.LOOKUP_FAILED, "`answer` has no body")
    try:
        body = (value if isinstance(value, str) else canonical_json(value)).encode()
    except (TypeError, UnicodeEncodeError, ExpressionFailed):
        return CouldNotAsk(Reason.LOOKUP_FAILED, "`answer` has a body that can't be written")
    if not any(name.lower() == b"content-type" for name, _ in headers):
        kind = b"text/plain; charset=utf-8" if isinstance(value, str) else b"application/json"
        headers.insert(0, (b"Content-Type", kind))
    return Answer(rule.status, tuple(headers), body)


def _holds(condition: Expression | None, item: object, where: str) -> bool:
    if condition is None:
        return False
    value = ask(condition, item, where)
    if not isinstance(value, bool):
        raise Unaskable(Reason.LOOKUP_UNCERTAIN, f"{where} is neither true nor false of a candidate")
    return value


def _value_or_none(expression: Expression, document: AnswerDocument) -> object:
    try:
        return expression.search(document)
    except ExpressionFailed:
        return None
