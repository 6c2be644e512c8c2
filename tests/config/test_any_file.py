"""Whatever stands in a file: it is read or refused with reasons, never with an exception, and never with a secret."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config import check
from tests.config.test_documents import ENVIRON

DATA = Path(__file__).parent / "data"
FULL = yaml.safe_load((DATA / "full.yaml").read_text())


def places(node, path=()):
    """Every place of a document."""
    yield path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, below in children:
        yield from places(below, (*path, key))


PLACES = [path for path in places(FULL) if path]

THINGS = st.one_of(
    st.sampled_from(
        [None, True, False, 0, -1, 1.5, 10**20, "", " ", "x", "no", "10", "10s", "forever", "a b", "a.b", "!a.b", "{", "}",
         "${OPS_TOKEN}", "${GONE}", "${", "@", "*", "**", "/x", "POST /x", "GET /{a}", "4xx", "none", "\x00", "caf\u00e9", "x" * 5000,
         [], {}, [[]], [{}], {"x": {}}, {"from": "a"}, ["a", 1], {"<<": 1}, {"x-y": 1}]
    ),
    st.text(max_size=20),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                 lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3), max_leaves=6),
)  # fmt: skip


@pytest.fixture
def data(tmp_path):
    shutil.copytree(DATA, tmp_path, dirs_exist_ok=True)
    return tmp_path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), THINGS, st.booleans()), min_size=1, max_size=4))
def test_a_file_with_anything_anywhere_is_read_or_refused(changes, data):
    document = copy.deepcopy(FULL)
    for path, thing, is_removal in changes:
        holder = document
        try:
            for step in path[:-1]:
                holder = holder[step]
            if is_removal:
                del holder[path[-1]]
            else:
                holder[path[-1]] = thing
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    (data / "config.yaml").write_text(json.dumps(document, ensure_ascii=False), errors="surrogateescape")
    report = check(data / "config.yaml", ENVIRON)
    assert (report.policy is None) == bool(report.problems)
    said = "\n".join([*map(str, report.problems), *report.warnings, json.dumps(report.effective)])
    for name, secret in ENVIRON.items():
        assert secret not in said, name


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(alphabet=st.sampled_from("ab:-[]{}'\"#&*!|>%@`,?\n \t$\\x01"), max_size=60) | st.binary(max_size=40)
)
def test_any_text_is_read_or_refused(text, data):
    (data / "config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    report = check(data / "config.yaml", {})
    assert (report.policy is None) == bool(report.problems)
