"""Changing a specification for one run, and the schema for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from l2l_tasks.errors import SpecError, UserError
from l2l_tasks.spec import CampaignSpec, json_schema
from l2l_tasks.spec_file import load
from l2l_tasks.spec_overrides import apply_overrides, small_form
from tests.spec.documents import FULL, WRONG, changed, line_of, text_of

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


def test_options_of_another_optimizer_can_be_set_in_any_order() -> None:
    changes = {"optimizer.options.tournament": 3, "optimizer": "genetic"}
    for given in (changes, dict(reversed(changes.items()))):
        assert apply_overrides(SPEC, given).optimizer.options == {"tournament": 3}


def test_a_section_that_is_not_there_is_made() -> None:
    bare = CampaignSpec.model_validate({**FULL, "from_campaign": None, "constraints": {}})
    new = apply_overrides(bare, {"from_campaign.campaign": "earlier", "constraints.rate.high": 2})
    assert new.from_campaign is not None
    assert new.from_campaign["campaign"] == "earlier"
    assert new.constraints["rate"]["high"] == 2


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
    with pytest.raises(SpecError, match=r"override small\.seed: there is no such field"):
        apply_overrides(SPEC, {"small.seed": 3})


SMALL = {"optimizee.options.dimension": 2, "budget.generations": 2, "batch": 8, "in_flight": 8}


def test_the_small_form_is_the_campaign_with_these_changes() -> None:
    """Its stored specification is that of a campaign written so: the section belongs to the file."""
    spec = CampaignSpec.model_validate({**FULL, "small": SMALL})
    assert spec.fingerprint() == SPEC.fingerprint()
    small = small_form(spec)
    assert small == apply_overrides(SPEC, SMALL)
    assert (small.name, small.optimizee.options, small.execution.in_flight) == ("full", {"dimension": 2}, 8)
    assert "small" not in small.model_dump(mode="json")


def test_without_the_section_there_is_no_small_form() -> None:
    with pytest.raises(UserError, match=r"campaign full has no small form: give its file a section `small`"):
        small_form(SPEC)


@pytest.mark.parametrize(
    ("small", "field", "message"),
    [
        ({"budget.generatons": 2}, "small.budget.generatons", "did you mean 'generations'"),
        ({"budget.generations": 0}, "small.budget.generations", "must be at least 1"),
        ({"constraints.rate": {"hihg": 1}}, "small.constraints.rate", "{low: number, high: number}"),
        ({"seed.x": 1}, "small.seed.x", "there is no such field"),
        ({"batch": None}, "small.batch", "expected a value"),
        ({"name": "other"}, "small.name", "keeps the name"),
        ({"schedule": "0 3 * * *"}, "small.schedule", "without its small form"),
        ({"small": {"batch": 2}}, "small.small", "there is no such field"),
    ],
)
def test_a_mistake_of_the_small_form_is_found_at_its_entry(
    tmp_path: Path, small: dict[str, Any], field: str, message: str
) -> None:
    text = text_of({**FULL, "small": {"seed": 1, **small}})
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(SpecError) as caught:
        load(tmp_path / "c.yaml")
    (problem,) = caught.value.problems
    line = line_of(text, ("small", next(iter(small))))
    assert problem.startswith(f"{tmp_path / 'c.yaml'}:{line}: {field}: ")
    assert message in problem


def test_what_does_not_fit_an_entry_of_the_small_form_is_a_mistake_of_the_section(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text_of({**FULL, "small": {"resources.time": "5m"}}))
    with pytest.raises(SpecError, match=r": small: then execution: timeout \(600 s\) must not be longer"):
        load(tmp_path / "c.yaml")


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
