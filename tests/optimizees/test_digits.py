"""Digits: mini-batches, the network's outputs, and that ensemble_kalman learns from them (both forms)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimizees
from optimizees.base import Context, OptionsError
from optimizees.digits import Digits
from optimizees.digits.data import images, numbers
from optimizees.digits.reservoir import DigitsReservoir
from optimizers.base import Evaluated
from optimizers.local.ensemble_kalman import EnsembleKalman
from tests.support.optimizee_runner import Runner

FORMS = ("digits", "digits_reservoir")
RESERVOIR = {"neurons": 60, "batch": 12}


@pytest.fixture(scope="module")
def reservoir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner.start("digits_reservoir", RESERVOIR, tmp_path_factory.mktemp("reservoir")) as started:
        yield started


def test_images_are_digits() -> None:
    """Means of the classes tell them apart, which they would not if images and labels were mixed up."""
    shades, labels = images()
    assert shades.shape == (1797, 64)
    assert shades.min() == 0.0
    assert shades.max() == 1.0
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    train, test = numbers("train", 10), numbers("test", 10)
    means = np.array([shades[train][labels[train] == digit].mean(axis=0) for digit in range(10)])
    nearest = ((shades[test][:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert np.mean(nearest == labels[test]) > 0.85


@pytest.mark.parametrize("form", FORMS)
def test_training_and_test_have_no_image_in_common(form: str) -> None:
    optimizee: Any = optimizees.load(form, {})
    seen = {
        split: {i for k in range(40) for i in optimizee.family().task(split, k, 3)["images"]}
        for split in ("train", "test")
    }
    assert not seen["train"] & seen["test"]
    assert seen["train"] == set(numbers("train", optimizee.classes).tolist())
    assert set(images()[1][sorted(seen["test"])]) == set(range(optimizee.classes))


def test_every_image_comes_once_before_one_comes_again() -> None:
    family = Digits(batch=64).family()
    batches = [family.task("train", k, 5)["images"] for k in range(42)]
    first, second = ([i for batch in batches[start : start + 21] for i in batch] for start in (0, 21))
    assert len(set(first)) == len(first) == 21 * 64
    assert first != second
    assert batches[0] != family.task("train", 0, 6)["images"]


def asked(optimizee: Any, params: dict[str, Any], split: str, index: int) -> Any:
    """A result of the network without spikes."""
    task = optimizee.family().task(split, index, 1)
    return optimizee.evaluate(params, task, np.random.default_rng(1), Context(1, Path()))


def test_without_weights_every_digit_is_as_likely() -> None:
    optimizee = Digits()
    result = asked(optimizee, {"weights": [0.0] * optimizee.space().dimension}, "train", 0)
    assert result.metrics["outputs"] == pytest.approx(np.full((64, 10), 0.1))
    assert result.fitness == [pytest.approx((0.9**2 + 9 * 0.1**2) / 10)]


def test_a_bias_names_its_digit() -> None:
    """The order of the weights: the biases of the last layer come last."""
    optimizee = Digits(hidden=0, limit=50.0)
    weights = np.zeros(optimizee.space().dimension)
    weights[-10 + 7] = 50.0
    result = asked(optimizee, {"weights": weights.tolist()}, "test", 0)
    labels = images()[1][optimizee.family().task("test", 0, 1)["images"]]
    assert result.metrics["accuracy"] == pytest.approx(np.mean(labels == 7))
    assert result.metrics["targets"].argmax(axis=1).tolist() == labels.tolist()


def test_mean_images_as_weights_recognise_digits() -> None:
    """A set of weights that is known to be good: the classifier of nearest means is linear."""
    optimizee = Digits(hidden=0)
    shades, labels = images()
    train = numbers("train", 10)
    means = np.array([shades[train][labels[train] == digit].mean(axis=0) for digit in range(10)])
    weights = np.concatenate([means.T.ravel(), -0.5 * (means**2).sum(axis=1)])
    assert asked(optimizee, {"weights": weights.tolist()}, "test", 0).metrics["accuracy"] > 0.8


def test_ensemble_kalman_trains_the_network() -> None:
    optimizee = Digits(hidden=0, classes=4)
    optimizer = EnsembleKalman(optimizee.space(), 1, {"population": 100}, 1)
    for generation in range(12):
        told = []
        for s in optimizer.ask(100):
            result = asked(optimizee, s.params, "train", generation)
            told.append(Evaluated(s.id, tuple(result.fitness), measures=rows(result.metrics)))
        optimizer.tell(told)
    best = optimizer.recommend()
    assert best is not None
    assert asked(optimizee, best.params, "test", 0).metrics["accuracy"] > 0.8


def rows(metrics: Any) -> dict[str, Any]:
    """The metrics that ensemble_kalman wants, as a campaign hands them on: one row per evaluation."""
    return {name: np.asarray(metrics[name]).reshape(1, -1) for name in ("outputs", "targets")}


def test_ensemble_kalman_trains_the_readout_of_spikes(reservoir: Runner) -> None:
    optimizee = DigitsReservoir(**RESERVOIR)
    optimizer = EnsembleKalman(optimizee.space(), 1, {"population": 40}, 1)
    for generation in range(4):
        told = []
        for s in optimizer.ask(40):
            reply = reservoir.ask(s.params, s.id + 1, index=generation)["reply"]
            told.append(Evaluated(s.id, tuple(reply["fitness"]), measures=rows(reply["metrics"])))
        optimizer.tell(told)
    best = optimizer.recommend()
    assert best is not None
    tested = [reservoir.ask(best.params, 9, split="test", index=k)["reply"]["metrics"] for k in range(3)]
    assert np.mean([metrics["accuracy"] for metrics in tested]) > 0.7
    assert 1.0 < tested[0]["rate"] < 100.0


def test_other_seed_other_spikes_other_wiring_other_reservoir(reservoir: Runner, tmp_path: Path) -> None:
    weights = np.random.default_rng(1).uniform(-1, 1, 183).tolist()
    first = reservoir.ask({"weights": weights}, 1)["reply"]["metrics"]
    assert reservoir.ask({"weights": weights}, 1)["reply"]["metrics"] == first
    assert reservoir.ask({"weights": weights}, 2)["reply"]["metrics"]["outputs"] != first["outputs"]
    with Runner.start("digits_reservoir", {**RESERVOIR, "wiring": 2}, tmp_path) as other:
        assert other.ask({"weights": weights}, 1)["reply"]["metrics"]["outputs"] != first["outputs"]


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("digits", {"classes": 11}),
        ("digits", {"batch": 450}),
        ("digits", {"hidden": -1}),
        ("digits_reservoir", {"limit": 0}),
        ("digits_reservoir", {"wiring": 0}),
        ("digits_reservoir", {"duration": 1.0}),
        ("digits_reservoir", {"neurons": 3}),
    ],
)
def test_senseless_options_are_refused(form: str, options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=next(iter(options))):
        optimizees.load(form, options)
