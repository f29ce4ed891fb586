"""Changing a specification for one run, and the schema for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from l2l_tasks.errors import SpecError
from l2l_tasks.spec import CampaignSpec, apply_overrides, json_schema
from tests.spec.documents import FULL, WRONG, changed

CAMPAIGNS = Path(__file__).resolve().parent.parent.parent / "campaigns"
SPEC = CampaignSpec.model_validate(FULL)


def test_fields_are_changed_and_the_rest_stays() -> None:
    new = apply_overrides(
        SPEC, {"seed": 5, "batch": 4, "budget.generations": 2, "site": "other", "note": "again"}
    )
    assert (new.seed, new.execution.batch, new.budget.generations, new.site, new.note) == (
        5,
        4,
        2,
        "other",
        "again",
    )
    back = apply_overrides(
        new, {"seed": 12, "execution.batch": 8, "budget.generations": 10, "site": "local", "note": "a note"}
    )
    assert back == SPEC
    assert SPEC.seed == 12


def test_none_changes_nothing() -> None:
    assert apply_overrides(SPEC, {"seed": None, "batch": None, "no.such.field": None}) == SPEC


@pytest.mark.parametrize("key", ["optimizer", "optimizer.name"])
def test_another_optimizer_starts_with_its_defaults(key: str) -> None:
    assert apply_overrides(SPEC, {key: "random"}).optimizer.options == {}
    assert apply_overrides(SPEC, {key: "cmaes"}).optimizer.options == {"population": 8}
    chosen = apply_overrides(SPEC, {key: "genetic", "optimizer.options": {"tournament": 3}})
    assert chosen.optimizer.options == {"tournament": 3}


def test_parameters_and_options_can_be_set() -> None:
    new = apply_overrides(SPEC, {"parameters.x": 3.0, "optimizee.options.dimension": 2})
    assert new.parameters == {"x": 3.0}
    assert new.optimizee.options == {"dimension": 2}


def test_all_mistakes_are_named_as_they_were_given() -> None:
    with pytest.raises(SpecError) as caught:
        apply_overrides(SPEC, {"batch": 0, "seed": "x", "optimiser": "cmaes", "budget.generatons": 3})
    found = sorted(problem.split(":")[0] for problem in caught.value.problems)
    assert found == ["override batch", "override budget.generatons", "override optimiser", "override seed"]
    with pytest.raises(SpecError, match=r"override seed\.x: there is no such field"):
        apply_overrides(SPEC, {"seed.x": 3})


def test_schema_is_the_published_one() -> None:
    """Editors read campaigns/schema.json; `l2l schema` prints what belongs there."""
    assert json.loads((CAMPAIGNS / "schema.json").read_text()) == json_schema()


def test_schema_accepts_every_example() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    validator = jsonschema.Draft202012Validator(json_schema())
    files = sorted(CAMPAIGNS.glob("*.yaml"))
    assert len(files) >= 4
    for file in files:
        assert list(validator.iter_errors(yaml.safe_load(file.read_text()))) == []
    assert list(validator.iter_errors(SPEC.model_dump(mode="json"))) == []


@pytest.mark.parametrize(
    "loc", [("name",), ("execution", "batch"), ("tasks", "aggregate"), ("seed",)], ids=".".join
)
def test_schema_refuses_what_load_refuses(loc: tuple[str, ...]) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    for value in WRONG[loc]:
        document: dict[str, Any] = changed(loc, value)
        assert list(validator.iter_errors(document)), (loc, value)
