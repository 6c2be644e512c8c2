"""What a purchase asks of the providers, as its service puts it on the wire."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Message:
    """One HTTP request to the proxy: POST, JSON."""

    path: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """A call that a purchase makes at one provider, once the steps before it have taken effect."""

    provider: str
    compose: Callable[[str, random.Random], Message]


def charge(order: str, _draw: random.Random) -> Message:
    """One charge, under a key of the caller's own."""
    amount = 500 + int(order.rpartition("-")[2]) % 9500
    body = {"amount": amount, "currency": "EUR", "metadata": {"order_id": order}}
    return _message("/pay/v1/charges", body, {"Idempotency-Key": f"charge-{order}"})


def receipt(order: str, draw: random.Random) -> Message:
    """One email without any key. Its fields come in any order: to the proxy it is the same message."""
    body = {"template": "receipt", "order_id": order, "to": f"{order}@customers.example", "subject": "Your order"}
    fields = list(body.items())
    draw.shuffle(fields)
    return _message("/mail/v3/messages", dict(fields), {})


STEPS: Final = (Step("pay", charge), Step("mail", receipt))
"""In the order of a purchase: nobody is sent a receipt for what was not paid."""


def _message(path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Message:
    return Message(path, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})
