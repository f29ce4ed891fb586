"""The simulated brain, its target, and that the correlation tells a good brain from bad ones (real TVB)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimizees
from optimizees.base import Infeasible, OptionsError
from optimizees.whole_brain import model, target
from tests.support.optimizee_runner import Runner

UNCOUPLED = {"coupling": 0.005, "speed": 4.0, "noise": 0.004}
ABSENT = "/absent"


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner.start(
        "whole_brain", {"duration": 2000.0, "objectives": "both"}, tmp_path_factory.mktemp("brain")
    ) as started:
        yield started


def test_the_hidden_brain_is_good_and_an_uncoupled_one_is_not(runner: Runner) -> None:
    hidden = runner.ask(target.HIDDEN, 1)["reply"]
    uncoupled = runner.ask(UNCOUPLED, 1)["reply"]
    assert hidden["fitness"][0] > 0.75
    assert hidden["metrics"]["mean_fc"] > 0.3
    assert abs(uncoupled["fitness"][0]) < 0.15
    assert abs(uncoupled["metrics"]["mean_fc"]) < 0.05


def test_a_coupled_brain_follows_its_structure(runner: Runner) -> None:
    coupled, uncoupled = (
        runner.ask(params, 1)["reply"]["fitness"][1] for params in (target.HIDDEN, UNCOUPLED)
    )
    assert coupled > 0.25
    assert abs(uncoupled) < 0.15


def test_another_seed_is_another_run(runner: Runner) -> None:
    assert runner.ask(target.HIDDEN, 1) != runner.ask(target.HIDDEN, 2)


def test_a_blow_up_is_infeasible(runner: Runner) -> None:
    """Far outside of the bounds, where the step of integration is too long."""
    reply = runner.ask({**target.HIDDEN, "coupling": 1e6}, 1)["reply"]
    assert reply["status"] == "infeasible"
    assert "finite" in reply["reason"]


def test_nothing_is_written_into_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TVB logs there by default, all workers of a site into one file."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    with Runner.start("whole_brain", {"duration": 200.0, "warmup": 0.0}, tmp_path) as started:
        assert started.ask(target.HIDDEN, 1)["reply"]["status"] == "ok"
        assert [p for p in (tmp_path / "home").rglob("*") if "tvb" in str(p).lower()] == []


def test_a_target_of_the_users_own_takes_the_place_of_the_synthetic_one(tmp_path: Path) -> None:
    """Its order of regions counts: the same correlations, shuffled, are another target."""
    upper = target.synthetic()
    size = 76
    matrix = np.eye(size)
    matrix[np.triu_indices(size, 1)] = upper
    matrix = np.maximum(matrix, matrix.T)
    order = np.random.default_rng(1).permutation(size)
    found = []
    for name, own in (("same", matrix), ("shuffled", matrix[order][:, order]), ("small", matrix[:9, :9])):
        np.savetxt(tmp_path / f"{name}.txt", own)
        options = {"duration": 1000.0, "target_file": str(tmp_path / f"{name}.txt")}
        (tmp_path / name).mkdir()
        with Runner.start("whole_brain", options, tmp_path / name) as started:
            found.append(started.ask(target.HIDDEN, 1))
    assert found[0]["reply"]["fitness"][0] > 0.6
    assert found[1]["reply"]["fitness"][0] < 0.3
    assert "36 pairs" in found[2]["error"]


def test_the_default_target_is_a_correlation_of_76_regions() -> None:
    correlations = target.synthetic()
    assert correlations.shape == (76 * 75 // 2,)
    assert -1.0 <= correlations.min() < correlations.max() < 1.0
    assert correlations.std() > 0.1


def test_a_target_survives_its_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    correlations = np.random.default_rng(1).uniform(-1.0, 1.0, 100)
    monkeypatch.setattr(target, "DATA", f"\n{target.encoded(correlations)}\n")
    np.testing.assert_allclose(target.synthetic(), correlations, atol=0.5 / target.STEPS)


@pytest.mark.parametrize(
    "text", ["1 2 3\n4 5 6\n", "1 0.1\n0.1 1\n", "1 0 7\n0 1 0\n7 0 1\n", "1 nan 0\n0 1 0\n0 0 1\n"]
)
def test_a_file_that_is_no_matrix_of_correlations_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "fc.txt"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"fc\.txt"):
        target.from_file(str(file))


def test_equal_regions_correlate_and_opposite_ones_do_so_negatively() -> None:
    wave = np.sin(np.arange(100.0))
    np.testing.assert_allclose(
        model.functional_connectivity(np.stack([wave, wave, -wave], 1)), [1.0, -1.0, -1.0]
    )


@pytest.mark.parametrize("bad", [np.nan, 1.0])
def test_activity_without_correlation_is_infeasible(bad: float) -> None:
    activity = np.random.default_rng(1).normal(size=(50, 3))
    activity[:, 1] = bad
    with pytest.raises(Infeasible):
        model.functional_connectivity(activity)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"duration": 100.0}, "duration"),
        ({"warmup": -1.0}, "warmup"),
        ({"objectives": "all"}, "objectives"),
        ({"target_file": "fc.txt"}, "target_file"),
        ({"connectivity_file": "brain.zip"}, "connectivity_file"),
        ({"connectivity_file": ABSENT}, "target_file"),
        ({"connectivity_file": ABSENT, "objectives": "both"}, "target_file"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionsError, match=named):
        optimizees.load("whole_brain", options)


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("functional", ["fc_correlation"]),
        ("structural", ["sc_correlation"]),
        ("both", ["fc_correlation", "sc_correlation"]),
    ],
)
def test_objectives_are_chosen(choice: str, names: list[str]) -> None:
    brain = optimizees.load("whole_brain", {"objectives": choice})
    assert [objective.name for objective in brain.objectives] == names
    assert {objective.direction for objective in brain.objectives} == {"maximize"}
