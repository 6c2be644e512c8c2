"""Parts packed for a digest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.packing import Part, keyed_digest, open_digest, pack

PARTS = st.recursive(
    st.none() | st.text("ab:1", max_size=4) | st.binary(max_size=4) | st.integers(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)
SEQUENCES = st.lists(PARTS, max_size=5)


@given(SEQUENCES, SEQUENCES)
def test_only_equal_sequences_pack_equally(left: list[Part], right: list[Part]):
    assert (pack(left) == pack(right)) == (left == right)


@given(PARTS, PARTS, PARTS)
def test_parts_never_run_into_each_other(a: Part, b: Part, c: Part):
    packings = [pack(parts) for parts in ([a, b, c], [(a, b), c], [a, (b, c)], [(a, b, c)], [a, b], [a])]
    assert len(set(packings)) == len(packings)


def test_kinds_stay_apart():
    assert len({pack([part]) for part in ("1", b"1", 1, ("1",), (1,), (), "", b"", None)}) == 9


def test_a_keyed_digest_needs_its_secret():
    assert keyed_digest(b"a", ("x",)) != keyed_digest(b"b", ("x",))
    assert keyed_digest(b"a", ("x",)) != open_digest(("x",)).hex()


def test_lone_surrogates_can_be_packed():
    assert pack(["\ud800"]) != pack(["\ud801"])
