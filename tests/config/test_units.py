"""Durations and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.units import FOREVER, Duration, Size, UnitInvalid, parse_duration, parse_size

SECOND = 1_000_000

DURATIONS = {
    "500ms": 500_000,
    "0s": 0,
    "30s": 30 * SECOND,
    "5m": 300 * SECOND,
    "24h": 86_400 * SECOND,
    "90d": 90 * 86_400 * SECOND,
}

BAD_DURATIONS = {
    "10": "a duration needs a unit: 10s, say",
    "10 s": "write 10s",
    "30 seconds": "write 30s",
    "1.5s": "write 1500ms",
    "2 hours": "write 2h",
    "1H": "write 1h",
    "3 days": "write 3d",
    "5min": "write 5m",
    "250 msec": "write 250ms",
    "1h30m": "write a whole number and a unit: 500ms 30s 5m 24h 90d",
    "-5s": "write a whole number and a unit: 500ms 30s 5m 24h 90d",
    "1w": "write a whole number and a unit: 500ms 30s 5m 24h 90d",
    "": "write a whole number and a unit: 500ms 30s 5m 24h 90d",
    "Forever": "write a whole number and a unit: 500ms 30s 5m 24h 90d",
    "05s": "write 5s",
}

SIZES = {"1": 1, "512B": 512, "64KiB": 65_536, "10MiB": 10 * 1024**2, "2GiB": 2 * 1024**3}

BAD_SIZES = {
    "10MB": "write 10MiB, or 10000000 for bytes",
    "10mib": "write 10MiB",
    "10 MiB": "write 10MiB",
    "64k": "write 64KiB",
    "64 KB": "write 64KiB, or 64000 for bytes",
    "1.5MiB": "write bytes, or a whole number of KiB, MiB or GiB: 64KiB 10MiB",
    "many": "write bytes, or a whole number of KiB, MiB or GiB: 64KiB 10MiB",
}


@pytest.mark.parametrize("text", DURATIONS)
def test_a_duration_is_read(text):
    assert parse_duration(text) == Duration(DURATIONS[text])


@pytest.mark.parametrize("text", BAD_DURATIONS)
def test_what_is_no_duration_is_told_how_to_be_written(text):
    with pytest.raises(UnitInvalid) as caught:
        parse_duration(text)
    assert caught.value.fix == BAD_DURATIONS[text]


@pytest.mark.parametrize("text", SIZES)
def test_a_size_is_read(text):
    assert parse_size(text) == Size(SIZES[text])


@pytest.mark.parametrize("text", BAD_SIZES)
def test_what_is_no_size_is_told_how_to_be_written(text):
    with pytest.raises(UnitInvalid) as caught:
        parse_size(text)
    assert caught.value.fix == BAD_SIZES[text]


def test_forever_has_no_end():
    assert (parse_duration("forever"), str(FOREVER), FOREVER.seconds) == (FOREVER, "forever", float("inf"))


@given(st.integers(min_value=0, max_value=10**9).map(lambda ms: Duration(ms * 1000)) | st.just(FOREVER))
def test_a_duration_written_and_read_is_the_same(duration):
    assert parse_duration(str(duration)) == duration


@given(st.integers(min_value=0, max_value=10**13).map(Size))
def test_a_size_written_and_read_is_the_same(size):
    assert parse_size(str(size)) == size


@given(st.integers(min_value=1, max_value=10**6), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_equal_durations_are_written_alike(number, unit):
    duration = parse_duration(f"{number}{unit}")
    assert str(parse_duration(str(duration))) == str(duration)
