"""``check``: is the configuration right, and what does it mean; ``schema``: its JSON Schema."""

from __future__ import annotations

import argparse

import yaml

from proxy.cli.output import CommandFailed, Exit, complain, say, say_json
from proxy.config import Report, check, schema
from proxy.core.policy import Policy


def run_check(options: argparse.Namespace) -> Exit:
    """Print every problem, or the effective rules."""
    report = check(options.config)
    if options.json:
        say_json(
            {
                "valid": report.policy is not None,
                "problems": [str(problem) for problem in report.problems],
                "warnings": list(report.warnings),
                "effective": report.effective,
            }
        )
        return Exit.FINE if report.policy is not None else Exit.USAGE
    complain_of(report)
    if report.policy is None:
        return Exit.USAGE
    if not options.quiet:
        say(yaml.safe_dump(_plain(report.effective), sort_keys=False, allow_unicode=True).rstrip())
    complain(f"{options.config}: fine, {len(report.policy.providers)} providers")
    return Exit.FINE


def run_schema(options: argparse.Namespace) -> Exit:
    """Print the JSON Schema of the configuration."""
    del options
    say_json(schema())
    return Exit.FINE


def policy_of(options: argparse.Namespace) -> Policy:
    """The compiled configuration. Raises :class:`CommandFailed` after printing every problem."""
    report = check(options.config)
    if report.policy is None:
        complain_of(report)
        raise CommandFailed(f"{options.config} is not valid", Exit.USAGE)
    return report.policy


def complain_of(report: Report) -> None:
    """Problems and warnings on standard error, one a line."""
    for problem in report.problems:
        complain(str(problem))
    for warning in report.warnings:
        complain(f"warning: {warning}")


def _plain(value: object) -> object:
    """Only what a safe YAML dumper knows."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (int, float, bool)) or value is None else str(value)
