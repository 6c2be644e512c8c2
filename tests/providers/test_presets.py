"""Each preset's own examples hold, and what it says of the provider is said in full."""

from __future__ import annotations

import pytest

from proxy.config import check
from proxy.config.examples import load_preset, run
from proxy.config.presets import names

PRESETS = names()
EXAMPLES = [(name, index) for name in PRESETS for index in range(len(load_preset(name).about.examples))]


def example_id(value):
    return str(value)


@pytest.mark.parametrize(("name", "index"), EXAMPLES, ids=example_id)
def test_an_example_holds(name, index):
    preset = load_preset(name)
    example = preset.about.examples[index]
    assert (example.name, list(run(example, preset.provider))) == (example.name, [])


def test_there_are_presets_for_every_kind_of_provider():
    categories = {load_preset(name).provider.later["category"] for name in PRESETS}
    assert categories == {"payments", "email", "sms", "shipping", "collaboration"}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_whole_provider_without_warnings(name, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(f"providers: {{{name}: {{preset: {name}}}}}\n")
    report = check(file, {})
    assert (report.problems, report.warnings) == ((), ())


@pytest.mark.parametrize("name", PRESETS)
def test_each_operation_has_an_example(name):
    preset = load_preset(name)
    shown = {example.operation for example in preset.about.examples}
    missing = {operation.name for operation in preset.provider.operations} - shown
    assert missing <= ALIKE.get(name, set())


ALIKE = {
    "github": {"create-pull", "create-release"},  # the same rule as create-issue
    "paypal": {"subscriptions"},  # the same rule as payments-v1
    "slack": {"schedule-message", "create-conversation"},  # the same rule as post-message
}


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_shows_a_lost_answer_and_an_unprotected_call(name):
    examples = load_preset(name).about.examples
    assert any(
        answer.status == "none" and answer.outcome == "ambiguous" for each in examples for answer in each.answers
    )
    assert any(example.operation in (None, "unmatched") for example in examples)


@pytest.mark.parametrize("name", PRESETS)
def test_a_later_no_that_is_not_behind_the_key_is_never_taken_for_the_first_ones(name):
    """Only answers marked behind_key may close earlier attempts: a 429 or 401 never is one."""
    for operation in load_preset(name).provider.operations:
        for matcher in operation.native.behind_key if operation.native else ():
            assert not any(matcher.status.matches(status) and matcher.when is None for status in (401, 403, 429))


def test_an_example_that_is_wrong_is_told():
    """The runner can fail: a preset whose examples were written wrong doesn't pass."""
    preset = load_preset("stripe")
    right = preset.about.examples[0]
    wrong = right.model_copy(
        update={
            "key": "headers.x",
            "outgoing": None,
            "computed": True,
            "answers": (right.answers[0].model_copy(update={"outcome": "rejected", "behind_key": True}),),
        }
    )
    assert list(run(wrong, preset.provider)) == [
        'the key comes from headers."idempotency-key", expected headers.x',
        "computed is False, expected True",
        "the outgoing key goes to header Idempotency-Key, expected None",
        "status 200 on attempt 1 is succeeded, expected rejected",
        "status 200: behind_key is False, expected True",
    ]
    assert list(run(right.model_copy(update={"operation": "v2"}), preset.provider)) == ["met operation v1, expected v2"]


def test_stripe_errors_reach_the_sdk_as_errors():
    """stripe-node takes a document without `error` for a success."""
    answers = load_preset("stripe").provider.answers
    assert answers.members["error"]["message"] == "{detail}"
    assert answers.headers == {"stripe-should-retry": "{retryable}"}


def test_stripe_keys_are_remembered_as_long_as_stripe_says():
    operations = {operation.name: operation.native for operation in load_preset("stripe").provider.operations}
    hour = 3_600_000_000
    assert (operations["v1"].retention_us, operations["v1"].failures) == (24 * hour, "stored")
    assert (operations["v2"].retention_us, operations["v2"].failures) == (30 * 24 * hour, "resumed")
