"""Requests signed with SigV4: passed as they are, or refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.core.policy import Operation, Place
from proxy.server.signatures import signed_names, why_breaks
from tests.http.kit import ask, given_key, native, operation, policy, provider, proxying, request
from tests.support.raw_server import RawServer, serve_forever

SIGNED = "AWS4-HMAC-SHA256 Credential=A/1/us/ses/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=ab"

NAMES = {
    "no authorization": ((), "", None),
    "another scheme": (((b"Authorization", b"Bearer AWS4-HMAC"),), "", None),
    "a signature": (((b"authorization", SIGNED.encode()),), "", frozenset({b"content-type", b"host", b"x-amz-date"})),
    "without blanks": (((b"Authorization", SIGNED.replace(" Signed", "Signed").encode()),), "", frozenset({b"content-type", b"host", b"x-amz-date"})),
    "an elliptic one": (((b"Authorization", b"AWS4-ECDSA-P256-SHA256 SignedHeaders=host, Signature=x"),), "", frozenset({b"host"})),
    "in the query": ((), "a=b&X-Amz-SignedHeaders=host%3Bx-a&X-Amz-Signature=abc", frozenset({b"host", b"x-a"})),
    "in the query, first": ((), "X-Amz-Signature=abc", frozenset()),
    "a parameter that only looks like one": ((), "not-X-Amz-Signature=abc", None),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "query", "names"), NAMES.values(), ids=NAMES)
def test_signed_headers_are_found(
    headers: tuple[tuple[bytes, bytes], ...], query: str, names: frozenset[bytes] | None
) -> None:
    assert signed_names(headers, query) == names


RULES = {
    "nothing is put in": (operation(), frozenset({b"host"}), False),
    "the key's header is signed and would be consumed": (operation(), frozenset({b"host", b"idempotency-key"}), True),
    "a signed key that passes": (operation(key_passes=True), frozenset({b"host", b"idempotency-key"}), False),
    "a native key is put in": (operation(native=native()), frozenset({b"host"}), True),
    "a natural one needs nothing": (operation(native=native(natural=True, place=None)), frozenset({b"host"}), False),
    "a tag is put in": (operation(tag=Place("header", "X-Tag")), frozenset({b"host"}), True),
    "it passes": (None, frozenset({b"host"}), False),
}


@pytest.mark.parametrize(("rule", "signed", "breaks"), RULES.values(), ids=RULES)
def test_a_rule_breaks_a_signature_where_it_changes_the_request(
    rule: Operation | None, signed: frozenset[bytes], breaks: bool
) -> None:
    assert (why_breaks(signed, provider(1), rule) is not None) is breaks
    assert why_breaks(signed, provider(1, auth_headers=((b"Authorization", b"x"),)), rule) is not None


@pytest.mark.parametrize(("path", "method"), [("/charges", "POST"), ("/list", "GET"), ("/other", "POST")])
async def test_by_host_a_signed_request_passes_and_by_prefix_it_is_refused(
    path: str, method: str, tmp_path: Path
) -> None:
    with RawServer(serve_forever) as server:
        base = provider(
            server.port, hosts=("ses.test",), connect_to="http://127.0.0.1", operations=(operation(key=given_key()),)
        )
        async with proxying(policy(replace(base, host="ses.test")), tmp_path) as run:
            by_host = await ask(run.port, request(path, method=method, host="ses.test", Authorization=SIGNED))
            by_prefix = await ask(run.port, request(f"/pay{path}", method=method, Authorization=SIGNED))
    assert by_host.status == 200
    assert (by_prefix.status, by_prefix.get("dedup-reason")) == (400, "signature-would-break")
    assert len(server.requests) == 1
