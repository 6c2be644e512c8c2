"""The numbers of a run, as a table for people and as JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from proxy.demo.effects import Effect
from proxy.demo.ledger_view import Row
from proxy.demo.observations import NO, REFUSED, UNKNOWN, YES, Call, Observation
from proxy.demo.verdict import Violation, calls_by_entry, last_word

_VIOLATIONS_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What happened at one provider.

    ``reached`` is counted by the provider itself. ``prevented`` is what services sent, less what found no proxy, less
    what reached the provider. ``took_effect`` is of the ambiguous calls: what only the provider knows.
    """

    intents: int
    sent: int
    unanswered: int
    found_no_proxy: int
    reached: int
    prevented: int
    effects: int
    told_yes: int
    told_no: int
    told_unknown: int
    ambiguous: int
    took_effect: int
    held: int


LABELS: Final[Mapping[str, str]] = {
    "intents": "intents",
    "sent": "requests the services sent",
    "unanswered": "  of them given up or cut off",
    "found_no_proxy": "  of them while no proxy listened",
    "reached": "requests that reached the provider",
    "prevented": "duplicates prevented",
    "effects": "effects at the provider",
    "told_yes": "callers told in the end: it happened",
    "told_no": "callers told in the end: it did not",
    "told_unknown": "callers told in the end: not known",
    "ambiguous": "ambiguous outcomes, waiting",
    "took_effect": "  of them done, the provider says",
    "held": "  of them held for a person",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a run ended. ``problems`` are what kept it from ending well but for violations."""

    seed: int
    purchases: int
    seconds: float
    is_killed: bool
    tallies: Mapping[str, Tally]
    violations: Sequence[Violation]
    problems: Sequence[str]
    kept_in: str | None

    @property
    def is_good(self) -> bool:
        """Whether every promise was kept and every part ended as it should."""
        return not self.violations and not self.problems

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "ok": self.is_good,
            "seed": self.seed,
            "purchases": self.purchases,
            "seconds": round(self.seconds, 1),
            "proxy_killed": self.is_killed,
            "providers": {name: asdict(tally) for name, tally in self.tallies.items()},
            "violations": [
                {"kind": v.kind.value, "provider": v.call.provider, "intent": v.call.intent, "detail": v.detail}
                for v in self.violations
            ],
            "problems": list(self.problems),
            "kept_in": self.kept_in,
        }

    def as_table(self) -> str:
        """For people."""
        return "\n".join([*self._rows(), "", *self._judgement()])

    def _rows(self) -> Iterable[str]:
        names = list(self.tallies)
        yield f"{'':38}" + "".join(f"{name:>10}" for name in [*names, "together"])
        for field, label in LABELS.items():
            values = [getattr(self.tallies[name], field) for name in names]
            yield f"{label:38}" + "".join(f"{value:>10}" for value in [*values, sum(values)])

    def _judgement(self) -> Iterable[str]:
        if self.is_good:
            yield "No provider has a duplicate, every yes is one effect, every no is none, every call ended in yes, no or unknown."
        for violation in self.violations[:_VIOLATIONS_SHOWN]:
            yield f"WRONG  {violation}"
        if len(self.violations) > _VIOLATIONS_SHOWN:
            yield f"WRONG  and {len(self.violations) - _VIOLATIONS_SHOWN} more"
        for problem in self.problems:
            yield f"WRONG  {problem}"
        killed = "the proxy was killed once" if self.is_killed else "the proxy was not killed"
        yield f"{'ok' if self.is_good else 'FAILED'} in {self.seconds:.1f} s, {killed}, seed {self.seed}"
        if self.kept_in:
            yield f"Effect logs, observations, configuration and ledger are in {self.kept_in}"


def tally(
    asked: Iterable[Call], observations: Sequence[Observation], effects: Iterable[Effect], rows: Iterable[Row],
    reached: Mapping[str, int],
) -> dict[str, Tally]:  # fmt: skip
    """The numbers by provider. *reached* is what the providers counted."""
    seen: defaultdict[Call, list[Observation]] = defaultdict(list)
    for observation in observations:
        seen[Call(observation.provider, observation.intent)].append(observation)
    calls = calls_by_entry(seen)
    happened = Counter(Call(effect.provider, effect.intent) for effect in effects)
    ambiguous = [(row, calls[row.entry]) for row in rows if row.status == "ambiguous" and row.entry in calls]
    asked = tuple(asked)

    def of(provider: str) -> Tally:
        mine = [o for o in observations if o.provider == provider]
        words = Counter(last_word(seen[call]) for call in asked if call.provider == provider)
        refused = sum(o.failure == REFUSED for o in mine)
        waiting = [(row, call) for row, call in ambiguous if call.provider == provider]
        return Tally(
            intents=sum(call.provider == provider for call in asked),
            sent=len(mine),
            unanswered=sum(o.failure is not None and o.failure != REFUSED for o in mine),
            found_no_proxy=refused,
            reached=reached[provider],
            prevented=len(mine) - refused - reached[provider],
            effects=sum(count for call, count in happened.items() if call.provider == provider),
            told_yes=words[YES],
            told_no=words[NO],
            told_unknown=words[UNKNOWN],
            ambiguous=len(waiting),
            took_effect=sum(happened[call] > 0 for _, call in waiting),
            held=sum(row.is_held for row, _ in waiting),
        )

    return {provider: of(provider) for provider in reached}
