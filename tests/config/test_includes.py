"""Further files: which are read, and what two of them must not both say."""

from __future__ import annotations

from pathlib import Path

API = "providers: {%s: {base_url: https://x.example}}\n"


def told(report):
    return [str(problem) for problem in report.problems]


def test_included_files_add_to_the_sections(checked):
    report = checked(
        "include: [providers.d/*.yaml, callers.yaml]\n" + API % "one",
        files={
            "providers.d/b.yaml": API % "two",
            "providers.d/a.yaml": API % "three",
            "callers.yaml": "version: 1\ncallers: {shop: {tokens: [t]}}\n",
        },
    )
    assert told(report) == []
    assert sorted(report.policy.providers) == ["one", "three", "two"]
    assert [caller.name for caller in report.policy.callers] == ["shop"]
    assert report.files == tuple(map(Path, ("config.yaml", "providers.d/a.yaml", "providers.d/b.yaml", "callers.yaml")))


def test_a_pattern_may_match_nothing_but_a_name_must_be_there(checked):
    report = checked("include: ['none/*.yaml', gone.yaml]\n" + API % "one")
    assert told(report) == ["config.yaml:1: include[1]: can't read gone.yaml: No such file or directory"]


def test_paths_are_relative_to_the_file_that_says_them(checked):
    report = checked(
        "include: [sub/a.yaml]\n",
        files={
            "sub/a.yaml": "include: [b.yaml]\nproviders: {p: {preset: ./own.yaml}}\n",
            "sub/b.yaml": "ledger: {url: 'postgresql://u:${file:pw}@h/d'}\nserver: {tls: {cert: c.pem, key: c.pem}}\n",
            "sub/own.yaml": "base_url: https://x.example\n",
            "sub/pw": "sekret\n",
            "sub/c.pem": "",
        },
    )
    assert told(report) == []
    assert report.policy.ledger.url == "postgresql://u:sekret@h/d"


def test_what_two_files_say_is_refused_with_both_lines(checked):
    report = checked(
        "include: [other.yaml]\nserver: {listen: 127.0.0.1:1}\n" + API % "one",
        files={"other.yaml": "server:\n  listen: 127.0.0.1:2\n  drain: 1s\nproviders:\n  one: {wait: 1s}\n"},
    )
    assert told(report) == [
        "other.yaml:2: server.listen: is given twice, first at config.yaml:2 (remove one of the two)",
        "other.yaml:5: providers.one: is given twice, first at config.yaml:3 (remove one of the two)",
    ]


def test_anchors_end_with_their_file(checked):
    report = checked(
        "include: [a.yaml]\nx-t: &t {total: 9s}\nproviders: {p: {base_url: https://x.example, timeout: *t}}\n",
        files={"a.yaml": "x-t: &t {total: 8s}\nproviders: {q: {base_url: https://x.example, timeout: *t}}\n"},
    )
    assert told(report) == []
    assert [each.timeout.total_seconds for each in report.policy.providers.values()] == [9.0, 8.0]


def test_presets_of_ones_own_are_watched_too(checked):
    report = checked("providers: {p: {preset: ./own.yaml}}\n", files={"own.yaml": "base_url: https://x.example\n"})
    assert report.files == (Path("config.yaml"), Path("own.yaml"))


def test_a_file_that_includes_itself_is_refused(checked):
    report = checked("include: [a.yaml]\n" + API % "one", files={"a.yaml": "include: [config.yaml]\n"})
    assert told(report) == ["a.yaml:1: include[0]: config.yaml includes itself"]


def test_a_bad_include_is_told_as_such(checked):
    assert told(checked("include: {a: b}\n" + API % "one")) == ["config.yaml:1: include: must be text, not a mapping"]


def test_problems_in_an_included_file_name_it(checked):
    report = checked("include: [a.yaml]\n" + API % "one", files={"a.yaml": "providers:\n  two:\n    wiat: 3s\n"})
    assert told(report) == [
        "a.yaml:2: providers.two.base_url: is required (scheme, host and path that all requests go under)",
        "a.yaml:3: providers.two.wiat: is not known here (did you mean wait?)",
    ]


def test_an_unreadable_included_file_hides_no_other_problem(checked):
    report = checked("include: [a.yaml]\nversion: 2\n" + API % "one", files={"a.yaml": "a: [\n"})
    assert told(report) == [
        (
            "a.yaml:2: not YAML: expected the node content, but found '<stream end>' (an expression inside [] or {} needs quotes: "
            "put the whole expression in single quotes (double any single quote inside))"
        ),
        "config.yaml:2: version: must be 1, not 2",
    ]
