"""localstripe, a stateful Stripe server that somebody else wrote, as a process of its own.

It keeps no idempotency keys: a request that comes twice takes effect twice. Its store is what the tests believe. Only
its writing of every change to a file in ``/tmp`` is switched off, so that two runs on one machine don't share a state.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[2]
API_KEY = "sk_test_localstripe"
PAGE = 10_000
"""More than any test makes, so that one page of a listing is all of it."""

GOOD_CARD = "4242424242424242"
DECLINED_CARD = "4000000000000341"
"""Can be attached; each charge of it is refused with a 402."""


@dataclass(frozen=True, slots=True)
class LocalStripe:
    """A handle on the process: its address, and what its store holds, asked directly."""

    port: int

    def list(self, kind: str) -> list[dict[str, Any]]:
        """Every object of a kind (``customers``, ``charges``, ...)."""
        answer = self._call("GET", f"/v1/{kind}?limit={PAGE}")
        assert not answer["has_more"]
        found: list[dict[str, Any]] = answer["data"]
        return found

    def card(self, number: str) -> str:
        """The id of a new payment method."""
        fields = {"number": number, "exp_month": "12", "exp_year": "2030", "cvc": "123"}
        form = {"type": "card", **{f"card[{name}]": value for name, value in fields.items()}}
        return str(self._call("POST", "/v1/payment_methods", form)["id"])

    def _call(self, method: str, target: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/x-www-form-urlencoded"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, target, urlencode(form) if form else None, headers)
            response = connection.getresponse()
            document: dict[str, Any] = json.loads(response.read())
            assert response.status == 200, document
            return document


@contextlib.contextmanager
def localstripe() -> Iterator[LocalStripe]:
    """A running, empty localstripe."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.sdk.localstripe_process"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"localstripe did not start: {' '.join(command)}")
            yield LocalStripe(int(line))
        finally:
            process.terminate()
            process.wait(timeout=10)


def main() -> None:
    """Serve on a free port; print it as soon as it is bound."""
    from aiohttp import web
    from localstripe.resources import Store
    from localstripe.server import app

    Store.dump_to_disk = lambda self: None
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    web.run_app(app, sock=listener, access_log=None, print=None)


if __name__ == "__main__":
    main()
