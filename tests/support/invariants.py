"""The promise, judged by the provider's own record of what it did.

:func:`check` takes three stories of the same events and finds where they disagree:

- *log*: the fake provider's records (:mod:`tests.support.provider`), or bare ``effect`` records of another server;
- *observations*: what each client was told (:mod:`tests.support.observations`);
- *rows*: the ledger's entries as mappings with ``key generation status executed attempts`` and, if there, ``id
  created_at``.

It judges once everything has come to rest. An intent in *excused* is one where a named person or rule decided that a
repeat, or an unproven success, is acceptable. *earlier* are rows as they were before a restart, a purge, a reload.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.support.observations import Observation

UNDECIDED = frozenset({"in_flight", "ambiguous"})
UNGUARDED = frozenset({"bypassed", "unprotected", "observed"})

NAMES = {
    "I1": "no duplicate",
    "I2": "yes is true",
    "I3": "no is true",
    "I4": "one answer",
    "I5": "write first",
    "I6": "evidence",
    "I8": "nothing silent",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken invariant, with everything that happened to the intent."""

    invariant: str
    intent: str
    what: str
    story: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return f"{self.invariant} ({NAMES[self.invariant]}) broken for {self.intent}: {self.what}\n" + "\n".join(
            f"    {line}" for line in self.story
        )


@dataclass(slots=True)
class Case:
    """All that is known of one intent."""

    intent: str
    effects: list[Mapping[str, Any]] = field(default_factory=list)
    requests: list[Mapping[str, Any]] = field(default_factory=list)
    answers: list[Mapping[str, Any]] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    is_excused: bool = False
    keeps_body: bool = True

    @property
    def is_guarded(self) -> bool:
        """False where the proxy said that it protects nothing here."""
        return not any(seen.entry_status in UNGUARDED for seen in self.observations)

    def story(self) -> tuple[str, ...]:
        """What happened, in order, in seconds since the first of it."""
        moments: list[tuple[float, str]] = []
        for seen in self.observations:
            moments.append((seen.asked_at, f"client request {seen.number} began (key {seen.key})"))
            moments.append((seen.answered_at, str(seen)))
        moments += [
            (r["received_at"], f"provider received request {r['request']} (key {r['key']})") for r in self.requests
        ]
        moments += [
            (r["at"], f"provider did it: effect {r.get('seq', '?')} (key {r.get('key')})") for r in self.effects
        ]
        moments += [(r["at"], f"provider answered request {r['request']}: {r['status']}") for r in self.answers]
        moments.sort(key=lambda moment: moment[0])
        began = moments[0][0] if moments else 0.0
        lines = [f"{at - began:+9.3f}s  {text}" for at, text in moments]
        return (*lines, *(f"   ledger   {_row_text(row)}" for row in self.rows))


Rule = Callable[[Case], Iterator[tuple[str, str]]]


def check(
    log: Iterable[Mapping[str, Any]],
    observations: Iterable[Observation],
    rows: Iterable[Mapping[str, Any]],
    *,
    excused: Collection[str] = (),
    earlier: Sequence[Mapping[str, Any]] = (),
    keeps_body: bool = True,
) -> list[Violation]:
    """Everything that breaks I1-I6 or I8. ``keeps_body`` is false where the rule stores only the status of answers."""
    rows = list(rows)
    found = [
        Violation(invariant, case.intent, what, case.story())
        for case in _cases(list(log), list(observations), rows, excused, keeps_body)
        for rule in RULES
        for invariant, what in rule(case)
    ]
    return found + list(_lost_rows(earlier, rows))


def hold(
    log: Iterable[Mapping[str, Any]],
    observations: Iterable[Observation],
    rows: Iterable[Mapping[str, Any]],
    **options: Any,
) -> None:
    """As :func:`check`, as an assertion. Raises AssertionError with every story."""
    violations = check(log, observations, rows, **options)
    assert not violations, "\n\n".join(str(violation) for violation in violations)


# The rules.


def no_duplicate(case: Case) -> Iterator[tuple[str, str]]:
    """I1."""
    if len(case.effects) > 1 and case.is_guarded and not case.is_excused:
        yield "I1", f"it was done {len(case.effects)} times"


def yes_is_true(case: Case) -> Iterator[tuple[str, str]]:
    """I2."""
    if case.is_excused:
        return
    for seen in case.observations:
        if seen.executed != "yes":
            continue
        if len(case.effects) != 1:
            yield "I2", f"client request {seen.number} was told yes, and it was done {len(case.effects)} times"
        elif case.effects[0]["at"] > seen.answered_at:
            yield "I2", f"client request {seen.number} was told yes before it was done"
    claimed = sum(row["executed"] == "yes" for row in case.rows)
    if claimed > len(case.effects):
        yield "I2", f"the ledger says yes {claimed} times, and it was done {len(case.effects)} times"


def no_is_true(case: Case) -> Iterator[tuple[str, str]]:
    """I3."""
    for seen in case.observations:
        if seen.executed != "no" or seen.status is None:
            continue
        for effect in case.effects:
            received_at = effect.get("received_at", effect["at"])
            may_be_of_another = any(_may_have_caused(other, received_at) for other in case.observations)
            if received_at <= seen.asked_at or (received_at <= seen.answered_at and not may_be_of_another):
                yield "I3", f"client request {seen.number} was told no of an attempt that took effect"
            elif not may_be_of_another:
                yield "I3", f"client request {seen.number} was told no, and it was sent again though nobody asked"
    if case.effects and case.rows and all(row["executed"] == "no" for row in case.rows):
        yield "I3", "the ledger says no, and it was done"
    if case.observations and all(seen.sent == "no" for seen in case.observations) and case.requests:
        yield "I3", "every client was told that nothing was sent, and the provider received it"


def _may_have_caused(other: Observation, received_at: float) -> bool:
    """Whether a client's request was under way when the provider received one, and was not itself told no."""
    return (
        other.executed != "no"
        and other.asked_at <= received_at
        and (other.status is None or other.answered_at >= received_at)
    )


def one_answer(case: Case) -> Iterator[tuple[str, str]]:
    """I4."""
    replays = [seen for seen in case.observations if seen.is_replay]

    def told(seen: Observation) -> tuple[int | None, str | None]:
        return seen.status, seen.body_sha256 if case.keeps_body else None

    for seen in replays[1:]:
        if told(seen) != told(replays[0]):
            yield "I4", f"client requests {replays[0].number} and {seen.number} were given different stored answers"
    firsts = [
        seen
        for seen in case.observations
        if seen.sent == "yes" and not seen.is_replay and not seen.is_problem and seen.executed in ("yes", "no")
        if seen.entry_status in ("succeeded", "rejected") and seen.is_recorded and seen.body_sha256 is not None
    ]
    if replays and firsts and all(told(replays[0]) != told(first) for first in firsts):
        yield "I4", f"the stored answer is not the one that client request {firsts[0].number} was given"
    senders = [seen for seen in case.observations if seen.sent == "yes"]
    for seen in replays:
        if senders and all((seen.caller, seen.key, seen.meaning) != (s.caller, s.key, s.meaning) for s in senders):
            yield "I4", f"client request {seen.number} was given the answer of another caller, key or request"


def write_first(case: Case) -> Iterator[tuple[str, str]]:
    """I5."""
    if not case.is_guarded:
        return
    arrived = case.requests or case.effects
    if arrived and not case.rows:
        yield "I5", "the provider received it, and the ledger knows nothing of it"
        return
    attempts = sum(int(row["attempts"]) for row in case.rows)
    if len(case.requests) > attempts:
        yield "I5", f"the provider received {len(case.requests)} requests, and the ledger knows {attempts} attempts"
    created = [_seconds(row["created_at"]) for row in case.rows if row.get("created_at") is not None]
    if arrived and created:
        first = min(record.get("received_at", record["at"]) for record in arrived)
        claimed, precision = min(created)
        if claimed > first + precision:
            yield "I5", f"the provider received it {claimed - first:.6f} seconds before the claim"


def only_evidence_decides(case: Case) -> Iterator[tuple[str, str]]:
    """I6, as far as one look at the end can tell: a final entry needs an answer, or that nothing ever arrived."""
    if case.is_excused or (case.effects and not case.requests):
        return  # excused, or a server that records effects only
    for row in case.rows:
        if row["status"] in ("succeeded", "rejected") and not case.answers:
            yield "I6", f"the entry is {row['status']}, and the provider never answered"
        if row["status"] == "not_executed" and case.requests and not case.answers:
            yield "I6", "the entry is not_executed, and the provider received a request that it never answered"


def nothing_is_silent(case: Case) -> Iterator[tuple[str, str]]:
    """I8."""
    if not case.observations and case.effects:
        yield "I8", "it was done, and no client asked for it"
    ids = {str(row["id"]) for row in case.rows if row.get("id") is not None}
    for seen in case.observations:
        if seen.status is None or seen.entry_status in UNGUARDED:
            continue
        if seen.executed not in ("yes", "no", "unknown"):
            yield "I8", f"client request {seen.number} was not told whether it was done"
        elif seen.entry is None and not seen.is_problem:
            yield "I8", f"client request {seen.number} ended as no entry, no problem and no stated exception"
        elif ids and seen.entry is not None and seen.entry not in ids:
            yield "I8", f"client request {seen.number} was told of entry {seen.entry}, which the ledger doesn't have"


RULES: tuple[Rule, ...] = (
    no_duplicate,
    yes_is_true,
    no_is_true,
    one_answer,
    write_first,
    only_evidence_decides,
    nothing_is_silent,
)


def _lost_rows(earlier: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> Iterator[Violation]:
    now = {(_bare(row["key"]), row["generation"]): row for row in rows}
    for row in earlier:
        key = _bare(row["key"])
        later = now.get((key, row["generation"]))
        story = (f"before: {_row_text(row)}", f"after:  {_row_text(later) if later else 'no row'}")
        if later is None and row["status"] in UNDECIDED:
            yield Violation("I6", key, f"an entry that was {row['status']} is gone", story)
        elif later is not None and row["status"] in ("succeeded", "rejected") and later["status"] != row["status"]:
            yield Violation("I6", key, f"an entry that was {row['status']} is {later['status']} now", story)


def _cases(
    log: list[Mapping[str, Any]],
    observations: list[Observation],
    rows: list[Mapping[str, Any]],
    excused: Collection[str],
    keeps_body: bool,
) -> list[Case]:
    cases: dict[str, Case] = {}

    def case(intent: str) -> Case:
        return cases.setdefault(intent, Case(intent, is_excused=intent in excused, keeps_body=keeps_body))

    by_entry: dict[str, str] = {}
    by_key: defaultdict[str, set[tuple[str, str | None]]] = defaultdict(set)
    for seen in observations:
        case(seen.intent).observations.append(seen)
        if seen.entry is not None:
            by_entry[seen.entry] = seen.intent
        by_key[seen.key if seen.key is not None else seen.intent].add((seen.intent, seen.caller))
    for record in log:
        kind, intent = record["type"], record.get("intent")
        if kind == "partial" or record.get("method") in ("GET", "HEAD", "OPTIONS", "TRACE"):
            continue
        lists = {"effect": "effects", "request": "requests", "answer": "answers"}
        getattr(case(str(intent)), lists[kind]).append(record)
    for row in rows:
        key, owner = _bare(row["key"]), by_entry.get(str(row.get("id")))
        same_key = {intent for intent, caller in by_key[key] if caller in (None, row.get("caller", caller))}
        owners = {owner} if owner is not None else same_key or {key}
        for intent in owners:
            case(intent).rows.append(row)
    return list(cases.values())


def _bare(key: str) -> str:
    """A given key without the ledger's prefix."""
    return key.removeprefix("g:")


def _row_text(row: Mapping[str, Any]) -> str:
    shown = ("id", "key", "generation", "status", "executed", "attempts", "reason")
    return " ".join(f"{name}={row[name]}" for name in shown if name in row)


def _seconds(value: object) -> tuple[float, float]:
    """A time of the ledger as seconds, and how far off its notation may be: microseconds, or RFC 3339."""
    if isinstance(value, int | float):
        return float(value) / 1e6, 0.001
    text = str(value)
    return datetime.fromisoformat(text).timestamp(), 0.001 if "." in text else 1.0
