"""Defaults, then the preset, then the provider's own; and lines that survive it."""

from __future__ import annotations

PRESET = """\
base_url: https://api.example.com
hosts: [api.example.com]
timeout: {connect: 3s, total: 20s}
answers: {members: {error: {message: "{detail}", code: "{reason}"}}}
operations:
  - name: send
    match: POST /send
    native: {header: X-Key, retention: 24h, locks: true, failures: stored}
    outcomes:
      - {status: 400, is: rejected}
  - name: rest
    match: POST /**
    timeout: {total: 25s}
sources: [somewhere]
"""


def effective(checked, own, *, preset=PRESET, defaults=""):
    """The effective provider, and what is wrong."""
    text = f"{defaults}providers:\n  api:\n    preset: ./preset.yaml\n{own}"
    report = checked(text, files={"preset.yaml": preset})
    return report.effective["providers"]["api"], [str(problem) for problem in report.problems]


def operation(provider, name):
    return next(each for each in provider["operations"] if each["name"] == name)


def test_a_preset_alone_is_what_it_says(checked):
    provider, problems = effective(checked, "")
    assert problems == []
    assert provider["base_url"] == "https://api.example.com"
    assert provider["timeout"] == {"connect": "3s", "total": "20s"}
    assert [each["name"] for each in provider["operations"]] == ["send", "rest"]


def test_mappings_merge_key_by_key(checked):
    provider, problems = effective(
        checked, "    timeout: {total: 40s}\n    answers: {members: {error: {code: x}}, headers: {x-a: b}}\n"
    )
    assert problems == []
    assert provider["timeout"] == {"connect": "3s", "total": "40s"}
    assert provider["answers"] == {
        "members": {"error": {"message": "{detail}", "code": "x"}},
        "headers": {"x-a": "b"},
    }


def test_null_takes_away_what_is_inherited(checked):
    provider, problems = effective(
        checked,
        "    timeout: {connect: null}\n    answers: {members: {error: {code: null}}}\n    hosts: null\n"
        "    operations: [{name: send, native: null}]\n",
    )
    assert problems == []
    assert provider["timeout"] == {"connect": "5s", "total": "20s"}
    assert provider["answers"]["members"] == {"error": {"message": "{detail}"}}
    assert "hosts" not in provider
    assert "native" not in operation(provider, "send")


def test_null_for_the_credential_means_none(checked):
    provider, problems = effective(checked, "    credential: null\n")
    assert problems == []
    assert operation(provider, "send")["credential"] is None


def test_a_null_in_a_free_mapping_takes_the_entry_away(checked):
    provider, _ = effective(checked, "", preset=PRESET.replace("members: {error:", "members: {gone: null, error:"))
    assert list(provider["answers"]["members"]) == ["error"]


def test_operations_merge_by_name_where_they_stand(checked):
    provider, problems = effective(
        checked, "    operations: [{name: rest, wait: 1s}, {name: send, native: {locks: false}}]\n"
    )
    assert problems == []
    assert [each["name"] for each in provider["operations"]] == ["send", "rest"]
    assert operation(provider, "send")["native"] == {
        "header": "X-Key", "retention": "1d", "locks": False, "failures": "stored", "natural": False, "format": "uuid",
    }  # fmt: skip
    assert operation(provider, "rest")["wait"] == "1s"


def test_new_operations_come_before_inherited_ones(checked):
    provider, problems = effective(checked, "    operations: [{name: special, match: POST /special}]\n")
    assert problems == []
    assert [each["name"] for each in provider["operations"]] == ["special", "send", "rest"]


def test_own_outcomes_come_before_inherited_ones(checked):
    provider, problems = effective(
        checked,
        "    operations: [{name: send, outcomes: [{status: 422, is: rejected}]}]\n",
        defaults="defaults: {outcomes: [{status: 418, is: ambiguous}]}\n",
    )
    assert problems == []
    assert [each["status"] for each in operation(provider, "send")["outcomes"]] == [[422], [400], [418]]
    assert [each["status"] for each in operation(provider, "rest")["outcomes"]] == [[418]]


def test_other_lists_replace(checked):
    provider, problems = effective(
        checked, "    hosts: [b.example]\n    operations: [{name: send, match: PUT /send}]\n"
    )
    assert problems == []
    assert provider["hosts"] == ["b.example"]
    assert operation(provider, "send")["match"] == ["PUT /send"]


def test_the_innermost_level_wins(checked):
    provider, problems = effective(
        checked,
        "    wait: 3s\n    operations: [{name: send, wait: 4s}]\n",
        defaults="defaults: {wait: 1s, timeout: {connect: 1s, total: 90s}, concurrency: 7, key: {window: 2h}}\n",
    )
    assert problems == []
    assert (operation(provider, "send")["wait"], operation(provider, "rest")["wait"]) == ("4s", "3s")
    assert provider["timeout"] == {"connect": "3s", "total": "20s"}
    assert operation(provider, "rest")["timeout"] == {"connect": "3s", "total": "25s"}
    assert provider["concurrency"] == 7
    assert operation(provider, "send")["key"]["window"] == "2h"


def test_a_preset_may_be_made_of_another(checked):
    text = "providers: {api: {preset: ./mine.yaml, wait: 2s}}\n"
    report = checked(text, files={"mine.yaml": "preset: stripe\ntimeout: {total: 50s}\n"})
    assert report.problems == ()
    provider = report.effective["providers"]["api"]
    assert (provider["base_url"], provider["timeout"]["total"]) == ("https://api.stripe.com", "50s")


def test_a_preset_made_of_itself_is_refused(checked):
    report = checked(
        "providers: {api: {preset: ./a.yaml}}\n", files={"a.yaml": "preset: ./b.yaml\n", "b.yaml": "preset: ./a.yaml\n"}
    )
    assert [str(problem) for problem in report.problems] == ["a.yaml:1: preset: this preset is made of itself"]


def test_complaints_name_the_line_that_said_it(checked):
    """Of each value the file, line and path where it was written, whatever it was merged into."""
    _, problems = effective(
        checked,
        "    operations:\n      - name: send\n        native:\n          max_length: 20\n",
        preset=PRESET.replace("total: 20s", "total: 20x").replace("status: 400", "status: 900"),
        defaults="defaults:\n  wait: soon\n",
    )
    assert problems == [
        "config.yaml:2: defaults.wait: 'soon' is not a duration (write a whole number and a unit: 500ms 30s 5m 24h 90d)",
        (
            "config.yaml:9: providers.api.operations[0].native.max_length: 20 is too short for a uuid key of 36 characters "
            "(format: raw sends the caller's own key, up to 255 characters)"
        ),
        "preset.yaml:3: timeout.total: '20x' is not a duration (write a whole number and a unit: 500ms 30s 5m 24h 90d)",
        "preset.yaml:10: operations[0].outcomes[0].status: 900 is not an HTTP status",
    ]


def test_a_default_that_is_wrong_is_told_once(checked):
    text = "defaults: {timeout: {connect: 1}}\nproviders:\n" + "".join(
        f"  p{n}: {{base_url: https://x.example, operations: [{{name: o, match: POST /}}]}}\n" for n in range(3)
    )
    assert [str(problem) for problem in checked(text).problems] == [
        "config.yaml:1: defaults.timeout.connect: 1 is not a duration (a duration needs a unit: 1s, say)"
    ]


def test_defaults_may_hold_a_part_of_what_operations_say(checked):
    text = (
        "defaults: {native: {format: hex32, locks: true}}\nproviders: {api: {base_url: https://x.example, operations: "
        "[{name: o, match: POST /, native: {header: X-Key, retention: 1d}}]}}\n"
    )
    report = checked(text)
    assert report.problems == ()
    native = report.effective["providers"]["api"]["operations"][0]["native"]
    assert (native["format"], native["locks"]) == ("hex32", True)
