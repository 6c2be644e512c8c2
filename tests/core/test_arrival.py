"""A request read by its rule."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.core.arrival import Prepared, Refused, Secrets, Unkeyed, prepare
from proxy.core.documents import request_document
from proxy.core.expressions import compile_expression
from proxy.core.keys import KeyAlternative, KeyRule
from proxy.core.model import Request
from proxy.core.policy import Operation, Provider
from proxy.core.ports import Route
from proxy.core.reasons import Reason
from tests.core.builders import operation

PROVIDER = Provider(
    id="pay", name="pay", scheme="https", host="pay.example", port=443, base_path="/v1",
    route=Route("https", "pay.example", 443, "pay.example", 443), unmatched="refuse",
)  # fmt: skip
SECRETS = Secrets(b"k" * 32, b"f" * 32)


def read(
    rule: Operation, body: bytes = b'{"order": 7}', *, caller: str = "shop", target: str = "/charges", **headers: str
) -> Prepared | Unkeyed | Refused:
    lines = (
        (b"Content-Type", b"application/json"),
        *((n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()),
    )
    request = Request("POST", "", target, lines, body, caller)
    return prepare(PROVIDER, rule, request_document(request, fingerprint=None), SECRETS)


def prepared(rule: Operation, body: bytes = b'{"order": 7}', **how: Any) -> Prepared:
    found = read(rule, body, **how)
    assert isinstance(found, Prepared)
    return found


def computed(*parts: str, required: bool = True) -> Operation:
    alternative = KeyAlternative(
        tuple(map(compile_expression, parts)), given=False, header=None, text=" + ".join(parts)
    )
    return operation(key=KeyRule((alternative,), required=required, window_us=None))


def test_a_key_may_be_made_of_the_fingerprint() -> None:
    rule = computed("fingerprint")
    one, same, other = prepared(rule), prepared(rule, b'{ "order":7 }'), prepared(rule, b'{"order": 8}')

    assert one.key_hash == same.key_hash
    assert one.key_hash != other.key_hash


def test_a_missing_key_is_refused_where_it_is_required_and_told_why() -> None:
    refused = read(computed("body.order"), b'{"order": ')

    assert isinstance(refused, Refused)
    assert refused.reason is Reason.KEY_MISSING
    assert "body.order" in refused.detail
    assert "could not be read" in refused.detail
    assert isinstance(read(computed("body.order", required=False), b"{}"), Unkeyed)


@pytest.mark.parametrize("key", ["", "a,b", "a b", "x" * 256, '"open'])
def test_a_key_that_is_no_key_is_refused(key: str) -> None:
    refused = read(operation(), idempotency_key=key)

    assert isinstance(refused, Refused)
    assert refused.reason is Reason.KEY_INVALID


def test_quoted_and_bare_are_the_same_key() -> None:
    assert (
        prepared(operation(), idempotency_key='"k1"').key_hash == prepared(operation(), idempotency_key="k1").key_hash
    )


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ({"caller": "till"}, {}),
        ({"idempotency_key": "k2"}, {}),
        ({"x_account": "acct_2"}, {"scope": (compile_expression('headers."x-account"'),)}),
        ({"target": "/refunds"}, {"path_in_identity": True}),
    ],
)
def test_whatever_is_part_of_the_identity_keeps_two_calls_apart(how: dict[str, str], rule: dict[str, Any]) -> None:
    plain = {"idempotency_key": "k1", "x_account": "acct_1"}
    one, other = prepared(operation(**rule), **plain), prepared(operation(**rule), **{**plain, **how})

    assert one.key_hash != other.key_hash


def test_an_account_that_no_scope_names_does_not() -> None:
    one, other = (prepared(operation(), idempotency_key="k1", x_account=account) for account in ("a", "b"))

    assert one.key_hash == other.key_hash


def test_another_credential_is_told_and_kept_only_as_a_digest() -> None:
    rule = operation(credential=compile_expression("headers.authorization"))
    one, other, none = (
        prepared(rule, idempotency_key="k1", **how)
        for how in ({"authorization": "Bearer s1"}, {"authorization": "Bearer s2"}, {})
    )

    assert one.key_hash == other.key_hash == none.key_hash
    assert len({one.credential, other.credential, none.credential}) == 3
    assert none.credential is None
    assert "s1" not in str(one.credential)


def test_a_scope_that_is_absent_is_not_the_same_as_one_that_is_there() -> None:
    rule = operation(scope=(compile_expression("headers.a"), compile_expression("headers.b")))
    only_a, only_b = prepared(rule, idempotency_key="k", a="x"), prepared(rule, idempotency_key="k", b="x")

    assert only_a.key_hash != only_b.key_hash


@pytest.mark.parametrize("body", [b'{"s": "\\ud800"}', b'{"s": ["\\udfff"]}', b'{"s": {"\\ud800": 1}}'])
def test_half_a_surrogate_pair_in_a_scope_can_be_kept(body: bytes) -> None:
    found = prepared(operation(scope=(compile_expression("body.s"),)), body, idempotency_key="k1")

    assert found.identity.scope[0].encode().decode() == found.identity.scope[0]


def test_half_a_surrogate_pair_is_not_its_own_escape() -> None:
    rule = operation(scope=(compile_expression("body.s"),))
    half, spelled = (
        prepared(rule, body, idempotency_key="k1") for body in (b'{"s": "\\ud800"}', b'{"s": "\\\\ud800"}')
    )

    assert half.key_hash != spelled.key_hash


def test_one_path_is_one_identity_however_it_is_spelled() -> None:
    rule = operation(path_in_identity=True)
    one, other = (prepared(rule, idempotency_key="k1", target=target) for target in ("/unm", "/%75nm"))

    assert one.key_hash == other.key_hash
