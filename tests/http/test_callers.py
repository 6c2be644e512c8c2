"""Who calls: by token, by network, or anybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.core.policy import Caller
from proxy.server.callers import ANONYMOUS, Callers, may_use
from tests.http.kit import ask, policy, provider, proxying, request
from tests.support.raw_server import RawServer, serve_forever

SHOP = Caller(id="shop", name="shop", tokens=("old", "new"))
DESK = Caller(id="desk", name="desk", tokens=("desk-token",), networks=("10.20.0.0/16", "fd00::/8"))
ROOM = Caller(id="room", name="room", networks=("10.20.30.0/24",))
ALL = (SHOP, DESK, ROOM)

CASES = {
    # tokens sent, peer -> caller
    "a token": (("new",), "1.2.3.4", SHOP),
    "an older token": (("old",), "1.2.3.4", SHOP),
    "another caller's token": (("desk-token",), "1.2.3.4", DESK),
    "a token in blanks": ((" new ",), "1.2.3.4", SHOP),
    "a wrong token": (("wrong",), "1.2.3.4", None),
    "the beginning of a token": (("ne",), "1.2.3.4", None),
    "an empty token": (("",), "1.2.3.4", None),
    "a token in capitals": (("NEW",), "1.2.3.4", None),
    "two tokens": (("new", "new"), "1.2.3.4", None),
    "a wrong token from a known network": (("wrong",), "10.20.0.1", None),
    "a token from another's network": (("new",), "10.20.0.1", SHOP),
    "a network": ((), "10.20.0.1", DESK),
    "a narrower network": ((), "10.20.30.1", ROOM),
    "a network of IPv6": ((), "fd00::1", DESK),
    "IPv4 inside IPv6": ((), "::ffff:10.20.0.1", DESK),
    "no network": ((), "10.21.0.1", None),
    "no address": ((), "", None),
}


@pytest.mark.parametrize(("tokens", "peer", "caller"), CASES.values(), ids=CASES)
def test_a_caller_is_found(tokens: tuple[str, ...], peer: str, caller: Caller | None) -> None:
    headers = tuple((b"Dedup-Token", token.encode()) for token in tokens)
    assert Callers(ALL).identify(headers, peer) is caller


def test_everybody_is_anonymous_where_no_callers_are_configured() -> None:
    assert Callers(()).identify(((b"Dedup-Token", b"x"),), "1.2.3.4") is ANONYMOUS


@pytest.mark.parametrize(("callers", "must"), [((), False), ((SHOP,), True), ((SHOP, DESK), False), ((ROOM,), False)])
def test_callers_prove_who_they_are_only_where_every_way_in_takes_a_token(
    callers: tuple[Caller, ...], must: bool
) -> None:
    assert Callers(callers).must_prove is must


def test_a_caller_uses_the_providers_that_it_may() -> None:
    assert may_use(Caller(id="a", name="a"), "pay")
    assert may_use(Caller(id="a", name="a", providers=("pay",)), "pay")
    assert not may_use(Caller(id="a", name="a", providers=()), "pay")


def test_tokens_are_not_shown() -> None:
    assert "new" not in repr(SHOP)


async def test_keys_of_two_callers_never_meet_and_tokens_stop_here(tmp_path: Path) -> None:
    callers = (Caller(id="a", name="a", tokens=("ta",)), Caller(id="b", name="b", tokens=("tb",)))
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port), callers=callers), tmp_path) as run:
            answers = [await ask(run.port, request(Dedup_Token=token)) for token in ("ta", "tb", "ta", "tb")]
            assert [line["caller"] for line in run.said("request.answered")] == ["a", "b", "a", "b"]
    assert [answer.get("dedup-sent") for answer in answers] == ["yes", "yes", "no", "no"]
    assert len({answer.get("dedup-entry") for answer in answers}) == 2
    assert len(server.requests) == 2
    assert all(each.values(b"dedup-token") == [] for each in server.requests)


async def test_a_refused_caller_is_told_how_to_be_one(tmp_path: Path) -> None:
    async with proxying(policy(provider(1), callers=(SHOP,)), tmp_path) as run:
        answer = await ask(run.port, request(Dedup_Token="wrong"))
    assert (answer.status, answer.get("www-authenticate")) == (401, "Dedup-Token")
    assert b"wrong" not in answer.body
