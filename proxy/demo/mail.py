"""The email provider: knows no keys. Whatever reaches it is sent, as often as it comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.demo.misbehaviour import Behaviour
from proxy.demo.provider import Answer, Provider, Reply, Visit, busy


class Mail(Provider):
    """``POST /v3/messages``."""

    name = "mail"
    path = "/v3/messages"

    def intent_of(self, body: Mapping[str, Any]) -> str:
        """The order that the message is about."""
        return str(body["order_id"])

    async def work(self, visit: Visit) -> Reply:
        """Send one message per request."""
        if visit.behaviour is Behaviour.BUSY:
            return busy()

        async def send() -> Answer:
            return Answer(202, {"message_id": await self.record(visit), "to": visit.body["to"]})

        def decline() -> Answer:
            return Answer(422, {"error": {"code": "address_refused"}})

        return await self.misbehave(visit, send, decline=decline)
