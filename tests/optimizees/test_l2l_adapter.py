"""Classes in L2L's form give the fitness that they give in L2L; what does not fit is said, not guessed."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimizees
from optimizees.base import Context, Objective, OptimizeeError, OptionsError, Result
from optimizees.l2l_trajectory import Group, Individual, Trajectory, numbers
from tests.support.l2l_stand_ins import FOLDER, HILL, plain

POINT = {"coords": [0.5, -0.5], "width": 0.5, "steps": 2}


def evaluate(options: dict[str, Any], params: dict[str, Any], seed: int = 1) -> Result:
    made = optimizees.load("l2l", options)
    return made.evaluate(params, {}, np.random.default_rng(seed), Context(seed, Path()))


def hill(**options: Any) -> dict[str, Any]:
    return {**HILL, "options": {**HILL["options"], **options}}


def test_fitness_and_results_of_a_class() -> None:
    """10 - (0.25 + 0.25) / 0.5 / 2; texts among the results are left out."""
    found = evaluate(hill(noise=0.0), POINT)
    assert list(found.fitness) == [9.5]
    assert set(found.metrics) == {"detail.largest", "coords"}
    assert found.metrics["detail.largest"] == 0.5
    assert found.metrics["coords"].tolist() == [0.5, -0.5]


def test_bounding_function_is_applied() -> None:
    """Coordinates are clipped to 1."""
    found = evaluate(hill(noise=0.0), {**POINT, "coords": [3.0, -2.0]})
    assert list(found.fitness) == [8.0]


def test_seed_decides_what_global_generators_draw() -> None:
    first = evaluate(hill(noise=1.0), POINT, seed=5)
    random.random()
    np.random.rand()
    assert evaluate(hill(noise=1.0), POINT, seed=5).fitness == first.fitness
    assert evaluate(hill(noise=1.0), POINT, seed=6).fitness != first.fitness


def test_module_is_imported_by_an_evaluation_only() -> None:
    """The controller has neither the module nor what it imports."""
    options = {**HILL, "optimizee": "not_here.at_all:Some"}
    made = optimizees.load("l2l", options)
    assert made.space().names == ("coords", "steps", "width")
    with pytest.raises(OptimizeeError, match=r"not_here\.at_all:Some.*module_path"):
        evaluate(options, POINT)
    with pytest.raises(OptimizeeError, match="stand_ins:Valley"):
        evaluate({**HILL, "optimizee": "stand_ins:Valley"}, POINT)
    with pytest.raises(OptimizeeError, match="neither a class nor a function"):
        evaluate({**HILL, "optimizee": "stand_ins:__doc__"}, POINT)


@pytest.mark.parametrize(
    ("name", "fitness"), [("Plain", [1.0, 2.0]), ("Arguments", [6.0, 5.0]), ("make_arguments", [6.0, 5.0])]
)
def test_constructors_and_several_objectives(name: str, fitness: list[float]) -> None:
    """Only a trajectory; arguments by name, the others as attributes; a function."""
    options = {"Plain": {}, "Arguments": {"seed": 5, "depth": 3}, "make_arguments": {"depth": 3}}[name]
    found = evaluate(plain(name, "first", "second", **options), {"group.x": 0.2})
    assert list(found.fitness) == fitness


def test_constructor_that_cannot_be_served() -> None:
    with pytest.raises(OptimizeeError, match=r"settings, seed, factor.*depth"):
        evaluate(plain("Arguments", "a", "b", depth=3), {"group.x": 0.2})
    with pytest.raises(OptimizeeError, match=r"arguments \(none\).*depth"):
        evaluate(plain("Plain", "a", "b", depth=3), {"group.x": 0.2})


def test_scalar_is_a_fitness_and_nothing_is_none() -> None:
    assert list(evaluate(plain("Scalar", "only"), {"group.x": 0.2}).fitness) == [4.0]
    with pytest.raises(OptimizeeError, match=r"must give a number.*NoneType"):
        evaluate(plain("Nothing", "only"), {"group.x": 0.2})
    with pytest.raises(OptimizeeError, match="gave 2 numbers, but there are 1"):
        evaluate(plain("Plain", "only"), {"group.x": 0.2})


@pytest.mark.parametrize(
    "wrong",
    [
        {"with": {"type": "float", "low": 0.5, "high": 1.5}},
        {"width": {"type": "float", "low": 0.5, "high": 1.5, "shape": [2]}},
    ],
)
def test_parameters_that_are_not_the_class_s_are_refused(wrong: dict[str, Any]) -> None:
    """In L2L, a name that the campaign does not have is silently None there."""
    others = {name: HILL["parameters"][name] for name in ("coords", "steps")}
    options = {**HILL, "parameters": {**others, **wrong}}
    params = optimizees.load("l2l", options).space().default()
    with pytest.raises(OptimizeeError, match=r"'steps': 1, 'width': 1\}, the campaign"):
        evaluate(options, params)


def test_objectives_are_maximised_unless_said_otherwise() -> None:
    assert optimizees.load("l2l", HILL).objectives == (Objective("fitness", "maximize"),)
    named = {**HILL, "objectives": [{"name": "cost", "direction": "minimize"}, {"name": "gain"}]}
    wanted = (Objective("cost", "minimize"), Objective("gain", "maximize"))
    assert optimizees.load("l2l", named).objectives == wanted


def test_environment_is_that_of_the_options() -> None:
    assert optimizees.load("l2l", HILL).environment == ""
    assert optimizees.load("l2l", {**HILL, "environment": "nest"}).environment == "nest"


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"optimizee": "stand_ins.Hill"}, "'optimizee'.*module:Class"),
        ({"module_path": "stand_ins"}, "'module_path'"),
        ({"environment": "../nest"}, "'environment'"),
        ({"parameters": {}}, "'parameters'"),
        ({"parameters": {"x": 1}}, "x must be .*got 1"),
        ({"parameters": {"x": {"name": "y", "type": "float", "low": 0, "high": 1}}}, "x must be .*'y'"),
        ({"parameters": {"x": {"type": "real"}}}, "x: unknown type 'real'"),
        ({"parameters": {"x": {"type": "float", "low": 1, "high": 0}}}, "x: low 1"),
        ({"parameters": {"x": {"type": "float", "lo": 1}}}, "x: .*lo"),
        ({"objectives": []}, "'objectives'"),
        ({"objectives": [{"name": "a", "weight": 1}]}, "weight"),
        ({"objectives": [{"name": "a", "direction": "up"}]}, "'up'"),
        ({"objectives": [{"name": "a"}, {"name": "a"}]}, "name of its own"),
        ({"options": {"not this": 1}}, "not this"),
        ({"options": {"_hidden": 1}}, "_hidden"),
        ({"options": {"class": 1}}, "class"),
    ],
)
def test_wrong_options_are_named(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(OptionsError, match=match):
        optimizees.load("l2l", {**HILL, **wrong})


def test_required_options_are_named() -> None:
    with pytest.raises(OptionsError, match="optimizee"):
        optimizees.load("l2l", {"module_path": FOLDER})


def test_trajectory_has_what_classes_read_and_write() -> None:
    traj = Trajectory(7)
    traj.f_add_parameter_group("runner_params", "settings")
    traj.f_add_parameter_to_group("runner_params", "srun", "")
    traj.f_add_derived_parameter("n_iteration", 3, comment="generations")
    traj.individual.f_add_parameter("seed", 4)
    assert traj.runner_params.params["srun"] == traj["runner_params.srun"] == ""
    assert traj.par["n_iteration"] == traj.n_iteration == traj.parameters.get("n_iteration") == 3
    assert set(traj.par) == set(traj.par.keys()) == {"runner_params", "n_iteration"}
    assert "srun" in traj.par.runner_params
    assert (traj.individual.seed, traj.individual["seed"], list(traj.individual.keys)) == (
        4,
        4,
        ["individual.seed"],
    )
    assert (traj.v_idx, traj.individual.ind_idx, traj.individual.generation) == (7, 7, 0)
    assert (traj.inner_params, traj.retry, traj.is_loaded, traj.debug) == (1, 0, False, False)
    with pytest.raises(AttributeError, match="'pop_size' was not added"):
        traj.pop_size  # noqa: B018


def test_trajectory_can_be_copied() -> None:
    """Some classes write it to a file for a subprocess."""
    traj = Trajectory(7)
    traj.f_add_parameter("scale", 2.0)
    traj.show(Individual(7, {"x": 1.5}))
    again = copy.deepcopy(traj)
    assert (again.scale, again.individual.x, again.individuals[0][0].x) == (2.0, 1.5, 1.5)


def test_results_that_are_numbers() -> None:
    results = Group()
    results.f_add_result_to_group("rates", "mean", np.float32(0.5))
    results.f_add_result(3, [1, 2])
    results["ragged"] = [[1], [1, 2]]
    results.f_add_result("nothing", None)
    results.f_add_result("flag", True)
    found = numbers(results)
    assert set(found) == {"rates.mean", "3"}
    assert found["rates.mean"] == 0.5
    assert found["3"].tolist() == [1, 2]
