"""What all tests share: seeds that are printed, Hypothesis profiles, a real PostgreSQL, fake providers.

Environment: ``TEST_SEED`` fixes chance; ``HYPOTHESIS_PROFILE`` is ``dev`` (default), ``ci`` or ``nightly``;
``TEST_POSTGRES_URL`` and ``TEST_POSTGRES_FROM`` choose the database server (:mod:`tests.support.postgres`).
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.support.postgres import Postgres, own_server, shared_server
from tests.support.provider import Provider, serving
from tests.support.provider_process import ProviderProcess, provider_process

SEED = "TEST_SEED"
RUN_DIRECTORY = "DEDUP_PROXY_TEST_RUN"  # "pid:directory" of the session; workers inherit it

settings.register_profile("dev", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "nightly",
    max_examples=2000,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed and the session's directory once, before workers start; they inherit both."""
    os.environ.setdefault(SEED, str(secrets.randbelow(2**32)))
    if config.getoption("--hypothesis-seed", None) is None:
        config.option.hypothesis_seed = os.environ[SEED]  # its own plugin reads this after us
    if not hasattr(config, "workerinput"):
        directory = tempfile.mkdtemp(prefix="dedup-proxy-tests-")
        os.environ[RUN_DIRECTORY] = f"{os.getpid()}:{directory}"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the session's directory; the database server notices by itself that the session ended."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(RUN_DIRECTORY).partition(":")[2], ignore_errors=True)


def pytest_report_header() -> str:
    """Say how to repeat this run."""
    return f"seed: {SEED}={os.environ[SEED]}, hypothesis profile: {os.environ.get('HYPOTHESIS_PROFILE', 'dev')}"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """A seed for this test: the session's and the test's name, so that one test repeats alone."""
    return f"{os.environ[SEED]}:{request.node.nodeid}"


@pytest.fixture
def rng(seed: str) -> random.Random:
    """Chance for this test."""
    return random.Random(seed)


@pytest.fixture(scope="session")
def postgres() -> Postgres:
    """The session's PostgreSQL server, shared by all workers: make databases in it, don't stop it."""
    pid, _, directory = os.environ[RUN_DIRECTORY].partition(":")
    return shared_server(Path(directory), int(pid))


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh, empty database: ``postgresql://...``."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server of the test's own, to stop and restart."""
    with own_server() as server:
        yield server


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A native fake provider in the test's loop; :func:`tests.support.provider.serving` makes other kinds."""
    async with serving() as running:
        yield running


@pytest.fixture
def outside_provider(tmp_path: Path) -> Iterator[ProviderProcess]:
    """A native fake provider as a process of its own."""
    with provider_process(tmp_path / "effects.jsonl") as running:
        yield running
