"""A whole run's logs, judged from the disk: one forged line in any of them is enough to fail the demo."""

import dataclasses

import pytest

from proxy.demo.effects import Effect, EffectLog
from proxy.demo.ledger_view import Row
from proxy.demo.observations import NO, UNKNOWN, YES, Call, Observation
from proxy.demo.story import Ending, Options, judged

OPTIONS = Options(
    purchases=2, seed=1, keep=None, ledger=None, is_json=False, with_kill=True, proxy=()
)  # fmt: skip


def request(provider, intent, word, *, at=0.0):
    return Observation(
        provider=provider, intent=intent, began=at, ended=at + 1, status=200 if word == YES else 402, executed=word,
        entry=f"{provider}-{intent}", digest="d",
    )  # fmt: skip


def effect(provider, intent):
    return Effect(provider=provider, intent=intent, effect="e", native_key=None, arrived=0.5)


@dataclasses.dataclass
class Run:
    """Two purchases: one was paid and confirmed by mail, one was declined."""

    calls: list
    observations: list
    effects: list
    rows: list
    problems: list


def good_run():
    return Run(
        calls=[Call("pay", "o-1"), Call("mail", "o-1"), Call("pay", "o-2")],
        observations=[request("pay", "o-1", YES), request("mail", "o-1", YES), request("pay", "o-2", NO)],
        effects=[effect("pay", "o-1"), effect("mail", "o-1")],
        rows=[
            Row("pay-o-1", "pay", "succeeded", YES, is_held=False),
            Row("mail-o-1", "mail", "succeeded", YES, is_held=False),
            Row("pay-o-2", "pay", "rejected", NO, is_held=False),
        ],
        problems=[],
    )


async def report_on(run, directory):
    (directory / "calls.jsonl").write_text("".join(call.line() for call in run.calls))
    (directory / "observations.jsonl").write_text("".join(o.line() for o in run.observations))
    for provider in ("pay", "mail"):
        log = EffectLog(directory / f"{provider}.effects.jsonl")
        for done in run.effects:
            if done.provider == provider:
                await log.append(done)
        log.close()
    ending = Ending(
        rows=tuple(run.rows), reached={"pay": 2, "mail": 1}, is_killed=True, problems=tuple(run.problems)
    )  # fmt: skip
    return judged(OPTIONS, directory, ending, seconds=1.0)


async def test_a_good_run_is_good(tmp_path):
    report = await report_on(good_run(), tmp_path)

    assert report.is_good, report.as_table()
    assert (report.tallies["pay"].told_yes, report.tallies["pay"].told_no, report.tallies["pay"].effects) == (1, 1, 1)


FORGERIES = {
    "a second charge": lambda run: run.effects.append(effect("pay", "o-1")),
    "a second email": lambda run: run.effects.append(effect("mail", "o-1")),
    "a yes whose effect is missing": lambda run: run.effects.pop(),
    "a no that did happen": lambda run: run.effects.append(effect("pay", "o-2")),
    "a call that was told nothing": lambda run: run.observations.pop(),
    "a purchase that never began": lambda run: (run.calls.pop(), run.observations.pop()),
    "an effect of a stranger": lambda run: run.effects.append(effect("mail", "o-2")),
    "a ledger row that turned": lambda run: run.rows.append(Row("pay-o-1", "pay", "not_executed", NO, is_held=False)),
    "a part that did not end well": lambda run: run.problems.append("proxy ended with status 1"),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
async def test_one_forged_line_fails_it(tmp_path, forge):
    run = good_run()
    forge(run)

    assert not (await report_on(run, tmp_path)).is_good


async def test_ambiguous_calls_are_listed_with_what_the_provider_knows_and_do_not_fail_it(tmp_path):
    run = good_run()
    run.observations[1:] = [request("mail", "o-1", UNKNOWN), request("pay", "o-2", UNKNOWN)]
    run.rows[1:] = [
        Row("mail-o-1", "mail", "ambiguous", UNKNOWN, is_held=True),
        Row("pay-o-2", "pay", "ambiguous", UNKNOWN, is_held=False),
    ]

    report = await report_on(run, tmp_path)

    pay, mail = report.tallies["pay"], report.tallies["mail"]
    assert report.is_good
    assert (pay.ambiguous, pay.took_effect, pay.held, pay.told_unknown) == (1, 0, 0, 1)
    assert (mail.ambiguous, mail.took_effect, mail.held, mail.told_unknown) == (1, 1, 1, 1)
