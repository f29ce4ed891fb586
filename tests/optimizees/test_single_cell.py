"""The voltage features, and that all four simulators (the real ones) agree about the same cell."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import optimizees
from optimizees.base import OptionsError
from optimizees.single_cell import RANGES, SIMULATORS, features, on_eden
from optimizees.single_cell.cell import REFERENCE, SAMPLE, STEP_OFF, STEP_ON, times
from tests.support.optimizee_runner import Runner

NEAR = {**REFERENCE, "gnabar": 0.125, "gkbar": 0.034}
FAR = {**REFERENCE, "gnabar": 0.28, "cm": 1.9}
SILENT = {**REFERENCE, "gnabar": 0.02}
BLOWN_UP = {**REFERENCE, "gl": 1.0, "el": 900.0}  # pulled to 900 mV


@pytest.fixture(scope="module")
def runners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Runner]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                Runner.start("single_cell", {"simulator": name}, tmp_path_factory.mktemp(name))
            )
            for name in SIMULATORS
        }


def loss(runner: Runner, params: dict[str, float], **task: Any) -> float:
    return float(runner.ask(params, 1, **task)["reply"]["fitness"][0])


def test_each_simulator_has_its_environment() -> None:
    for name in SIMULATORS:
        assert optimizees.load("single_cell", {"simulator": name}).environment == name


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_reference_cell_is_the_optimum(runners: dict[str, Runner], simulator: str) -> None:
    reply = runners[simulator].ask(REFERENCE, 1)["reply"]
    assert reply["fitness"] == [0.0]
    assert reply["metrics"]["rest_1"] == pytest.approx(-65.0, abs=0.05)
    assert reply["metrics"]["peak_3"] == pytest.approx(30.0, abs=4.0)
    assert 3 < reply["metrics"]["spikes_2"] < reply["metrics"]["spikes_3"] < 11


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_better_parameters_have_a_smaller_loss(runners: dict[str, Runner], simulator: str) -> None:
    near, far, silent = (loss(runners[simulator], params) for params in (NEAR, FAR, SILENT))
    assert 0.0 < near < 0.5 < far < silent < features.WORST


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_blow_up_is_infeasible(runners: dict[str, Runner], simulator: str) -> None:
    reply = runners[simulator].ask(BLOWN_UP, 1)["reply"]
    assert reply["status"] == "infeasible"
    assert "mV" in reply["reason"]
    assert loss(runners[simulator], REFERENCE) == 0.0, "no trace of it is left"


def test_simulators_agree(runners: dict[str, Runner]) -> None:
    """Independent implementations of the cell: a wrong unit or a shifted stimulus would be seen here."""
    space, rng = optimizees.load("single_cell", {}).space(), np.random.default_rng(0)
    for _ in range(6):
        params = space.decode(rng.random(space.dimension))
        found = {name: loss(runner, params) for name, runner in runners.items()}
        middle = float(np.median(list(found.values())))
        assert found == {name: pytest.approx(middle, rel=0.02) for name in found}, params


def test_nest_refusing_a_parameter_is_a_failure(runners: dict[str, Runner]) -> None:
    assert "Capacitance" in runners["nest"].ask({**REFERENCE, "cm": -1.0}, 1)["error"]


def test_eden_leaves_no_files(runners: dict[str, Runner]) -> None:
    loss(runners["eden"], NEAR)
    assert list(runners["eden"].scratch.iterdir()) == []


def test_other_tasks_are_other_stimuli(runners: dict[str, Runner]) -> None:
    runner = runners["arbor"]
    found = {loss(runner, NEAR, split=split, index=i) for split in ("train", "test") for i in (0, 1)}
    assert len(found) == 4


def test_held_out_steps_lie_outside_of_the_trained_ones() -> None:
    family = optimizees.load("single_cell", {}).family()
    for index in range(50):
        for step in family.task("test", index, 1)["steps"]:
            assert not any(low <= step <= high for low, high in RANGES["train"])


@pytest.mark.parametrize(
    "options", [{"simulator": "Neuron"}, {"simulator": 3}, {"dt": 0.0}, {"dt": 0.03}, {"dt": 0.1}]
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=next(iter(options))):
        optimizees.load("single_cell", options)


def spiky(onsets: list[float], width: float) -> np.ndarray:
    """A trace of triangular spikes that are above the threshold for `width` ms from each onset (ms)."""
    voltage = np.full(times().size, -70.0)
    for onset in onsets:
        middle = onset + width / 2
        voltage = np.maximum(voltage, 30.0 - 100.0 / width * np.abs(times() - middle))
    return voltage


@given(
    st.integers(2, 8), st.floats(1.0, 3.0), st.floats(8.0, 12.0), st.floats(0.5, 5.0)
)  # so that all spikes are within the step
def test_features_of_a_regular_train(number: int, width: float, interval: float, latency: float) -> None:
    onsets = [STEP_ON + latency + i * interval for i in range(number)]
    found = features.trace_features(spiky(onsets, width), 1.0)
    assert int(found["spikes"]) in (number, number + 1)
    assert found["latency"] == pytest.approx(latency, abs=1e-6)
    assert found["width"] == pytest.approx(width, abs=1e-6)
    assert found["peak"] == pytest.approx(30.0, abs=100.0 / width * SAMPLE)
    assert (found["rest"], found["trough"]) == (-70.0, -70.0)


def test_a_spike_that_leaves_the_step_is_no_jump() -> None:
    inside, outside = (
        features.trace_features(spiky([STEP_OFF - 30 + d, STEP_OFF - 15 + d, STEP_OFF + d], 2.0), 1.0)
        for d in (-0.01, 0.01)
    )
    for name in inside:
        assert inside[name] == pytest.approx(outside[name], abs=0.03), name


@settings(max_examples=30)
@given(level=st.floats(-200.0, 200.0), step=st.sampled_from([-0.2, 1.0]))
def test_features_of_a_flat_trace_are_finite(level: float, step: float) -> None:
    found = features.trace_features(np.full(times().size, level), step)
    assert np.all(np.isfinite(list(found.values())))
    assert set(found) <= set(features.SCALES)
    assert found.get("spikes", 0.0) == 0.0


def test_one_feature_cannot_drown_the_others() -> None:
    wanted = {"rest_1": -65.0, "latency_2": 2.0}
    assert features.distance({"rest_1": -66.0, "latency_2": 100.0}, wanted) == (1.0 + features.WORST) / 2


def test_exponential_for_eden_is_exact(tmp_path: Path) -> None:
    """Within two units in the last place of float, over the range in which results are normal floats."""
    source, library = tmp_path / "expf.c", tmp_path / "expf.so"
    source.write_text(on_eden.EXPF_SOURCE)
    flags = ["-shared", "-fpic", "-O2", "-nostdlib", "-Wl,--no-undefined"]
    subprocess.run(["gcc", *flags, "-o", str(library), str(source)], check=True)
    expf = ctypes.CDLL(str(library)).expf
    expf.restype, expf.argtypes = ctypes.c_float, [ctypes.c_float]
    x = np.concatenate([np.linspace(-87.3, 88.7, 20001), np.linspace(-1.0, 1.0, 2001)]).astype(np.float32)
    found = np.array([expf(float(value)) for value in x])
    assert np.max(np.abs(found / np.exp(x.astype(np.float64)) - 1.0)) < 2 * np.finfo(np.float32).eps
    assert (expf(-1000.0), expf(1000.0)) == (0.0, np.inf)
    assert np.isnan(expf(float("nan")))


def test_eden_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="no gcc"):
        on_eden.simulate(REFERENCE, (0.7,), 0.025)
