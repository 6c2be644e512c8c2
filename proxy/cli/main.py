"""The command line: words to commands, failures to exit statuses."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from proxy.cli.output import CommandFailed, Exit, complain

LEDGER_FILTERS = (
    "provider",
    "operation",
    "caller",
    "status",
    "reason",
    "key",
    "outgoing-key",
    "since",
    "until",
    "older-than",
)
"""The filters of the entries listing; the same words as options and as query parameters."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; give its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["demo"]:
        from proxy.demo.story import main as demo

        return demo(words[1:])
    options = parser().parse_args(words)
    try:
        return int(options.run(options))
    except CommandFailed as problem:
        complain(f"dedup-proxy: {problem}")
        return int(problem.status)
    except BrokenPipeError:
        return Exit.FINE
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    whole = argparse.ArgumentParser(
        prog="dedup-proxy", description="Makes every retried call to a provider take effect once."
    )
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config", default="config.yaml", metavar="FILE", help="the configuration (default: config.yaml)"
    )
    common.add_argument("--json", action="store_true", help="print JSON")

    serve = commands.add_parser("serve", parents=[common], help="run the proxy")
    serve.set_defaults(run=_serve)

    check = commands.add_parser("check", parents=[common], help="check the configuration and print the effective rules")
    check.add_argument("--quiet", action="store_true", help="print problems only")
    check.set_defaults(run=_check)

    explain = commands.add_parser(
        "explain", parents=[common], help="say what would be done with a request, without sending"
    )
    explain.add_argument("method", metavar="METHOD")
    explain.add_argument("target", metavar="URL|PATH")
    explain.add_argument("-H", "--header", action="append", default=[], metavar="'Name: value'")
    explain.add_argument("-d", "--data", metavar="BODY|@FILE")
    explain.add_argument("--caller", metavar="NAME")
    explain.set_defaults(run=_explain)

    migrate = commands.add_parser("migrate", parents=[common], help="bring the ledger to this program's schema")
    migrate.set_defaults(run=_migrate)

    schema = commands.add_parser("schema", parents=[common], help="print the JSON Schema of the configuration")
    schema.set_defaults(run=_schema)

    _add_ledger(commands, common)
    commands.add_parser("demo", help="see it under fire: a sandbox, services and a kill -9", add_help=False)
    return whole


def _add_ledger(commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    remote = argparse.ArgumentParser(add_help=False)
    remote.add_argument("--admin", metavar="URL", help="ask a proxy's admin listener instead of the ledger itself")
    remote.add_argument("--token", metavar="T", help="token for --admin")
    ledger = commands.add_parser("ledger", help="look into the ledger").add_subparsers(metavar="WHAT", required=True)

    listing = ledger.add_parser("list", parents=[common, remote], help="entries, newest first")
    for name in LEDGER_FILTERS:
        listing.add_argument(f"--{name}")
    listing.add_argument("--limit", type=int, default=100, metavar="N")
    listing.add_argument("--order", choices=("newest", "oldest"), help="by the time of the first claim")
    listing.add_argument("--cursor", help="go on where a list ended")
    listing.add_argument("--fail-on-ambiguous", action="store_true", help="exit 1 if an entry in the list is ambiguous")
    listing.set_defaults(run=_ledger_list)

    show = ledger.add_parser("show", parents=[common, remote], help="one entry, its attempts and its history")
    show.add_argument("id", metavar="ID")
    show.set_defaults(run=_ledger_show)


def _serve(options: argparse.Namespace) -> int:
    from proxy.cli.checking import complain_of
    from proxy.config import check
    from proxy.server.app import serve

    report = check(options.config)
    complain_of(report)
    return Exit.USAGE if report.policy is None else serve(report.policy)


def _check(options: argparse.Namespace) -> int:
    from proxy.cli.checking import run_check

    return run_check(options)


def _schema(options: argparse.Namespace) -> int:
    from proxy.cli.checking import run_schema

    return run_schema(options)


def _explain(options: argparse.Namespace) -> int:
    from proxy.cli.explaining import run_explain

    return run_explain(options)


def _migrate(options: argparse.Namespace) -> int:
    from proxy.cli.ledgers import run_migrate

    return run_migrate(options)


def _ledger_list(options: argparse.Namespace) -> int:
    from proxy.cli.ledgers import run_list

    return run_list(options)


def _ledger_show(options: argparse.Namespace) -> int:
    from proxy.cli.ledgers import run_show

    return run_show(options)
