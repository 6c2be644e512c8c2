"""Who is let in: listeners, admin tokens, callers; and where the ledger is."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.config.checks.operations import FORBIDDEN_HEADERS
from proxy.config.checks.site import Site, is_loopback, split_address
from proxy.config.effective import Configuration
from proxy.config.models.provider import Auth
from proxy.config.problems import Mark, Problems, did_you_mean
from proxy.config.tree import Path, mark_below

NOT_INJECTED = FORBIDDEN_HEADERS - {"cookie"}
"""Headers that no credential is."""

_SQLITE = "sqlite:///"
_POSTGRESQL = "postgresql://"


def check(found: Configuration, problems: Problems) -> None:
    """All of it."""
    site = Site(found.node, problems, found.left_out)
    _check_listeners(found, site)
    _check_ledger(found, site)
    _check_callers(found, site)
    _check_tokens(found, site)


def _check_listeners(found: Configuration, site: Site) -> None:
    server = found.server
    if server is None:
        return
    data, admin = split_address(server.listen), split_address(server.admin_listen)
    if data == admin and data[1] != 0:
        site.wrong(
            "server", "admin_listen", message="is the data listener's address too", fix="give it a port of its own"
        )
    if not is_loopback(data[0]) and not server.allow_anonymous and not _are_callers_written(found):
        site.wrong(
            "server",
            "listen",
            message=f"{server.listen!r} serves other machines, and no callers are configured",
            fix="configure `callers`, listen on 127.0.0.1, or set server.allow_anonymous: true",
        )
    if not is_loopback(admin[0]) and not (found.admin and found.admin.tokens) and not site.says("admin", "tokens"):
        site.wrong(
            "server",
            "admin_listen",
            message=f"{server.admin_listen!r} is open to other machines, and there are no admin.tokens",
            fix="configure `admin.tokens`, or listen on 127.0.0.1",
        )


def _check_ledger(found: Configuration, site: Site) -> None:
    ledger = found.ledger
    if ledger is None:
        return
    url = ledger.url.value
    if url.startswith(_SQLITE):
        name = url.removeprefix(_SQLITE)
        if not name or name.startswith(":memory:") or "?" in name:
            site.wrong("ledger", "url", message="must name a file that stays", fix="write sqlite:///dedup.db")
        if found.server is not None and found.server.workers > 1:
            site.wrong(
                "server",
                "workers",
                message="SQLite serves one process",
                fix="set workers: 1, or use PostgreSQL: ledger.url: postgresql://...",
            )
    elif not url.startswith(_POSTGRESQL) or url == _POSTGRESQL:
        fix = "write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
        if url.startswith(("postgres://", "postgresql+")):
            fix = "begin with postgresql://"
        elif url.startswith("sqlite:"):
            fix = "three slashes before a relative path, four before an absolute one: sqlite:///dedup.db"
        site.wrong("ledger", "url", message="names no ledger that is known", fix=fix)
    kept, answers = ledger.retention.entry.us, ledger.retention.answer.us
    is_longer = kept is not None and (answers is None or answers > kept)
    if is_longer and site.says("ledger", "retention", "answer"):
        site.wrong(
            "ledger",
            "retention",
            "answer",
            message=f"answers can't be kept longer than their entries ({ledger.retention.entry})",
            fix=f"write {ledger.retention.entry} or less",
        )


def _check_callers(found: Configuration, site: Site) -> None:
    networks: dict[str, str] = {}
    certificates: dict[str, str] = {}
    has_client_ca = site.says("server", "tls", "client_ca")
    for name, caller in found.callers.items():
        if not (caller.tokens or caller.networks or caller.certificates):
            site.wrong(
                "callers", name, message="nothing names this caller", fix="give it tokens, networks or certificates"
            )
        if caller.certificates and not has_client_ca:
            site.wrong(
                "callers",
                name,
                "certificates",
                message="the listener asks for no client certificates",
                fix="set server.tls.client_ca",
            )
        for kind, mine, seen in (
            ("networks", caller.networks, networks),
            ("certificates", caller.certificates, certificates),
        ):
            for index, value in enumerate(mine):
                other = seen.setdefault(value.lower(), name)
                if other != name:
                    site.wrong("callers", name, kind, index, message=f"names caller {other!r} already")
        for index, provider in enumerate(caller.providers or ()):
            if provider not in found.providers:
                site.wrong(
                    "callers",
                    name,
                    "providers",
                    index,
                    message=f"there is no provider {provider!r}",
                    fix=did_you_mean(provider, found.providers),
                )


def _check_tokens(found: Configuration, site: Site) -> None:
    """One token names one caller or person; who holds it can't be two."""
    seen: dict[str, tuple[str, Mark]] = {}
    for token, owner, path in _tokens(found):
        mark = mark_below(site.node, path)
        other, at = seen.setdefault(token, (owner, mark))
        if at != mark:
            site.problems.add(mark, f"is the token of {other} too", "give each its own")


def _tokens(found: Configuration) -> Iterator[tuple[str, str, Path]]:
    for name, caller in found.callers.items():
        for index, token in enumerate(caller.tokens):
            yield token.value, f"caller {name!r}", ("callers", name, "tokens", index)
    for name, admin in (found.admin.tokens if found.admin else {}).items():
        yield admin.token.value, f"admin {name!r}", ("admin", "tokens", name, "token")


def check_auth(auth: Auth, found: Configuration, site: Site) -> None:
    """Credentials that the proxy adds are lent to whoever can reach it."""
    ways = [way for way in ("headers", "basic", "oauth2") if getattr(auth, way)]
    if len(ways) != 1:
        message = "needs one of headers, basic and oauth2" if not ways else f"{' and '.join(ways)} are given together"
        site.wrong("auth", message=message, fix="write one of them")
    for name in auth.headers:
        if name.lower() in NOT_INJECTED or name.lower().startswith("dedup-"):
            site.wrong("auth", "headers", name, message="belongs to HTTP or to this proxy")
    is_open = found.server is not None and not found.server.allow_anonymous and not _are_callers_written(found)
    if is_open:
        site.wrong(
            "auth",
            message="credentials would be lent to anyone who can reach the listener: no callers are configured",
            fix="configure `callers`, or set server.allow_anonymous: true",
        )


def _are_callers_written(found: Configuration) -> bool:
    """Whether callers are written, readable or not."""
    node = found.node.get("callers")
    return node is not None and bool(getattr(node, "entries", ()))
