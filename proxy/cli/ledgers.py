"""``ledger list``, ``ledger show``, ``migrate``.

Reading goes to the ledger itself; to a proxy's admin listener where ``--admin`` names one, and where a proxy serves the
configured SQLite ledger, which has one process to itself.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from proxy.cli import admin_client
from proxy.cli.checking import policy_of
from proxy.cli.output import CommandFailed, Exit, say, say_json, say_pairs, say_table
from proxy.core.model import Status
from proxy.core.policy import Policy
from proxy.core.ports import LedgerUnavailable

COLUMNS = ("id", "provider", "operation", "key", "status", "executed", "reason", "attempts", "created_at")


def run_list(options: argparse.Namespace) -> Exit:
    """Print entries that match the filters."""
    parameters = [(name, value) for name in _FILTERS if (value := getattr(options, name)) is not None]
    parameters.append(("limit", str(options.limit)))
    page = _ask(options, "/v1/entries", parameters)
    entries: list[dict[str, Any]] = page["entries"]
    if options.json:
        say_json(page)
    else:
        say_table(entries, COLUMNS)
        if page["next_cursor"]:
            say(f"more: --cursor {page['next_cursor']}")
    has_ambiguous = any(entry["status"] == Status.AMBIGUOUS for entry in entries)
    return Exit.FOUND if options.fail_on_ambiguous and has_ambiguous else Exit.FINE


def run_show(options: argparse.Namespace) -> Exit:
    """Print one entry, its attempts and its history."""
    entry = _ask(options, f"/v1/entries/{options.id}", [])
    if entry is None:
        raise CommandFailed(f"there is no entry {options.id}", Exit.FOUND)
    if options.json:
        say_json(entry)
        return Exit.FINE
    attempts, history = entry.pop("attempt_log"), entry.pop("history")
    say_pairs(entry)
    say("\nattempts")
    say_table(attempts, ("number", "claimed_at", "open", "status", "reason"))
    if history:
        say("\nhistory")
        say_table(history, ("at", "event", "attempt", "from", "to", "reason", "who"))
    return Exit.FINE


def run_migrate(options: argparse.Namespace) -> Exit:
    """Bring the ledger to this program's schema."""
    from proxy.ledger import state, upgrade

    policy = policy_of(options)

    async def migrate() -> tuple[str, str]:
        before = await state(policy.ledger.url)
        await upgrade(policy.ledger.url, encryption_keys=policy.ledger.encryption_keys)
        return before.value, (await state(policy.ledger.url)).value

    try:
        before, after = asyncio.run(migrate())
    except LedgerUnavailable as problem:
        raise CommandFailed(str(problem), Exit.UNREACHABLE) from None
    if options.json:
        say_json({"before": before, "after": after})
    else:
        say(f"the ledger's schema was {before}, and is {after}")
    return Exit.FINE


_FILTERS = (
    "provider", "operation", "caller", "status", "reason", "key", "outgoing_key", "since", "until", "older_than", "order",
    "cursor",
)  # fmt: skip


def _ask(options: argparse.Namespace, path: str, parameters: list[tuple[str, str]]) -> Any:
    if options.admin is not None:
        return admin_client.get(options.admin, path, token=options.token, parameters=parameters)
    policy = policy_of(options)
    if _is_served(policy):
        host, port = policy.server.admin_listen
        token = options.token or next((token for token, _ in policy.server.admin_tokens.values()), None)
        return admin_client.get(f"http://{_loopback(host)}:{port}", path, token=token, parameters=parameters)
    try:
        return asyncio.run(_read(policy, path, parameters))
    except LedgerUnavailable as problem:
        raise CommandFailed(f"the ledger can't be read: {problem}", Exit.UNREACHABLE) from None


async def _read(policy: Policy, path: str, parameters: list[tuple[str, str]]) -> Any:
    from proxy.admin.service import QueryInvalid, Service
    from proxy.ledger import open_reader
    from proxy.server.reading import LedgerReading
    from proxy.server.runtime import SystemClock

    clock = SystemClock()
    reader = await open_reader(policy.ledger.url, clock, encryption_keys=policy.ledger.encryption_keys)
    try:
        service = Service(LedgerReading(reader, clock), policy)
        _, _, entry_id = path.partition("/v1/entries/")
        return await (service.entry(entry_id) if entry_id else service.entries(parameters))
    except QueryInvalid as problem:
        raise CommandFailed(str(problem), Exit.USAGE) from None
    finally:
        await reader.close()


def _is_served(policy: Policy) -> bool:
    from proxy.ledger import is_served

    return is_served(policy.ledger.url)


def _loopback(host: str) -> str:
    """Where to reach a listener that is bound to every address."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{shown}]" if ":" in shown else shown
