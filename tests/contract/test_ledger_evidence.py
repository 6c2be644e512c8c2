"""What recording evidence guarantees, on every ledger. Negative cases first."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from proxy.core.model import Kept, Status, StoredAnswer
from proxy.core.reasons import Reason
from proxy.core.states import SENDS, TABLE, Event, IllegalTransition, apply
from proxy.ledger import Filter, guard
from proxy.ledger.reader import Reader
from tests.contract.ledgers import (
    HOUR,
    LEASE,
    MINUTE,
    Bench,
    answer,
    draft,
    new_key,
    new_token,
    opened,
    reclaim,
    write,
)
from tests.contract.test_ledger_claims import begun


async def stored(bench: Bench, entry):
    """The row as it is read."""
    return await bench.ledger.read(entry.key_hash)


async def doubtful(bench: Bench):
    """An entry with two attempts open: the first lost, the second running. Made past the claims, which don't resend yet."""
    first = await begun(bench, Status.AMBIGUOUS)
    running = replace(first.attempt, number=2, token=new_token())
    entry = replace(
        first, status=Status.IN_FLIGHT, attempt=running, open=(first.attempt, running), reason=Reason.RETRIED
    )
    if bench.engine == "memory":
        bench.ledger._rows[entry.key_hash, 1].entry = entry
    else:
        earlier = f'[[1, "{first.attempt.token}", {first.attempt.claimed_at}, {first.attempt.quiet_at}]]'
        await bench.execute(
            "UPDATE entry SET status = 'in_flight', attempt = 2, token = :token, earlier = :earlier, reason = 'retried' "
            "WHERE key_hash = :key_hash",
            token=running.token, earlier=earlier, key_hash=entry.key_hash,
        )  # fmt: skip
    assert await stored(bench, entry) == entry
    return entry


# -- what doesn't land ------------------------------------------------------------------------------------------------


async def test_evidence_with_a_token_that_no_attempt_had_changes_nothing(bench):
    for status in Status:
        entry = await begun(bench, status)
        for event in Event:
            landed = await bench.ledger.record(write(entry, event, token=new_token(), answer=answer()))
            assert (landed.landed, landed.entry) == (False, entry), event
        assert await stored(bench, entry) == entry
    assert bench.told.contradictions == []


async def test_evidence_about_a_key_without_a_row_tells_that_there_is_none(bench):
    landed = await bench.ledger.record(write(draft(new_key()), Event.ANSWERED, answer=answer()))
    assert (landed.landed, landed.entry) == (False, None)


async def test_evidence_about_another_generation_tells_that_there_is_none(bench):
    entry = await begun(bench)
    landed = await bench.ledger.record(write(replace(entry, generation=2), Event.ANSWERED))
    assert (landed.landed, landed.entry) == (False, None)
    assert await stored(bench, entry) == entry


@pytest.mark.parametrize("event", [Event.ANSWER_LOST, Event.DECLINED, Event.TURNED_AWAY, Event.NOT_SENT])
async def test_evidence_of_an_attempt_that_is_accounted_for_does_not_touch_the_next_one(bench, event):
    first = await begun(bench, Status.NOT_EXECUTED)
    second = await bench.ledger.claim(reclaim(first))
    stale = await bench.ledger.record(write(first, event))
    assert (stale.landed, stale.entry) == (False, second.entry)
    assert await stored(bench, first) == second.entry


ILLEGAL = [(status, event) for status in Status for event in Event if event not in TABLE[status] or event in SENDS]


async def test_what_the_table_does_not_have_changes_nothing(bench):
    entries = {status: await begun(bench, status) for status in Status}
    bench.clock.advance(HOUR)
    for status, event in ILLEGAL:
        landed = await bench.ledger.record(write(entries[status], event, answer=answer(), reason=Reason.CONFLICT))
        assert (landed.landed, landed.entry) == (False, entries[status]), (status, event)
        assert await stored(bench, entries[status]) == entries[status]


async def test_of_many_contradicting_outcomes_at_once_one_lands(bench):
    for _ in range(5):
        entry = await begun(bench)
        events = [Event.ANSWERED, Event.DECLINED, Event.NOT_SENT] * 5
        landed = await asyncio.gather(*(bench.ledger.record(write(entry, event)) for event in events))
        row = await stored(bench, entry)
        assert len({one.entry.status for one in landed if one.landed}) == 1
        assert {one.entry.status for one in landed if one.landed} == {row.status}


@pytest.mark.parametrize("event", [Event.TURNED_AWAY, Event.DECLINED, Event.NOT_SENT])
async def test_an_attempt_in_flight_that_is_not_open_takes_no_no(database, event):
    """No transition leads there; a row that someone changed by hand is not made worse."""
    entry = await begun(database)
    await database.execute("UPDATE entry SET is_open = false")
    assert not (await database.ledger.record(write(entry, event))).landed


@pytest.mark.parametrize("change", ["is_open = true", "earlier = '[[1, \"00\", 1, 2]]'"])
async def test_an_attempt_that_is_open_is_not_followed_whatever_the_status_says(database, change):
    entry = await begun(database, Status.NOT_EXECUTED)
    await database.ledger.store.write(lambda connection: connection.exec_driver_sql(f"UPDATE entry SET {change}"))  # noqa: S608 - ours
    assert not (await database.ledger.claim(reclaim(entry))).landed


# -- what lands -------------------------------------------------------------------------------------------------------

ORDINARY = [
    (event, fields)
    for event in guard.ORDINARY
    for fields in (
        {},
        {"upstream_status": 503, "retry_at": 77},
        {"stores_failure": True, "upstream_status": 402},
        {"behind_key": True, "after_quiet": True},
    )
]


@pytest.mark.parametrize("revise", [False, True])
@pytest.mark.parametrize(("event", "fields"), ORDINARY)
async def test_the_ordinary_outcome_is_what_the_state_machine_says(bench, event, fields, revise):
    entry = await begun(bench, revise=revise)
    bench.clock.advance(MINUTE)
    wish = write(entry, event, **fields)
    landed = await bench.ledger.record(wish)
    expected = apply(entry, wish.evidence, now=landed.entry.updated_at)
    assert landed.landed
    assert landed.entry == expected == await stored(bench, entry)
    assert landed.entry.updated_at >= entry.updated_at + MINUTE
    assert await bench.history(entry) == []


async def test_an_answer_comes_back_byte_for_byte(bench):
    entry = await begun(bench)
    large = StoredAnswer(201, ((b"A", b""), (b"a", bytes(range(1, 256)))), bytes(range(256)) * 4096, Kept.STATUS, 1)
    landed = await bench.ledger.record(write(entry, Event.ANSWERED, answer=large))
    assert landed.entry.answer == large == (await stored(bench, entry)).answer


@pytest.mark.parametrize("event", [Event.ANSWERED, Event.DECLINED, Event.TURNED_AWAY, Event.ANSWER_LOST])
async def test_the_answer_of_every_outcome_is_there_for_waiters_elsewhere(bench, event):
    entry = await begun(bench)
    await bench.ledger.record(write(entry, event, answer=answer()))
    assert (await bench.ledger.poll({entry.key_hash}))[entry.key_hash].answer == answer()


@pytest.mark.parametrize("event", sorted(guard.ORDINARY))
async def test_a_record_repeated_after_a_lost_acknowledgement_has_landed(bench, event):
    entry = await begun(bench)
    wish = write(entry, event, upstream_status=200, answer=answer())
    first = await bench.ledger.record(wish)
    bench.clock.advance(MINUTE)
    assert await bench.ledger.record(wish) == first


async def test_a_lost_answer_can_still_be_found(bench):
    entry = await begun(bench, Status.AMBIGUOUS)
    landed = await bench.ledger.record(write(entry, Event.ANSWERED, answer=answer(), upstream_status=200))
    assert landed.landed and landed.entry.status is Status.SUCCEEDED and landed.entry.open == ()
    assert landed.entry == await stored(bench, entry)
    assert await bench.history(entry) == ["answered"]


async def test_a_no_of_the_running_attempt_leaves_the_earlier_one_open(bench):
    entry = await doubtful(bench)
    landed = await bench.ledger.record(write(entry, Event.TURNED_AWAY, answer=answer(2, 429)))
    assert landed.landed
    assert (landed.entry.status, [one.number for one in landed.entry.open]) == (Status.AMBIGUOUS, [1])
    assert landed.entry == await stored(bench, entry)
    assert landed.entry.answer == answer(2, 429)


async def test_a_no_of_the_earlier_attempt_leaves_the_running_one_in_flight(bench):
    entry = await doubtful(bench)
    landed = await bench.ledger.record(
        write(entry, Event.TURNED_AWAY, token=entry.open[0].token, answer=answer(1, 429))
    )
    assert landed.landed
    assert (landed.entry.status, landed.entry.open) == (Status.IN_FLIGHT, (entry.attempt,))
    assert landed.entry == await stored(bench, entry)
    assert landed.entry.answer is None
    repeated = await bench.ledger.record(
        write(entry, Event.TURNED_AWAY, token=entry.open[0].token, answer=answer(1, 429))
    )
    assert repeated == landed


async def test_a_late_no_of_an_earlier_attempt_does_not_replace_the_latest_ones_answer(bench):
    entry = await doubtful(bench)
    await bench.ledger.record(write(entry, Event.ANSWER_LOST, answer=answer(2, 500)))
    late = await bench.ledger.record(write(entry, Event.TURNED_AWAY, token=entry.open[0].token, answer=answer(1, 429)))
    assert late.landed and late.entry.open == (entry.attempt,)
    assert late.entry.answer == answer(2, 500) == (await stored(bench, entry)).answer


async def test_what_one_attempt_was_told_is_not_a_repetition_for_another(bench):
    entry = await doubtful(bench)
    await bench.ledger.record(write(entry, Event.TURNED_AWAY))
    other = await bench.ledger.record(write(entry, Event.TURNED_AWAY, token=new_token()))
    assert not other.landed


async def test_the_answer_of_an_earlier_attempt_stands_if_it_was_final(bench):
    entry = await doubtful(bench)
    landed = await bench.ledger.record(write(entry, Event.ANSWERED, token=entry.open[0].token, answer=answer(1)))
    assert landed.entry.status is Status.SUCCEEDED and landed.entry.attempt.number == 2
    assert landed.entry.answer == answer(1) == (await stored(bench, entry)).answer


async def test_a_person_who_gives_no_answer_does_not_inherit_one(bench):
    """A success by a person's word must not be replayed as the 500 that put it in doubt."""
    entry = await begun(bench)
    await bench.ledger.record(write(entry, Event.ANSWER_LOST, answer=answer(1, 500)))
    landed = await bench.ledger.record(write(entry, Event.RESOLVED_SUCCEEDED, who="ann"))
    assert (landed.entry.status, landed.entry.resolved_by, landed.entry.answer) == (Status.SUCCEEDED, "ann", None)
    assert landed.entry == await stored(bench, entry)


async def test_a_resolution_taken_back_takes_its_answer_along(bench):
    entry = await begun(bench, Status.AMBIGUOUS)
    said = await bench.ledger.record(write(entry, Event.RESOLVED_SUCCEEDED, who="ann", answer=answer()))
    assert said.entry.answer == answer() == (await stored(bench, entry)).answer
    back = await bench.ledger.record(write(entry, Event.REOPENED, who="ben"))
    assert (back.entry.status, back.entry.open, back.entry.answer) == (Status.AMBIGUOUS, (entry.attempt,), None)
    again = await bench.ledger.record(write(entry, Event.RESOLVED_SUCCEEDED, who="ben"))
    assert again.entry.answer is None
    assert await stored(bench, entry) == again.entry
    assert await bench.history(entry) == ["resolved_as_succeeded", "reopened", "resolved_as_succeeded"]


# -- contradictions ---------------------------------------------------------------------------------------------------

CONTRADICTIONS = [
    (Status.SUCCEEDED, Event.DECLINED),
    (Status.SUCCEEDED, Event.TURNED_AWAY),
    (Status.SUCCEEDED, Event.NOT_SENT),
    (Status.SUCCEEDED, Event.FOUND_ABSENT),
    (Status.SUCCEEDED, Event.STATED_ABSENT),
    (Status.REJECTED, Event.ANSWERED),
    (Status.REJECTED, Event.FOUND),
    (Status.NOT_EXECUTED, Event.STATED),
]


@pytest.mark.parametrize(("status", "event"), CONTRADICTIONS)
async def test_evidence_against_a_final_entry_is_recorded_and_told_once(bench, status, event):
    entry = await begun(bench, status)
    wish = write(entry, event, upstream_status=418)
    for _ in range(2):
        landed = await bench.ledger.record(wish)
        assert (landed.landed, landed.entry) == (False, entry)
    assert await bench.history(entry) == ["contradiction"]
    assert [(told.entry, told.evidence) for told in bench.told.contradictions] == [(entry, wish.evidence)]


async def test_a_success_of_what_was_thought_undone_lands_and_is_told(bench):
    entry = await begun(bench, Status.NOT_EXECUTED)
    landed = await bench.ledger.record(write(entry, Event.ANSWERED, answer=answer()))
    assert landed.landed and landed.entry.status is Status.SUCCEEDED
    assert len(bench.told.contradictions) == 1


async def test_a_success_of_a_past_attempt_ends_the_running_one_and_is_told(bench):
    """Tokens of past attempts stay known, across any number of later ones."""
    first = entry = await begun(bench, Status.NOT_EXECUTED)
    for _ in range(2):
        running = await bench.ledger.claim(reclaim(entry))
        entry = (await bench.ledger.record(write(running.entry, Event.NOT_SENT))).entry
    running = await bench.ledger.claim(reclaim(entry))
    landed = await bench.ledger.record(write(first, Event.ANSWERED, answer=answer(1)))
    assert landed.landed
    assert (landed.entry.status, landed.entry.attempt, landed.entry.open) == (
        Status.SUCCEEDED,
        running.entry.attempt,
        (),
    )
    assert landed.entry.answer == answer(1)
    assert len(bench.told.contradictions) == 1
    assert await bench.history(entry) == ["reclaimed", "reclaimed", "reclaimed", "answered"]


async def test_a_no_of_one_attempt_does_not_contradict_the_success_of_another(bench):
    entry = await doubtful(bench)
    await bench.ledger.record(write(entry, Event.ANSWERED))
    late = await bench.ledger.record(write(entry, Event.TURNED_AWAY, token=entry.open[0].token))
    assert not late.landed
    assert bench.told.contradictions == []


async def test_an_illegal_transition_is_told_and_never_written(bench, monkeypatch):
    entry = await begun(bench, Status.AMBIGUOUS)

    def wrong(*_args, **_kwargs):
        raise IllegalTransition(Status.AMBIGUOUS, Event.FOUND, Status.IN_FLIGHT)

    monkeypatch.setattr(guard, "apply", wrong)
    landed = await bench.ledger.record(write(entry, Event.FOUND))
    assert (landed.landed, landed.entry) == (False, entry)
    assert await stored(bench, entry) == entry
    assert len(bench.told.illegal) == 1


# -- leases and touches -----------------------------------------------------------------------------------------------


async def test_a_lease_that_runs_is_left_alone(bench):
    entry = await begun(bench)
    bench.clock.advance(LEASE - 20_000_000)
    assert await bench.ledger.expire_leases(10) == 0
    landed = await bench.ledger.record(write(entry, Event.LEASE_EXPIRED))
    assert (landed.landed, landed.entry) == (False, entry)
    assert await stored(bench, entry) == entry


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.IN_FLIGHT])
async def test_the_lease_of_what_is_not_in_flight_does_not_end(bench, status):
    entry = await begun(bench, status)
    bench.clock.advance(2 * LEASE)
    assert await bench.ledger.expire_leases(10) == 0
    assert await stored(bench, entry) == entry


async def test_a_lease_that_is_over_leaves_the_attempt_open_in_doubt(bench):
    entry = await begun(bench)
    bench.clock.advance(LEASE)
    assert await bench.ledger.expire_leases(10) == 1
    row = await stored(bench, entry)
    assert (row.status, row.open, row.reason) == (Status.AMBIGUOUS, (entry.attempt,), Reason.LEASE_EXPIRED)
    assert await bench.history(entry) == ["lease_expired"]


async def test_the_lease_of_a_later_attempt_counts(bench):
    first = await begun(bench, Status.NOT_EXECUTED)
    bench.clock.advance(LEASE)
    second = await bench.ledger.claim(reclaim(first))
    stale = await bench.ledger.record(write(first, Event.LEASE_EXPIRED))
    assert (stale.landed, stale.entry) == (False, second.entry)
    assert await bench.ledger.expire_leases(10) == 0


async def test_no_more_leases_end_than_were_asked_for(bench):
    entries = [await begun(bench) for _ in range(5)]
    bench.clock.advance(LEASE)
    assert [await bench.ledger.expire_leases(2) for _ in range(4)] == [2, 2, 1, 0]
    assert {(await stored(bench, entry)).status for entry in entries} == {Status.AMBIGUOUS}


async def test_an_answer_after_the_lease_still_counts(bench):
    entry = await begun(bench)
    bench.clock.advance(LEASE)
    await bench.ledger.expire_leases(10)
    landed = await bench.ledger.record(write(entry, Event.ANSWERED, answer=answer()))
    assert landed.landed and landed.entry.status is Status.SUCCEEDED
    assert bench.told.contradictions == []


async def test_a_lease_that_ends_while_its_answer_arrives_ends_as_the_answer(bench):
    for _ in range(5):
        entry = await begun(bench)
        bench.clock.advance(LEASE)
        told = await asyncio.gather(
            bench.ledger.expire_leases(10),
            bench.ledger.record(write(entry, Event.ANSWERED)),
            bench.ledger.record(write(entry, Event.LEASE_EXPIRED)),
            bench.ledger.expire_leases(10),
        )
        assert told[1].landed
        assert (await stored(bench, entry)).status is Status.SUCCEEDED


async def test_two_processes_end_each_lease_once(on_postgresql, ledger_database):
    for _ in range(30):
        await begun(on_postgresql)
    async with opened("postgresql", ledger_database) as there:
        for one in (on_postgresql, there):
            one.clock.advance(2 * LEASE)
        counts = await asyncio.gather(*(one.ledger.expire_leases(20) for one in (on_postgresql, there) * 2))
    assert sum(counts) == 30


async def test_two_processes_that_settle_one_entry_differently_have_one_winner(on_postgresql, ledger_database):
    entries = [await begun(on_postgresql, Status.AMBIGUOUS) for _ in range(20)]
    async with opened("postgresql", ledger_database) as there:
        events = [(on_postgresql, Event.ANSWERED), (there, Event.RESOLVED_REJECTED)]
        landed = await asyncio.gather(
            *(bench.ledger.record(write(entry, event)) for entry in entries for bench, event in events)
        )
    for entry, ours, theirs in zip(entries, landed[::2], landed[1::2], strict=True):
        assert [ours.landed, theirs.landed].count(True) == 1
        assert (await stored(on_postgresql, entry)).status in (Status.SUCCEEDED, Status.REJECTED)


async def test_a_touch_moves_on_the_time_of_the_last_request_and_nothing_else(bench):
    entry = await begun(bench, Status.SUCCEEDED)
    bench.clock.advance(MINUTE)
    await bench.ledger.touch(entry.key_hash, 1)
    row = await stored(bench, entry)
    assert row == replace(entry, last_request_at=row.last_request_at)
    assert row.last_request_at >= entry.last_request_at + MINUTE


async def test_a_touch_never_takes_the_time_back(database):
    entry = await begun(database, Status.SUCCEEDED)
    await database.execute("UPDATE entry SET last_request_at = last_request_at + 3600000000")
    await database.ledger.touch(entry.key_hash, 1)
    assert (await stored(database, entry)).last_request_at == entry.last_request_at + HOUR


async def test_a_touch_of_nothing_is_no_error(bench):
    await bench.ledger.touch(new_key(), 1)


# -- reading ----------------------------------------------------------------------------------------------------------


async def test_a_key_without_a_row_reads_as_none(bench):
    assert await bench.ledger.read(new_key()) is None
    assert await bench.ledger.poll([]) == {}


async def test_a_poll_finds_what_is_there(bench):
    entries = [await begun(bench) for _ in range(3)]
    keys = [*(entry.key_hash for entry in entries), new_key()]
    assert await bench.ledger.poll(keys) == {entry.key_hash: entry for entry in entries}


async def test_counts_agree_with_what_was_recorded(database):
    for status in Status:
        await begun(database, status)
    reader = Reader(database.ledger.store)
    assert await reader.counts() == {("mailer", status): 1 for status in Status}
    assert len((await reader.entries(Filter())).entries) == 5
