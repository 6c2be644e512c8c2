"""A provider is somewhere on the public Internet unless its route says otherwise."""

import socket

import pytest

from proxy.core.ports import Phase, SendFailed
from proxy.upstream.addresses import is_public
from tests.support.raw_server import RawServer, serve_forever
from tests.support.upstream_kit import on_each_loop, sending_to

PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]

NOT_PUBLIC = {
    "loopback": "127.0.0.1",
    "elsewhere in loopback": "127.255.0.9",
    "ten": "10.1.2.3",
    "172.16": "172.16.0.1",
    "192.168": "192.168.1.1",
    "link-local, where clouds keep credentials": "169.254.169.254",
    "shared by carriers": "100.64.0.1",
    "this network": "0.0.0.0",
    "elsewhere in this network": "0.1.2.3",
    "multicast": "224.0.0.1",
    "multicast with global scope": "233.252.1.1",
    "broadcast": "255.255.255.255",
    "reserved": "240.0.0.1",
    "documentation": "192.0.2.1",
    "benchmarking": "198.18.0.1",
    "v6 loopback": "::1",
    "v6 unspecified": "::",
    "v6 link-local": "fe80::1",
    "v6 link-local with a zone": "fe80::1%1",
    "v6 unique local": "fd00::1",
    "v6 site-local": "fec0::1",
    "v6 multicast": "ff02::1",
    "v6 multicast with global scope": "ff0e::1",
    "v6 that nobody was given": "4000::1",
    "v6 documentation": "2001:db8::1",
    "mapped loopback": "::ffff:127.0.0.1",
    "mapped link-local": "::ffff:169.254.169.254",
    "loopback behind NAT64": "64:ff9b::7f00:1",
    "private through 6to4": "2002:c0a8:101::1",
}


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address):
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC.values(), ids=NOT_PUBLIC)
def test_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "0.0.0.0", "::ffff:127.0.0.1"]
)
@on_each_loop
async def test_a_private_address_is_not_connected_to(name):
    with RawServer(serve_forever) as server:
        async with sending_to(server.port, connect_host=name, allow_private=False) as sender:
            with pytest.raises(SendFailed) as failed:
                await sender.send()

        assert (failed.value.phase, failed.value.kind, failed.value.sent) == (Phase.ADDRESS, "forbidden", False)
        assert server.connections == 0


@on_each_loop
async def test_a_route_may_allow_private_addresses():
    with RawServer(serve_forever) as server:
        async with sending_to(server.port, connect_host="localhost", allow_private=True) as sender:
            assert await sender.exchange() == (200, b"ok")


@on_each_loop
async def test_of_several_addresses_only_public_ones_are_tried(monkeypatch):
    tried = []

    async def start_connection(infos, **how):
        tried.extend(info[4][0] for info in infos)
        raise ConnectionRefusedError(111, "refused")

    resolved = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in ("10.0.0.1", "8.8.8.8", "127.0.0.1")
    ]

    async def resolve(host, port):
        return resolved

    monkeypatch.setattr("proxy.upstream.connect._resolve", resolve)
    monkeypatch.setattr("aiohappyeyeballs.start_connection", start_connection)
    async with sending_to(443, connect_host="rebinding.test", allow_private=False) as sender:
        with pytest.raises(SendFailed):
            await sender.send()

    assert tried == ["8.8.8.8"]
