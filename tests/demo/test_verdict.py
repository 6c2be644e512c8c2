"""The verdict, on forged logs: every broken promise is found, and nothing else is."""

import itertools

import pytest

from proxy.demo.effects import Effect
from proxy.demo.observations import NO, UNKNOWN, YES, Call, Observation
from proxy.demo.report import Report, tally
from proxy.demo.verdict import Kind, LedgerWord, judge

CALL = Call("pay", "o-1")


def told(word=None, *, at, until=None, **more):
    """A request of the call that began at *at* and ended at *until*, one second later if nothing else is said."""
    status = {YES: 201, NO: 402, UNKNOWN: 504, None: None}.get(word, 200)
    fields = {"status": status, "digest": "d1" if word else None, "failure": None if word else "timeout", **more}
    return Observation(
        provider="pay", intent="o-1", began=at, ended=until if until is not None else at + 1, executed=word, **fields
    )


def effects(count, *, intent="o-1", provider="pay", at=2.5):
    """Effects whose requests reached the provider at *at*."""
    return [Effect(provider=provider, intent=intent, effect=f"e{n}", native_key="k", arrived=at) for n in range(count)]


def ledger(executed, status="final"):
    return [LedgerWord("entry-1", status, executed)]


GOOD = {
    "a yes that is one effect": ([told(YES, at=0)], effects(1), []),
    "a no that is none": ([told(NO, at=0)], [], []),
    "an unknown that did not happen": ([told(UNKNOWN, at=0)], [], []),
    "an unknown that did happen": ([told(UNKNOWN, at=0)], effects(1), []),
    "a no before a request that was sent again": ([told(NO, at=0), told(YES, at=2)], effects(1), []),
    "a no before a request that was sent again and lost": ([told(NO, at=0), told(at=2)], effects(1), []),
    "a no beside a request that overlaps it": ([told(NO, at=1, until=3), told(YES, at=2, until=5)], effects(1), []),
    "a no beside a request that began earlier and ended later": ([told(at=0, until=9), told(NO, at=1)], effects(1), []),
    "replays with the same answer": ([told(YES, at=0), told(YES, at=2, replayed=True)], effects(1), []),
    "a replay that differs from an answer that was not recorded": (
        [told(YES, at=0, recorded=False, digest="d0"), told(YES, at=2)], effects(1), [],
    ),
    "a problem in place of an answer that was not kept": (
        [told(YES, at=0, digest=None, failure="broken"), told(YES, at=2, status=409, digest="d9")], effects(1), [],
    ),
    "a ledger that says yes of one effect": ([told(YES, at=0, entry="entry-1")], effects(1), ledger(YES)),
    "a ledger that says no of none": ([told(NO, at=0, entry="entry-1")], [], ledger(NO)),
    "a ledger that does not know": ([told(UNKNOWN, at=0, entry="entry-1")], effects(1), ledger(UNKNOWN)),
    "an entry of another run": ([told(YES, at=0)], effects(1), ledger(NO)),
}  # fmt: skip

BAD = {
    "a duplicate": ([told(UNKNOWN, at=0)], effects(2), [], {Kind.DUPLICATE}),
    "a duplicate whose callers were told yes": ([told(YES, at=0)], effects(2), [], {Kind.DUPLICATE, Kind.FALSE_YES}),
    "a yes without an effect": ([told(YES, at=0)], [], [], {Kind.FALSE_YES}),
    "a yes that only one of many was told": ([told(YES, at=0), told(UNKNOWN, at=2)], [], [], {Kind.FALSE_YES}),
    "a no with an effect": ([told(NO, at=0)], effects(1), [], {Kind.FALSE_NO}),
    "a no after a request that had ended": ([told(UNKNOWN, at=0), told(NO, at=2)], effects(1), [], {Kind.FALSE_NO}),
    "a no after a lost request that had ended": ([told(at=0), told(NO, at=2)], effects(1), [], {Kind.FALSE_NO}),
    "a no after a yes": ([told(YES, at=0), told(NO, at=2)], effects(1), [], {Kind.FALSE_NO}),
    "a no after which all were told no": ([told(NO, at=0), told(NO, at=0.5), told(NO, at=3)], effects(1), [], {Kind.FALSE_NO}),
    "a no after which nobody listened": ([told(NO, at=0), told(at=2, failure="refused")], effects(1), [], {Kind.FALSE_NO}),
    "a no before a retry that found it done": ([told(NO, at=0), told(YES, at=2)], effects(1, at=0.5), [], {Kind.FALSE_NO}),
    "a no before a retry that was lost": ([told(NO, at=0), told(at=2)], effects(1, at=0.5), [], {Kind.FALSE_NO}),
    "a no after a lost request, before a retry": (
        [told(at=0), told(NO, at=2), told(YES, at=4)], effects(1, at=0.5), [], {Kind.FALSE_NO},
    ),
    "a no beside a request that came after it was done": (
        [told(at=0), told(NO, at=2, until=4), told(UNKNOWN, at=3, until=5)], effects(1, at=0.5), [], {Kind.FALSE_NO},
    ),
    "one no among several that was not true": (
        [told(NO, at=0), told(YES, at=2), told(NO, at=4)], effects(1), [], {Kind.FALSE_NO},
    ),
    "a call that was told nothing": ([told(at=0), told(at=2)], [], [], {Kind.NO_WORD}),
    "a call of which there is no request": ([], [], [], {Kind.NO_WORD}),
    "a call that was told a word of another language": ([told("maybe", at=0)], [], [], {Kind.NO_WORD}),
    "two different answers of one success": (
        [told(YES, at=0), told(YES, at=2, digest="d2")], effects(1), [], {Kind.TWO_ANSWERS},
    ),
    "an effect that nobody asked for": (
        [told(NO, at=0)], effects(1, intent="o-2"), [], {Kind.UNASKED},
    ),
    "an effect at the wrong provider": ([told(NO, at=0)], effects(1, provider="mail"), [], {Kind.UNASKED}),
    "a ledger that says yes of none": ([told(UNKNOWN, at=0, entry="entry-1")], [], ledger(YES), {Kind.LEDGER_WRONG}),
    "a ledger that says no of one effect": (
        [told(UNKNOWN, at=0, entry="entry-1")], effects(1), ledger(NO), {Kind.LEDGER_WRONG},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("observations", "happened", "words"), GOOD.values(), ids=GOOD)
def test_what_is_true_is_not_accused(observations, happened, words):
    assert judge({CALL}, observations, happened, words) == ()


@pytest.mark.parametrize(("observations", "happened", "words", "kinds"), BAD.values(), ids=BAD)
def test_a_broken_promise_is_found(observations, happened, words, kinds):
    assert {violation.kind for violation in judge({CALL}, observations, happened, words)} == kinds


@pytest.mark.parametrize(("observations", "happened", "words", "kinds"), BAD.values(), ids=BAD)
def test_the_order_of_the_log_does_not_matter(observations, happened, words, kinds):
    for order in itertools.permutations(observations):
        assert {violation.kind for violation in judge({CALL}, order, happened, words)} == kinds


def test_one_bad_call_among_many_good_ones_is_named():
    calls = [Call("pay", f"o-{n}") for n in range(50)]
    observations = [
        Observation(provider="pay", intent=c.intent, began=0, ended=1, status=201, executed=YES, digest="d")
        for c in calls
    ]
    happened = [effect for c in calls for effect in effects(2 if c.intent == "o-33" else 1, intent=c.intent)]

    found = judge(set(calls), observations, happened)

    assert {violation.call.intent for violation in found} == {"o-33"}
    assert str(found[0]) == "duplicate: o-33 at pay: 2 effects"


def report_of(observations, happened, words=(), problems=()):
    return Report(
        seed=1, purchases=1, seconds=1.0, is_killed=True,
        tallies=tally({CALL}, observations, happened, [], {"pay": len(happened)}),
        violations=judge({CALL}, observations, happened, words), problems=problems, kept_in=None,
    )  # fmt: skip


def test_a_report_is_good_only_without_violations_and_problems():
    good = report_of([told(YES, at=0)], effects(1))
    assert good.is_good
    assert "FAILED" not in good.as_table()
    assert good.as_json()["ok"] is True

    for bad in (
        report_of([told(YES, at=0)], effects(2)),
        report_of([told(YES, at=0)], effects(1), problems=["proxy ended"]),
    ):
        assert not bad.is_good
        assert "FAILED" in bad.as_table()
        assert bad.as_json()["ok"] is False


def test_duplicates_prevented_are_what_was_sent_to_a_proxy_and_did_not_reach_the_provider():
    requests = [told(YES, at=0), told(YES, at=1), told(YES, at=2), told(at=3, failure="refused"), told(at=4)]

    row = tally({CALL}, requests, effects(1), [], {"pay": 1})["pay"]

    assert (row.sent, row.found_no_proxy, row.unanswered, row.reached, row.prevented) == (5, 1, 1, 1, 3)
