"""The sandbox's providers over real sockets: what they do, what they say, and what their effect logs prove."""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

import aiohttp
import pytest

from proxy.demo.effects import read_effects
from proxy.demo.mail import Mail
from proxy.demo.misbehaviour import SHARES, Behaviour, by_seed
from proxy.demo.observations import read_lines
from proxy.demo.pay import Pay
from proxy.demo.provider import Delays, Stage
from proxy.demo.sandbox import Sandbox

QUICK = Delays(serve=0.0, late=0.05, stall=0.2)
PROVIDERS = {
    "pay": (Pay, {"amount": 100, "metadata": {"order_id": "o-1"}}, 201, 402),
    "mail": (Mail, {"template": "receipt", "order_id": "o-1", "to": "a@b.example"}, 202, 422),
}
HAPPENS = {
    Behaviour.SERVE: 1,
    Behaviour.LATE: 1,
    Behaviour.BUSY: 0,
    Behaviour.DECLINE: 0,
    Behaviour.FAIL: 0,
    Behaviour.FAIL_AFTER: 1,
    Behaviour.DROP: 0,
    Behaviour.DROP_AFTER: 1,
    Behaviour.CUT: 1,
    Behaviour.STALL: 1,
}


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


class Stand:
    """One provider on a real port, with its logs."""

    def __init__(self, session, provider, address, directory):
        self._session = session
        self._directory = directory
        self.provider = provider
        self.url = address + provider.path

    async def ask(self, body, *, key=None, seconds=5):
        """Status and body; ``None, name of the failure`` where there is no whole answer."""
        headers = {"Idempotency-Key": key} if key else {}
        limit = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.post(self.url, json=body, headers=headers, timeout=limit) as answer:
                return answer.status, await answer.json(), answer.headers
        except (aiohttp.ClientError, TimeoutError) as problem:
            return None, type(problem).__name__, {}

    def happened(self):
        return [effect.intent for effect in read_effects(self._directory / f"{self.provider.name}.effects.jsonl")]


@asynccontextmanager
async def stand(session, directory, kind, draw, **more):
    provider = kind(Stage(directory, draw, QUICK), **more)
    sandbox = Sandbox([provider])
    addresses = await sandbox.open()
    try:
        yield Stand(session, provider, addresses[provider.name], directory)
    finally:
        await sandbox.close()


def always(behaviour):
    return lambda _intent, _request: behaviour


def then(*behaviours):
    return lambda _intent, request: behaviours[min(request, len(behaviours)) - 1]


@pytest.mark.parametrize("behaviour", Behaviour)
@pytest.mark.parametrize("name", PROVIDERS)
async def test_what_happens_is_what_the_behaviour_says_whatever_is_answered(session, tmp_path, name, behaviour):
    kind, body, done, declined = PROVIDERS[name]
    expected = {
        Behaviour.SERVE: done,
        Behaviour.LATE: done,
        Behaviour.STALL: done,
        Behaviour.BUSY: 429,
        Behaviour.DECLINE: declined,
        Behaviour.FAIL: 500,
        Behaviour.FAIL_AFTER: 500,
    }

    async with stand(session, tmp_path, kind, always(behaviour)) as provider:
        status, _, _ = await provider.ask(body, key="k1")

        assert status == expected.get(behaviour)
        assert provider.happened() == ["o-1"] * HAPPENS[behaviour]


@pytest.mark.parametrize("name", PROVIDERS)
async def test_an_answer_is_cut_after_its_head(session, tmp_path, name):
    kind, body, done, _ = PROVIDERS[name]
    async with (
        stand(session, tmp_path, kind, always(Behaviour.CUT)) as provider,
        session.post(provider.url, json=body) as answer,
    ):
        assert answer.status == done
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_call_that_its_caller_gave_up_happens_all_the_same(session, tmp_path, name):
    kind, body, _, _ = PROVIDERS[name]
    async with stand(session, tmp_path, kind, always(Behaviour.STALL)) as provider:
        status, _, _ = await provider.ask(body, seconds=0.05)
        assert status is None
        assert provider.happened() == []

    assert provider.happened() == ["o-1"]  # closing the sandbox waits for what still runs


async def test_an_effect_is_on_disk_before_it_is_told(session, tmp_path):
    kind, body, _, _ = PROVIDERS["mail"]
    async with stand(session, tmp_path, kind, always(Behaviour.SERVE)) as provider:
        answers = await asyncio.gather(*(provider.ask({**body, "order_id": f"o-{n}"}) for n in range(40)))
        told = {answer["message_id"] for _, answer, _ in answers}
        on_disk = {effect.effect for effect in read_effects(tmp_path / "mail.effects.jsonl")}

    assert len(told) == 40
    assert told == on_disk


async def test_mail_sends_whatever_comes_as_often_as_it_comes(session, tmp_path):
    kind, body, _, _ = PROVIDERS["mail"]
    async with stand(session, tmp_path, kind, always(Behaviour.SERVE)) as provider:
        for _ in range(3):
            await provider.ask(body, key="k1")

        assert provider.happened() == ["o-1"] * 3


ONCE_UNDER_A_KEY = {
    "after a success": (Behaviour.SERVE, 201, 1),
    "after a 500 that did it": (Behaviour.FAIL_AFTER, 201, 1),
    "after a dropped answer": (Behaviour.DROP_AFTER, 201, 1),
    "after a cut answer": (Behaviour.CUT, 201, 1),
    "after a decline": (Behaviour.DECLINE, 402, 0),
    "after a 500 that did nothing": (Behaviour.FAIL, 201, 1),
    "after a 429": (Behaviour.BUSY, 201, 1),
    "after a dropped request": (Behaviour.DROP, 201, 1),
}
REMEMBERED = {Behaviour.SERVE, Behaviour.FAIL_AFTER, Behaviour.DROP_AFTER, Behaviour.CUT, Behaviour.DECLINE}


@pytest.mark.parametrize(("first", "status", "count"), ONCE_UNDER_A_KEY.values(), ids=ONCE_UNDER_A_KEY)
async def test_pay_charges_once_under_one_key(session, tmp_path, first, status, count):
    kind, body, _, _ = PROVIDERS["pay"]
    async with stand(session, tmp_path, kind, then(first, Behaviour.SERVE)) as provider:
        await provider.ask(body, key="k1")
        again = await provider.ask(body, key="k1")

        assert again[0] == status
        assert (again[2].get("Idempotent-Replayed") == "true") == (first in REMEMBERED)
        assert provider.happened() == ["o-1"] * count


async def test_pay_refuses_a_key_with_another_body(session, tmp_path):
    kind, body, _, _ = PROVIDERS["pay"]
    async with stand(session, tmp_path, kind, always(Behaviour.SERVE)) as provider:
        await provider.ask(body, key="k1")
        status, answer, _ = await provider.ask({**body, "amount": 999}, key="k1")

        assert (status, answer["error"]["code"]) == (422, "key_reused")
        assert provider.happened() == ["o-1"]


async def test_pay_refuses_a_key_whose_first_request_still_runs(session, tmp_path):
    kind, body, _, _ = PROVIDERS["pay"]
    async with stand(session, tmp_path, kind, then(Behaviour.STALL, Behaviour.SERVE)) as provider:
        first = asyncio.create_task(provider.ask(body, key="k1"))
        while not provider.provider.requests:
            await asyncio.sleep(0)
        status, answer, _ = await provider.ask(body, key="k1")

        assert (status, answer["error"]["code"]) == (409, "key_in_progress")
        assert (await first)[0] == 201
        assert provider.happened() == ["o-1"]


async def test_pay_forgets_a_key_and_then_charges_again(session, tmp_path):
    kind, body, _, _ = PROVIDERS["pay"]
    async with stand(session, tmp_path, kind, always(Behaviour.SERVE), remembered_seconds=0.0) as provider:
        await provider.ask(body, key="k1")
        await provider.ask(body, key="k1")

        assert provider.happened() == ["o-1", "o-1"]


async def test_pay_charges_two_keys_of_one_intent_twice_and_writes_down_both(session, tmp_path):
    kind, body, _, _ = PROVIDERS["pay"]
    async with stand(session, tmp_path, kind, always(Behaviour.SERVE)) as provider:
        await provider.ask(body, key="k1")
        await provider.ask(body, key="k2")

    assert [effect.native_key for effect in read_effects(tmp_path / "pay.effects.jsonl")] == ["k1", "k2"]
    assert [line["native_key"] for line in read_lines(tmp_path / "pay.requests.jsonl")] == ["k1", "k2"]


def test_a_seed_draws_the_same_for_an_intent_in_every_run_and_in_any_order():
    intents = [(f"run-{n:05d}", request) for n in range(200) for request in (1, 2)]
    one, other = by_seed(7, "pay"), by_seed(7, "pay")

    drawn = {intent: one(*intent) for intent in intents}

    assert drawn == {intent: other(*intent) for intent in reversed(intents)}
    assert [one(f"other-{n:05d}", 1) for n in range(200)] == [one(f"run-{n:05d}", 1) for n in range(200)]
    assert list(drawn.values()) != [by_seed(8, "pay")(*intent) for intent in intents]
    assert list(drawn.values()) != [by_seed(7, "mail")(*intent) for intent in intents]


def test_every_behaviour_is_drawn_about_as_often_as_its_share_says():
    draw = by_seed(7, "pay")
    drawn = Counter(draw(f"run-{n:05d}", 1) for n in range(20_000))

    assert set(drawn) == set(Behaviour)
    for behaviour, share in SHARES.items():
        assert share * 0.7 < drawn[behaviour] / 20_000 < share * 1.3
    assert drawn[Behaviour.SERVE] / 20_000 > 0.85


def test_a_line_that_its_writer_could_not_finish_is_left_out(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"a": 1}) + "\n" + '{"a": 2')

    assert list(read_lines(log)) == [{"a": 1}]
