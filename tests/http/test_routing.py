"""Which provider a request means, and what its target is there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.core.arrival import Refused
from proxy.core.model import Headers
from proxy.core.policy import Provider
from proxy.core.reasons import Reason
from proxy.server.routing import Routed, route
from tests.http.kit import policy, provider


def named(name: str, *, host: str, **fields: object) -> Provider:
    """A provider at an https URL."""
    base = provider(443, name=name, hosts=(host,), base_path=fields.pop("base_path", ""), **fields)
    there = replace(base.route, scheme="https", host=host, connect_host=host)
    return replace(base, scheme="https", host=host, route=there)


MAILER = replace(
    named("mailer", host="api.mailer.test", base_path="/v3"),
    hosts=("api.mailer.test", "*.mailer.test", "eu.mailer.test"),
)
LOCAL = provider(9001, name="local", hosts=("127.0.0.1",))
RULES = policy(MAILER, named("pay", host="pay.test"), LOCAL, hosts=("dedup.internal",))


def routed(
    target: str, *, host: str | None = "127.0.0.1:8080", method: str = "POST", any_name: bool = False
) -> Routed | Refused:
    headers: Headers = () if host is None else ((b"Host", host.encode()),)
    return route(RULES, method=method, target=target, headers=headers, any_name=any_name)


FOUND = {
    # target, Host -> provider, host, relative target, by prefix
    "a prefix": ("/mailer/mail/send", "127.0.0.1:8080", "mailer", "api.mailer.test", "/mail/send", True),
    "a prefix, and a query": ("/mailer?x=/pay", "localhost", "mailer", "api.mailer.test", "?x=/pay", True),
    "a prefix alone": ("/mailer", "localhost", "mailer", "api.mailer.test", "", True),
    "a prefix and a slash": ("/mailer/", "localhost", "mailer", "api.mailer.test", "/", True),
    "another provider's name deeper in the path": (
        "/mailer/pay/x",
        "[::1]:8080",
        "mailer",
        "api.mailer.test",
        "/pay/x",
        True,
    ),
    "dots after a prefix": ("/mailer/../pay/x", "10.1.2.3", "mailer", "api.mailer.test", "/../pay/x", True),
    "a configured name of the proxy": ("/pay/x", "Dedup.Internal:8080", "pay", "pay.test", "/x", True),
    "no Host at all, as in HTTP/1.0": ("/pay/x", None, "pay", "pay.test", "/x", True),
    "a subdomain of localhost": ("/pay/x", "proxy.localhost", "pay", "pay.test", "/x", True),
    "a host": ("/x?y", "pay.test", "pay", "pay.test", "/x?y", False),
    "a host with the final dot": ("/x", "pay.test.", "pay", "pay.test", "/x", False),
    "a host wins over a prefix": ("/mailer/x", "pay.test", "pay", "pay.test", "/mailer/x", False),
    "a host and the base path": ("/v3/mail/send", "api.mailer.test", "mailer", "api.mailer.test", "/mail/send", False),
    "the base path alone": ("/v3?a", "api.mailer.test", "mailer", "api.mailer.test", "?a", False),
    "a host by wildcard": ("/v3/mail", "us.mailer.test:443", "mailer", "us.mailer.test", "/mail", False),
    "an absolute target": ("http://pay.test/x", "elsewhere.test", "pay", "pay.test", "/x", False),
    "an absolute target without a path": ("https://pay.test?x", "elsewhere.test", "pay", "pay.test", "?x", False),
    "a prefix on an address that a provider has too": ("/pay/x", "127.0.0.1", "pay", "pay.test", "/x", True),
    "a provider's own address": ("/x", "127.0.0.1", "local", "127.0.0.1", "/x", False),
}


@pytest.mark.parametrize("case", FOUND.values(), ids=FOUND)
def test_found(case: tuple[str, str | None, str, str, str, bool]) -> None:
    target, host, *expected = case
    found = routed(target, host=host)
    assert isinstance(found, Routed)
    assert [found.provider.name, found.host, found.target, found.by_prefix] == expected


REFUSED = {
    "an unknown prefix": ("/nobody/x", "localhost", Reason.PROVIDER_UNKNOWN),
    "a prefix in capitals": ("/PAY/x", "localhost", Reason.PROVIDER_UNKNOWN),
    "an escaped prefix": ("/%70ay/x", "localhost", Reason.PROVIDER_UNKNOWN),
    "two slashes": ("//pay/x", "localhost", Reason.PROVIDER_UNKNOWN),
    "nothing": ("/", "localhost", Reason.PROVIDER_UNKNOWN),
    "the proxy's own paths": ("/.dedup/entries", "localhost", Reason.PROVIDER_UNKNOWN),
    "a foreign Host with a known prefix": ("/pay/x", "evil.test", Reason.PROVIDER_UNKNOWN),
    "a Host that ends like a provider's": ("/x", "evilpay.test", Reason.PROVIDER_UNKNOWN),
    "the bare domain of a wildcard": ("/x", "mailer.test", Reason.PROVIDER_UNKNOWN),
    "a foreign absolute target": ("http://evil.test/pay/x", "localhost", Reason.PROVIDER_UNKNOWN),
    "an absolute target to ourselves": ("http://localhost:8080/pay/x", "localhost", Reason.PROVIDER_UNKNOWN),
    "another scheme": ("ftp://pay.test/x", "localhost", Reason.REQUEST_INVALID),
    "an absolute target with a user": ("http://u@pay.test/x", "localhost", Reason.REQUEST_INVALID),
    "an absolute target without a host": ("http:///x", "localhost", Reason.REQUEST_INVALID),
    "an asterisk": ("*", "pay.test", Reason.REQUEST_INVALID),
    "an authority": ("pay.test:443", "pay.test", Reason.REQUEST_INVALID),
    "a Host with a user": ("/x", "u@pay.test", Reason.REQUEST_INVALID),
    "two Hosts in one": ("/x", "pay.test, evil.test", Reason.REQUEST_INVALID),
}


@pytest.mark.parametrize(("target", "host", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(target: str, host: str, reason: Reason) -> None:
    found = routed(target, host=host)
    assert isinstance(found, Refused)
    assert found.reason is reason


def test_any_name_does_where_callers_prove_who_they_are() -> None:
    assert isinstance(routed("/pay/x", host="dedup.svc.cluster"), Refused)
    assert isinstance(routed("/pay/x", host="dedup.svc.cluster", any_name=True), Routed)


def test_connect_is_refused_even_for_a_host_that_is_owned() -> None:
    found = routed("pay.test:443", host="pay.test:443", method="CONNECT")
    assert isinstance(found, Refused)
    assert found.reason is Reason.PROVIDER_UNKNOWN


def test_connections_go_to_the_host_that_was_asked() -> None:
    found = routed("/v3/mail", host="us.mailer.test")
    assert isinstance(found, Routed)
    there = found.provider.route
    assert (there.host, there.port, there.connect_host, there.connect_port) == (
        "us.mailer.test",
        443,
        "us.mailer.test",
        443,
    )


def test_connect_to_sends_all_of_them_elsewhere() -> None:
    sandboxed = replace(
        MAILER, connect_to="http://127.0.0.1:9", route=replace(MAILER.route, connect_host="127.0.0.1", connect_port=9)
    )
    rules = policy(sandboxed)
    found = route(rules, method="GET", target="/v3/x", headers=((b"Host", b"us.mailer.test"),), any_name=False)
    assert isinstance(found, Routed)
    there = found.provider.route
    assert (there.host, there.connect_host, there.connect_port) == ("us.mailer.test", "127.0.0.1", 9)


BESIDE = ["/v4/mail/send", "/v33/mail", "/", "/V3/mail", "/v3%2Fmail"]


@pytest.mark.parametrize("target", BESIDE)
def test_a_path_beside_the_base_url_keeps_its_whole_target_and_has_no_operations(target: str) -> None:
    found = routed(target, host="api.mailer.test")
    assert isinstance(found, Routed)
    assert (found.target, found.provider.base_path, found.provider.operations) == (target, "", ())
    assert found.provider.unmatched == MAILER.unmatched
