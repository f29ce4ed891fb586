"""The deep check: names, options, bounds and sizes against the real optimizers, optimizees and sites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import optimizers
from l2l_tasks import trial, validation
from l2l_tasks.errors import SpecError
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.spec_file import load, load_with_source
from l2l_tasks.spec_overrides import small_form
from tests.spec.documents import line_of, text_of
from tests.support.local_site import LocalSite

PBT = "population_based_training"
CAMPAIGNS = Path(__file__).resolve().parent.parent.parent / "campaigns"
TWO = """
from optimizees.base import Objective, Optimizee, Result, TaskFamily
from optimizers.space import Float, Space
{start}

class Family(TaskFamily):
    size = {size}
    def task(self, split, index, seed):
        return {task}

class Two(Optimizee):
    objectives = {objectives}
    def __init__(self):
        {init}
    def space(self):
        {space}
    def family(self):
        return Family()
    def evaluate(self, params, task, rng, context):
        return Result([0.0])
"""
OBJECTIVES = '(Objective("a"), Objective("b"))'
ONE = {"objectives": '(Objective("a"),)'}
SPACE = 'return Space({"a": Float(0.0, 1.0)})'
DEEP = "__import__('functools').reduce(lambda inner, _: {'a': inner}, range(5000), {})"
PARTS = {"start": "", "size": "3", "task": "{}", "objectives": OBJECTIVES, "init": "pass", "space": SPACE}


def text_with(parts: dict[str, str]) -> str:
    """The module of an own optimizee, with some parts changed."""
    text = TWO
    for name, default in PARTS.items():
        text = text.replace("{" + name + "}", parts.get(name, default))
    return text


@pytest.fixture
def base(local_site: LocalSite) -> dict[str, Any]:
    """A campaign that can run."""
    return {
        "name": "deep",
        "optimizee": {"name": "sphere", "options": {"dimension": 3}},
        "optimizer": {"name": "cmaes"},
        "budget": {"generations": 1},
        "site": local_site.name,
    }


def found(document: dict[str, Any], folder: Path = CAMPAIGNS) -> dict[str, str]:
    """Field -> message of every problem."""
    return {p.field: p.message for p in validation.check(CampaignSpec.model_validate(document), folder)}


def test_prepares_what_a_campaign_needs(base: dict[str, Any]) -> None:
    base |= {"parameters": {"x": {"low": 0.0, "high": 1.0}}, "execution": {"workers": 2}}
    ready = validation.build(CampaignSpec.model_validate(base), CAMPAIGNS)
    assert ready.space.decode([1.0, 1.0, 1.0]) == {"x": [1.0, 1.0, 1.0]}
    assert ready.batch == optimizers.get("cmaes").default_batch(3)
    assert (ready.in_flight, ready.workers) == (ready.batch, 2)
    assert ready.code.entry == "optimizees.functions:Sphere"
    assert ready.profile.name == base["site"]


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"optimizee": {"name": "spere"}}, "optimizee.name", "did you mean 'sphere'"),
        ({"optimizer": {"name": "cmase"}}, "optimizer.name", "Did you mean 'cmaes'"),
        (
            {"optimizer": {"name": "cmaes", "options": {"population": 0}}},
            "optimizer.options.population",
            "at least 4",
        ),
        (
            {"optimizer": {"name": "cmaes", "options": {"sigm": 1}}},
            "optimizer.options.sigm",
            "did you mean 'sigma'",
        ),
        (
            {"optimizee": {"name": "sphere", "options": {"dim": 2}}},
            "optimizee.options.dim",
            "no option 'dim'",
        ),
        (
            {"optimizee": {"name": "sphere", "options": {"dimension": 0}}},
            "optimizee.options.dimension",
            "at least 1",
        ),
        ({"parameters": {"y": 1.0}}, "parameters.y", "no such parameter"),
        ({"parameters": {"x": {"low": 50.0}}}, "parameters.x", "low"),
        ({"parameters": {"x": {"choices": [1, 2]}}}, "parameters.x", "choices"),
        ({"parameters": {"x": [1.0, 2.0]}}, "parameters.x", "3 elements"),
        ({"parameters": {"x": 1.0}}, "parameters", "nothing is left to optimise"),
        ({"tasks": {"per_individual": 2}}, "tasks.per_individual", "use repeats"),
        (
            {"optimizer": {"name": "random", "options": {"reevaluate": 3}}, "execution": {"batch": 3}},
            "optimizer.options.reevaluate",
            "must be less than the individuals of a generation (3), got 3",
        ),
        ({"optimizer": {"name": PBT}}, "tasks.fresh", "fresh: false"),
        (
            {"optimizer": {"name": PBT}, "tasks": {"fresh": False}, "execution": {"batch": 3}},
            "execution.batch",
            "whole population in flight, 4",
        ),
        (
            {
                "optimizer": {"name": PBT, "options": {"population": 6, "reevaluate": 2}},
                "tasks": {"fresh": False},
                "execution": {"batch": 3, "in_flight": 7},
            },
            "execution.batch",
            "whole population in flight, 8",
        ),
        (
            {
                "optimizer": {"name": "saltelli", "options": {"samples": 8}},
                "execution": {"batch": 10},
                "budget": {"generations": 3},
            },
            "budget.generations",
            "all 40 individuals of its design are evaluated, these are at most 30: at least 4 generations",
        ),
        (
            {
                "optimizer": {"name": "latin_hypercube", "options": {"samples": 20, "reevaluate": 2}},
                "tasks": {"repeats": 3},
                "execution": {"batch": 6},
                "budget": {"evaluations": 72},
            },
            "budget.evaluations",
            "at least 73 evaluations with batch 6",
        ),
        ({"execution": {"in_flight": 2}}, "execution.in_flight", "at least batch (7)"),
        ({"execution": {"batch": 10**9}}, "execution.batch", "at most 1000000"),
        ({"execution": {"batch": 10}, "tasks": {"repeats": 10**6}}, "execution.batch", "at most 1000000"),
        (
            {"optimizee": {"name": "sphere", "options": {"dimension": 10**9}}},
            "parameters",
            "at most 100000 are possible",
        ),
        ({"site": "nowhere"}, "site", "no site profile 'nowhere'"),
        ({"optimizee": {"class": "two:Two", "path": "nowhere"}}, "optimizee.class", "no such folder"),
        ({"optimizee": {"class": "nowhere.two:Two"}}, "optimizee.class", "no package 'nowhere' where l2l"),
    ],
)
def test_a_mistake_is_found_where_it_is(
    base: dict[str, Any], change: dict[str, Any], field: str, message: str
) -> None:
    problems = found(base | change)
    assert list(problems) == [field]
    assert message in problems[field]


def test_all_problems_come_at_once(base: dict[str, Any]) -> None:
    base |= {
        "optimizer": {"name": "cmaes", "options": {"sigma": 0, "population": 1}},
        "parameters": {"y": 1.0, "x": {"low": 99.0}},
        "tasks": {"per_individual": 5},
        "site": "nowhere",
    }
    assert set(found(base)) == {
        "optimizer.options.sigma", "optimizer.options.population", "parameters.y", "parameters.x",
        "tasks.per_individual", "site",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "field", "message"),
    [
        ({}, "optimizer.name", "optimises one objective, the optimizee has 2 (a, b)"),
        ({"objectives": "()"}, "optimizee.class", "objectives"),
        ({"objectives": '(Objective("a"), Objective("a"))'}, "optimizee.class", "different names"),
        ({"space": "raise KeyError('lost')", **ONE}, "optimizee.class", "space() raised KeyError"),
        ({"objectives": "None"}, "optimizee.class", "sequence of Objective, got None"),
        ({"objectives": "('a', 'b')"}, "optimizee.class", "sequence of Objective"),
        ({"objectives": "Objective('a')"}, "optimizee.class", "sequence of Objective"),
        ({"objectives": r"(Objective('a\0'),)"}, "optimizee.class", "printable"),
        ({"objectives": "(Objective(3),)"}, "optimizee.class", "printable"),
        ({"space": "return {'a': Float(0.0, 1.0)}", **ONE}, "optimizee.class", "must return a Space"),
        ({"space": r"return Space({'a\0': Float(0.0, 1.0)})", **ONE}, "optimizee.class", "cannot be stored"),
        ({"space": "raise SystemExit(0)", **ONE}, "optimizee.class", "space() raised SystemExit"),
        ({"start": "raise SystemExit(0)"}, "optimizee.class", "SystemExit"),
        ({"init": "raise SystemExit(0)"}, "optimizee.class", "constructor raised SystemExit"),
        ({"size": "'3'", "objectives": '(Objective("a"),)'}, "tasks", "size must be a whole number"),
        ({"task": DEEP, "objectives": '(Objective("a"),)'}, "tasks", "nested more than"),
        ({"task": "{'a': float('nan')}", "objectives": '(Objective("a"),)'}, "tasks", "must be finite"),
        ({"task": "[]", "objectives": '(Objective("a"),)'}, "tasks", "must be a mapping"),
        ({"task": "1 / 0", "objectives": '(Objective("a"),)'}, "tasks", "ZeroDivisionError"),
    ],
)
def test_mistakes_of_an_own_optimizee_are_explained(
    base: dict[str, Any], tmp_path: Path, parts: dict[str, str], field: str, message: str
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "two.py").write_text(text_with(parts))
    problems = found(base | {"optimizee": {"class": "two:Two", "path": "own"}}, tmp_path)
    assert list(problems) == [field]
    assert message in problems[field]


def test_enough_tasks_are_enough(base: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(text_with({"objectives": '(Objective("a"),)'}))
    own = {"optimizee": {"class": "two:Two", "path": "."}}
    assert found(base | own | {"tasks": {"per_individual": 3}}, tmp_path) == {}
    assert list(found(base | own | {"tasks": {"per_individual": 4}}, tmp_path)) == ["tasks.per_individual"]


def test_held_out_tasks_must_be_there(base: dict[str, Any], tmp_path: Path) -> None:
    """Of a single task nothing is held out; a family may have few, or fail only for these."""
    tested = {"tasks": {"test": {"tasks": 2}}}
    assert found(base | tested, tmp_path) == {
        "tasks.test.tasks": "the optimizee has 0 held-out task(s), got 2",
    }
    code = text_with({"objectives": '(Objective("a"),)'})
    own = {"optimizee": {"class": "two:Two", "path": "."}}
    (tmp_path / "two.py").write_text(code)
    assert found(base | own | tested, tmp_path) == {}
    many = {"tasks": {"test": {"tasks": 100_000, "repeats": 3}}}
    assert list(found(base | own | many, tmp_path)) == ["tasks.test"]
    learners = {"optimizer": {"name": "population_based_training", "options": {"population": 4}}}
    inherits = base | own | learners | {"tasks": {"fresh": False, "test": {"tasks": 2}}}
    assert "untrained" in found(inherits, tmp_path)["tasks.test"]
    (tmp_path / "two.py").write_text(text_with({}))
    front = found(base | own | {"optimizer": {"name": "nsga2"}} | tested, tmp_path)
    assert "front" in front["tasks.test"]
    raising = code.replace(
        "def task(self, split, index, seed):",
        "def task(self, split, index, seed):\n        assert split == 'train'",
    )
    assert raising != code
    (tmp_path / "two.py").write_text(raising)
    assert "AssertionError" in found(base | own | tested, tmp_path)["tasks"]


def test_deep_problems_have_lines_too(base: dict[str, Any], tmp_path: Path) -> None:
    text = text_of(base | {"parameters": {"y": 1.0}, "site": "nowhere"})
    file = tmp_path / "c.yaml"
    file.write_text(text)
    spec, source = load_with_source(file)
    with pytest.raises(SpecError) as caught:
        validation.build(spec, tmp_path, source)
    starts = {problem.split(": ")[0] for problem in caught.value.problems}
    assert starts == {f"{file}:{line_of(text, loc)}" for loc in (("parameters", "y"), ("site",))}
    with pytest.raises(SpecError, match="campaign deep: site: "):
        validation.build(spec, tmp_path)


def fields_of(document: dict[str, Any], folder: Path) -> list[str]:
    """The fields of all problems of a file, in the order of the report."""
    file = folder / "c.yaml"
    file.write_text(text_of(document))
    with pytest.raises(SpecError) as caught:
        validation.load(file)
    return [problem.split(": ")[1] for problem in caught.value.problems]


def test_deep_mistakes_are_found_beside_others(base: dict[str, Any], tmp_path: Path) -> None:
    base["optimizee"] = {"name": "spere", "option": {}}
    base["optimizer"] = {"name": "cmase"}
    base |= {"site": "nowhere", "seed": -1, "execution": {"batch": 10**7, "linger": "x"}}
    assert fields_of(base, tmp_path) == [
        "optimizee.name", "optimizee.option", "optimizer.name", "site", "seed",
        "execution.batch", "execution.linger",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"optimizee": {"name": "sphere", "options": {"dim": 3}}}, ["optimizee.options.dim"]),
        (
            {"optimizee": {"name": "sphere", "options": {"dimension": 0, "noise": -1, "run_tim": 1}}},
            ["optimizee.options.dimension", "optimizee.options.noise", "optimizee.options.run_tim"],
        ),
        (
            {"optimizee": {"name": "sphere", "options": {"dimension": float("nan")}}},
            ["optimizee.options.dimension"],
        ),
        ({"optimizer": {"name": "cmaes", "options": {"sigma": "x"}}}, ["optimizer.options.sigma"]),
        ({"optimizer": {"options": {"sigma": "x"}}}, ["optimizer.name"]),
    ],
)
def test_a_mistake_is_not_the_cause_of_others(
    base: dict[str, Any], tmp_path: Path, change: dict[str, Any], fields: list[str]
) -> None:
    """Three elements need the dimension 3; without what is wrong, it is another."""
    base |= {"parameters": {"x": [1.0, 2.0, 3.0]}, "tasks": {"per_individual": 1}} | change
    if "optimizer" in change:
        del base["parameters"]
    assert sorted(fields_of(base, tmp_path)) == fields


def test_misspelt_parameters_are_named_beside_wrong_options(base: dict[str, Any], tmp_path: Path) -> None:
    base |= {"optimizee": {"name": "sphere", "options": {"dim": 3}}, "parameters": {"xx": 1.0, "other": 2.0}}
    assert fields_of(base, tmp_path) == ["optimizee.options.dim", "parameters.xx"]


def test_options_that_contradict_each_other_are_one_mistake(base: dict[str, Any], tmp_path: Path) -> None:
    text = text_with({**ONE, "init": "pass"}).replace(
        "def __init__(self):",
        "def __init__(self, low=0, high=9):\n        if low >= high: raise ValueError('low, high')",
    )
    (tmp_path / "two.py").write_text(text)
    base |= {
        "optimizee": {"class": "two:Two", "path": ".", "options": {"low": 3, "high": 2}},
        "parameters": {},
    }
    assert fields_of(base, tmp_path) == ["optimizee.options"]


@pytest.mark.parametrize(
    ("start", "what"),
    [
        ("import os; os._exit(0)", "ends the process with exit status 0"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ends the process by signal 11"),
        ("import time; time.sleep(600)", "does not end within 10 s"),
    ],
)
def test_code_that_ends_or_keeps_the_process_is_explained(
    base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, what: str
) -> None:
    monkeypatch.setattr(trial, "PATIENCE", 10.0)
    (tmp_path / "two.py").write_text(text_with({**ONE, "start": start}))
    base |= {"optimizee": {"class": "two:Two", "path": "."}, "seed": -1}
    file = tmp_path / "c.yaml"
    file.write_text(text_of(base))
    with pytest.raises(SpecError) as caught:
        validation.load(file, carefully=True)
    own, seed = caught.value.problems
    assert f"optimizee.class: importing or making it {what}" in own
    assert "seed: must be at least 0" in seed


def test_code_that_behaves_is_tried_and_then_made(base: dict[str, Any], tmp_path: Path) -> None:
    """Also when it prints more than a pipe holds."""
    start = "print('x' * 10**6); open(__file__ + '.made', 'a').write('x')"
    (tmp_path / "two.py").write_text(text_with({**ONE, "start": start}))
    base |= {"optimizee": {"class": "two:Two", "path": "."}}
    file = tmp_path / "c.yaml"
    file.write_text(text_of(base))
    assert validation.load(file, carefully=True).space.names == ("a",)
    assert (tmp_path / "two.py.made").read_text() == "xx"


@pytest.mark.parametrize("file", sorted(CAMPAIGNS.glob("*.yaml")), ids=lambda file: str(file.stem))
def test_shipped_campaigns_are_valid_with_shipped_sites(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("L2L_SITES", "")
    spec = load(file)
    assert spec.name == file.stem
    assert validation.check(spec, file.parent) == []
    assert validation.check(small_form(spec), file.parent) == []


@pytest.mark.parametrize(
    ("small", "field", "message"),
    [
        ({"seed": 2, "optimizee.options.dimensoin": 2}, "optimizee.options.dimensoin", "did you mean"),
        ({"seed": 2, "execution.batch": 10**9}, "execution.batch", "at most 1000000"),
        ({"seed": 2, "optimizer": "sobol", "site": "moon"}, "site", "no site profile 'moon'"),
    ],
)
def test_the_small_form_is_checked_as_well(
    base: dict[str, Any], tmp_path: Path, small: dict[str, Any], field: str, message: str
) -> None:
    """Against the optimizer, the optimizee and the site, with the line of the entry that is wrong."""
    text = text_of({**base, "small": small})
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(SpecError) as caught:
        validation.load(file)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{file}:{line_of(text, ('small', field))}: small.{field}: ")
    assert message in problem
