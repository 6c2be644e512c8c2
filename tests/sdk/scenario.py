"""Purchases through the official Python SDK over a network that loses answers, judged by the provider's own store."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import stripe

from tests.sdk.localstripe_process import DECLINED_CARD, GOOD_CARD, LocalStripe
from tests.support.faults import Link, Way

SERVICES: Final = 8
TRIES_MAX: Final = 8
"""How often a service calls under one key before it gives up; the SDK's own retries happen within each call."""

LOST: Final = {Way.UP: 0.1, Way.DOWN: 1 / 3}
SLOW: Final = 0.25
SLOW_SECONDS_MAX: Final = 0.03

IN_DOUBT: Final = frozenset({"urn:dedup-proxy:problem:outcome-unknown", "urn:dedup-proxy:problem:outcome-held"})


class Told(StrEnum):
    """What a service knows in the end."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing that a service wants once: a customer, a charge, a payment, or a charge that the bank declines."""

    kind: str
    number: int

    @property
    def key(self) -> str:
        """Its idempotency key, and its name in the provider's metadata."""
        return f"{self.kind}-{self.number}"


@dataclass(frozen=True, slots=True)
class End:
    """What a service was told of an intent in the end, and the id of what it got."""

    told: Told
    object_id: str | None = None


@dataclass(frozen=True, slots=True)
class Cards:
    """Payment methods at the provider, made directly, before anything is spoiled."""

    good: str
    declined: str

    @classmethod
    def at(cls, provider: LocalStripe) -> Cards:
        """Make them."""
        return cls(provider.card(GOOD_CARD), provider.card(DECLINED_CARD))


def intents(each: int) -> list[Intent]:
    """*each* of every kind, mixed."""
    return [Intent(kind, number) for number in range(each) for kind in ("customer", "charge", "payment", "declined")]


@dataclass(frozen=True, slots=True)
class Unreliable:
    """A toxic: of the requests, some are reset before they came through; of the answers, a third is lost; some are slow."""

    seed: str

    async def spoil(self, pieces: AsyncIterator[bytes], way: Way, link: Link) -> AsyncIterator[bytes]:
        """Draw once for each exchange and way."""
        rng = random.Random(f"{self.seed}:{link.number}:{way}")
        drawn = 0
        async for piece in pieces:
            if link.exchanges > drawn:
                drawn = link.exchanges
                chance = rng.random()
                if chance < LOST[way]:
                    link.reset()
                if chance > 1 - SLOW:
                    await asyncio.sleep(rng.random() * SLOW_SECONDS_MAX)
            yield piece


async def carry_out(wanted: Sequence[Intent], cards: Cards) -> dict[Intent, End]:
    """Services that work off *wanted*, a few at a time, each calling again until it knows or is told that nobody does."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(SERVICES) as services:
        ends = await asyncio.gather(*(loop.run_in_executor(services, _insist, intent, cards) for intent in wanted))
    return dict(zip(wanted, ends, strict=True))


def _insist(intent: Intent, cards: Cards) -> End:
    told = Told.UNKNOWN
    for _ in range(TRIES_MAX):
        try:
            return End(Told.YES, _call(intent, cards))
        except stripe.CardError:
            return End(Told.NO)
        except stripe.StripeError as error:
            headers = {name.lower(): value for name, value in (error.headers or {}).items()}
            told = Told(headers.get("dedup-executed", Told.UNKNOWN))
            if isinstance(error.json_body, Mapping) and error.json_body.get("type") in IN_DOUBT:
                break
    return End(told)


def _call(intent: Intent, cards: Cards) -> str:
    """One call of the SDK; the id of the object that it returned."""
    metadata = {"intent": intent.key}
    if intent.kind == "customer":
        return stripe.Customer.create(name=intent.key, metadata=metadata, idempotency_key=intent.key).id
    if intent.kind == "payment":
        return stripe.PaymentIntent.create(
            amount=1000 + intent.number,
            currency="eur",
            payment_method=cards.good,
            confirm=True,
            metadata=metadata,
            idempotency_key=intent.key,
        ).id
    return stripe.Charge.create(
        amount=1000 + intent.number,
        currency="eur",
        source=cards.good if intent.kind == "charge" else cards.declined,
        metadata=metadata,
        idempotency_key=intent.key,
    ).id


def effects(provider: LocalStripe) -> dict[str, list[str]]:
    """What the provider holds: ids by the intent's key. Of charges, those that moved money."""
    found: dict[str, list[str]] = defaultdict(list)
    for kind in ("customers", "payment_intents"):
        for item in provider.list(kind):
            found[item["metadata"]["intent"]].append(item["id"])
    for charge in provider.list("charges"):
        if charge["status"] == "succeeded" and charge["payment_intent"] is None:
            found[charge["metadata"]["intent"]].append(charge["id"])
    return found


def duplicates(provider: LocalStripe) -> dict[str, list[str]]:
    """Intents that the provider holds more than once."""
    return {key: ids for key, ids in effects(provider).items() if len(ids) > 1}


def lies(ends: Mapping[Intent, End], provider: LocalStripe) -> list[str]:
    """What services were told that the provider's store contradicts, as sentences."""
    found = effects(provider)
    return [
        f"{intent.key}: told {end.told} ({end.object_id}), the provider holds {found[intent.key]}"
        for intent, end in ends.items()
        if not _is_true(end, found[intent.key])
    ]


def _is_true(end: End, held: Sequence[str]) -> bool:
    if end.told is Told.YES:
        return len(held) == 1 and end.object_id in (held[0], None)
    return not held if end.told is Told.NO else len(held) <= 1
