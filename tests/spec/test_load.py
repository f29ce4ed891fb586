"""Reading campaign files: round trips, and every mistake with its line."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l2l_tasks.errors import SpecError, UserError
from l2l_tasks.spec import CampaignSpec, parse
from l2l_tasks.spec_file import load, load_with_source
from l2l_tasks.spec_problems import keys_of, section_at
from tests.spec.documents import FULL, SECTIONS, WRONG, changed, line_of, text_of

FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
MINIMAL = {
    "name": "a",
    "optimizee": {"name": "sphere"},
    "optimizer": {"name": "cmaes"},
    "budget": {"generations": 1},
}
PLACE = re.compile(r"(?P<file>.+?):(?P<line>[0-9]+): (?:(?P<field>[a-z_][^ ]*): )?(?P<what>.+)", re.DOTALL)


def problems(folder: Path, text: str) -> list[re.Match[str]]:
    """What `load` says about a file, taken apart."""
    file = folder / "c.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load(file)
    found = [PLACE.fullmatch(problem) for problem in caught.value.problems]
    assert found
    for match in found:
        assert match is not None, caught.value.problems
        assert match["file"] == str(file)
    return [match for match in found if match is not None]


def test_the_full_file_is_valid_and_survives_json(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text_of(FULL))
    spec, source = load_with_source(tmp_path / "c.yaml")
    assert spec.budget.wall_time == 5400.0
    assert spec.resources.time == 1800.0
    assert spec.resources.memory == 2048
    assert CampaignSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert source.line(("budget", "target")) == line_of(text_of(FULL), ("budget", "target"))


def test_defaults_are_as_documented() -> None:
    spec = CampaignSpec.model_validate(MINIMAL)
    assert (spec.site, spec.seed, spec.execution.on_failure) == ("local", 0, "retry")
    assert (spec.execution.batch, spec.execution.in_flight, spec.execution.workers) == (None, None, None)
    assert (spec.resources.time, spec.execution.linger, spec.execution.attempts) == (3600.0, 60.0, 3)


# NUL and halves of surrogate pairs are refused: PostgreSQL cannot hold them.
_STORABLE = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=50)
_SECTION_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "description": _STORABLE,
        "note": _STORABLE,
        "tags": st.lists(
            st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126)), max_size=5
        ),
        "schedule": st.sampled_from([None, "@daily", "*/5 0 1,15 * mon-fri"]),
        "execution": st.fixed_dictionaries(
            {},
            optional={
                "batch": st.integers(1, 100),
                "in_flight": st.integers(100, 1000),
                "workers": st.integers(1, 10**6),
                "linger": st.integers(0, 10**6) | st.floats(0, 1e6),
                "timeout": st.integers(1, 3600),
                "on_failure": st.sampled_from(["retry", "worst", "infeasible"]),
            },
        ),
        "resources": st.fixed_dictionaries(
            {},
            optional={
                "gpus": st.integers(0, 8),
                "memory": st.integers(1, 10**6).map(lambda n: f"{n}M"),
                "time": st.integers(3600, 10**6),
                "extra": st.dictionaries(
                    st.from_regex(r"--x[a-z0-9-]{0,5}", fullmatch=True),
                    st.sampled_from(["", "a b", None]),
                    max_size=3,
                ),
            },
        ),
        "parameters": st.dictionaries(
            _STORABLE.filter(bool),
            st.floats(allow_nan=False, allow_infinity=False)
            | st.lists(st.integers(-5, 5), max_size=3)
            | st.just({"low": -1.0, "high": 1.5})
            | _STORABLE,
            max_size=4,
        ),
    },
)


@FILES
@given(extra=_SECTION_VALUES, shuffle=st.randoms())
def test_round_trip_through_yaml_and_json(tmp_path: Path, extra: dict[str, Any], shuffle: Any) -> None:
    """What is written is what is read, whatever the order of the keys."""
    spec = CampaignSpec.model_validate({**MINIMAL, **extra})
    dumped = spec.model_dump(mode="json")
    keys = list(dumped)
    shuffle.shuffle(keys)
    file = tmp_path / "c.yaml"
    file.write_text(text_of({key: dumped[key] for key in keys}), encoding="utf-8")
    again = load(file)
    assert again == spec
    assert again.fingerprint() == spec.fingerprint()


@given(extra=_SECTION_VALUES)
def test_fingerprint_is_that_of_the_content(extra: dict[str, Any]) -> None:
    spec = CampaignSpec.model_validate({**MINIMAL, **extra})
    other = spec.model_copy(update={"seed": spec.seed + 1})
    assert spec.fingerprint() != other.fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", spec.fingerprint())


@pytest.mark.parametrize("loc", sorted(WRONG), ids=".".join)
def test_a_wrong_field_is_named_with_its_line(tmp_path: Path, loc: tuple[str, ...]) -> None:
    """Each wrong value of each field: one problem at least, all of them at that field's line or inside it."""
    for value in WRONG[loc]:
        text = text_of(changed(loc, value))
        first = line_of(text, loc)
        last = first + text_of({loc[-1]: value}).count("\n") - 1
        for problem in problems(tmp_path, text):
            assert first <= int(problem["line"]) <= last, (value, problem[0])
            assert (problem["field"] or "").startswith(".".join(loc)), (value, problem[0])


def test_every_field_has_wrong_values() -> None:
    """A new field without a test of its mistakes is noticed."""
    fields: set[tuple[str, ...]] = {(name,) for name in keys_of(CampaignSpec) if name not in SECTIONS}
    for name in SECTIONS:
        section = section_at(CampaignSpec, (name,))
        assert section is not None
        fields |= {(name, key) for key in keys_of(section)}
    tested_with_their_section = {("optimizee", "name"), ("optimizee", "class"), ("optimizee", "path")}
    assert fields - tested_with_their_section <= set(WRONG)


@FILES
@given(
    places=st.sets(st.sampled_from(sorted(set(WRONG) - {(s,) for s in SECTIONS})), min_size=2, max_size=6),
    data=st.data(),
)
def test_all_mistakes_are_reported_at_once(
    tmp_path: Path, places: set[tuple[str, ...]], data: st.DataObject
) -> None:
    outermost = {p for p in places if not any(p[:n] in places for n in range(1, len(p)))}
    document = copy.deepcopy(FULL)
    for loc in outermost:
        inner = document
        for key in loc[:-1]:
            inner = inner[key]
        wrong = WRONG[loc]
        if loc == ("execution", "in_flight") and ("execution", "batch") in outermost:
            wrong = wrong[1:]  # the first is too small for its batch, which says nothing of a wrong batch
        inner[loc[-1]] = data.draw(st.sampled_from(wrong))
    found = [match["field"] or "" for match in problems(tmp_path, text_of(document))]
    assert {loc for loc in outermost if not any(f.startswith(".".join(loc)) for f in found)} == set()


@pytest.mark.parametrize("section", [(), *((name,) for name in SECTIONS)], ids=".".join)
def test_unknown_keys_are_named_with_what_is_allowed(tmp_path: Path, section: tuple[str, ...]) -> None:
    model = section_at(CampaignSpec, section)
    assert model is not None
    for key in keys_of(model):
        misspelt = key[:-1] + "xx" + key[-1] if len(key) > 3 else key + "x"
        text = text_of(changed((*section, misspelt), 1))
        (problem,) = problems(tmp_path, text)
        assert int(problem["line"]) == line_of(text, (*section, misspelt))
        assert problem["field"] == ".".join((*section, misspelt))
        assert "unknown key; did you mean" in problem["what"]
        assert all(allowed in problem["what"] for allowed in keys_of(model))


@pytest.mark.parametrize("key", ["name", "optimizee", "optimizer", "budget"])
def test_missing_parts_are_named(tmp_path: Path, key: str) -> None:
    (problem,) = problems(tmp_path, text_of({k: v for k, v in FULL.items() if k != key}))
    assert problem["field"] == key
    assert "is missing" in problem["what"]


def test_timeout_must_fit_into_a_worker(tmp_path: Path) -> None:
    text = text_of(changed(("execution", "timeout"), "31m"))
    (problem,) = problems(tmp_path, text)
    assert int(problem["line"]) == line_of(text, ("execution",))
    assert "lifetime of a worker" in problem["what"]


def test_mistakes_hidden_by_others_are_found_too(tmp_path: Path) -> None:
    """pydantic compares the fields of a section only when each of them is right."""
    document = changed(("execution", "timeout"), "31m")
    document["resources"]["cpus"] = 0
    document["budget"] = {"target": "low"}
    document["resources"]["extra"] = {"-n": "1", "--array": "1"}
    found = {match["field"]: match["what"] for match in problems(tmp_path, text_of(document))}
    assert list(found) == ["budget", "budget.target", "resources.cpus", "resources.extra", "execution"]
    assert "at least one of generations" in found["budget"]
    assert "'-n'" in found["resources.extra"]
    assert "--array is set by l2l" in found["resources.extra"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"budget": {"generations": "ten"}}, "budget.generations"),
        ({"budget": {"generation": 10}}, "budget.generation"),
        ({"budget": 10}, "budget"),
        ({"optimizee": {"nmae": "sphere"}}, "optimizee.nmae"),
        ({"optimizee": {"class": "no class", "path": "."}}, "optimizee.class"),
        ({"optimizer": {"nam": "cmaes"}}, "optimizer.nam"),
        ({"optimizer": {"name": 3}}, "optimizer.name"),
        ({"resources": {"time": "soon"}, "execution": {"timeout": "9h"}}, "resources.time"),
        ({"resources": 3, "execution": {"timeout": "9h"}}, "resources"),
        ({"execution": {"batch": "ten", "in_flight": 3}}, "execution.batch"),
        ({"tags": [3, "a"]}, "tags.0"),
    ],
)
def test_one_mistake_is_one_problem(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    """What is dropped because it is wrong is not missed afterwards."""
    assert [match["field"] for match in problems(tmp_path, text_of({**MINIMAL, **change}))] == [field]


def test_what_is_no_yaml_value_is_one_problem(tmp_path: Path) -> None:
    text = text_of(MINIMAL).replace("name: cmaes", "name: !!python/name:os.system ''") + "seed: -1\n"
    assert [match["field"] for match in problems(tmp_path, text)] == ["optimizer.name", "seed"]


def test_a_misspelt_section_is_not_missing_too(tmp_path: Path) -> None:
    document = {key if key != "optimizer" else "optimiser": value for key, value in MINIMAL.items()}
    (problem,) = problems(tmp_path, text_of(document))
    assert problem["field"] == "optimiser"
    assert "did you mean 'optimizer'" in problem["what"]


def test_empty_sections_mean_their_defaults(tmp_path: Path) -> None:
    """A section whose lines are all commented out."""
    document = {**FULL, "tasks": None, "execution": None, "parameters": None}
    document["optimizer"] = {"name": "cmaes", "options": None}
    (tmp_path / "c.yaml").write_text(text_of(document))
    spec = load(tmp_path / "c.yaml")
    assert spec.execution.batch is None
    assert spec.optimizer.options == {}


def test_no_gpus_is_not_a_request() -> None:
    assert CampaignSpec.model_validate({**MINIMAL, "resources": {"gpus": 0}}).resources.gpus is None


def test_own_class_needs_its_folder() -> None:
    spec = CampaignSpec.model_validate({**MINIMAL, "optimizee": {"class": "my.model:Mine", "path": "model"}})
    assert spec.optimizee.reference == "my.model:Mine"
    for wrong in ("Mine", "my model:Mine", ":Mine", "a:b:c", "a-b:C"):
        assert parse({**MINIMAL, "optimizee": {"class": wrong, "path": "."}})[1]


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys_of(CampaignSpec)), inner)
        ),
        max_leaves=10,
    )
)
def test_no_value_at_all_makes_it_crash(value: Any) -> None:
    """A trigger form or an old row may hold anything."""
    spec, found = parse(value)
    assert (spec is None) == bool(found)


def test_reading_a_specification_is_light() -> None:
    """Airflow imports it each time it parses its DAGs."""
    code = (
        "import sys; from pathlib import Path; from l2l_tasks import spec, spec_file; "
        f"spec_file.load(Path({str(_campaigns() / 'sphere-cmaes.yaml')!r})); spec.json_schema(); "
        "heavy = {'numpy', 'scipy', 'sqlalchemy', 'mlflow', 'airflow', 'rich', 'typer'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_campaigns().parent
    )
    assert done.stdout.strip() == "[]"


def test_spec_errors_are_the_users() -> None:
    assert issubclass(SpecError, UserError)


def _campaigns() -> Path:
    return Path(__file__).resolve().parent.parent.parent / "campaigns"
