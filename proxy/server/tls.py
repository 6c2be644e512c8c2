"""TLS on the data listener: the context that it is served with, and the names in a caller's certificate."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from proxy.core.policy import ListenerTls

HANDSHAKE_SECONDS: Final = 10.0
"""How long a caller may take to agree on TLS."""

SHUTDOWN_SECONDS: Final = 5.0
"""How long an ended connection waits for the caller's close_notify."""


class TlsUnusable(Exception):
    """The listener's files can't be used. Its text names them, and shows nothing of what is in them."""


def listener_context(rules: ListenerTls, *, needs_certificate: bool) -> ssl.SSLContext:
    """The context that *rules* describe: TLS 1.2 or later, HTTP/1.1. Raises :class:`TlsUnusable`.

    Client certificates are asked for where they have an authority. One that is shown must be that authority's; with
    *needs_certificate*, who shows none does not get past the handshake.
    """
    for path in (rules.cert_file, rules.key_file, rules.client_ca_file):
        _try_to_read(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a connection keeps the certificate that it began with
    context.set_alpn_protocols(["http/1.1"])
    try:
        # With a password an encrypted key is an error; without, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(rules.cert_file, rules.key_file, password="")
    except ssl.SSLError as problem:
        if problem.reason == "KEY_VALUES_MISMATCH":
            raise TlsUnusable(f"{rules.key_file} is not the private key of the certificate {rules.cert_file}") from None
        raise TlsUnusable(
            f"{rules.cert_file} and {rules.key_file} are not a certificate chain and its private key (PEM, not encrypted)"
        ) from None
    if rules.client_ca_file is not None:
        try:
            context.load_verify_locations(rules.client_ca_file)
        except ssl.SSLError:
            raise TlsUnusable(f"{rules.client_ca_file} holds no certificate of an authority (PEM)") from None
        context.verify_mode = ssl.CERT_REQUIRED if needs_certificate else ssl.CERT_OPTIONAL
    return context


def asks_certificates(rules: ListenerTls | None) -> bool:
    """Whether callers are asked for a certificate."""
    return rules is not None and rules.client_ca_file is not None


def names_in(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in a verified certificate, as :meth:`ssl.SSLSocket.getpeercert` gives it.

    Its DNS names; only a certificate without any is known by its common name (RFC 6125 6.4.4).
    """
    dns = tuple(name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS")
    if dns:
        return dns
    return tuple(value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName")


def _try_to_read(path: str | None) -> None:
    """OpenSSL's own errors don't say which file it was."""
    if path is None:
        return
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as problem:
        raise TlsUnusable(f"{path} cannot be read: {problem.strerror or problem}") from None
