"""Re-sends: a next attempt while an earlier one is open. All engines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.model import Attempt, Entry, Status
from proxy.core.ports import Claim
from proxy.core.reasons import Reason
from proxy.core.states import Event, begin
from tests.contract.ledgers import LEASE, QUIET, SECOND, Bench, new_token, reclaim, write
from tests.contract.test_ledger_claims import begun


def resend(entry: Entry, **fields: Any) -> Claim:
    """The next attempt of the ambiguous *entry*, as the core drafts it."""
    attempt = Attempt(entry.attempt.number + 1, new_token(), 1, 2)
    drafted = begin(replace(entry, **fields), Event.RESENT, attempt, reason=Reason.RESENT)
    assert drafted is not None
    return Claim(drafted, LEASE, QUIET, Event.RESENT, after=entry.attempt.token)


async def doubtful(bench: Bench) -> Entry:
    return await begun(bench, Status.AMBIGUOUS)


async def resent(bench: Bench) -> Entry:
    landed = await bench.ledger.claim(resend(await doubtful(bench)))
    assert landed.landed
    return landed.entry


def numbers(entry: Entry) -> list[int]:
    return [attempt.number for attempt in entry.open]


async def test_a_resend_keeps_the_first_attempt_open_and_its_key(bench: Bench) -> None:
    first = await doubtful(bench)
    bench.clock.advance(5 * SECOND)

    landed = await bench.ledger.claim(resend(first))

    assert landed.landed
    entry = landed.entry
    assert (entry.status, entry.attempt.number, numbers(entry)) == (Status.IN_FLIGHT, 2, [1, 2])
    assert (entry.outgoing_key, entry.first_sent_at) == (first.outgoing_key, first.first_sent_at)
    assert entry.open[0] == first.attempt
    assert entry.attempt.claimed_at > first.attempt.claimed_at
    assert await bench.ledger.read(entry.key_hash) == entry
    assert (await bench.history(entry))[-1] == "resent"


@pytest.mark.parametrize("status", [Status.IN_FLIGHT, Status.SUCCEEDED, Status.REJECTED, Status.NOT_EXECUTED])
async def test_only_an_ambiguous_entry_is_resent(bench: Bench, status: Status) -> None:
    entry = await begun(bench, status)
    pretended = resend(replace(entry, status=Status.AMBIGUOUS, open=(entry.attempt,)))

    landed = await bench.ledger.claim(pretended)

    assert not landed.landed
    assert landed.entry.status is status


async def test_an_ambiguous_entry_is_never_reclaimed(bench: Bench) -> None:
    entry = await doubtful(bench)
    pretended = reclaim(replace(entry, status=Status.NOT_EXECUTED, open=()))

    assert not (await bench.ledger.claim(pretended)).landed


async def test_a_resend_decided_on_an_older_attempt_does_not_land(bench: Bench) -> None:
    first = await doubtful(bench)
    stale = resend(first)
    second = (await bench.ledger.claim(resend(first))).entry
    await bench.ledger.record(write(second, Event.ANSWER_LOST))

    assert not (await bench.ledger.claim(stale)).landed


async def test_of_many_resends_at_once_one_lands(bench: Bench) -> None:
    first = await doubtful(bench)

    landed = await asyncio.gather(*(bench.ledger.claim(resend(first)) for _ in range(20)))

    assert sum(each.landed for each in landed) == 1
    assert len({each.entry.attempt.token for each in landed}) == 1


async def test_a_no_of_the_second_attempt_leaves_the_first_in_doubt(bench: Bench) -> None:
    entry = await resent(bench)
    for event in (Event.TURNED_AWAY, Event.DECLINED, Event.NOT_SENT):
        landed = await bench.ledger.record(write(entry, event))
        assert (landed.landed, landed.entry.status, numbers(landed.entry)) == (True, Status.AMBIGUOUS, [1])
        entry = (await bench.ledger.claim(resend(landed.entry))).entry


async def test_a_success_of_either_closes_both(bench: Bench) -> None:
    for of_the_first in (False, True):
        entry = await resent(bench)
        token = entry.open[0].token if of_the_first else entry.attempt.token
        landed = await bench.ledger.record(write(entry, Event.ANSWERED, token=token))
        assert (landed.landed, landed.entry.status, numbers(landed.entry)) == (True, Status.SUCCEEDED, [])


async def test_a_late_no_of_the_first_leaves_the_second_running(bench: Bench) -> None:
    entry = await resent(bench)

    landed = await bench.ledger.record(write(entry, Event.DECLINED, token=entry.open[0].token))

    assert (landed.landed, landed.entry.status, numbers(landed.entry)) == (True, Status.IN_FLIGHT, [2])
    last = await bench.ledger.record(write(entry, Event.TURNED_AWAY))
    assert (last.entry.status, numbers(last.entry)) == (Status.NOT_EXECUTED, [])


async def test_a_no_from_behind_the_key_after_quiet_time_closes_both(bench: Bench) -> None:
    entry = await resent(bench)

    landed = await bench.ledger.record(write(entry, Event.DECLINED, behind_key=True, after_quiet=True))

    assert (landed.entry.status, numbers(landed.entry)) == (Status.REJECTED, [])


async def test_the_lease_of_the_second_attempt_leaves_both_in_doubt(bench: Bench) -> None:
    entry = await resent(bench)
    bench.clock.advance(LEASE + SECOND)

    assert await bench.ledger.expire_leases(10) == 1
    row = await bench.ledger.read(entry.key_hash)
    assert (row.status, numbers(row)) == (Status.AMBIGUOUS, [1, 2])
