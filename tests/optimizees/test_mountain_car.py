"""The car's dynamics, and that the network really drives it (real NEST)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optimizees
from optimizees.base import OptionsError
from optimizees.mountain_car import BACK, GOAL, OUTPUTS, START, TOP_SPEED, drive, section
from tests.support.optimizee_runner import Runner

SECTIONS, HIDDEN = 30, 5
BACKWARDS, FORWARD = 0, 2


def weights() -> tuple[np.ndarray, np.ndarray]:
    """A network without connections: input to hidden, hidden to output."""
    return np.zeros((HIDDEN, 2 * SECTIONS)), np.zeros((OUTPUTS, HIDDEN))


def given_as(w_hidden: np.ndarray, w_output: np.ndarray) -> dict[str, Any]:
    return {"w_hidden": w_hidden.tolist(), "w_output": w_output.tolist()}


def along_the_motion() -> dict[str, Any]:
    """Thrust in the direction of the motion: each half of the speeds has a hidden neuron and an output."""
    w_hidden, w_output = weights()
    w_hidden[0, SECTIONS : SECTIONS * 3 // 2] = w_hidden[1, SECTIONS * 3 // 2 :] = 20.0
    w_output[BACKWARDS, 0] = w_output[FORWARD, 1] = 20.0
    return given_as(w_hidden, w_output)


def always(output: int) -> dict[str, Any]:
    """The same output whatever the state."""
    w_hidden, w_output = weights()
    w_hidden[0, :] = w_output[output, 0] = 20.0
    return given_as(w_hidden, w_output)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner.start("mountain_car", {"steps": 130}, tmp_path_factory.mktemp("car")) as started:
        yield started


@pytest.mark.parametrize("index", range(5))
def test_thrust_along_the_motion_reaches_the_goal(runner: Runner, index: int) -> None:
    reply = runner.ask(along_the_motion(), 1, index=index)["reply"]
    assert reply["fitness"] == [GOAL]
    assert reply["metrics"]["reached"] == 1.0
    assert 100 < reply["metrics"]["steps"] < 130


def test_network_decides_as_its_weights_say(runner: Runner) -> None:
    """The same drive by hand, without a network, comes to the goal in the same number of steps."""
    start = optimizees.load("mountain_car", {}).family().task("train", 0, 1)["start"]
    position, speed, steps = start, 0.0, 0
    while position < GOAL:
        position, speed = drive(position, speed, 1 if speed >= 0 else -1)
        steps += 1
    reply = runner.ask(along_the_motion(), 1)["reply"]
    assert reply["metrics"] == {"reached": 1.0, "steps": steps, "thrust_share": 1.0}


@pytest.mark.parametrize("output", [BACKWARDS, FORWARD])
def test_the_engine_alone_is_too_weak(runner: Runner, output: int) -> None:
    reply = runner.ask(always(output), 1)["reply"]
    assert START[0] <= reply["fitness"][0] < 0.0
    assert reply["metrics"]["steps"] == 130
    assert reply["metrics"]["thrust_share"] == 1.0


def test_silent_network_lets_the_car_swing(runner: Runner) -> None:
    """From rest, without thrust, it comes as far as the other side of the valley at the same height."""
    start = optimizees.load("mountain_car", {}).family().task("test", 2, 1)["start"]
    reply = runner.ask(given_as(*weights()), 1, split="test", index=2)["reply"]
    assert reply["metrics"]["thrust_share"] == 0.0
    bottom = -math.pi / 6
    assert reply["fitness"][0] == pytest.approx(bottom + abs(start - bottom), abs=0.01)


def test_equal_outputs_give_no_thrust(runner: Runner) -> None:
    w_hidden, w_output = weights()
    w_hidden[0, :] = w_output[:, 0] = 20.0
    reply = runner.ask(given_as(w_hidden, w_output), 1)["reply"]
    assert reply["metrics"]["thrust_share"] == 0.0


def test_inhibition_silences_an_output(runner: Runner) -> None:
    w_hidden, w_output = weights()
    w_hidden[:2, :] = 20.0
    w_output[FORWARD, :2] = 20.0, -20.0
    reply = runner.ask(given_as(w_hidden, w_output), 1)["reply"]
    assert reply["metrics"]["thrust_share"] == 0.0


def test_the_seed_changes_nothing_the_start_does(runner: Runner) -> None:
    params = always(FORWARD)
    assert runner.ask(params, 1) == runner.ask(params, 2)
    assert runner.ask(params, 1, index=0) != runner.ask(params, 1, index=1)
    assert runner.ask(params, 1, split="train") != runner.ask(params, 1, split="test")


def test_weights_of_another_shape_are_a_failure(runner: Runner) -> None:
    params = along_the_motion()
    assert "error" in runner.ask({**params, "w_output": params["w_output"][:2]}, 1)
    assert runner.ask(params, 1)["reply"]["status"] == "ok"


def test_the_space_has_a_weight_per_connection() -> None:
    """315 with the network of the publication."""
    assert optimizees.load("mountain_car", {}).space().dimension == 315
    small = optimizees.load("mountain_car", {"sections": 4, "hidden": 2}).space()
    assert small.dimension == 2 * 8 + 3 * 2


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"sections": 0}, {"hidden": 0}, {"step_time": 1}, {"steps": 1.5}]
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=next(iter(options))):
        optimizees.load("mountain_car", options)


@given(
    position=st.floats(BACK, GOAL),
    speed=st.floats(-TOP_SPEED, TOP_SPEED),
    thrust=st.sampled_from([-1, 0, 1]),
)
def test_the_car_stays_on_its_road(position: float, speed: float, thrust: int) -> None:
    after, pace = drive(position, speed, thrust)
    assert BACK <= after <= GOAL
    assert abs(pace) <= TOP_SPEED
    assert after > BACK or pace >= 0.0


def test_one_step_by_hand() -> None:
    """The published equations at the bottom of the valley and at the wall behind."""
    bottom = -math.pi / 6
    assert drive(bottom, 0.0, 1) == pytest.approx((bottom + 0.001, 0.001))
    assert drive(0.0, 0.01, -1) == pytest.approx((0.0065, 0.0065))
    assert drive(-1.19, -0.05, 1) == (BACK, 0.0)


@given(value=st.floats(-1.0, 2.0), sections=st.integers(1, 40))
def test_every_value_has_its_section(value: float, sections: int) -> None:
    number = section(value, 0.0, 1.0, sections)
    assert 0 <= number < sections
    if 0.0 <= value <= 1.0:
        assert number / sections <= value + 1e-9
        assert value <= (number + 1) / sections + 1e-9
