"""What the SDK tests share: the SDKs themselves, and a provider that somebody else wrote."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stripe

from tests.sdk.localstripe_process import LocalStripe, localstripe
from tests.sdk.sdks import NodeSdk, node_sdk


@pytest.fixture(scope="session")
def node() -> Iterator[NodeSdk]:
    """The Node SDK; installed on first use, which takes the npm registry."""
    with node_sdk() as sdk:
        yield sdk


@pytest.fixture(autouse=True)
def _quiet_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Telemetry would write a file into the home directory."""
    monkeypatch.setattr(stripe, "enable_telemetry", False)


@pytest.fixture
def strange_stripe() -> Iterator[LocalStripe]:
    """A fresh localstripe."""
    with localstripe() as running:
        yield running
