"""Which request line a `match` takes."""

from __future__ import annotations

import pytest

from proxy.config.patterns import compile_pattern, sample
from proxy.core.policy import normal_path

# pattern, path -> does it match
CASES = {
    ("POST /send", "/send"): True,
    ("POST /send", "/send/"): False,
    ("POST /send", "/Send"): False,
    ("POST /send", "/send/more"): False,
    ("POST /send", "/sen"): False,
    ("POST /", "/"): True,
    ("POST /a.b", "/axb"): False,
    ("POST /{id}", "/x"): True,
    ("POST /{id}", "/"): False,
    ("POST /{id}", "/x/y"): False,
    ("POST /{id}", "/a%2Fb"): True,
    ("POST /{id}/refunds", "/ch_1/refunds"): True,
    ("POST /v1/**", "/v1/a/b/c"): True,
    ("POST /v1/**", "/v1/"): True,
    ("POST /v1/**", "/v1"): False,
    ("POST /v1/**", "/v1x/a"): False,
    ("POST /**", "/"): True,
    ("POST /**", "/a\nb"): True,
    # percent-encoding: unreserved characters are themselves, the rest is not decoded
    ("POST /send", "/%73end"): True,
    ("POST /%73end", "/send"): True,
    ("POST /a-b", "/a%2db"): True,
    ("POST /a/b", "/a%2Fb"): False,
    ("POST /a%2Fb", "/a/b"): False,
    ("POST /a%2fb", "/a%2Fb"): True,
    ("POST /a%20b", "/a%20b"): True,
    ("POST /caf\u00e9", "/caf%C3%A9"): True,
    ("POST /caf\u00e9", "/caf%c3%a9"): True,
    ("POST /a:b@c", "/a:b@c"): True,
    ("POST /a+b", "/a+b"): True,
    ("POST /a+b", "/aab"): False,
}


@pytest.mark.parametrize(("line", "path"), CASES)
def test_a_pattern_takes_a_path_or_leaves_it(line, path):
    pattern = compile_pattern(line)
    assert bool(pattern.path.fullmatch(normal_path(path))) == CASES[line, path]


def test_the_method_is_the_first_word():
    assert compile_pattern("DELETE   /x").method == "DELETE"


NORMAL = {
    "/send": "/send",
    "/%73end": "/send",
    "/a%2fb": "/a%2Fb",
    "/%2e%2E/x": "/../x",
    "/%25%37%33": "/%2573",
    "/%zz%4": "/%zz%4",
    "/%7euser": "/~user",
}


@pytest.mark.parametrize("path", NORMAL)
def test_a_path_is_spelled_one_way(path):
    assert normal_path(path) == NORMAL[path]
    assert normal_path(NORMAL[path]) == NORMAL[path]


@pytest.mark.parametrize("line", ["POST /a", "POST /{id}/b", "POST /a/**", "POST /**", "POST /caf\u00e9"])
def test_a_sample_is_taken_by_its_own_pattern(line):
    pattern = compile_pattern(line)
    assert pattern.path.fullmatch(sample(pattern))
