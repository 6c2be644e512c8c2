"""Whatever problem the proxy has words for, with or without a provider's rules: no SDK takes it for a success.

The situations of ``test_errors.py`` are those that a caller can be brought into; here every reason is rendered by the
server's own code, and so are those that come before the provider is known.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from proxy.config import load
from proxy.core.policy import Provider
from proxy.core.problems import PROBLEMS
from proxy.core.reasons import Reason
from proxy.exchange.told import Facts, Problem
from proxy.server.framing import frame
from proxy.server.problems import render
from tests.sdk.sdks import Heard, NodeSdk, Order, PythonSdk, Sdk
from tests.support.wire import read_body, read_head

DETAIL = "Nothing was sent to anybody. Do the same again tomorrow."
PATHS = {"v1": "/v1/customers", "v2": "/v2/core/accounts"}


@pytest.fixture
def provider(tmp_path: Path) -> Provider:
    """The preset, compiled."""
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"version": 1, "providers": {"stripe": {"preset": "stripe"}}}))
    return load(file).providers["stripe"]


@contextlib.asynccontextmanager
async def problem_server(provider: Provider | None, seen: Counter[str] | None = None) -> AsyncIterator[int]:
    """Answers ``/REASON/...`` with that problem; gives its port. *seen* counts requests by reason."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            head = await read_head(reader, b"")
            await read_body(reader, head)
            reason = Reason(head.path.split("/")[1])
            if seen is not None:
                seen[reason] += 1
            facts = Facts(reason=reason, sent=False)
            retry_after = 1.0 if PROBLEMS[reason].is_retryable else None
            problem = Problem(facts=facts, reason=reason, detail=DETAIL, retry_after=retry_after)
            answer = render(problem, provider=provider, request_id="r1")
            framed = frame(answer, method=head.method, is_http_10=False, keep_alive=False)
            assert isinstance(framed.body, bytes)
            writer.write(framed.head + framed.body)
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def meet_all(port: int, node: NodeSdk) -> dict[tuple[Reason, str, str], Heard]:
    """Every problem, both APIs, both SDKs."""
    sdks: tuple[Sdk, ...] = (PythonSdk(), node)
    cases = [(reason, sdk, api) for reason in PROBLEMS for sdk in sdks for api in PATHS]
    heard = await asyncio.gather(
        *(
            sdk.carry_out(
                Order(call="raw post", base=f"http://127.0.0.1:{port}/{reason.value}", path=PATHS[api], retries=0)
            )
            for reason, sdk, api in cases
        )
    )
    return {(reason, sdk.name, api): said for (reason, sdk, api), said in zip(cases, heard, strict=True)}


@pytest.mark.parametrize("is_provider_known", [True, False], ids=["with the preset", "before the provider is known"])
async def test_every_problem_raises_an_sdk_error_with_our_words(
    node: NodeSdk, provider: Provider, is_provider_known: bool
) -> None:
    async with problem_server(provider if is_provider_known else None) as port:
        heard = await meet_all(port, node)

    taken_for_success = [case for case, said in heard.items() if said.raised is None]
    without_our_words = [case for case, said in heard.items() if said.raised and DETAIL not in said.message]
    assert (taken_for_success, without_our_words) == ([], [])
    assert all(said.is_sdk_error for said in heard.values())
    assert {case[0]: said.code for case, said in heard.items()} == {reason: reason.value for reason in PROBLEMS}


async def test_without_the_presets_answers_the_node_sdk_takes_problems_for_successes(
    node: NodeSdk, provider: Provider
) -> None:
    """The preset's ``answers`` are there for a reason; if this fails, the SDK has learned, and they may be dropped."""
    bare = replace(provider, answers=type(provider.answers)())
    async with problem_server(bare) as port:
        heard = await meet_all(port, node)

    assert {sdk for (_, sdk, _), said in heard.items() if said.raised is None} == {"node"}


async def test_by_default_the_python_client_object_does_not_try_again_and_node_does(
    node: NodeSdk, provider: Provider
) -> None:
    seen: Counter[str] = Counter()
    async with problem_server(provider, seen) as port:
        for sdk, reason in ((PythonSdk(), Reason.DRAINING), (node, Reason.PROVIDER_BUSY)):
            await sdk.carry_out(Order(call="create customer", base=f"http://127.0.0.1:{port}/{reason.value}"))

    assert seen == {Reason.DRAINING: 1, Reason.PROVIDER_BUSY: 3}
