"""The whole-brain network in The Virtual Brain, and correlations between its regions."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import tempfile
import warnings
from typing import Any, Dict, Iterator, Tuple

import numpy as np

from optimizees.base import Infeasible

STEP = 0.5  # ms
SAMPLE = 10.0  # ms, over which activity is averaged
CONNECTIVITY = "connectivity_76.zip"  # of the package tvb-data
OSCILLATOR = {"a": 0.5, "b": -15.0, "d": 0.02, "tau": 2.0, "I": 0.0}
MODULES = (
    "tvb.datatypes.connectivity",
    "tvb.simulator.coupling",
    "tvb.simulator.integrators",
    "tvb.simulator.models",
    "tvb.simulator.monitors",
    "tvb.simulator.noise",
    "tvb.simulator.simulator",
)
WEIGHT_SCALE = 100.0  # structural weights of a hundredth of the largest count as weak


def simulate(
    params: Dict[str, float], connectivity_file: str, warmup: float, duration: float, rng: np.random.Generator
) -> Tuple[np.ndarray, np.ndarray]:
    """Activity of the regions after the warm-up, (samples, regions), and the structural weights, largest 1.

    Args:
        params: "coupling", "speed" (mm/ms) and "noise" (dispersion, 1/ms).
        connectivity_file: in TVB's format; a name without a path is one of tvb-data.
        warmup, duration: ms.
        rng: of the initial state and the noise.
    """
    tvb = _tvb()
    brain = tvb["connectivity"].Connectivity.from_file(connectivity_file)
    brain.weights = brain.weights / brain.weights.max()
    brain.speed = np.array([params["speed"]])
    noise = tvb["noise"].Additive(nsig=np.array([params["noise"]]))
    noise.random_stream = np.random.RandomState(np.random.MT19937(int(rng.integers(2**63))))
    simulator = tvb["simulator"].Simulator(
        connectivity=brain,
        coupling=tvb["coupling"].Linear(a=np.array([params["coupling"]])),
        model=tvb["models"].Generic2dOscillator(**{name: np.array([v]) for name, v in OSCILLATOR.items()}),
        integrator=tvb["integrators"].HeunStochastic(dt=STEP, noise=noise),
        monitors=(tvb["monitors"].TemporalAverage(period=SAMPLE),),
        simulation_length=warmup + duration,
    )
    simulator.configure()  # knows the longest delay afterwards, which the initial state must cover
    shape = (simulator.connectivity.horizon, 2, len(brain.weights), 1)
    simulator.initial_conditions = rng.uniform(-0.5, 0.5, shape)
    simulator.configure()
    with np.errstate(over="ignore", invalid="ignore"):
        ((times, activity),) = simulator.run()
    return activity[times > warmup, 0, :, 0], brain.weights


def functional_connectivity(activity: np.ndarray) -> np.ndarray:
    """Correlations of the activity of pairs of regions: the upper triangle of the matrix, row by row."""
    if not np.all(np.isfinite(activity)):
        raise Infeasible("the activity is no longer finite")
    still = int(np.sum(activity.std(axis=0) < 1e-9))
    if still:
        raise Infeasible(f"the activity of {still} regions does not vary: no correlation is defined")
    return upper_triangle(np.corrcoef(activity.T))


def structural_connectivity(weights: np.ndarray) -> np.ndarray:
    """Logarithm of the weights, both directions averaged, because they span orders of magnitude."""
    return upper_triangle(np.log1p(WEIGHT_SCALE * (weights + weights.T) / 2.0))


def upper_triangle(matrix: np.ndarray) -> np.ndarray:
    """What is above the diagonal, row by row."""
    return np.asarray(matrix[np.triu_indices(len(matrix), 1)])


@functools.lru_cache(maxsize=None)
def _tvb() -> Dict[str, Any]:
    """TVB's modules by name."""
    with _quiet_import():
        return {name.rpartition(".")[2]: importlib.import_module(name) for name in MODULES}


@contextlib.contextmanager
def _quiet_import() -> Iterator[None]:
    """Keep TVB from logging into the home folder, where all workers of a site would write one file.

    It opens that file when it is first imported, so the home that it is shown is a temporary one.
    """
    name = "TVB_USER_HOME"
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ[name] = folder
        try:
            yield
        finally:
            os.environ.pop(name)
            if before is not None:
                os.environ[name] = before
            _silence(folder)


def _silence(folder: str) -> None:
    """Close the log files below a folder, and let TVB's loggers pass errors only."""
    for name in ["", *logging.root.manager.loggerDict]:
        logger = logging.getLogger(name)
        if name.partition(".")[0] == "tvb":
            logger.setLevel(logging.ERROR)
        for handler in list(logger.handlers):
            if isinstance(handler, logging.FileHandler) and handler.baseFilename.startswith(folder):
                logger.removeHandler(handler)
                handler.close()
