"""Homeostatic structural plasticity in Arbor: neurons that wire themselves until they fire as they should.

Leaky integrate-and-fire neurons with a Poisson input that is too weak begin without recurrent synapses.
Each grows or loses spines, excitatory and inhibitory ones, with its own firing rate after the Gaussian
growth curve of Butz and van Ooyen (2013), PLoS Comput. Biol. 9:e1003259: growth between the rate `eta`
and the wanted rate, loss outside. A new spine is connected to a random neuron of its kind, a lost one
takes its synapse along. The task is that of Arbor's tutorial "Structural Plasticity in Arbor"; growth
rules as a use case of L2L: Yegenoglu et al. (2022), Front. Comput. Neurosci. 16:885207 (there in NEST).

Simplified: axonal boutons are not limited, the rate takes the place of calcium, and connections change in
intervals. Each interval is a simulation of its own, which begins with the last one's potentials; spikes
under way and refractory times are lost in between. For `simulation.update`, meant for this, is wrong in
Arbor 0.12.2: with every update, all connections deliver each spike once more.

Arbor 0.12 (environments/arbor.txt) is imported inside `evaluate` only.
"""

from __future__ import annotations

import functools
import importlib
import math
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from optimizees.base import Context, Infeasible, Optimizee, Result, TaskFamily, check_number, check_whole
from optimizees.intervals import IntervalTasks
from optimizers.space import Float, Space

C_M = 20.0  # pF; Arbor's weights are charges: the jump of the potential (mV) times this
TAU_M = 10.0  # ms
V_TH = 10.0  # mV above the resting potential, to which a spike resets
T_REF = 2.0  # ms
DELAY = 1.5  # ms
INPUT_RATE = 0.6  # kHz, Poisson, to each neuron
INPUT_WEIGHT = 0.85  # mV; alone it makes neurons fire at some 1 Hz
DT = 0.5  # ms
INTERVAL = 200.0  # ms between two changes of the connections
TAU_RATE = 500.0  # ms, of the average of a neuron's rate that its growth follows
SETTLED = 0.25  # the last part of the time, in which the rates are judged
INHIBITORY = 0.2  # of the neurons
SEEDS = 2**63


class ArborPlasticity(Optimizee):
    """Growth rule and synapses with which every neuron reaches its wanted rate, by wiring alone.

    The loss is the mean over neurons of the relative error of their rates in the last quarter of the time;
    1 is a silent network. The curve is the same for the averaged rates that the growth follows, against the
    time that the network has had to wire itself, in steps of 200 ms.

    Tasks differ in the strength of the external input.

    Options:
        neurons: size of the network, a fifth of them inhibitory.
        duration: simulated time, ms; whole steps of 200 ms.
        target_rate: wanted firing rate of every neuron, Hz.
        spread: the external input of a task is the standard one times a factor within 1 ± spread.
        max_rate: a network above this mean rate (Hz) has blown up: infeasible.
    """

    environment = "arbor"
    summary = "homeostatic structural plasticity (Arbor): growth rules that wire neurons to a target rate"

    def __init__(
        self,
        neurons: int = 80,
        duration: float = 10000.0,
        target_rate: float = 8.0,
        spread: float = 0.05,
        max_rate: float = 100.0,
    ) -> None:
        self.neurons = check_whole("neurons", neurons, 10)
        self.duration = check_number("duration", duration, 4 * INTERVAL)
        self.target_rate = check_number("target_rate", target_rate, 0.0, open_low=True)
        self.spread = check_number("spread", spread, 0.0, 0.5)
        self.max_rate = check_number("max_rate", max_rate, self.target_rate, open_low=True)

    def space(self) -> Space:
        """Below `eta` x the wanted rate nothing grows; a neuron at rest grows only where it is negative."""
        return Space(
            {
                "nu_e": Float(0.1, 30.0, log=True),  # excitatory spines per second at most
                "nu_i": Float(0.1, 30.0, log=True),  # inhibitory ones
                "eta": Float(-1.5, 0.5),  # / wanted rate
                "w": Float(0.1, 3.0, log=True),  # excitatory synapse, mV
                "g": Float(1.0, 8.0),  # inhibitory weight / excitatory weight
            }
        )

    def family(self) -> TaskFamily:
        return IntervalTasks("input", 1.0 - self.spread, 1.0 + self.spread)

    def evaluate(
        self,
        params: Dict[str, Any],
        task: Dict[str, Any],
        rng: np.random.Generator,
        context: Context,  # noqa: ARG002
    ) -> Result:
        synapses, rates, averages = self._grow(params, task["input"], rng)
        last = max(1, round(SETTLED * len(rates)))
        settled = rates[-last:].mean(axis=0)
        inhibitory = self._inhibitory()
        metrics = {
            "rate": float(settled.mean()),
            "rate_spread": float(settled.std()),
            "excitatory_synapses_per_neuron": float(synapses[:, ~inhibitory].sum() / self.neurons),
            "inhibitory_synapses_per_neuron": float(synapses[:, inhibitory].sum() / self.neurons),
        }
        return Result([self._error(settled)], metrics, [self._error(average) for average in averages])

    def _error(self, rates: np.ndarray) -> float:
        return float(np.mean(np.abs(rates / self.target_rate - 1.0)))

    def _inhibitory(self) -> np.ndarray:
        """Which neurons are inhibitory: the first ones."""
        chosen: np.ndarray = np.arange(self.neurons) < round(INHIBITORY * self.neurons)
        return chosen

    def _grow(
        self, params: Mapping[str, float], strength: float, rng: np.random.Generator
    ) -> Tuple[np.ndarray, np.ndarray, List[np.ndarray]]:
        """Simulate; the final synapses, and for each interval the rates (Hz) and their running averages."""
        inhibitory = self._inhibitory()
        weights = params["w"] * np.where(inhibitory, -params["g"], 1.0)
        kinds = [(np.flatnonzero(~inhibitory), params["nu_e"]), (np.flatnonzero(inhibitory), params["nu_i"])]
        spines = np.zeros((2, self.neurons))
        synapses = np.zeros((self.neurons, self.neurons), dtype=int)  # [target, source]
        potentials = np.zeros(self.neurons)
        rates: List[np.ndarray] = []
        averages = [np.zeros(self.neurons)]
        for step in range(1, int(self.duration / INTERVAL) + 1):
            seeds = rng.integers(SEEDS, size=self.neurons)
            spikes, potentials = simulate(weights * synapses, INPUT_WEIGHT * strength, seeds, potentials)
            rates.append(spikes / INTERVAL * 1000.0)
            if rates[-1].mean() > self.max_rate:
                raise Infeasible(
                    f"the network blew up: {rates[-1].mean():.0f} Hz at {step * INTERVAL:.0f} ms"
                )
            averages.append(averages[-1] + (rates[-1] - averages[-1]) * -math.expm1(-INTERVAL / TAU_RATE))
            growth = INTERVAL / 1000.0 * growth_curve(averages[-1] / self.target_rate, params["eta"])
            for kind, (sources, speed) in enumerate(kinds):
                spines[kind] = np.maximum(0.0, spines[kind] + speed * growth)
                rewire(synapses, spines[kind].astype(int), sources, rng)
        return synapses, np.array(rates), averages[1:]


def growth_curve(rates: np.ndarray, eta: float) -> np.ndarray:
    """Growth relative to the fastest at relative rates: 0 at `eta` and at 1, 1 midway, -1 far away."""
    middle, width = (1.0 + eta) / 2.0, (1.0 - eta) / (2.0 * math.sqrt(math.log(2.0)))
    curve: np.ndarray = 2.0 * np.exp(-(((rates - middle) / width) ** 2)) - 1.0
    return curve


def rewire(synapses: np.ndarray, wanted: np.ndarray, sources: np.ndarray, rng: np.random.Generator) -> None:
    """Add or remove random synapses from `sources` until each neuron has the wanted number of them.

    `synapses[target, source]` are numbers of synapses, changed in place; no neuron is connected to itself.
    """
    for target, missing in enumerate(wanted - synapses[:, sources].sum(axis=1)):
        if missing > 0:
            others = sources[sources != target]
            np.add.at(synapses[target], rng.choice(others, size=missing), 1)
        elif missing < 0:
            present = np.repeat(sources, synapses[target, sources])
            np.add.at(synapses[target], rng.choice(present, size=-missing, replace=False), -1)


def simulate(
    weights: np.ndarray, input_weight: float, seeds: np.ndarray, potentials: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """One interval from these potentials (mV): each neuron's number of spikes, and its potential at the end.

    `weights[target, source]` and `input_weight` are jumps of the potential, mV; `seeds` are of the neurons'
    inputs.
    """
    arbor: Any = importlib.import_module("arbor")
    units = arbor.units
    recipe = _recipe_class()(weights, input_weight, seeds, potentials)
    simulation = arbor.simulation(recipe, arbor.context(threads=1))
    # Not spike_recording.all: it records nothing while there are no connections.
    simulation.record(arbor.spike_recording.local)
    end = arbor.explicit_schedule([(INTERVAL - DT) * units.ms])
    handles = [simulation.sample((gid, "potential"), end) for gid in range(len(seeds))]
    simulation.run(tfinal=INTERVAL * units.ms, dt=DT * units.ms)
    spikes = np.bincount(simulation.spikes()["source"]["gid"].astype(int), minlength=len(seeds))
    final = np.array([simulation.samples(handle)[0][0][-1, 1] for handle in handles])
    return spikes, np.nan_to_num(final)  # NaN: refractory, so it has been reset to 0


@functools.lru_cache(maxsize=None)
def _recipe_class() -> Any:
    """The class of the recipe; it cannot be defined before Arbor is imported."""
    arbor: Any = importlib.import_module("arbor")
    units: Any = arbor.units
    base: Any = arbor.recipe

    class Recipe(base):  # type: ignore[misc]
        """The network of one interval; see `simulate`."""

        def __init__(
            self, weights: np.ndarray, input_weight: float, seeds: np.ndarray, potentials: np.ndarray
        ) -> None:
            base.__init__(self)
            self.weights, self.input_weight = weights, input_weight
            self.seeds, self.potentials = seeds, potentials

        def num_cells(self) -> int:
            return len(self.seeds)

        def cell_kind(self, gid: int) -> Any:  # noqa: ARG002
            return arbor.cell_kind.lif

        def cell_description(self, gid: int) -> Any:
            cell = arbor.lif_cell("source", "target")
            cell.C_m, cell.tau_m, cell.t_ref = C_M * units.pF, TAU_M * units.ms, T_REF * units.ms
            cell.V_th, cell.V_m = V_TH * units.mV, float(self.potentials[gid]) * units.mV
            cell.E_L = cell.E_R = 0.0 * units.mV
            return cell

        def probes(self, gid: int) -> Any:  # noqa: ARG002
            return [arbor.lif_probe_voltage("potential")]

        def event_generators(self, gid: int) -> Any:
            poisson = arbor.poisson_schedule(INPUT_RATE * units.kHz, seed=int(self.seeds[gid]))
            return [arbor.event_generator("target", C_M * self.input_weight, poisson)]

        def connections_on(self, gid: int) -> Any:
            return [
                arbor.connection(
                    (int(source), "source"),
                    "target",
                    C_M * float(self.weights[gid, source]),
                    DELAY * units.ms,
                )
                for source in np.flatnonzero(self.weights[gid])
            ]

    return Recipe
