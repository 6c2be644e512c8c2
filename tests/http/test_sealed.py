"""A proxy whose ledger is sealed, and one that has lost an old key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.http.kit import ask, policy, provider, proxying, request
from tests.support.raw_server import Peer, RawServer

OLD, NEW = bytes(32), bytes(range(32))


async def test_without_the_key_of_an_answer_its_duplicates_get_answer_not_stored_and_nothing_is_sent(
    tmp_path: Path,
) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")

    with RawServer(script) as server:
        rules = policy(provider(server.port))
        told = []
        for keys in ((OLD,), (NEW, OLD), (NEW,), (NEW,)):
            sealed = replace(rules, ledger=replace(rules.ledger, encryption_keys=keys))
            async with proxying(sealed, tmp_path) as running:
                answers = [await ask(running.port, request()) for _ in range(2)]
                told.append([(each.status, each.get("Dedup-Executed"), each.get("Dedup-Sent")) for each in answers])
                assert len(running.said("stored_answer.unreadable")) == (1 if keys == (NEW,) else 0)
        assert server.connections == 1
    assert told[0] == [(200, "yes", "yes"), (200, "yes", "no")]
    assert told[1] == [(200, "yes", "no")] * 2
    assert told[2:] == [[(409, "yes", "no")] * 2] * 2
