"""The demo's small parts: patience, places, reports, and what a setting writes."""

import asyncio
import io
import socket
from pathlib import Path

import pytest
import yaml

from proxy.demo.calls import charge, receipt
from proxy.demo.chance import chance
from proxy.demo.observations import NO, UNKNOWN, YES, Observation, read_observations, told
from proxy.demo.places import file_system_of, lasting_ports
from proxy.demo.progress import Progress, progress_line
from proxy.demo.retries import (
    PAUSE_SECONDS,
    PAUSE_SECONDS_MAX,
    SILENCE_SECONDS_MAX,
    TRIES_AFTER_NO,
    TRIES_AFTER_UNKNOWN,
    Patience,
)
from proxy.demo.sandbox import PROVIDERS
from proxy.demo.setting import RULES, NoPlace, prepared


def seen(**fields):
    return Observation(provider="pay", intent="o-1", began=0.0, ended=1.0, **fields)


PAUSES = {
    "a yes ends it": (seen(status=201, executed=YES), None),
    "a decline ends it": (seen(status=402, executed=NO, entry_status="rejected"), None),
    "a 429 is tried again, its Retry-After cut short": (
        seen(status=429, executed=NO, retry_after=60.0),
        PAUSE_SECONDS_MAX,
    ),
    "a Retry-After of nothing still pauses": (seen(status=429, executed=NO, retry_after=0.0), PAUSE_SECONDS / 4),
    "an unreachable provider is tried again": (seen(status=502, executed=NO), PAUSE_SECONDS),
    "a call in progress is asked for again": (
        seen(status=409, executed=UNKNOWN, entry_status="in_flight"),
        PAUSE_SECONDS,
    ),
    "a timeout is tried again": (seen(failure="timeout"), PAUSE_SECONDS),
    "a proxy that is down is tried again": (seen(failure="refused"), PAUSE_SECONDS),
    "an answer without a word is tried again": (seen(status=500), PAUSE_SECONDS),
}


@pytest.mark.parametrize(("last", "pause"), PAUSES.values(), ids=PAUSES)
def test_when_a_caller_tries_again(last, pause):
    assert Patience(until=10.0).pause(last) == pause


@pytest.mark.parametrize(
    ("last", "tries"),
    [
        (seen(status=504, executed=UNKNOWN, entry_status="ambiguous"), TRIES_AFTER_UNKNOWN),
        (seen(status=503, executed=NO), TRIES_AFTER_NO),
    ],
)
def test_a_caller_stops_after_so_many_tries(last, tries):
    patience = Patience(until=10.0)

    pauses = [patience.pause(last) for _ in range(tries + 1)]

    assert None not in pauses[:-1]
    assert pauses[-1] is None


def test_a_caller_backs_off_from_a_proxy_that_is_down():
    patience = Patience(until=10.0)

    pauses = [patience.pause(seen(failure="refused")) for _ in range(5)]

    assert pauses == [PAUSE_SECONDS, 2 * PAUSE_SECONDS, 4 * PAUSE_SECONDS, 8 * PAUSE_SECONDS, SILENCE_SECONDS_MAX]


def test_a_caller_stops_when_its_time_is_over():
    assert Patience(until=0.5).pause(seen(failure="timeout")) is None


def test_an_observation_survives_its_log(tmp_path):
    first = seen(status=201, executed=YES, sent="yes", digest="d", replayed=True, recorded=False, entry="e-1")
    second = seen(failure="timeout")
    (tmp_path / "log").write_text(first.line() + second.line())

    assert list(read_observations(tmp_path / "log")) == [first, second]


def test_headers_are_read_as_they_are():
    headers = {"Dedup-Executed": "yes", "Dedup-Recorded": "false", "Idempotent-Replayed": "true", "Retry-After": "2"}

    facts = told(headers)

    assert (facts["executed"], facts["recorded"], facts["replayed"], facts["retry_after"]) == ("yes", False, True, 2.0)
    assert told({})["executed"] is None
    assert told({})["recorded"] is True
    assert told({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})["retry_after"] is None


def test_a_receipt_has_no_key_and_a_charge_has_one_and_both_mean_the_same_each_time():
    draw = chance(1)
    charges = {charge("r-00007", draw).body for _ in range(10)}
    receipts = [receipt("r-00007", draw) for _ in range(20)]

    assert charge("r-00007", draw).headers["Idempotency-Key"] == "charge-r-00007"
    assert len(charges) == 1
    assert all("idempotency-key" not in {name.lower() for name in r.headers} for r in receipts)
    assert len({r.body for r in receipts}) > 1
    assert len({tuple(sorted(yaml.safe_load(r.body).items())) for r in receipts}) == 1


def test_ports_are_free_and_not_among_those_the_system_gives_out():
    first_given_out = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    ports = lasting_ports(3)

    assert len(set(ports)) == 3
    for port in ports:
        assert port < first_given_out
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


MOUNTS = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\n"


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home/a", "ext4"), ("/tmp", "tmpfs"), ("/tmp/a/b", "tmpfs"), ("/tmp/disk/a", "xfs"), ("/tmpx", "ext4")],
)
def test_a_path_is_of_the_file_system_of_its_nearest_mount(tmp_path, path, kind):
    (tmp_path / "mounts").write_text(MOUNTS)

    assert file_system_of(Path(path), tmp_path / "mounts") == kind


def test_a_machine_that_names_no_mounts_is_believed(tmp_path):
    assert file_system_of(Path("/tmp"), tmp_path / "none") is None


def test_a_setting_is_gone_afterwards_unless_it_is_kept(tmp_path):
    with prepared(seed=1, ledger=None, keep=None) as passing:
        assert passing.directory.is_dir()
        assert str(passing.directory) in passing.ledger
    with prepared(seed=1, ledger="postgresql://x/y", keep=tmp_path / "kept") as kept:
        assert kept.ledger == "postgresql://x/y"

    assert not passing.directory.exists()
    assert (tmp_path / "kept").is_dir()
    assert passing.run != kept.run


def test_a_directory_with_something_in_it_is_not_kept_in(tmp_path):
    (tmp_path / "mine").write_text("precious")

    with pytest.raises(NoPlace, match="not empty"), prepared(seed=1, ledger=None, keep=tmp_path):
        pass

    assert (tmp_path / "mine").read_text() == "precious"


def test_every_provider_of_the_sandbox_has_a_rule():
    assert set(RULES) == {provider.name for provider in PROVIDERS}


def test_the_configuration_names_every_provider_where_it_is(tmp_path):
    with prepared(seed=1, ledger=None, keep=tmp_path / "kept") as setting:
        setting.write_config({"pay": "http://127.0.0.1:1", "mail": "http://127.0.0.1:2"})

    config = yaml.safe_load(setting.config.read_text())

    assert [provider["base_url"] for provider in config["providers"].values()] == [
        "http://127.0.0.1:1",
        "http://127.0.0.1:2",
    ]
    assert config["server"]["listen"].endswith(str(setting.data_port))


class Terminal(io.StringIO):
    def isatty(self):
        return True


async def shown(stream):
    progress = Progress(stream)
    progress.say("it begins")
    showing = asyncio.create_task(progress.show(lambda: "half done"))
    async with asyncio.timeout(5):
        while "half done" not in stream.getvalue():
            await asyncio.sleep(0.01)
    showing.cancel()
    progress.clear()
    return stream.getvalue()


async def test_on_a_terminal_one_line_is_redrawn():
    text = await shown(Terminal())

    assert text.count("\n") == 1
    assert text.endswith("half done\r\x1b[2K")


async def test_elsewhere_lines_follow_each_other():
    text = await shown(io.StringIO())

    assert "\x1b" not in text
    assert [line.split("s  ")[1] for line in text.splitlines()] == ["it begins", "half done"]


def test_the_progress_line_says_what_is_known():
    assert progress_line(10, {}, {}) == "starting"
    assert progress_line(10, {"done": 0}, {}) == "0/10 purchases"
    assert progress_line(10, {"done": 3, "sent": {"pay": 4, "mail": 2}}, {"requests": {"pay": 3}}) == (
        "3/10 purchases, 6 requests sent, pay got 3"
    )
