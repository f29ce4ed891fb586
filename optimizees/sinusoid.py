"""Few-shot regression of sinusoids: what a network knows before it has seen a single point.

Task family after Finn, Abbeel & Levine (2017), "Model-agnostic meta-learning", ICML: sinusoids of random
amplitude (0.1 … 5) and phase (0 … pi) on -5 … 5, of which the learner is shown ten points. Here the initial
weights and learning rates are found by an optimizer that sees the error after adaptation only, where the
original differentiates through the adaptation; and the network is one small layer of tanh units, where the
original has two layers of 40 rectified units. All quantities are without unit.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from optimizees.base import SPLITS, Context, Infeasible, Optimizee, Result, TaskFamily, check_whole
from optimizers.space import Float, Space

AMPLITUDES = (0.1, 5.0)
PHASES = (0.0, math.pi)
HALF_WIDTH = 5.0  # of the range of x
LARGEST_ERROR = 1e6  # a mean squared error above this is a learner that diverged

Weights = Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class Sinusoids(TaskFamily):
    """amplitude * sin(x + phase), both drawn evenly; the splits draw from separate random streams."""

    def task(self, split: str, index: int, seed: int) -> Dict[str, Any]:
        stream = np.random.SeedSequence([seed, SPLITS.index(split), index])
        rng = np.random.Generator(np.random.PCG64(stream))
        return {"amplitude": float(rng.uniform(*AMPLITUDES)), "phase": float(rng.uniform(*PHASES))}


class Sinusoid(Optimizee):
    """Initial weights and learning rates with which a few gradient steps on a few points learn a sinusoid.

    An evaluation is one sinusoid: the network starts from the weights given, makes `steps` full-batch
    gradient steps on `shots` points drawn by the evaluation's seed, and is judged on `queries` evenly spaced
    points that it is not shown. The loss is the mean squared error there after the last step, `curve` the
    error after 0, 1, … steps.

    Options:
        hidden: tanh units of the hidden layer.
        shots: points that the learner is shown.
        steps: gradient steps.
        queries: points at which it is judged.
    """

    summary = "few-shot regression of sinusoids: initial weights and learning rates of a small network"

    def __init__(self, hidden: int = 10, shots: int = 10, steps: int = 5, queries: int = 100) -> None:
        self.hidden = check_whole("hidden", hidden, 1)
        self.shots = check_whole("shots", shots, 1)
        self.steps = check_whole("steps", steps, 1)
        self.queries = check_whole("queries", queries, 2)

    def space(self) -> Space:
        """The default knows nothing: its units divide the range of x evenly, and its output is 0."""
        each = (self.hidden,)
        thresholds = np.linspace(-HALF_WIDTH, HALF_WIDTH, self.hidden + 2)[1:-1]
        return Space(
            {
                "hidden_weights": Float(-3.0, 3.0, default=1.0, shape=each),
                "hidden_biases": Float(-6.0, 6.0, default=(-thresholds).tolist(), shape=each),
                "output_weights": Float(-3.0, 3.0, default=0.0, shape=each),
                "output_bias": Float(-3.0, 3.0, default=0.0),
                "rate_hidden": Float(1e-4, 0.3, log=True, default=0.05),  # learning rate of the first two
                "rate_output": Float(1e-4, 0.3, log=True, default=0.05),  # and of the others
            }
        )

    def family(self) -> TaskFamily:
        return Sinusoids()

    def evaluate(
        self,
        params: Dict[str, Any],
        task: Dict[str, Any],
        rng: np.random.Generator,
        context: Context,  # noqa: ARG002
    ) -> Result:
        curve = self.adapt(params, [task], rng)[:, 0]
        if not np.all(curve < LARGEST_ERROR):  # NaN is not below it either
            raise Infeasible(f"the learner diverged: errors from {curve[0]:.3g} to {curve[-1]:.3g}")
        return Result([curve[-1]], {"loss_before": curve[0]}, curve.tolist())

    def adapt(
        self, params: Mapping[str, Any], tasks: List[Dict[str, Any]], rng: np.random.Generator
    ) -> np.ndarray:
        """Errors after 0, 1, … steps of independent learners, one per task: shape (steps + 1, tasks)."""
        x = rng.uniform(-HALF_WIDTH, HALF_WIDTH, (len(tasks), self.shots))
        x_query = np.linspace(-HALF_WIDTH, HALF_WIDTH, self.queries)[None, :]
        y, y_query = targets(tasks, x), targets(tasks, x_query)
        weights = initial_weights(params, len(tasks))
        errors = np.empty((self.steps + 1, len(tasks)))
        with np.errstate(over="ignore", invalid="ignore"):
            for step in range(self.steps + 1):
                if step:
                    weights = descend(weights, x, y, params["rate_hidden"], params["rate_output"])
                errors[step] = np.mean((outputs(weights, x_query)[1] - y_query) ** 2, axis=1)
        return errors


def targets(tasks: List[Dict[str, Any]], x: np.ndarray) -> np.ndarray:
    """The sinusoids at x of shape (tasks or 1, points); shape (tasks, points)."""
    amplitude = np.array([task["amplitude"] for task in tasks])[:, None]
    phase = np.array([task["phase"] for task in tasks])[:, None]
    return np.asarray(amplitude * np.sin(x + phase))


def initial_weights(params: Mapping[str, Any], learners: int) -> Weights:
    """Hidden weights, hidden biases and output weights, (learners, units) each, and biases (learners, 1)."""
    names = ("hidden_weights", "hidden_biases", "output_weights")
    v, b, w = (np.tile(np.asarray(params[name], dtype=float), (learners, 1)) for name in names)
    return v, b, w, np.full((learners, 1), float(params["output_bias"]))


def outputs(weights: Weights, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Activities (learners, points, units) and outputs (learners, points) at x, (learners or 1, points)."""
    v, b, w, c = weights
    activity = np.tanh(x[:, :, None] * v[:, None, :] + b[:, None, :])
    return activity, np.asarray(np.einsum("tpu,tu->tp", activity, w) + c)


def descend(
    weights: Weights, x: np.ndarray, y: np.ndarray, rate_hidden: float, rate_output: float
) -> Weights:
    """One gradient step of every learner on its mean squared error at its points."""
    v, b, w, c = weights
    activity, output = outputs(weights, x)
    slope = 2.0 / x.shape[1] * (output - y)  # of the error by the outputs
    back = slope[:, :, None] * w[:, None, :] * (1.0 - activity**2)  # by the input of the units
    return (
        v - rate_hidden * np.einsum("tpu,tp->tu", back, x),
        b - rate_hidden * back.sum(axis=1),
        w - rate_output * np.einsum("tpu,tp->tu", activity, slope),
        c - rate_output * slope.sum(axis=1, keepdims=True),
    )
