"""The request as it goes on the wire."""

from __future__ import annotations

import pytest

from proxy.core.outgoing import end_to_end, other_preferences


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"wait=5", b""),
        (b"respond-async, wait=5", b""),
        (b"handling=lenient, wait=5", b"handling=lenient"),
        (b"Wait=5, return=minimal; foo", b"return=minimal; foo"),
        (b'handling="a,wait=5,b", wait=3', b'handling="a,wait=5,b"'),
        (b'x="a\\",b", respond-async', b'x="a\\",b"'),
        (b'x="open, wait=4', b'x="open, wait=4'),
    ],
)
def test_only_our_own_preferences_stop_here(value: bytes, expected: bytes) -> None:
    assert other_preferences(value) == expected


def test_what_connection_names_stops_here() -> None:
    headers = (
        (b"Connection", b"close, X-Hop"),
        (b"x-hop", b"1"),
        (b"Keep-Alive", b"5"),
        (b"TE", b"gzip"),
        (b"X-End", b"2"),
    )

    assert end_to_end(headers) == ((b"X-End", b"2"),)
