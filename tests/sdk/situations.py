"""Each of the proxy's own answers that an SDK's caller can meet: how it comes about, and what the SDKs are to make of it.

The table in ``docs/sdk.md`` is written from this one (``python -m tests.sdk.situations``); the tests measure whether it
is true.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "sdk.md"
BEGIN, END = "<!-- what the SDKs raise: begin -->\n", "<!-- what the SDKs raise: end -->"

RETRIES = 2
"""How often both SDKs try again where retries are on: the default of the Python module and of stripe-node."""


class Before(Enum):
    """What happens before the call that is looked at."""

    NOTHING = "nothing"
    SAME = "the same call was answered"
    OTHER = "another call under the same key was answered"
    RUNS = "the same call is running"
    OTHER_RUNS = "another call of this provider is running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """``error`` is what both SDKs raise, by its name in Python; Node's has ``Stripe`` before it.

    ``provider`` is a name in the configuration of :mod:`tests.sdk.bench`, ``proxy`` says which proxy is asked.
    """

    slug: str
    when: str
    status: int
    executed: str
    is_retryable: bool
    error: str
    call: str = "create customer"
    provider: str = "stripe"
    proxy: str = "open"
    before: Before = Before.NOTHING
    behave: str = "ok"
    params: dict[str, str] = field(default_factory=dict)
    path: str = "/v1/customers"
    key_suffix: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    reason: str = ""  # where it is finer than the slug

    @property
    def code(self) -> str:
        """What the error's ``code`` says."""
        return self.reason or self.slug

    @property
    def requests(self) -> int:
        """How many requests an SDK makes that may try again."""
        return 1 + RETRIES if self.is_retryable else 1


SITUATIONS = (
    Situation(
        slug="key-missing",
        when="the rule wants a key and the SDK sends none (it makes keys for POST only)",
        status=400,
        executed="no",
        is_retryable=False,
        error="InvalidRequestError",
        call="delete customer",
    ),
    Situation(
        slug="key-invalid",
        when="the key is longer than 255 characters",
        status=400,
        executed="no",
        is_retryable=False,
        error="InvalidRequestError",
        key_suffix="x" * 256,
    ),
    Situation(
        slug="provider-unknown",
        when="the base URL names a provider that isn't configured",
        status=403,
        executed="unknown",
        is_retryable=False,
        error="PermissionError",
        provider="strip",
    ),
    Situation(
        slug="caller-unknown",
        when="callers are configured and the SDK sends no `Dedup-Token`",
        status=401,
        executed="unknown",
        is_retryable=False,
        error="AuthenticationError",
        proxy="guarded",
    ),
    Situation(
        slug="in-progress",
        when="the same call is still running after the wait",
        status=409,
        executed="unknown",
        is_retryable=True,
        error="APIError",
        provider="slow",
        before=Before.RUNS,
    ),
    Situation(
        slug="outcome-unknown",
        when="the answer was lost, for the call that was sent",
        status=504,
        executed="unknown",
        is_retryable=True,
        error="APIError",
        provider="lockless",
        behave="effect,drop",
    ),
    Situation(
        slug="outcome-unknown",
        when="the answer was lost, for a call that comes again",
        status=409,
        executed="unknown",
        is_retryable=True,
        error="APIError",
        provider="lockless",
        behave="effect,drop",
        before=Before.SAME,
    ),
    Situation(
        slug="outcome-held",
        reason="nothing-can-tell",
        when="the answer was lost and nothing can tell, for the call that was sent",
        status=504,
        executed="unknown",
        is_retryable=False,
        error="APIError",
        call="create refund",
        behave="effect,drop",
    ),
    Situation(
        slug="outcome-held",
        reason="nothing-can-tell",
        when="the answer was lost and nothing can tell, for a call that comes again",
        status=409,
        executed="unknown",
        is_retryable=False,
        error="APIError",
        call="create refund",
        behave="effect,drop",
        before=Before.SAME,
    ),
    Situation(
        slug="key-reused",
        when="the key was used for another call",
        status=422,
        executed="unknown",
        is_retryable=False,
        error="APIError",
        before=Before.OTHER,
    ),
    Situation(
        slug="answer-not-stored",
        when="the call took effect and its answer was not kept",
        status=409,
        executed="yes",
        is_retryable=False,
        error="APIError",
        call="create payout",
        before=Before.SAME,
    ),
    Situation(
        slug="request-too-large",
        when="the body is larger than `server.max_request_body`",
        status=413,
        executed="unknown",
        is_retryable=False,
        error="APIError",
        params={"description": "x" * 70_000},
    ),
    Situation(
        slug="provider-unreachable",
        when="the provider refuses the connection",
        status=502,
        executed="no",
        is_retryable=True,
        error="APIError",
        provider="gone",
    ),
    Situation(
        slug="provider-unreachable",
        when="the same for a read, which passes without deduplication",
        status=502,
        executed="unknown",
        is_retryable=True,
        error="APIError",
        call="retrieve customer",
        provider="gone",
    ),
    Situation(
        slug="provider-busy",
        when="all places of the provider are taken",
        status=503,
        executed="no",
        is_retryable=True,
        error="APIError",
        provider="busy",
        before=Before.OTHER_RUNS,
    ),
    Situation(
        slug="ledger-unavailable",
        when="the ledger's file was moved away",
        status=503,
        executed="unknown",
        is_retryable=True,
        error="APIError",
        proxy="ledgerless",
    ),
    Situation(
        slug="signature-would-break",
        when="the request is signed for AWS and comes by path prefix",
        status=400,
        executed="unknown",
        is_retryable=False,
        error="InvalidRequestError",
        call="raw post",
        path="/v1/customers?X-Amz-SignedHeaders=host&X-Amz-Signature=00",
    ),
    Situation(
        slug="origin-refused",
        when="a browser on another site sent it",
        status=403,
        executed="unknown",
        is_retryable=False,
        error="PermissionError",
        call="raw post",
        headers={"Origin": "https://elsewhere.example"},
    ),
    Situation(
        slug="draining",
        when="the proxy is shutting down, on a connection that was open",
        status=503,
        executed="unknown",
        is_retryable=True,
        error="APIError",
        proxy="draining",
    ),
)


def table() -> str:
    """The situations as Markdown."""
    lines = [
        "| problem | when | status | Python raises | Node raises | `Dedup-Executed` | retried by the SDK |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in SITUATIONS:
        retried = "yes" if each.is_retryable else "no"
        lines.append(
            f"| `{each.slug}` | {each.when} | {each.status} | `{each.error}` | `Stripe{each.error}` "
            f"| {each.executed} | {retried} |"
        )
    return "\n".join(lines) + "\n"


def page_with_table(text: str) -> str:
    """*text* with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text()))
