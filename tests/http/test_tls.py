"""TLS on the data listener: who gets in, whom a client certificate names, and that ends still tell what they told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.core.policy import Caller, ListenerTls
from proxy.server.callers import Callers
from proxy.server.tls import TlsUnusable, listener_context, names_in
from tests.http.kit import Answer, Running, Talk, ask, policy, provider, proxying, request
from tests.support.certificates import Authority
from tests.support.process import ProxyProcess
from tests.support.raw_server import Peer, RawServer, serve_forever

HOST = "localhost"
SHOP = Caller(id="shop", name="shop", certificates=("shop.internal",))
DESK = Caller(id="desk", name="desk", certificates=("Desk.Internal", "desk2.internal"), tokens=("desk-token",))
ROOM = Caller(id="room", name="room", networks=("127.0.0.0/8",))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of the listener and of its callers."""
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def rules(authority: Authority) -> ListenerTls:
    """A listener that asks for client certificates."""
    pem = authority.issue(HOST)
    return ListenerTls(cert_file=pem, key_file=pem, client_ca_file=authority.ca_file)


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    """A provider that answers everything."""
    with RawServer(serve_forever) as running:
        yield running


def context(authority: Authority, shows: str | None = None) -> ssl.SSLContext:
    """A caller's context, which trusts *authority* and shows the certificate in the file *shows*."""
    made = ssl.create_default_context(cafile=authority.ca_file)
    if shows is not None:
        made.load_cert_chain(shows)
    return made


@contextlib.asynccontextmanager
async def talking(port: int, tls: ssl.SSLContext) -> AsyncIterator[Talk]:
    """A connection over TLS."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=HOST, limit=1 << 20)
    try:
        yield Talk(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def ask_over(port: int, tls: ssl.SSLContext, data: bytes) -> Answer:
    """Send *data* over TLS on a connection of its own, and read the answer."""
    async with talking(port, tls) as talk, asyncio.timeout(10):
        await talk.send(data)
        return await talk.answer(data.split(b" ", 1)[0].decode())


async def is_shut_out(run: Running, tls: ssl.SSLContext) -> bool:
    """Whether the handshake fails; TLS 1.3 lets a caller write its request before it learns that."""
    before = len(run.said("request.answered"))
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await ask_over(run.port, tls, request())
    return len(run.said("request.answered")) == before


async def until(happened: Any) -> None:
    """Wait until *happened* says so."""
    async with asyncio.timeout(5):
        while not happened():
            await asyncio.sleep(0.005)


async def test_requests_come_over_tls(
    authority: Authority, rules: ListenerTls, server: RawServer, tmp_path: Path
) -> None:
    plain = ListenerTls(cert_file=rules.cert_file, key_file=rules.key_file)
    async with (
        proxying(policy(provider(server.port), tls=plain), tmp_path) as run,
        talking(run.port, context(authority)) as talk,
    ):
        answers = []
        for _ in range(2):
            await talk.send(request(body=b'"%s"' % (b"x" * 500_000)))
            answers.append(await talk.answer())
    assert [(a.status, a.get("dedup-sent")) for a in answers] == [(200, "yes"), (200, "no")]


async def test_http_1_1_is_agreed_on(authority: Authority, rules: ListenerTls, tmp_path: Path) -> None:
    tls = context(authority)
    tls.set_alpn_protocols(["h2", "http/1.1"])
    async with (
        proxying(policy(provider(1), callers=(DESK,), tls=rules), tmp_path) as run,
        talking(run.port, tls) as talk,
    ):
        assert talk.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


async def test_plain_http_gets_no_answer(rules: ListenerTls, server: RawServer, tmp_path: Path) -> None:
    before = len(server.requests)
    async with proxying(policy(provider(server.port), tls=rules), tmp_path) as run:
        reader, writer = await asyncio.open_connection("127.0.0.1", run.port)
        writer.write(request())
        try:
            async with asyncio.timeout(5):
                got = await reader.read()
        except ConnectionError:
            got = b""
        writer.close()
        assert (got, run.said("request.answered")) == (b"", [])
        assert (await ask(run.admin_port, request("/healthz", method="GET", body=None))).status == 200  # stays plain
    assert len(server.requests) == before


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_before_1_2_is_refused(authority: Authority, rules: ListenerTls) -> None:
    """With ciphers on both sides that would do for TLS 1.1, and do where the listener is told to allow it."""
    client, listener = context(authority), listener_context(rules, needs_certificate=False)
    for each in (client, listener):
        each.set_ciphers("DEFAULT:@SECLEVEL=0")
    client.minimum_version, client.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="unsupported protocol"):
        shake_hands(client, listener)
    listener.minimum_version = ssl.TLSVersion.TLSv1
    assert shake_hands(client, listener) == "TLSv1.1"


def shake_hands(client: ssl.SSLContext, listener: ssl.SSLContext) -> str | None:
    """The version that the two agree on. Raises what the listener raises."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(back, there, server_hostname=HOST)
    served = listener.wrap_bio(there, back, server_side=True)
    for side in (caller, served) * 3:
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return served.version()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_keys_of_two_certificates_never_meet(
    version: ssl.TLSVersion, authority: Authority, rules: ListenerTls, tmp_path: Path
) -> None:
    contexts = [context(authority, authority.issue(name)) for name in ("shop.internal", "desk.internal")]
    for tls in contexts:
        tls.minimum_version = tls.maximum_version = version
    with RawServer(serve_forever) as server:
        async with proxying(policy(provider(server.port), callers=(SHOP, DESK), tls=rules), tmp_path) as run:
            answers = [await ask_over(run.port, tls, request()) for tls in contexts * 2]
            assert [line["caller"] for line in run.said("request.answered")] == ["shop", "desk"] * 2
    assert [answer.get("dedup-sent") for answer in answers] == ["yes", "yes", "no", "no"]
    assert len({answer.get("dedup-entry") for answer in answers}) == 2
    assert len(server.requests) == 2


ENTRY = {
    # certificate, token -> caller, or None for 401
    "a certificate": ("shop.internal", None, "shop"),
    "a certificate that names nobody": ("nobody.internal", None, None),
    "a token without a certificate": (None, "desk-token", "desk"),
    "neither": (None, None, None),
    "both of one caller": ("desk2.internal", "desk-token", "desk"),
    "a token of one caller, a certificate of another": ("shop.internal", "desk-token", None),
    "a certificate and a wrong token": ("shop.internal", "wrong", None),
}


@pytest.mark.parametrize("case", ENTRY.values(), ids=ENTRY)
async def test_who_is_let_in(
    case: tuple[str | None, str | None, str | None],
    authority: Authority,
    rules: ListenerTls,
    server: RawServer,
    tmp_path: Path,
) -> None:
    name, token, caller = case
    before = len(server.requests)
    tls = context(authority, authority.issue(name) if name else None)
    headers = {"Dedup_Token": token} if token else {}
    async with proxying(policy(provider(server.port), callers=(SHOP, DESK), tls=rules), tmp_path) as run:
        answer = await ask_over(run.port, tls, request(**headers))
        assert run.said("request.answered")[0]["caller"] == caller
    assert answer.status == (200 if caller else 401)
    assert len(server.requests) == before + (caller is not None)
    if caller is None:
        assert (answer.get("dedup-reason"), answer.get("dedup-sent")) == ("caller-unknown", "no")
        assert "client certificate" in answer.json["detail"]


@pytest.mark.parametrize(
    "callers", [(SHOP,), (SHOP, DESK), (ROOM,), ()], ids=["certificates", "tokens", "networks", "none"]
)
async def test_a_certificate_of_another_authority_fails_the_handshake(
    callers: tuple[Caller, ...], authority: Authority, rules: ListenerTls, tmp_path: Path
) -> None:
    """Its names are those of a caller, and its issuer has the right name."""
    stranger = Authority.make(tmp_path).issue("shop.internal")
    async with proxying(policy(provider(1), callers=callers, tls=rules), tmp_path) as run:
        assert await is_shut_out(run, context(authority, stranger))


@pytest.mark.parametrize("callers", [(SHOP,), ()], ids=["certificates", "no callers"])
async def test_without_a_certificate_nobody_enters_where_nothing_else_names_a_caller(
    callers: tuple[Caller, ...], authority: Authority, rules: ListenerTls, server: RawServer, tmp_path: Path
) -> None:
    async with proxying(policy(provider(server.port), callers=callers, tls=rules), tmp_path) as run:
        assert await is_shut_out(run, context(authority))
        shown = context(authority, authority.issue("shop.internal"))
        answer = await ask_over(run.port, shown, request(host="any.name.example"))
    assert answer.status == 200, "callers that had to prove who they are may use any name"


async def test_an_expired_certificate_fails_the_handshake(
    authority: Authority, rules: ListenerTls, tmp_path: Path
) -> None:
    async with proxying(policy(provider(1), callers=(SHOP, DESK), tls=rules), tmp_path) as run:
        assert await is_shut_out(run, context(authority, authority.issue("shop.internal", expired=True)))


async def test_a_certificate_counts_for_nothing_where_none_is_asked_for(
    authority: Authority, rules: ListenerTls, tmp_path: Path
) -> None:
    plain = ListenerTls(cert_file=rules.cert_file, key_file=rules.key_file)
    async with proxying(policy(provider(1), callers=(SHOP,), tls=plain), tmp_path) as run:
        answer = await ask_over(run.port, context(authority, authority.issue("shop.internal")), request())
    assert answer.status == 401


NAMED = {
    # names in the certificate (None: none shown), tokens -> caller
    "letters of either case": (("DESK.internal",), (), DESK),
    "one name of several": (("x.internal", "shop.internal"), (), SHOP),
    "names of two callers": (("shop.internal", "desk.internal"), (), None),
    "names of two callers and the token of one": (("shop.internal", "desk.internal"), ("desk-token",), None),
    "two names of one caller": (("desk.internal", "desk2.internal"), (), DESK),
    "no name at all": ((), (), None),
    "the beginning of a name": (("shop.int",), (), None),
    "a subdomain": (("a.shop.internal",), (), None),
    "a pattern": (("*.internal",), (), None),
    "a letter that only Unicode folds": (("des\u212a.internal",), (), None),
    "a name of nobody beside a token": (("x.internal",), ("desk-token",), DESK),
    "a caller's certificate in another's network": (("shop.internal",), (), SHOP),
    "nobody's certificate in a known network": (("x.internal",), (), None),
    "no certificate in a known network": (None, (), ROOM),
    "two tokens": (("desk.internal",), ("desk-token", "desk-token"), None),
}


@pytest.mark.parametrize(("names", "tokens", "caller"), NAMED.values(), ids=NAMED)
def test_a_certificate_names_a_caller(
    names: tuple[str, ...] | None, tokens: tuple[str, ...], caller: Caller | None
) -> None:
    headers = tuple((b"Dedup-Token", token.encode()) for token in tokens)
    callers = Callers((SHOP, DESK, ROOM), asks_certificates=True)
    assert callers.identify(headers, "127.0.0.1", names) is caller


PROOF = {
    # callers, asked for certificates -> must show one, must prove who they are
    "certificates alone": ((SHOP,), True, True, True),
    "certificates or tokens": ((SHOP, DESK), True, False, True),
    "a network": ((SHOP, ROOM), True, False, False),
    "nobody configured": ((), True, True, True),
    "nobody configured and no authority": ((), False, False, False),
    "nobody asks for them": ((SHOP,), False, False, False),
}


@pytest.mark.parametrize(("callers", "asked", "needs", "must_prove"), PROOF.values(), ids=PROOF)
def test_what_callers_have_to_show(callers: tuple[Caller, ...], asked: bool, needs: bool, must_prove: bool) -> None:
    found = Callers(callers, asks_certificates=asked)
    assert (found.needs_certificate, found.must_prove) == (needs, must_prove)


SUBJECT = ((("organizationName", "Shop"),), (("commonName", "cn.internal"),))
NAMES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "DNS names": ({"subject": SUBJECT, "subjectAltName": (("DNS", "a"), ("DNS", "b"))}, ("a", "b")),
    "the common name": ({"subject": SUBJECT}, ("cn.internal",)),
    "the common name beside other kinds": (
        {"subject": SUBJECT, "subjectAltName": (("IP Address", "10.0.0.1"), ("email", "a@b"))},
        ("cn.internal",),
    ),
    "none": ({"subject": ((("organizationName", "Shop"),),)}, ()),
}


@pytest.mark.parametrize(("certificate", "names"), NAMES.values(), ids=NAMES)
def test_the_names_in_a_certificate(certificate: dict[str, Any], names: tuple[str, ...]) -> None:
    assert names_in(certificate) == names


def unusable(authority: Authority, directory: Path) -> dict[str, tuple[ListenerTls, str]]:
    """Files that no listener can be made of, and what is said about them."""
    good, other = authority.issue(HOST), authority.issue(HOST)
    locked = authority.issue(HOST, password=b"secret")
    empty = directory / "empty.pem"
    empty.touch()
    gone = str(directory / "gone.pem")
    mixed = f"{good} and {empty} are not a certificate chain and its private key (PEM, not encrypted)"
    sealed = f"{locked} and {locked} are not a certificate chain and its private key (PEM, not encrypted)"
    return {
        "a certificate that is gone": (
            ListenerTls(cert_file=gone, key_file=good), f"{gone} cannot be read: No such file or directory",
        ),
        "a key that is a directory": (
            ListenerTls(cert_file=good, key_file=str(directory)), f"{directory} cannot be read: Is a directory",
        ),
        "a key that is none": (ListenerTls(cert_file=good, key_file=str(empty)), mixed),
        "an encrypted key": (ListenerTls(cert_file=locked, key_file=locked), sealed),
        "another's key": (
            ListenerTls(cert_file=good, key_file=other), f"{other} is not the private key of the certificate {good}",
        ),
        "an authority that is none": (
            ListenerTls(cert_file=good, key_file=good, client_ca_file=str(empty)),
            f"{empty} holds no certificate of an authority (PEM)",
        ),
    }  # fmt: skip


def test_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    cases = unusable(authority, tmp_path)
    said = {}
    for what, (rules, _) in cases.items():
        with pytest.raises(TlsUnusable) as raised:
            listener_context(rules, needs_certificate=False)
        said[what] = str(raised.value)
    assert said == {what: text for what, (_, text) in cases.items()}


@pytest.fixture
def process(authority: Authority, server: RawServer, tmp_path: Path) -> Iterator[ProxyProcess]:
    """A proxy process on TLS, not started; killed at the end."""
    pem = authority.issue(HOST)
    tls = {"cert": pem, "key": pem, "client_ca": authority.ca_file}
    pay = {"base_url": f"http://127.0.0.1:{server.port}", "allow_private": True}
    callers = {"shop": {"certificates": ["shop.internal"]}}
    config = {"server": {"drain": "5s", "tls": tls}, "callers": callers, "providers": {"pay": pay}}
    chosen = ProxyProcess(tmp_path, "proxy", config)
    yield chosen
    if chosen.process is not None and chosen.process.poll() is None:
        chosen.kill()


async def test_a_process_serves_as_its_file_says(process: ProxyProcess, authority: Authority) -> None:
    process.start()
    answer = await ask_over(process.port, context(authority, authority.issue("shop.internal")), request())
    assert (answer.status, answer.get("dedup-executed")) == (200, "yes")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait_gone() == 0


def test_a_process_that_cannot_use_its_files_ends_with_status_2(process: ProxyProcess, authority: Authority) -> None:
    tls, other = process.config["server"]["tls"], authority.issue(HOST)
    process.config = {**process.config, "server": {"tls": {**tls, "key": other}}}
    process.start(wait=False)
    assert process.wait_gone() == 2
    assert f"server.tls: {other} is not the private key of the certificate {tls['cert']}" in process.logs()
    assert "PRIVATE KEY-----" not in process.logs()


async def test_what_runs_over_tls_is_finished_before_the_end(
    authority: Authority, rules: ListenerTls, tmp_path: Path
) -> None:
    go_on, loop = asyncio.Event(), asyncio.get_running_loop()

    def script(peer: Peer) -> None:
        peer.read_request()
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    tls = context(authority, authority.issue("shop.internal"))
    with RawServer(script) as server:
        async with (
            proxying(policy(provider(server.port), callers=(SHOP,), tls=rules), tmp_path) as run,
            talking(run.port, tls) as running,
            talking(run.port, tls) as resting,
        ):
            await running.send(request())
            await server.until(lambda: len(server.requests) == 1)
            draining = asyncio.create_task(run.proxy.drain())
            await until(lambda: run.proxy._front.is_draining)
            await resting.send(request(key="k2"))
            refused = await resting.answer()
            assert (refused.status, refused.get("dedup-reason")) == (503, "draining")
            assert await resting.is_closed()
            go_on.set()
            answer = await running.answer()
            assert (answer.status, answer.body, answer.get("connection")) == (200, b"ok", "close")
            assert await running.is_closed()
            assert await draining == 0


async def test_an_answer_that_breaks_off_ends_without_a_close_notify(
    authority: Authority, rules: ListenerTls, tmp_path: Path
) -> None:
    """So that what came is not taken for the whole, whichever way its end is told (RFC 9112 9.8)."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        peer.close()

    def receive(port: int) -> bytes:
        got = b""
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as sock,
            context(authority).wrap_socket(sock, server_hostname=HOST, suppress_ragged_eofs=False) as tls,
        ):
            tls.sendall(request("/pay/x", method="GET", body=None, Dedup_Token="desk-token"))
            try:
                while data := tls.recv(65536):
                    got += data
            except (ssl.SSLEOFError, ConnectionResetError):
                return got
        raise AssertionError("it ended as if it were whole")

    with RawServer(script) as server:
        async with proxying(policy(provider(server.port), callers=(DESK,), tls=rules), tmp_path) as run:
            got = await asyncio.to_thread(receive, run.port)
            await until(lambda: run.proxy._handler.running == 0)
            assert len(run.said("answer.cut")) == 1
    assert got.endswith(b"5\r\nhello\r\n")


async def test_a_request_that_breaks_off_is_not_sent(
    authority: Authority, rules: ListenerTls, server: RawServer, tmp_path: Path
) -> None:
    before = len(server.requests)
    async with proxying(policy(provider(server.port), callers=(DESK,), tls=rules), tmp_path) as run:
        for cut in (lambda talk: talk.writer.transport.abort(), lambda talk: talk.writer.close()):
            async with talking(run.port, context(authority)) as talk:
                await talk.send(request(Dedup_Token="desk-token")[:-3])
                await until(lambda: run.proxy._handler.running == 1)
                cut(talk)
                await until(lambda: run.proxy._handler.running == 0)
        answer = await ask_over(run.port, context(authority), request(Dedup_Token="desk-token"))
        assert (answer.status, answer.get("dedup-sent")) == (200, "yes"), "nothing had been claimed"
    assert len(server.requests) == before + 1


async def test_one_connection_too_many_is_cut(
    authority: Authority, rules: ListenerTls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.server.wire.CONNECTIONS_MAX", 1)
    async with (
        proxying(policy(provider(1), callers=(DESK,), tls=rules), tmp_path) as run,
        talking(run.port, context(authority)) as first,
    ):
        assert await is_shut_out(run, context(authority))
        await first.send(request("/x/y", method="GET", body=None, Dedup_Token="desk-token"))
        assert (await first.answer("GET")).status == 403
