"""Each answer of the proxy's own makes both official SDKs raise an error that says what to do; none passes for a success."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping

import pytest

from tests.sdk.bench import Case, Measured, bench, measure
from tests.sdk.sdks import NodeSdk, PythonSdk
from tests.sdk.situations import PAGE, RETRIES, SITUATIONS, Situation, page_with_table

pytestmark = pytest.mark.xdist_group("sdk errors")  # one worker meets all situations, once

SDKS = ("python", "node")
NAMED = {f"{each.slug} {each.status}, {each.when}": each for each in SITUATIONS}


@pytest.fixture(scope="module")
def measured(node: NodeSdk, tmp_path_factory: pytest.TempPathFactory) -> Mapping[Case, Measured]:
    """All situations, met once by both SDKs."""

    async def meet() -> Mapping[Case, Measured]:
        async with bench(tmp_path_factory.mktemp("bench"), node) as world:
            return await measure(world, SITUATIONS, [PythonSdk(), node])

    return asyncio.run(meet())


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("situation", NAMED.values(), ids=NAMED)
def test_a_problem_is_an_error_of_the_sdk(measured: Mapping[Case, Measured], situation: Situation, sdk: str) -> None:
    found = measured[SITUATIONS.index(situation), sdk, 0]
    heard = found.heard

    assert heard.raised == ("" if sdk == "python" else "Stripe") + situation.error
    assert heard.is_sdk_error
    assert (heard.status, heard.code) == (situation.status, situation.code)
    assert heard.headers["dedup-executed"] == situation.executed
    assert [heard.message] == found.details


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("situation", NAMED.values(), ids=NAMED)
def test_an_sdk_without_retries_asks_once(measured: Mapping[Case, Measured], situation: Situation, sdk: str) -> None:
    assert measured[SITUATIONS.index(situation), sdk, 0].requests == 1


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("situation", NAMED.values(), ids=NAMED)
def test_an_sdk_tries_again_exactly_where_that_can_help(
    measured: Mapping[Case, Measured], situation: Situation, sdk: str
) -> None:
    found = measured[SITUATIONS.index(situation), sdk, RETRIES]

    if situation.slug == "draining":  # its first retry reaches a proxy that works
        assert (found.requests, found.heard.raised) == (2, None)
        return
    assert found.requests == (1 + RETRIES if situation.is_retryable else 1)
    assert found.heard.raised == ("" if sdk == "python" else "Stripe") + situation.error


def test_retry_after_stands_exactly_where_the_sdk_tries_again(measured: Mapping[Case, Measured]) -> None:
    said = {
        (situation.slug, sdk): "retry-after" in measured[number, sdk, 0].heard.headers
        for (number, situation), sdk in itertools.product(enumerate(SITUATIONS), SDKS)
    }

    assert said == {(each.slug, sdk): each.is_retryable for each in SITUATIONS for sdk in SDKS}


def test_the_table_in_the_documentation_is_this_one() -> None:
    text = PAGE.read_text()

    assert page_with_table(text) == text, "run: python -m tests.sdk.situations"
