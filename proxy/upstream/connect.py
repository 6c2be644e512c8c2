"""Opening a connection: everything here ends before a byte of a request is written, so every failure is *unsent*.

Sockets get their options at creation, before they connect:

* ``SO_LINGER(1, 0)``: closing, or dying, drops what the kernel still holds instead of delivering it later. An attempt
  that the ledger gave up on must not go on reaching the provider.
* ``TCP_USER_TIMEOUT``: the same for bytes that the network doesn't take; set anew for each request.
* ``TCP_NODELAY``: a request is written whole.

TCP Fast Open and TLS early data send bytes before the connection stands, and are not used.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Final

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType

from proxy.core.ports import Phase, Route, SendFailed
from proxy.upstream.addresses import is_public
from proxy.upstream.connection import Connection

HAPPY_EYEBALLS_SECONDS: Final = 0.25
"""Head start of an address over the next one (RFC 8305 5: Connection Attempt Delay)."""

_LINGER_NONE: Final = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # struct linger {1, 0}


class Connector:
    """Opens connections. TLS contexts are made once for each pair of CA file and client certificate, and kept."""

    def __init__(self) -> None:
        self._contexts: dict[tuple[str | None, str | None], ssl.SSLContext] = {}

    async def connect(self, route: Route, *, seconds: float) -> Connection:
        """Open a connection for *route* within *seconds*. Raises SendFailed with an unsent phase."""
        opening = _Opening(route)
        try:
            async with asyncio.timeout(seconds):
                return await self._connect(opening)
        except TimeoutError as error:  # ours, or the kernel's ETIMEDOUT
            raise SendFailed(opening.phase, "timeout", f"{opening} took too long") from error
        except socket.gaierror as error:
            raise SendFailed(opening.phase, "unresolved", f"{opening}: {error.strerror}") from error
        except UnicodeError as error:  # a name that IDNA can't encode
            raise SendFailed(opening.phase, "unresolved", f"{opening}: {error}") from error
        except ConnectionRefusedError as error:
            raise SendFailed(opening.phase, "refused", f"{opening}: {error.strerror}") from error
        except ConnectionError as error:
            raise SendFailed(opening.phase, "reset", f"{opening}: {error.strerror or 'closed'}") from error
        except (OSError, RuntimeError) as error:  # ssl.SSLError is an OSError; uvloop raises RuntimeError for some
            raise SendFailed(opening.phase, "error", f"{opening}: {error}") from error

    async def _connect(self, opening: _Opening) -> Connection:
        route = opening.route
        context = None
        if route.scheme == "https":
            opening.phase = Phase.TLS
            context = await self._context(route)
        opening.phase = Phase.DNS
        infos = await _resolve(route.connect_host, route.connect_port)
        if not infos:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        opening.phase = Phase.ADDRESS
        if not route.allow_private:
            infos = _only_public(infos, route)
        opening.phase = Phase.CONNECT
        sock = await aiohappyeyeballs.start_connection(
            infos,
            happy_eyeballs_delay=HAPPY_EYEBALLS_SECONDS,
            socket_factory=_make_socket,
        )
        if context is not None:
            opening.phase = Phase.TLS
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(sock),
            sock=sock,
            ssl=context,
            server_hostname=None if context is None else route.host,
        )
        return connection

    async def _context(self, route: Route) -> ssl.SSLContext:
        key = (route.ca_file, route.client_cert)
        context = self._contexts.get(key)
        if context is None:
            context = await asyncio.to_thread(_make_context, *key)
            self._contexts[key] = context
        return context


class _Opening:
    """How far opening a connection for *route* got."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.phase = Phase.DNS

    def __str__(self) -> str:
        return f"{self.route.connect_host}:{self.route.connect_port}"


def _make_context(ca_file: str | None, client_cert: str | None) -> ssl.SSLContext:
    """Verification stays on: the default context checks chain and name."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if client_cert is not None:
        context.load_cert_chain(client_cert, password="")  # an encrypted key is an error, not a prompt
    return context


def _make_socket(info: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = info
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def _resolve(host: str, port: int) -> Sequence[AddrInfoType]:
    """Addresses of *host*; a literal address needs no thread and no DNS."""
    try:
        return socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )


def _only_public(infos: Sequence[AddrInfoType], route: Route) -> Sequence[AddrInfoType]:
    """Those of *infos* that may be connected to. What is left is connected to as it stands: no second look-up."""
    public = [info for info in infos if is_public(str(info[4][0]))]
    if not public:
        raise SendFailed(
            Phase.ADDRESS, "forbidden", f"{route.connect_host} is at {infos[0][4][0]}, which is not public"
        )
    return public
