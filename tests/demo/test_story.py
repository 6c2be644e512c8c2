"""The story as a whole: it passes with the proxy, it fails without one, and it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.demo.effects import read_effects

ROOT = Path(__file__).resolve().parents[2]
BLIND = "tests/demo/blind_proxy.py"
BLIND_DEMO = f"import sys; from proxy.demo.story import main; sys.exit(main(sys.argv[1:], proxy=({BLIND!r},)))"

pytestmark = pytest.mark.xdist_group("demo")  # one at a time: each is four processes


def start(*arguments, directory, program=("-m", "proxy", "demo")):
    """The demo as a process, its temporary files under *directory*."""
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(directory)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(*arguments, directory, **more):
    process = start(*arguments, directory=directory, **more)
    output, errors = process.communicate(timeout=100)
    return process.returncode, output, errors


def processes_of(directory):
    """Process ids whose command line names *directory*."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(directory).encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def until_none_of(directory, seconds=5.0):
    deadline = time.monotonic() + seconds
    while (left := processes_of(directory)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def test_the_demo_passes_with_a_kill_in_the_middle(tmp_path):
    status, output, errors = run("--purchases", "150", "--seed", "11", "--json", directory=tmp_path)

    assert status == 0, output + errors
    report = json.loads(output)
    assert report["ok"] is True
    assert report["proxy_killed"] is True
    assert report["violations"] == report["problems"] == []
    assert report["providers"]["pay"]["intents"] == 150
    assert all(tally["prevented"] > 0 and tally["effects"] > 50 for tally in report["providers"].values())
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def test_the_demo_fails_with_a_proxy_that_protects_nothing(tmp_path):
    kept = tmp_path / "kept"
    status, output, errors = run(
        "--purchases",
        "250",
        "--seed",
        "3",
        "--json",
        "--keep",
        str(kept),
        directory=tmp_path,
        program=("-c", BLIND_DEMO),
    )

    assert status == 1, output + errors
    kinds = {violation["kind"] for violation in json.loads(output)["violations"]}
    assert kinds >= {"duplicate", "false-yes", "false-no"}
    happened = [effect.intent for effect in read_effects(kept / "pay.effects.jsonl")]
    assert len(happened) > len(set(happened))


BROKEN_RULES = {
    "a 500 is taken for a no": (
        "of = core._by_status;"
        "core._by_status = lambda s, **more: (Event.TURNED_AWAY, Reason.TURNED_AWAY) if s == 500 else of(s, **more)"
    ),
    "silence is taken for a no": "core.of_failure = lambda *_: core.Outcome(Event.NOT_SENT, Reason.NOT_SENT)",
}


@pytest.mark.parametrize("rule", BROKEN_RULES.values(), ids=BROKEN_RULES)
def test_the_demo_fails_with_a_proxy_of_which_one_rule_is_broken(tmp_path, rule):
    proxy = (
        "import sys; import proxy.core.outcome as core; from proxy.core.reasons import Reason; "
        f"from proxy.core.states import Event; from proxy.cli.main import main; {rule}; sys.exit(main())"
    )
    demo = f"import sys; from proxy.demo.story import main; sys.exit(main(sys.argv[1:], proxy=('-c', {proxy!r})))"

    status, output, errors = run(
        "--purchases", "120", "--seed", "2", "--no-kill", "--json", directory=tmp_path, program=("-c", demo)
    )  # fmt: skip

    assert status == 1, output + errors
    assert "false-no" in {violation["kind"] for violation in json.loads(output)["violations"]}


def test_the_table_is_printed_with_seed_and_the_place_of_the_logs(tmp_path):
    kept = tmp_path / "kept"
    status, output, _ = run(
        "--purchases",
        "5",
        "--seed",
        "4711",
        "--no-kill",
        "--keep",
        str(kept),
        directory=tmp_path,
        program=("-c", BLIND_DEMO),
    )

    assert status in (0, 1)
    assert "seed 4711" in output
    assert str(kept) in output
    assert "duplicates prevented" in output
    assert (kept / "mail.effects.jsonl").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_ends_the_demo_and_everything_it_started(tmp_path, number, status):
    process = start("--purchases", "5000", directory=tmp_path, program=("-c", BLIND_DEMO))
    for line in process.stdout:
        if "the services begin" in line:
            break
    assert len(processes_of(tmp_path)) >= 2

    process.send_signal(number)
    process.communicate(timeout=20)

    assert process.returncode == status
    assert until_none_of(tmp_path) == []
    if number != signal.SIGKILL:
        assert list(tmp_path.iterdir()) == []


def test_a_proxy_that_does_not_start_is_said_with_its_last_words(tmp_path):
    program = "import sys; from proxy.demo.story import main; sys.exit(main([], proxy=('-c', 'raise SystemExit(\"no port\")')))"
    status, _, errors = run(directory=tmp_path, program=("-c", program))

    assert status == 3
    assert "before it was ready" in errors
    assert "no port" in errors
    assert list(tmp_path.iterdir()) == []


BAD_USAGE = {
    "no purchases at all": ("--purchases", "0"),
    "a number that is none": ("--purchases", "many"),
    "a directory that is not empty": ("--keep", str(ROOT / "proxy")),
    "a directory that is a file": ("--keep", str(ROOT / "README.md")),
}


@pytest.mark.parametrize("arguments", BAD_USAGE.values(), ids=BAD_USAGE)
def test_bad_usage_is_said_and_starts_nothing(tmp_path, arguments):
    status, output, errors = run(*arguments, directory=tmp_path, program=("-c", BLIND_DEMO))

    assert (status, output) == (2, "")
    assert arguments[0] in errors
