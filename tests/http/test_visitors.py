"""Host names, and what browsers send for other sites."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.admin.visitors import Authority, is_cross_site, is_loopback, is_own_name, parse_authority
from proxy.core.policy import Caller
from tests.http.kit import ask, policy, provider, proxying, request

AUTHORITIES = {
    "localhost": Authority("localhost"),
    "LocalHost:8080": Authority("localhost", 8080),
    "api.test.": Authority("api.test"),
    "a_b-c.test:1": Authority("a_b-c.test", 1),
    "10.0.0.1:65535": Authority("10.0.0.1", 65535),
    "[::1]": Authority("::1"),
    "[::1]:80": Authority("::1", 80),
    "xn--bcher-kva.test": Authority("xn--bcher-kva.test"),
    "host:": Authority("host"),
    "": None,
    ":80": None,
    "a b": None,
    "a,b": None,
    "u@h": None,
    "h/p": None,
    "h?q": None,
    "h#f": None,
    "h:x": None,
    "h:-1": None,
    "h:65536": None,
    "h:٣": None,
    "b\xfccher.test": None,
    "[::1": None,
    "[::1]x": None,
    "[10.0.0.1]": None,
    "[zz]": None,
    "-a.test": None,
    ".a.test": None,
    "a..": None,
    "h\x00": None,
}


@pytest.mark.parametrize(("text", "authority"), AUTHORITIES.items())
def test_an_authority_is_a_host_and_perhaps_a_port(text: str, authority: Authority | None) -> None:
    assert parse_authority(text) == authority


OWN = {
    "localhost": True, "sub.localhost": True, "127.0.0.1": True, "127.9.9.9": True, "10.0.0.7": True, "::1": True,
    "fd00::1": True, "dedup.internal": True, "": True,
    "evil.test": False, "localhost.evil.test": False, "127.0.0.1.nip.io": False, "xdedup.internal": False,
    "dedup.internal.evil.test": False, "0x7f000001": False,
}  # fmt: skip


@pytest.mark.parametrize(("host", "own"), OWN.items())
def test_own_names_are_local_ones_and_configured_ones(host: str, own: bool) -> None:
    assert is_own_name(host, ("dedup.internal",)) is own


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.2", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("x.test", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


H = (b"Host", b"127.0.0.1:8080")
CROSS = {
    "no browser": ((H,), False),
    "the same origin": ((H, (b"Origin", b"http://127.0.0.1:8080")), False),
    "the same origin over TLS": ((H, (b"Origin", b"https://127.0.0.1:8080")), False),
    "another port": ((H, (b"Origin", b"http://127.0.0.1:9090")), True),
    "another site": ((H, (b"Origin", b"https://evil.test")), True),
    "an opaque origin": ((H, (b"Origin", b"null")), True),
    "an empty origin": ((H, (b"Origin", b"")), True),
    "a second, foreign one": ((H, (b"Origin", b"http://127.0.0.1:8080"), (b"Origin", b"http://evil.test")), True),
    "an origin without a Host": (((b"Origin", b"http://"),), True),
    "fetched cross-site": ((H, (b"Sec-Fetch-Site", b"cross-site")), True),
    "fetched from the same site, another host": ((H, (b"sec-fetch-site", b"same-site")), True),
    "fetched from the same origin": ((H, (b"Sec-Fetch-Site", b"same-origin")), False),
    "typed by a person": ((H, (b"Sec-Fetch-Site", b"none")), False),
    "Node's fetch, which says only its mode": ((H, (b"Sec-Fetch-Mode", b"cors")), False),
}


@pytest.mark.parametrize(("headers", "cross"), CROSS.values(), ids=CROSS)
def test_requests_of_other_sites_are_seen(headers: tuple[tuple[bytes, bytes], ...], cross: bool) -> None:
    assert is_cross_site(headers) is cross


async def test_both_listeners_refuse_them(tmp_path: Path) -> None:
    async with proxying(policy(provider(1)), tmp_path) as run:
        for port, path in ((run.port, "/pay/charges"), (run.admin_port, "/v1/entries")):
            answer = await ask(port, request(path, method="GET", body=None, Origin="https://evil.test"))
            assert (answer.status, answer.json["type"]) == (403, "urn:dedup-proxy:problem:origin-refused")


NAMES = {
    # Host, callers -> the data listener's answer by prefix
    "a rebound name": ("evil.test", (), 403),
    "a rebound name where tokens are required": ("evil.test", (Caller(id="a", name="a", tokens=("t",)),), 502),
    "a rebound name where a network is enough": (
        "evil.test",
        (Caller(id="a", name="a", networks=("127.0.0.0/8",)),),
        403,
    ),
}


@pytest.mark.parametrize(("host", "callers", "status"), NAMES.values(), ids=NAMES)
async def test_the_data_listener_answers_to_its_own_names_only(
    host: str, callers: tuple[Caller, ...], status: int, tmp_path: Path
) -> None:
    async with proxying(policy(provider(1), callers=callers), tmp_path) as run:
        answer = await ask(
            run.port,
            request(
                "/pay/x", method="GET", body=None, host=host, Dedup_Token="t" if callers and callers[0].tokens else "x"
            ),
        )
        if callers and callers[0].networks:
            answer = await ask(run.port, request("/pay/x", method="GET", body=None, host=host))
    assert answer.status == status
