"""A spiking reservoir in NEST that sees handwritten digits; a readout of its spike counts is trained.

After the digit classification of L2L (Yegenoglu et al. 2022, Frontiers in Computational Neuroscience
16:885207): there 1600 excitatory and 400 inhibitory neurons see MNIST digits 0 to 2 for 500 ms each, and
clusters of 12 spiking neurons per digit are read out. Simplified here: 200 neurons, 8 x 8 pixels, 60 ms, and
a softmax of weighted spike counts as readout. The reservoir itself is random and stays as it is.

NEST 3.10 (environments/nest.txt) is imported inside `evaluate` only.
"""

from __future__ import annotations

import math
from typing import Any, Dict

import numpy as np

from optimizees import nest_kernel
from optimizees.base import Context, Infeasible, Optimizee, Result, TaskFamily, check_number, check_whole
from optimizees.digits import layer, scored
from optimizees.digits.data import PIXELS, check_batches, images, softmax
from optimizers.space import Float, Space

RESOLUTION = 0.2  # ms
ONSET = 0.2  # ms; a rate cannot change at time 0
GAP = 20.0  # ms without input after an image
BLACK = 285.0  # Hz, input spikes of a black pixel
INPUTS = 8  # pixels that a neuron sees
INPUT_WEIGHT = 231.0  # pA
EXCITATORY_WEIGHT = 18.4  # pA
INHIBITORY_WEIGHT = -184.0  # pA
CONNECTED = 0.128  # probability of a connection within the reservoir
INPUT_DELAY, DELAY = 1.0, 1.5  # ms
SATURATED = 400.0  # Hz, mean rate above which the reservoir has run away


class DigitsReservoir(Optimizee):
    """Readout weights of a spiking reservoir that sees images of digits.

    The loss is the mean squared difference between the readout and its targets (1 for the digit that is
    shown, else 0) on a mini-batch; guessing evenly gives 0.22 with three digits. Metrics: `outputs` and
    `targets` (an entry per image and digit), `accuracy` (share of the mini-batch that is recognised), `rate`
    (mean over the reservoir, Hz). The input spikes are drawn anew in each evaluation.

    Options:
        neurons: size of the reservoir, four fifths of them excitatory.
        classes: how many digits there are, from 0 on.
        batch: images of a task.
        duration: how long an image is shown, ms.
        limit: largest readout weight that the space allows.
        wiring: seed of the connections; the same reservoir in all evaluations.
    """

    environment = "nest"
    summary = "spiking reservoir (NEST) that sees 8 x 8 digits; readout weights for ensemble_kalman"

    def __init__(
        self,
        neurons: int = 200,
        classes: int = 3,
        batch: int = 30,
        duration: float = 60.0,
        limit: float = 1.0,
        wiring: int = 1,
    ) -> None:
        self.neurons = check_whole("neurons", neurons, 10)
        self._family = check_batches(classes, batch)
        self.classes = classes
        self.batch = batch
        self.duration = round(check_number("duration", duration, 10.0))
        self.limit = check_number("limit", limit, 0.0, open_low=True)
        self.wiring = check_whole("wiring", wiring, 1)

    def space(self) -> Space:
        """The weights, then the bias, to each digit; those of one neuron after the other."""
        size = (self.neurons + 1) * self.classes
        return Space({"weights": Float(-self.limit, self.limit, shape=(size,))})

    def family(self) -> TaskFamily:
        return self._family

    def evaluate(
        self,
        params: Dict[str, Any],
        task: Dict[str, Any],
        rng: np.random.Generator,  # noqa: ARG002
        context: Context,
    ) -> Result:
        shades, labels = (stored[task["images"]] for stored in images())
        counts = self._counts(shades, context.seed % nest_kernel.LARGEST_SEED + 1)
        rate = float(counts.mean()) / (self.duration + GAP) * 1000.0
        if rate > SATURATED:
            raise Infeasible(f"the reservoir ran away: {rate:.0f} Hz")
        # Divided by that root, weights of the same size suit reservoirs of any size.
        inputs = counts / math.sqrt(self.neurons)
        outputs = softmax(layer(np.asarray(params["weights"], dtype=float), inputs))
        return scored(outputs, labels, rate=rate)

    def _counts(self, shades: np.ndarray, seed: int) -> np.ndarray:
        """Spikes of each neuron while and after each image was shown, shape (images, neurons)."""
        seed_of_wiring = self.wiring % nest_kernel.LARGEST_SEED + 1
        nest = nest_kernel.fresh(resolution=RESOLUTION, rng_seed=seed_of_wiring)
        excitatory = nest.Create("iaf_psc_exp", self.neurons * 4 // 5)
        inhibitory = nest.Create("iaf_psc_exp", self.neurons - self.neurons * 4 // 5)
        reservoir = excitatory + inhibitory
        pixels = nest.Create("parrot_neuron", PIXELS)
        seen = {"rule": "fixed_indegree", "indegree": INPUTS}
        nest.Connect(pixels, reservoir, seen, {"weight": INPUT_WEIGHT, "delay": INPUT_DELAY})
        within = {"rule": "pairwise_bernoulli", "p": CONNECTED}
        nest.Connect(excitatory, reservoir, within, {"weight": EXCITATORY_WEIGHT, "delay": DELAY})
        nest.Connect(inhibitory, reservoir, within, {"weight": INHIBITORY_WEIGHT, "delay": DELAY})
        nest.rng_seed = seed  # the wiring is done: from here on, random numbers make input spikes
        shown = np.arange(len(shades)) * (self.duration + GAP)
        generators = nest.Create("inhomogeneous_poisson_generator", PIXELS)
        times = np.round(np.column_stack([shown + ONSET, shown + self.duration]).ravel(), 1)
        rates = [np.column_stack([pixel * BLACK, np.zeros(len(pixel))]).ravel() for pixel in shades.T]
        generators.set([{"rate_times": times, "rate_values": values} for values in rates])
        nest.Connect(generators, pixels, "one_to_one")
        recorder = nest.Create("spike_recorder")
        nest.Connect(reservoir, recorder)
        end = len(shades) * (self.duration + GAP)
        nest.Simulate(end)
        edges = np.arange(self.neurons + 1) + reservoir[0].global_id - 0.5
        events = recorder.events
        bins = [np.append(shown, end), edges]
        return np.asarray(np.histogram2d(events["times"], events["senders"], bins)[0])
