"""A plain network that reads handwritten digits, trained without gradients.

Its weights are the parameters, its outputs on a mini-batch of images are what the optimizer learns from:
made for `ensemble_kalman`, as digit classification is in L2L (Yegenoglu et al. 2022, Frontiers in
Computational Neuroscience 16:885207; there a spiking network and MNIST, see `digits_reservoir`). The method:
Kovachki and Stuart, "Ensemble Kalman inversion: a derivative-free technique for machine learning
tasks" (2019).
"""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

from optimizees.base import Context, Optimizee, Result, TaskFamily, check_number, check_whole
from optimizees.digits.data import PIXELS, check_batches, images, one_hot, softmax
from optimizers.space import Float, Space


class Digits(Optimizee):
    """Weights of a network with 64 pixels as inputs, one layer of tanh units and a softmax output per digit.

    The loss is the mean squared difference between the outputs and their targets (1 for the digit that is
    shown, else 0) on a mini-batch; guessing evenly gives 0.09 with ten digits. Metrics: `outputs` and
    `targets` (an entry per image and digit), `accuracy` (share of the mini-batch that is recognised).

    Options:
        hidden: units of the hidden layer; 0: none, softmax regression.
        classes: how many digits there are, from 0 on.
        batch: images of a task.
        limit: largest weight that the space allows.
    """

    summary = "network that reads 8 x 8 digits; weights for its outputs on mini-batches (ensemble_kalman)"

    def __init__(self, hidden: int = 20, classes: int = 10, batch: int = 64, limit: float = 1.0) -> None:
        self.hidden = check_whole("hidden", hidden, 0)
        self._family = check_batches(classes, batch)
        self.classes = classes
        self.batch = batch
        self.limit = check_number("limit", limit, 0.0, open_low=True)

    def space(self) -> Space:
        """Layer by layer, the weights and the bias (last) of one input after the other."""
        inputs = self.hidden or PIXELS
        size = (inputs + 1) * self.classes + ((PIXELS + 1) * self.hidden)
        return Space({"weights": Float(-self.limit, self.limit, shape=(size,))})

    def family(self) -> TaskFamily:
        return self._family

    def evaluate(
        self,
        params: Dict[str, Any],
        task: Dict[str, Any],
        rng: np.random.Generator,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> Result:
        shades, labels = (stored[task["images"]] for stored in images())
        outputs = self.outputs(np.asarray(params["weights"], dtype=float), shades)
        return scored(outputs, labels)

    def outputs(self, weights: np.ndarray, shades: np.ndarray) -> np.ndarray:
        """Softmax outputs, shape (images, classes), for shades of shape (images, 64)."""
        first = (PIXELS + 1) * self.hidden
        if self.hidden:
            shades = np.tanh(layer(weights[:first], shades))
        return softmax(layer(weights[first:], shades))


def layer(weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Weighted sums with bias, shape (images, units)."""
    matrix = weights.reshape(inputs.shape[1] + 1, -1)
    return np.asarray(inputs @ matrix[:-1] + matrix[-1])


def scored(outputs: np.ndarray, labels: np.ndarray, **metrics: float) -> Result:
    """The result for outputs of shape (images, classes); `metrics` are added to its own."""
    targets = one_hot(labels, outputs.shape[1])
    accuracy = float(np.mean(outputs.argmax(axis=1) == labels))
    measured = {"outputs": outputs, "targets": targets, "accuracy": accuracy, **metrics}
    return Result([float(np.mean((outputs - targets) ** 2))], measured)
