"""The example, the reference and the schema: true, whole and fresh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from proxy.config import check, schema
from proxy.config.models.provider import Root
from proxy.config.reading import bare
from proxy.config.reference import page, schema_text

HERE = Path(__file__).parent
TOP = HERE.parents[1]

ENVIRON = {
    "DB_PASSWORD": "db-password",
    "LEDGER_KEY": "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY=",
    "OPS_TOKEN": "ops-token",
    "SHOP_TOKEN": "shop-token",
    "HOOK_SECRET": "hook-secret",
    "STRIPE_KEY": "sk_test_1",
    "CRM_KEY": "crm-key",
    "BANK_SECRET": "bank-secret",
}


def test_the_example_at_the_top_is_valid_without_an_environment():
    report = check(TOP / "config.yaml", {})
    assert (report.problems, report.warnings) == ((), ())
    assert report.policy.ledger.url.startswith("sqlite:///")
    assert {operation.name for operation in report.policy.providers["inventory"].operations} == {"reserve", "set-level"}


def test_the_file_with_every_field_is_valid():
    report = check(HERE / "data/full.yaml", ENVIRON)
    assert report.problems == ()
    assert set(report.policy.providers) == {"stripe", "crm", "bank", "mailer", "included"}


def test_every_field_of_the_models_is_in_that_file():
    text = (HERE / "data/full.yaml").read_text()
    tree = yaml.safe_load(text)
    missing = sorted(set(fields(Root, "")) - set(written(tree, Root, "")))
    assert missing == []


def fields(model: type[BaseModel], path: str):
    """The path of each field, by name."""
    for name, info in model.model_fields.items():
        below = f"{path}.{info.alias or name}"
        if below == ".defaults":
            continue
        yield below
        nested = model_of(info.annotation)
        if nested is not None:
            yield from fields(nested, below)


def model_of(annotation: Any) -> type[BaseModel] | None:
    found = bare(annotation)
    arguments = getattr(found, "__args__", ())
    if isinstance(found, type) and not arguments:
        return found if issubclass(found, BaseModel) else None
    return model_of(arguments[-1 if found.__origin__ is dict else 0]) if arguments else None


def written(node: Any, model: type[BaseModel], path: str):
    """The paths of the fields that are written somewhere; free keys are left out of them."""
    if isinstance(node, list):
        for item in node:
            yield from written(item, model, path)
    if not isinstance(node, dict):
        return
    known = {info.alias or name: info for name, info in model.model_fields.items()}
    for key, value in node.items():
        if key in known:
            yield f"{path}.{key}"
            nested = model_of(known[key].annotation)
            if nested is not None:
                is_free = getattr(bare(known[key].annotation), "__origin__", None) is dict
                below = list(value.values()) if is_free and isinstance(value, dict) else value
                yield from written(below, nested, f"{path}.{key}")


def test_every_field_has_a_description():
    def undescribed(model: type[BaseModel], path: str):
        for name, info in model.model_fields.items():
            if not info.description:
                yield f"{path}.{name}"
            nested = model_of(info.annotation)
            if nested is not None:
                yield from undescribed(nested, f"{path}.{name}")

    assert list(undescribed(Root, "")) == []


def test_the_reference_is_fresh():
    """If not: python -m proxy.config.reference docs."""
    text = (TOP / "docs/configuration.md").read_text()
    assert page(text) == text


def test_the_schema_is_fresh():
    """If not: python -m proxy.config.reference docs."""
    assert (TOP / "docs/config.schema.json").read_text() == schema_text()


@pytest.mark.parametrize("file", ["config.yaml", "tests/config/data/full.yaml"])
def test_the_schema_takes_what_the_loader_takes(file):
    validator = jsonschema.Draft202012Validator(schema())
    jsonschema.Draft202012Validator.check_schema(schema())
    document = json.loads(json.dumps(yaml.safe_load((TOP / file).read_text())))
    assert [error.message for error in validator.iter_errors(document)] == []


REFUSED = {
    "an unknown key": {"serevr": {}},
    "a number for a duration": {"defaults": {"wait": 10}},
    "a duration without a unit": {"defaults": {"wait": "10"}},
    "another mode": {"providers": {"a": {"mode": "enforced"}}},
    "an operation without a name": {"providers": {"a": {"operations": [{"match": "POST /"}]}}},
    "a word for a flag": {"server": {"allow_anonymous": "yes"}},
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_schema_refuses(what):
    assert list(jsonschema.Draft202012Validator(schema()).iter_errors(REFUSED[what])) != []


def test_ten_lines_are_ten_lines():
    """The promise on the first page of the reference."""
    text = (TOP / "docs/configuration.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```yaml\n")[1:3]]
    assert len(blocks[1].strip().splitlines()) <= 10
    for block in blocks:
        assert yaml.safe_load(block)["providers"]


@pytest.mark.parametrize("index", [0, 1])
def test_the_examples_of_the_reference_are_valid(index, checked):
    text = (TOP / "docs/configuration.md").read_text()
    report = checked(text.split("```yaml\n")[1 + index].split("```")[0])
    assert (report.problems, report.warnings) == ((), ())


def test_every_preset_is_named_in_the_reference():
    from proxy.config.presets import names

    text = (TOP / "docs/configuration.md").read_text()
    assert [name for name in names() if f"`{name}`" not in text] == []
