"""A real ledger beside a dictionary that knows nothing but the state machine.

The model is as simple as can be said: a claim or an outcome lands if :mod:`proxy.core.states` allows it on the row as it is,
and then the row is what that says. Whatever sequence Hypothesis thinks of, the ledger must answer the same and hold the
same. Times are compared where the clock is ours (SQLite); on PostgreSQL each row's times are taken from the ledger, and the clock
is turned in hours, so that what is over is over on both sides.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from proxy.core.model import FINAL, Entry, KeyHash, Status, StoredAnswer, Token
from proxy.core.ports import Claim, Landed
from proxy.core.states import SENDS, TABLE, Event, IllegalTransition, apply
from proxy.ledger import SqlLedger, open_ledger, upgrade
from proxy.ledger.guard import ORDINARY
from tests.contract.ledgers import (
    HOUR,
    LEASE,
    QUIET,
    TurnedClock,
    answer,
    claim,
    next_generation,
    reclaim,
    write,
)

WINDOW = 24 * HOUR
KEYS = [KeyHash(f"{number:032x}") for number in range(3)]
EVENTS = sorted(set(Event) - SENDS)


@dataclass
class Model:
    """Rows by key, oldest generation first; tokens of all attempts that each row ever had."""

    rows: dict[KeyHash, list[Entry]] = field(default_factory=dict)
    tokens: dict[tuple[KeyHash, int], set[Token]] = field(default_factory=dict)

    def latest(self, key_hash: KeyHash) -> Entry | None:
        found = self.rows.get(key_hash)
        return found[-1] if found else None

    def put(self, entry: Entry) -> None:
        rows = self.rows.setdefault(entry.key_hash, [])
        if rows and rows[-1].generation >= entry.generation:
            rows[entry.generation - 1] = entry
        else:
            rows.append(entry)
        self.tokens.setdefault((entry.key_hash, entry.generation), set()).add(entry.attempt.token)

    def everything(self) -> list[Entry]:
        return [row for rows in self.rows.values() for row in rows]

    def may_claim(self, wish: Claim, now: int) -> bool:
        latest, draft = self.latest(wish.entry.key_hash), wish.entry
        if latest is None or wish.after is None:
            return latest is None and wish.after is None
        if latest.attempt.token != wish.after:
            return False
        if draft.attempt.number > 1:
            return latest.generation == draft.generation and latest.status is Status.NOT_EXECUTED and not latest.open
        is_over = wish.window_us is not None and latest.last_request_at + wish.window_us <= now
        return latest.generation + 1 == draft.generation and latest.status in FINAL and is_over


class LedgerMachine(RuleBasedStateMachine):
    """Steps of any order on a few keys, alone and at once."""

    url = ""
    exact = True  # the ledger goes by our clock

    claims = Bundle("claims")  # every attempt that was ever wished for, landed or not

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = TurnedClock()
        self.model = Model()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @initialize()
    def open(self) -> None:
        self.run(self.empty())
        self.ledger: SqlLedger = self.run(open_ledger(self.url, self.clock, clock_offset=self.clock.offset))

    async def empty(self) -> None:
        """Forget what the example before left behind."""
        raise NotImplementedError

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.run(self.ledger.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    # -- claims

    @rule(target=claims, key_hash=st.sampled_from(KEYS), fingerprint=st.sampled_from(["1:aa", "1:bb"]))
    def claim_first(self, key_hash: KeyHash, fingerprint: str) -> Claim:
        return self._claim(claim(key_hash, fingerprint=fingerprint))

    @rule(target=claims, before=claims, outgoing_key=st.sampled_from([None, "out-1", "out-2"]))
    def claim_next_attempt(self, before: Claim, outgoing_key: str | None) -> Claim:
        """Decided on an attempt that may be long past."""
        latest = self.model.latest(before.entry.key_hash) or before.entry
        decided_on = replace(
            latest, generation=before.entry.generation, attempt=before.entry.attempt, status=Status.NOT_EXECUTED, open=(),
            outgoing_key=outgoing_key,
        )  # fmt: skip
        return self._claim(reclaim(decided_on))

    @rule(target=claims, before=claims)
    def claim_next_generation(self, before: Claim) -> Claim:
        return self._claim(next_generation(before.entry, WINDOW))

    @rule(before=claims)
    def claim_again(self, before: Claim) -> None:
        """The very same claim, as after a lost acknowledgement."""
        landed = self.run(self.ledger.claim(before))
        latest = self.model.latest(before.entry.key_hash)
        is_own = (
            latest is not None
            and latest.attempt.token == before.entry.attempt.token
            and latest.generation == before.entry.generation
            and latest.status is Status.IN_FLIGHT
        )
        if not is_own and self._lands(before, landed):  # it had not landed then, and does now
            return
        assert landed.landed is is_own
        assert landed.entry == latest

    @rule(target=claims, key_hash=st.sampled_from(KEYS), count=st.integers(2, 5))
    def claim_at_once(self, key_hash: KeyHash, count: int) -> Any:
        wishes = [claim(key_hash) for _ in range(count)]
        landed = self.run(_all(self.ledger.claim(wish) for wish in wishes))
        is_free = self.model.latest(key_hash) is None
        assert sum(one.landed for one in landed) == int(is_free)
        for wish, one in zip(wishes, landed, strict=True):
            if one.landed:
                assert self._lands(wish, one)
        assert {one.entry for one in landed} == {self.model.latest(key_hash)}
        return multiple(*wishes)

    def _claim(self, wish: Claim) -> Claim:
        landed = self.run(self.ledger.claim(wish))
        if not self._lands(wish, landed):
            assert not landed.landed
            assert landed.entry == self.model.latest(wish.entry.key_hash)
        return wish

    def _lands(self, wish: Claim, landed: Landed) -> bool:
        """Whether the model lets *wish* land; then it must have landed, as drafted and with the ledger's times."""
        now = self.ledger.now() if self.exact else (landed.entry.updated_at if landed.entry else 0)
        if not self.model.may_claim(wish, max(now, self.ledger.now())):
            return False
        before = self.model.latest(wish.entry.key_hash) if wish.entry.attempt.number > 1 else None
        keeps = before is not None and before.outgoing_key == wish.entry.outgoing_key
        attempt = replace(wish.entry.attempt, claimed_at=now, quiet_at=now + QUIET)
        expected = replace(
            wish.entry, attempt=attempt, open=(attempt,), lease_until=now + LEASE, updated_at=now, last_request_at=now,
            created_at=before.created_at if before else now, first_sent_at=before.first_sent_at if before and keeps else now,
        )  # fmt: skip
        assert landed == Landed(True, expected)
        self.model.put(expected)
        return True

    # -- evidence

    @rule(about=claims, event=st.sampled_from(EVENTS), other=claims, mixed=st.booleans(), data=st.data())
    def record(self, about: Claim, event: Event, other: Claim, mixed: bool, data: st.DataObject) -> None:
        """Any event, about any attempt that was ever wished for, sometimes under another entry's name."""
        row = self._row(other if mixed else about)
        self._record(row, event, about.entry.attempt.token, data)

    @rule(key_hash=st.sampled_from(KEYS), event=st.sampled_from(sorted(ORDINARY)), data=st.data())
    def record_outcome(self, key_hash: KeyHash, event: Event, data: st.DataObject) -> None:
        """What usually happens: the outcome of the latest attempt."""
        row = self.model.latest(key_hash)
        if row is not None:
            self._record(row, event, row.attempt.token, data)

    def _row(self, wish: Claim) -> Entry:
        rows = self.model.rows.get(wish.entry.key_hash, [])
        found = [row for row in rows if row.generation == wish.entry.generation]
        return found[0] if found else wish.entry

    def _record(self, row: Entry, event: Event, token: Token, data: st.DataObject) -> None:
        fields = data.draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "behind_key": st.booleans(), "after_quiet": st.booleans(), "stores_failure": st.booleans(),
                    "upstream_status": st.sampled_from([200, 429]), "retry_at": st.just(77), "who": st.just("ann"),
                },
            )
        )  # fmt: skip
        number = next((a.number for a in (*row.open, row.attempt) if a.token == token), 1)
        given: StoredAnswer | None = data.draw(st.sampled_from([None, answer(number)]))
        wish = write(row, event, token=token, answer=given, **fields)
        landed: Landed = self.run(self.ledger.record(wish))
        known = [
            one for one in self.model.everything() if (one.key_hash, one.generation) == (row.key_hash, row.generation)
        ]
        if not known:
            assert landed == Landed(False, None)
            return
        (before,) = known
        now = self.ledger.now() if self.exact else landed.entry.updated_at
        past = frozenset(self.model.tokens[row.key_hash, row.generation])
        try:
            after = apply(before, wish.evidence, now=max(now, before.updated_at), past=past)
        except IllegalTransition:
            after = None
        if after is None:
            assert landed.entry == before  # landed or not: a repeated write has
            return
        assert landed.landed
        assert replace(landed.entry, answer=None) == replace(after, answer=None, updated_at=landed.entry.updated_at)
        if self.exact:
            assert landed.entry.updated_at == now
        self._check_answer(before, landed.entry, given, event)
        self.model.put(landed.entry)

    @staticmethod
    def _check_answer(before: Entry, after: Entry, given: StoredAnswer | None, event: Event) -> None:
        is_shown = after.status is not Status.IN_FLIGHT and given is not None and (
            given.attempt == after.attempt.number or after.status in (Status.SUCCEEDED, Status.REJECTED)
        )  # fmt: skip
        if is_shown:
            assert after.answer == given
        elif after.status is not before.status or event is Event.REOPENED:
            assert after.answer is None
        else:
            assert after.answer == before.answer

    # -- time

    @rule(hours=st.sampled_from([1, 12, 30]))
    def time_passes(self, hours: int) -> None:
        self.clock.advance(hours * HOUR)

    @rule(hours=st.sampled_from([-30, -1, 1]))
    def the_clock_is_stepped(self, hours: int) -> None:
        before = self.ledger.now()
        self.clock.step_wall(hours * HOUR)
        assert self.ledger.now() >= before

    @rule(limit=st.integers(1, 3))
    def expire(self, limit: int) -> None:
        count = self.run(self.ledger.expire_leases(limit))
        now = self.ledger.now()
        due = [row for row in self.model.everything() if row.status is Status.IN_FLIGHT and row.lease_until <= now]
        assert count == min(limit, len(due))
        ended = 0
        for row in due:
            found = self.run(self.ledger.read(row.key_hash))
            if found is not None and found.status is Status.AMBIGUOUS:
                after = apply(row, write(row, Event.LEASE_EXPIRED).evidence, now=max(found.updated_at, row.lease_until))
                assert after is not None
                assert found == replace(after, updated_at=found.updated_at)
                self.model.put(found)
                ended += 1
        assert ended == count

    @rule(key_hash=st.sampled_from(KEYS))
    def touch(self, key_hash: KeyHash) -> None:
        row = self.model.latest(key_hash)
        if row is None:
            return
        self.run(self.ledger.touch(key_hash, row.generation))
        found = self.run(self.ledger.read(key_hash))
        assert found == replace(row, last_request_at=found.last_request_at)
        assert found.last_request_at >= row.last_request_at
        if self.exact:
            assert found.last_request_at == self.ledger.now()
        self.model.put(found)

    @precondition(lambda self: bool(self.model.rows))
    @rule()
    def reopen_the_ledger(self) -> None:
        """A restart forgets nothing."""
        self.run(self.ledger.close())
        self.open_again()

    def open_again(self) -> None:
        before = self.clock.offset()
        self.ledger = self.run(open_ledger(self.url, self.clock, clock_offset=self.clock.offset))
        assert self.clock.offset() == before

    @invariant()
    def the_rows_are_the_models(self) -> None:
        if hasattr(self, "ledger"):
            assert self.run(self.ledger.poll(KEYS)) == {key: self.model.latest(key) for key in self.model.rows}


async def _all(work: Iterator[Coroutine[Any, Any, Landed]]) -> list[Landed]:
    return await asyncio.gather(*work)


def test_the_table_has_no_event_that_the_machine_leaves_out():
    assert set(EVENTS) | SENDS == {event for row in TABLE.values() for event in row} | SENDS == set(Event)


@pytest.mark.timeout(900)  # the nightly profile has thousands of examples
def test_the_sqlite_ledger_is_the_state_machine():
    with TemporaryDirectory() as directory:
        empty, path = Path(directory, "empty.db"), Path(directory, "ledger.db")
        asyncio.run(upgrade(f"sqlite:///{empty}"))

        class OnSqlite(LedgerMachine):
            url = f"sqlite:///{path}"

            async def empty(self) -> None:
                shutil.copy(empty, path)

        run_state_machine_as_test(OnSqlite, settings=settings(stateful_step_count=30))


@pytest.mark.timeout(900)
def test_the_postgresql_ledger_is_the_state_machine(postgres_url):
    asyncio.run(upgrade(postgres_url))

    class OnPostgresql(LedgerMachine):
        url = postgres_url
        exact = False

        async def empty(self) -> None:
            connection = await asyncpg.connect(self.url)
            await connection.execute(
                "TRUNCATE entry, answer, history; UPDATE meta SET value = '0' WHERE name = 'clock'"
            )
            await connection.close()

    run_state_machine_as_test(OnPostgresql, settings=settings(stateful_step_count=30))
