"""Whether what callers were told agrees with what happened. Pure; asked once everything has come to rest.

What happened is what the sandbox's effect logs say. A *yes* is checked by itself. A *no* speaks of the attempts that
existed when it was told, and a later request may be sent again and take effect. So what is held against a no are the
effects whose request reached the provider before any such later request began; where every request that overlaps or
follows it was told no as well, all effects. The ledger's last word has no such exception: when it is read, nothing is sent
any more.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum, unique

from proxy.demo.effects import Effect
from proxy.demo.observations import NO, REFUSED, WORDS, YES, Call, Observation


@unique
class Kind(StrEnum):
    """What can be wrong."""

    DUPLICATE = "duplicate"  # an intent took effect more than once
    FALSE_YES = "false-yes"  # a caller was told yes, and it did not happen exactly once
    FALSE_NO = "false-no"  # a caller was told no, and an attempt that existed by then took effect
    NO_WORD = "no-word"  # a call ended without yes, no or unknown
    TWO_ANSWERS = "two-answers"  # callers of one intent were given different answers of its success
    UNASKED = "unasked"  # an effect of an intent that no service meant
    LEDGER_WRONG = "ledger-wrong"  # the ledger's last word is not what happened


@dataclass(frozen=True, slots=True)
class Violation:
    """Something wrong, about one call."""

    kind: Kind
    call: Call
    detail: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.call.intent} at {self.call.provider}: {self.detail}"


@dataclass(frozen=True, slots=True)
class LedgerWord:
    """What the ledger says in the end of one entry."""

    entry: str
    status: str
    executed: str


def judge(
    asked: AbstractSet[Call],
    observations: Iterable[Observation],
    effects: Iterable[Effect],
    ledger: Iterable[LedgerWord] = (),
) -> tuple[Violation, ...]:
    """Everything wrong, by call. *asked* are the calls that the services meant; empty answer: nothing is wrong."""
    happened: defaultdict[Call, list[Effect]] = defaultdict(list)
    for effect in effects:
        happened[Call(effect.provider, effect.intent)].append(effect)
    seen: defaultdict[Call, list[Observation]] = defaultdict(list)
    for observation in observations:
        seen[Call(observation.provider, observation.intent)].append(observation)
    found = [
        Violation(Kind.UNASKED, call, f"{len(done)} effects, and no service meant it")
        for call, done in happened.items()
        if call not in asked
    ]
    for call in asked | seen.keys():
        found += _judge_call(call, seen.get(call, ()), happened.get(call, ()))
    found += _judge_ledger(ledger, calls_by_entry(seen), happened)
    return tuple(sorted(found, key=lambda violation: (violation.call, violation.kind)))


def calls_by_entry(seen: Mapping[Call, Sequence[Observation]]) -> dict[str, Call]:
    """Which call an entry of the ledger is about, as far as callers were told its id."""
    return {o.entry: call for call, observations in seen.items() for o in observations if o.entry is not None}


def last_word(observations: Iterable[Observation]) -> str | None:
    """What the callers of one call were told last; None if they were told nothing."""
    words = [(o.ended, o.executed) for o in observations if o.executed in WORDS]
    return max(words)[1] if words else None


def _judge_call(call: Call, observations: Sequence[Observation], effects: Sequence[Effect]) -> Iterable[Violation]:
    if len(effects) > 1:
        yield Violation(Kind.DUPLICATE, call, f"{len(effects)} effects")
    if len(effects) != 1 and any(o.executed == YES for o in observations):
        yield Violation(Kind.FALSE_YES, call, f"told yes, {len(effects)} effects")
    horizon = max((_horizon(o, observations) for o in observations if o.executed == NO), default=-math.inf)
    denied = [effect.effect for effect in effects if effect.arrived < horizon]
    if denied:
        yield Violation(Kind.FALSE_NO, call, f"told no, and {denied[0]} was not of a later request")
    if last_word(observations) is None:
        yield Violation(Kind.NO_WORD, call, f"{len(observations)} requests, none was told yes, no or unknown")
    answers = {(o.status, o.digest) for o in observations if _is_answer_of_success(o)}
    if len(answers) > 1:
        yield Violation(Kind.TWO_ANSWERS, call, f"{len(answers)} different answers")


def _horizon(no: Observation, observations: Iterable[Observation]) -> float:
    """When the first request began that may rightly have taken effect after or beside *no*.

    Requests that had ended before it are no excuse: their attempts existed. Neither are others that were told no.
    """
    excuses = (o.began for o in observations if o.executed != NO and o.failure != REFUSED and o.ended > no.began)
    return min(excuses, default=math.inf)


def _is_answer_of_success(observation: Observation) -> bool:
    """A whole answer of the provider. One that said it was not recorded may differ from what is replayed."""
    is_success = observation.status is not None and 200 <= observation.status < 300
    return is_success and observation.executed == YES and observation.recorded and observation.digest is not None


def _judge_ledger(
    ledger: Iterable[LedgerWord], calls: Mapping[str, Call], happened: Mapping[Call, Sequence[Effect]]
) -> Iterable[Violation]:
    for word in ledger:
        call = calls.get(word.entry)
        if call is None:
            continue  # its callers were never told its id, or it is another run's
        effects = len(happened.get(call, ()))
        if (word.executed == YES and effects != 1) or (word.executed == NO and effects):
            yield Violation(Kind.LEDGER_WRONG, call, f"entry {word.entry} is {word.status}, {effects} effects")
