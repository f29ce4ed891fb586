"""What every built-in optimizee must keep. A new one is added to SMALL and to nothing else."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimizees
from optimizees.base import DIRECTIONS, Context, Infeasible, Optimizee, OptionsError, Result
from optimizers.space import Float, Space
from tests.support import l2l_stand_ins
from tests.support.optimizee_runner import Runner

# Options with which an evaluation takes a fraction of a second.
SMALL: dict[str, dict[str, Any]] = {
    "ackley": {"dimension": 3},
    "ants": {"ants": 3, "hidden": 4, "ticks": 20},
    "arbor_plasticity": {"neurons": 20, "duration": 2000.0},
    "bandits": {"pulls": 20, "players": 5},
    "brunel": {"neurons": 250, "duration": 300.0},
    # Its parameter makes the file of parameters a valid file of results.
    "command": {
        "command": ["cp", "{params}", "{result}"],
        "parameters": {"fitness": {"type": "float", "low": 0, "high": 1}},
    },
    "digits": {"hidden": 3, "batch": 16},
    "digits_reservoir": {"neurons": 50, "batch": 6},
    "l2l": l2l_stand_ins.HILL,
    "mountain_car": {"steps": 30, "sections": 6},
    "rastrigin": {"dimension": 3, "noise": 0.5},
    "rosenbrock": {"dimension": 3, "run_time": 0.001, "run_time_cv": 1.0},
    "single_cell": {"simulator": "neuron", "dt": 0.05},
    "sinusoid": {"hidden": 4, "queries": 20},
    "sphere": {"dimension": 3},
    "structural_plasticity": {"neurons": 40, "duration": 3000.0},
    "whole_brain": {"warmup": 100.0, "duration": 300.0},
}
REFERENCES = sorted(SMALL)
WRONG = ("much", None, [1], True, math.nan, math.inf)


def test_every_built_in_is_tested() -> None:
    """A built-in that is not in SMALL would escape the suite."""
    assert optimizees.names() == REFERENCES


@pytest.fixture(scope="module", params=REFERENCES)
def reference(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def optimizee(reference: str) -> Optimizee:
    return optimizees.load(reference, SMALL[reference])


@pytest.fixture(scope="module")
def runner(reference: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """The optimizee's staged code, alone, in the interpreter with its simulator."""
    with Runner.start(reference, SMALL[reference], tmp_path_factory.mktemp(reference)) as started:
        yield started


def samples(space: Space, number: int) -> list[dict[str, Any]]:
    """The default, and points from the whole space, its corners included."""
    rng = np.random.default_rng(1)
    corners = [space.decode(np.zeros(space.dimension)), space.decode(np.ones(space.dimension))]
    return [space.default(), *corners, *(space.decode(rng.random(space.dimension)) for _ in range(number))]


def test_has_objectives_and_a_summary(optimizee: Optimizee) -> None:
    names = [objective.name for objective in optimizee.objectives]
    assert len(set(names)) == len(names) > 0
    assert all(objective.direction in DIRECTIONS for objective in optimizee.objectives)
    assert optimizee.summary


def test_space_has_a_valid_default_and_survives_json(optimizee: Optimizee) -> None:
    space = optimizee.space()
    assert space.dimension > 0
    space.validate(space.default())
    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert again.to_json() == space.to_json()


def test_tasks_are_json_and_reproducible(optimizee: Optimizee) -> None:
    family = optimizee.family()
    for split in ("train", "test"):
        task = family.task(split, 3, 5)
        assert json.loads(json.dumps(task, allow_nan=False)) == task
        assert family.task(split, 3, 5) == task


def test_result_has_the_promised_form(optimizee: Optimizee, runner: Runner) -> None:
    """Anywhere in the space: finite numbers, one per objective, or infeasible with a reason."""
    for seed, params in enumerate(samples(optimizee.space(), 3), start=1):
        reply = runner.ask(params, seed)["reply"]
        if reply["status"] == "infeasible":
            assert set(reply) == {"status", "reason"}
            assert reply["reason"]
            continue
        assert set(reply) == {"status", "fitness", "metrics", "curve"}
        assert reply["status"] == "ok"
        assert len(reply["fitness"]) == len(optimizee.objectives)
        values = reply["metrics"].values()
        metrics = [n for value in values for n in (value if isinstance(value, list) else [value])]
        numbers = [*reply["fitness"], *metrics, *reply["curve"]]
        assert all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers)


def test_same_seed_same_result_in_any_order(optimizee: Optimizee, runner: Runner) -> None:
    """Evaluations in between, in the same warm process, leave no trace."""
    start, other = samples(optimizee.space(), 1)[0], samples(optimizee.space(), 1)[3]
    first = runner.ask(start, 7)
    runner.ask(other, 8)
    assert runner.ask(start, 7) == first
    assert first["reply"]["status"] == "ok", "the default parameters must be feasible"


@pytest.mark.parametrize("seed", [1, 2**31 - 1, 2**32 - 1, 2**53])
def test_takes_every_seed(optimizee: Optimizee, runner: Runner, seed: int) -> None:
    reply = runner.ask(optimizee.space().default(), seed)
    assert reply["reply"]["status"] == "ok"


def test_scratch_is_left_empty_or_to_the_worker(
    reference: str, optimizee: Optimizee, runner: Runner
) -> None:
    """Nothing is written beside the scratch folder, which is the working folder here."""
    runner.ask(optimizee.space().default(), 3)
    code, staged = runner.scratch.parent / "code", optimizees.code_bundle(reference).files
    files = [p.relative_to(code).as_posix() for p in code.rglob("*") if p.is_file() and p.suffix != ".pyc"]
    strangers = [name for name in files if name not in staged]
    assert strangers == []


def test_unknown_option_is_named_with_the_known_ones(reference: str) -> None:
    option = next(iter(inspect.signature(type(optimizees.load(reference, SMALL[reference]))).parameters))
    with pytest.raises(OptionsError, match=f"'{option}x'; did you mean '{option}'"):
        optimizees.load(reference, {f"{option}x": 1})


def test_every_option_refuses_what_is_no_number(reference: str) -> None:
    for option in inspect.signature(type(optimizees.load(reference, SMALL[reference]))).parameters:
        for wrong in WRONG[1:] if option == "environment" else WRONG:  # that is any word
            with pytest.raises(OptionsError, match=option):
                optimizees.load(reference, {**SMALL[reference], option: wrong})


class Looking(Optimizee):
    """Keeps the context that it is given."""

    def space(self) -> Space:
        return Space({"x": Float(0.0, 1.0)})

    def evaluate(
        self, params: dict[str, Any], task: dict[str, Any], rng: np.random.Generator, context: Context
    ) -> Result:
        assert (task, rng.bit_generator.state["bit_generator"]) == ({}, "PCG64")
        self.context = context
        if params["x"] > 0.5:
            raise Infeasible("x" * 10**6)
        return Result([params["x"]])


REQUEST = {
    "params": {"x": 0.5},
    "task": {"split": "train", "index": 0, "seed": 1},
    "seed": 7,
    "scratch": "/scratch",
}


def test_the_context_of_a_request() -> None:
    """The folders that a worker names; without them, as in a trial by hand, the scratch folder."""
    optimizee, named = Looking(), {"checkpoint": "/check", "inherited": "/parent", "artifacts": "/keep"}
    assert optimizee.evaluate_json({**REQUEST, **named, "deadline": 5.0})["fitness"] == [0.5]
    folders = (Path("/check"), Path("/parent"), Path("/keep"))
    assert optimizee.context == Context(7, Path("/scratch"), 5.0, *folders)
    optimizee.evaluate_json(REQUEST)
    scratch = Path("/scratch")
    assert optimizee.context == Context(7, scratch, None, scratch, None, scratch)


def test_a_reason_without_end_is_cut() -> None:
    """Guards an infeasible answer that would be refused for its size."""
    reply = Looking().evaluate_json({**REQUEST, "params": {"x": 1.0}})
    assert reply == {"status": "infeasible", "reason": "x" * 2000}
