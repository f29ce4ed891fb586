"""A balanced network of integrate-and-fire neurons in NEST, brought to a wanted state of activity.

Model after Brunel (2000), J. Comput. Neurosci. 8:183-208: sparsely connected excitatory and inhibitory
leaky integrate-and-fire neurons with delta synapses and Poisson input, here with one connection
probability per pair of populations. Connectivity generation is a use case of L2L (Yegenoglu et al. 2022).

NEST 3.10 (environments/nest.txt) is imported inside `evaluate` only.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Tuple

import numpy as np

from optimizees import nest_kernel
from optimizees.base import Context, Infeasible, Optimizee, OptionsError, Result, check_number, check_whole
from optimizers.space import Float, Space

NEURON = {
    "C_m": 1.0, "tau_m": 20.0, "t_ref": 2.0, "E_L": 0.0, "V_reset": 0.0, "V_m": 0.0, "V_th": 20.0,
}  # fmt: skip
RESOLUTION = 0.1  # ms
DELAY = 1.5  # ms
INPUT_WEIGHT = 0.1  # mV, of one external spike
CHUNK = 100.0  # ms between two looks for a run-away network
BIN = 10.0  # ms, for the correlation of spike counts
RATE_FLOOR = 0.1  # Hz, keeps the logarithm finite for a silent network
SYNCHRONY_SCALE = 0.1  # a deviation of the correlation that counts as much as a factor e in the rate

Spikes = Tuple[np.ndarray, np.ndarray]


class Brunel(Optimizee):
    """Weights and connection probabilities for a wanted firing rate, irregularity and synchrony.

    The loss is the mean of |ln((rate + .1) / (wanted + .1))|, |cv - wanted| / wanted and
    |synchrony - wanted| / 0.1; 0 is a network exactly as wanted, below 0.1 is as good as its noise.

    Options:
        neurons: size of the network, four fifths of them excitatory.
        warmup: simulated time before anything is measured, ms.
        duration: simulated time that is measured, ms.
        target_rate: wanted mean firing rate of the excitatory neurons, Hz.
        target_cv: wanted mean coefficient of variation of their inter-spike intervals.
        target_synchrony: wanted mean pairwise correlation of their spike counts in bins of 10 ms.
        max_rate: a network above this rate (Hz) has blown up: infeasible.
    """

    environment = "nest"
    summary = "balanced spiking network (NEST): weights and connectivity for a rate, irregularity, synchrony"

    def __init__(
        self,
        neurons: int = 1000,
        warmup: float = 200.0,
        duration: float = 1000.0,
        target_rate: float = 8.0,
        target_cv: float = 0.8,
        target_synchrony: float = 0.02,
        max_rate: float = 150.0,
    ) -> None:
        self.neurons = check_whole("neurons", neurons, 50)
        self.warmup = check_number("warmup", warmup, CHUNK)
        self.duration = check_number("duration", duration, CHUNK)
        self.target_rate = check_number("target_rate", target_rate, 0.0, open_low=True)
        self.target_cv = check_number("target_cv", target_cv, 0.0, open_low=True)
        self.target_synchrony = check_number("target_synchrony", target_synchrony, -1.0, 1.0)
        self.max_rate = check_number("max_rate", max_rate, 0.0, open_low=True)
        if self.max_rate <= self.target_rate:
            raise OptionsError("option 'max_rate' must be above option 'target_rate'")

    def space(self) -> Space:
        """p_xy: probability of a connection to population x from population y (e, i)."""
        return Space(
            {
                "p_ee": Float(0.02, 0.3),
                "p_ei": Float(0.02, 0.3),
                "p_ie": Float(0.02, 0.3),
                "p_ii": Float(0.02, 0.3),
                "j": Float(0.05, 1.0, log=True),  # excitatory weight, mV
                "g": Float(2.0, 10.0),  # inhibitory weight / excitatory weight
                "eta": Float(0.5, 4.0),  # external rate / rate that alone reaches the threshold
            }
        )

    def evaluate(
        self,
        params: Dict[str, Any],
        task: Dict[str, Any],  # noqa: ARG002
        rng: np.random.Generator,  # noqa: ARG002
        context: Context,
    ) -> Result:
        seed = 1 + (context.seed - 1) % nest_kernel.LARGEST_SEED
        excitatory, inhibitory, ids = self._simulate(params, seed)
        seconds = self.duration / 1000.0
        rate = excitatory[0].size / len(ids) / seconds
        irregularity = mean_cv(excitatory, ids)
        synchrony = mean_correlation(excitatory, ids, self.warmup, self.warmup + self.duration)
        terms = (
            abs(math.log((rate + RATE_FLOOR) / (self.target_rate + RATE_FLOOR))),
            abs(irregularity - self.target_cv) / self.target_cv,
            abs(synchrony - self.target_synchrony) / SYNCHRONY_SCALE,
        )
        metrics = {
            "rate": rate,
            "rate_inhibitory": inhibitory[0].size / len(ids) / seconds,
            "cv": irregularity,
            "synchrony": synchrony,
        }
        return Result([math.fsum(terms) / len(terms)], metrics)

    def _simulate(self, params: Dict[str, Any], seed: int) -> Tuple[Spikes, Spikes, List[int]]:
        """Times (ms) and senders of the recorded spikes of both populations, and the excitatory ids."""
        nest = nest_kernel.fresh(resolution=RESOLUTION, rng_seed=seed)
        n_excitatory = self.neurons * 4 // 5
        n_recorded = min(100, self.neurons - n_excitatory)
        exc = nest.Create("iaf_psc_delta", n_excitatory, NEURON)
        inh = nest.Create("iaf_psc_delta", self.neurons - n_excitatory, NEURON)
        (exc + inh).V_m = nest.random.uniform(0.0, 0.9 * NEURON["V_th"])
        for target, source, probability, weight in (
            (exc, exc, params["p_ee"], params["j"]),
            (exc, inh, params["p_ei"], -params["g"] * params["j"]),
            (inh, exc, params["p_ie"], params["j"]),
            (inh, inh, params["p_ii"], -params["g"] * params["j"]),
        ):
            rule = {"rule": "pairwise_bernoulli", "p": probability, "allow_autapses": False}
            nest.Connect(source, target, rule, {"weight": weight, "delay": DELAY})
        threshold_rate = NEURON["V_th"] / (INPUT_WEIGHT * NEURON["tau_m"]) * 1000.0  # Hz
        noise = nest.Create("poisson_generator", params={"rate": params["eta"] * threshold_rate})
        nest.Connect(noise, exc + inh, syn_spec={"weight": INPUT_WEIGHT, "delay": DELAY})
        recorders = nest.Create("spike_recorder", 2, {"start": self.warmup})
        watch = nest.Create("spike_recorder")
        nest.Connect(exc[:n_recorded], recorders[0])
        nest.Connect(inh[:n_recorded], recorders[1])
        nest.Connect(exc[:n_recorded] + inh[:n_recorded], watch)
        self._run(nest, watch, 2 * n_recorded)
        if not np.all(np.isfinite(np.asarray((exc + inh).V_m))):
            raise Infeasible("membrane potentials are no longer finite")
        events = [(np.asarray(r.events["times"]), np.asarray(r.events["senders"])) for r in recorders]
        return events[0], events[1], list(exc[:n_recorded].tolist())

    def _run(self, nest: Any, watch: Any, watched: int) -> None:
        """Simulate piece by piece, so that a network that runs away does not cost its full, long time."""
        total, done, seen = self.warmup + self.duration, 0.0, 0
        with nest.RunManager():
            while done < total:
                step = min(CHUNK, total - done)
                nest.Run(step)
                done += step
                spikes = watch.n_events
                rate = (spikes - seen) / watched / step * 1000.0
                seen = spikes
                if rate > self.max_rate:
                    raise Infeasible(f"the network blew up: {rate:.0f} Hz at {done:.0f} ms")


def mean_cv(spikes: Spikes, ids: List[int]) -> float:
    """Mean coefficient of variation of inter-spike intervals over neurons with 4 spikes or more; else 0."""
    times, senders = spikes
    found = []
    for neuron in ids:
        intervals = np.diff(np.sort(times[senders == neuron]))
        if intervals.size >= 3:
            found.append(float(intervals.std() / intervals.mean()))
    return math.fsum(found) / len(found) if found else 0.0


def mean_correlation(spikes: Spikes, ids: List[int], start: float, stop: float) -> float:
    """Mean Pearson correlation of spike counts of pairs of neurons that fire; 0 when fewer than three do."""
    times, senders = spikes
    neurons = np.append(np.asarray(ids) - 0.5, ids[-1] + 0.5)
    bins = start + BIN * np.arange(int((stop - start) / BIN + 1e-9) + 1)
    counts = np.histogram2d(senders, times, bins=[neurons, bins])[0]
    counts = counts[counts.std(axis=1) > 0]
    if len(counts) < 3:
        return 0.0
    return float(np.mean(np.corrcoef(counts)[np.triu_indices(len(counts), 1)]))
