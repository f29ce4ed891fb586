"""Structural plasticity in NEST: growth rules by which populations of neurons wire themselves to their rates.

Neurons begin without recurrent synapses. Every synaptic element (axonal bouton, excitatory and inhibitory
dendritic spine) grows or shrinks with the calcium concentration of its neuron, a low-pass filter of its
spikes, after the Gaussian curve of Butz and van Ooyen (2013), PLoS Comput. Biol. 9:e1003259: growth between
the calcium `eta` and the calcium of the wanted rate, loss outside. Free elements that fit are paired at
random. Implementation and both models after Diaz-Pier et al. (2016), Front. Neuroanat. 10:57; the growth
rules as a use case of L2L: Yegenoglu et al. (2022), Front. Comput. Neurosci. 16:885207.

Simplified: fewer neurons with stronger synapses; calcium that decays in 1 s instead of 10 s, so that seconds
suffice for what takes minutes in the originals; in the microcircuit, populations in the proportions and with
the spontaneous rates of Potjans and Diesmann (2014), Cereb. Cortex 24:785-806, but the same weak external
drive for all of them, and boutons that find spines in every layer.

NEST 3.10 (environments/nest.txt) is imported inside `evaluate` only. One thread: structural plasticity
refuses more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

import numpy as np

from optimizees import nest_kernel
from optimizees.base import (
    Context,
    Infeasible,
    Optimizee,
    OptionsError,
    Result,
    TaskFamily,
    check_number,
    check_whole,
)
from optimizees.intervals import IntervalTasks
from optimizers.space import Float, Space

NEURON = {
    "C_m": 250.0, "tau_m": 10.0, "tau_syn_ex": 0.5, "tau_syn_in": 0.5, "t_ref": 2.0,
    "E_L": -65.0, "V_reset": -65.0, "V_m": -65.0, "V_th": -50.0,
}  # fmt: skip
TAU_CA = 1000.0  # ms
BETA_CA = 0.01  # calcium per spike: the concentration is a hundredth of the rate in Hz
CA_PER_HZ = BETA_CA * TAU_CA / 1000.0
WEIGHT = 400.0  # pA, of a recurrent synapse; inhibitory ones: the negative
DELAY = 1.0  # ms
INPUT_RATE = 10000.0  # Hz, Poisson
RESOLUTION = 0.1  # ms
UPDATE = 100.0  # ms between two changes of the connectivity
RECORD = 500.0  # ms between two looks at the rates
SETTLED = 0.25  # the last part of the time, in which the rates are judged
EXCITATORY_SHARE = 0.8  # of a layer's loss


@dataclass(frozen=True)
class Population:
    """`size` is relative to the other populations, `target` the wanted rate in Hz."""

    name: str
    size: float
    target: float
    excitatory: bool


MODELS: Dict[str, Tuple[Population, ...]] = {
    "two_populations": (Population("e", 4, 5.0, True), Population("i", 1, 10.0, False)),
    "microcircuit": (
        Population("l23e", 20683, 0.86, True),
        Population("l23i", 5834, 2.8, False),
        Population("l4e", 21915, 4.45, True),
        Population("l4i", 5479, 5.93, False),
        Population("l5e", 4850, 7.59, True),
        Population("l5i", 1065, 8.64, False),
        Population("l6e", 14395, 1.09, True),
        Population("l6i", 2948, 7.88, False),
    ),
}
# pA, of an external spike. Without recurrent synapses neurons fire at less than 1 Hz, in the microcircuit at
# less than its lowest wanted rate: growth cannot help populations that fire too much.
INPUT_WEIGHTS = {"two_populations": 23.0, "microcircuit": 22.7}


class StructuralPlasticity(Optimizee):
    """Growth rates and growth curves with which all populations reach and keep their wanted rates.

    The loss is the mean over layers of 0.8 x relative error of the excitatory rate + 0.2 x that of the
    inhibitory rate, each averaged over the last quarter of the time; 1 is a silent network. The curve is
    the loss against the time that the network has had to wire itself, in steps of 500 ms.

    Tasks differ in the strength of the external input.

    Options:
        model: "two_populations" (wanted: excitatory 5 Hz, inhibitory 10 Hz) or "microcircuit" (four layers,
            excitatory and inhibitory, 0.86 to 8.64 Hz).
        neurons: all populations together; each keeps its share, at least 2.
        duration: simulated time, ms; whole steps of 500 ms.
        spread: the external input of a task is the standard one times a factor within 1 ± spread; with the
            microcircuit 0.02 is as much as its lowest rates bear.
        max_rate: a population above this rate (Hz) has blown up: infeasible.
    """

    environment = "nest"
    summary = "structural plasticity (NEST): growth rules that wire populations to their target rates"

    def __init__(
        self,
        model: str = "two_populations",
        neurons: int = 100,
        duration: float = 20000.0,
        spread: float = 0.05,
        max_rate: float = 60.0,
    ) -> None:
        if not isinstance(model, str) or model not in MODELS:
            raise OptionsError(f"option 'model' must be one of {', '.join(MODELS)}, got {model!r}")
        self.populations, self.input_weight = MODELS[model], INPUT_WEIGHTS[model]
        self.neurons = check_whole("neurons", neurons, 20)
        self.duration = check_number("duration", duration, 4 * RECORD)
        self.spread = check_number("spread", spread, 0.0, 0.5)
        highest = max(population.target for population in self.populations)
        self.max_rate = check_number("max_rate", max_rate, highest, open_low=True)

    def space(self) -> Space:
        """nu: elements per ms; eta: rate below which nothing grows / wanted rate. Of e, i neurons."""
        return Space(
            {
                "nu_e": Float(1e-5, 1e-1, log=True),
                "nu_i": Float(1e-5, 1e-1, log=True),
                "eta_e": Float(-1.5, 0.8, default=0.0),
                "eta_i": Float(-1.5, 0.8, default=0.0),
            }
        )

    def family(self) -> TaskFamily:
        return IntervalTasks("input", 1.0 - self.spread, 1.0 + self.spread)

    def evaluate(
        self,
        params: Dict[str, Any],
        task: Dict[str, Any],
        rng: np.random.Generator,  # noqa: ARG002
        context: Context,
    ) -> Result:
        if max(params["eta_e"], params["eta_i"]) >= 1.0:
            raise Infeasible("the growth curve needs an eta below the wanted rate (below 1)")
        nest = _prepared_kernel(1 + (context.seed - 1) % nest_kernel.LARGEST_SEED)
        groups = self._build(nest, params, task["input"])
        given = nest.num_connections
        rates = self._grow(nest, groups)
        errors = np.abs(rates / [population.target for population in self.populations] - 1.0)
        # In MODELS every layer's excitatory population stands before its inhibitory one.
        layers = EXCITATORY_SHARE * errors[:, ::2] + (1.0 - EXCITATORY_SHARE) * errors[:, 1::2]
        curve = layers.mean(axis=1)
        last = max(1, round(SETTLED * len(curve)))
        metrics: Dict[str, Any] = {
            f"rate_{population.name}": float(rates[-last:, column].mean())
            for column, population in enumerate(self.populations)
        }
        metrics["synapses_per_neuron"] = (nest.num_connections - given) / sum(self.sizes.values())
        return Result([float(curve[-last:].mean())], metrics, curve.tolist())

    @property
    def sizes(self) -> Dict[str, int]:
        """Neurons by population."""
        total = math.fsum(population.size for population in self.populations)
        return {
            population.name: max(2, round(self.neurons * population.size / total))
            for population in self.populations
        }

    def _build(self, nest: Any, params: Dict[str, Any], strength: float) -> List[Any]:
        """The populations with their synaptic elements and their input, not connected among each other."""
        groups = []
        for population in self.populations:
            kind = "e" if population.excitatory else "i"
            wanted = CA_PER_HZ * population.target
            growth = {
                "growth_curve": "gaussian",
                "growth_rate": params[f"nu_{kind}"],
                "eta": wanted * params[f"eta_{kind}"],
                "eps": wanted,
                "continuous": False,
            }
            elements = dict.fromkeys(("spine_e", "spine_i", f"bouton_{kind}"), growth)
            state = {"tau_Ca": TAU_CA, "beta_Ca": BETA_CA, "synaptic_elements": elements}
            groups.append(nest.Create("iaf_psc_alpha", self.sizes[population.name], {**NEURON, **state}))
        noise = nest.Create("poisson_generator", params={"rate": INPUT_RATE})
        for group in groups:
            nest.Connect(noise, group, syn_spec={"weight": self.input_weight * strength, "delay": DELAY})
        return groups

    def _grow(self, nest: Any, groups: List[Any]) -> np.ndarray:
        """Simulate; mean rates in Hz, one row per look and one column per population."""
        nest.EnableStructuralPlasticity()
        rows: List[List[float]] = []
        with nest.RunManager():
            for look in range(1, int(self.duration / RECORD) + 1):
                nest.Run(RECORD)
                rows.append([float(np.mean(group.Ca)) / CA_PER_HZ for group in groups])
                if not max(rows[-1]) <= self.max_rate:  # NaN too
                    raise Infeasible(
                        f"a population blew up: {max(rows[-1]):.0f} Hz at {look * RECORD:.0f} ms"
                    )
        return np.array(rows)


def _prepared_kernel(seed: int) -> Any:
    """An empty kernel that knows which elements make an excitatory and which an inhibitory synapse."""
    nest = nest_kernel.fresh(resolution=RESOLUTION, rng_seed=seed)
    nest.structural_plasticity_update_interval = UPDATE
    rules = {}
    for kind, weight in (("e", WEIGHT), ("i", -WEIGHT)):
        name = f"plastic_{kind}"
        nest.CopyModel("static_synapse", name, {"weight": weight, "delay": DELAY})
        rules[name] = {
            "synapse_model": name,
            "pre_synaptic_element": f"bouton_{kind}",
            "post_synaptic_element": f"spine_{kind}",
        }
    nest.structural_plasticity_synapses = rules
    return nest
