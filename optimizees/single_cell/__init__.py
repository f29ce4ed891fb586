"""The conductances of a Hodgkin-Huxley cell, fitted to voltage features, in one of four simulators.

One isopotential compartment with the squid axon's sodium, potassium and leak channels (Hodgkin and Huxley
1952, J. Physiol. 117:500-544) is given three current steps per task. Features of its voltage are compared
with those of a reference cell: the fit by features of Druckmann et al. (2007), Front. Neurosci. 1:7-18,
with their mean in place of several objectives. The single-cell use case of L2L (Yegenoglu et al. 2022)
fits the trace of a reconstructed cell in Arbor; here the cell is as simple as can be, and the same in
each simulator, so that simulators can be compared under equal conditions.

A back-end is a module on_<simulator>.py, which imports its simulator when it is called.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, Dict, Mapping, Tuple, cast

import numpy as np

from optimizees.base import (
    SPLITS,
    Context,
    Infeasible,
    Optimizee,
    OptionsError,
    Result,
    TaskFamily,
    check_number,
)
from optimizees.single_cell import features
from optimizees.single_cell.cell import REFERENCE, SAMPLE, Backend
from optimizers.space import Float, Space

SIMULATORS = ("arbor", "eden", "nest", "neuron")
BLOWN_UP = 500.0  # mV; no cell with these channels is there
REMEMBERED = 256  # protocols whose reference features a process keeps

# Ranges of the three steps (nA): one below rest, one that makes the reference cell fire slowly, one faster.
# The test's are outside of the train's, in between and beyond.
RANGES = {
    "train": ((-0.3, -0.1), (0.7, 0.9), (1.1, 1.3)),
    "test": ((-0.5, -0.35), (0.95, 1.05), (1.4, 1.7)),
}


class Protocols(TaskFamily):
    """Triples of current steps: {"steps": [nA, nA, nA]}."""

    def task(self, split: str, index: int, seed: int) -> Dict[str, Any]:
        rng = np.random.default_rng([SPLITS.index(split), index, seed])
        return {"steps": [round(float(rng.uniform(low, high)), 4) for low, high in RANGES[split]]}


class SingleCell(Optimizee):
    """Conductances, leak potential and capacitance that give the voltage features of a reference cell.

    The loss is the mean difference of 15 features, each in units of a difference that matters
    (features.SCALES) and at most 20: 0 at the reference parameters, 1 to 10 at random ones. The reference is
    simulated by the same simulator, so that its numerical error is in both, and 0 can be reached in each.

    Options:
        simulator: arbor, eden, nest or neuron; it decides which environment is needed.
        dt: time step of the simulator, ms; 0.05 divided by a whole number. NEST chooses its own steps.
    """

    environment: str = "neuron"  # here of each instance: the simulator's
    summary = "Hodgkin-Huxley cell (NEURON, Arbor, NEST or EDEN): conductances for wanted voltage features"

    def __init__(self, simulator: str = "neuron", dt: float = 0.025) -> None:
        if simulator not in SIMULATORS:
            known = ", ".join(SIMULATORS)
            raise OptionsError(f"option 'simulator' must be one of {known}, got {simulator!r}")
        self.simulator = self.environment = simulator
        self.dt = check_number("dt", dt, 0.0, SAMPLE, open_low=True)
        if abs(SAMPLE / self.dt - round(SAMPLE / self.dt)) > 1e-6:
            raise OptionsError(f"option 'dt' must be {SAMPLE:g} ms divided by a whole number, got {dt!r}")
        self._target = functools.lru_cache(REMEMBERED)(self._reference_features)

    def space(self) -> Space:
        """The reference cell is well inside."""
        return Space(
            {
                "gnabar": Float(0.02, 0.3),  # S/cm2
                "gkbar": Float(0.005, 0.12),  # S/cm2
                "gl": Float(5e-5, 1e-3, log=True),  # S/cm2
                "el": Float(-70.0, -45.0),  # mV
                "cm": Float(0.5, 2.0),  # uF/cm2
            }
        )

    def family(self) -> TaskFamily:
        return Protocols()

    def evaluate(
        self,
        params: Dict[str, Any],
        task: Dict[str, Any],
        rng: np.random.Generator,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> Result:
        steps = tuple(task["steps"])
        wanted = self._target(steps)
        found = self._features(params, steps)
        return Result([features.distance(found, wanted)], found)

    def _reference_features(self, steps: Tuple[float, ...]) -> Dict[str, float]:
        return self._features(REFERENCE, steps)

    def _features(self, params: Mapping[str, float], steps: Tuple[float, ...]) -> Dict[str, float]:
        module = importlib.import_module(f"{__name__}.on_{self.simulator}")
        voltages = cast(Backend, module).simulate(params, steps, self.dt)
        if not np.all(np.abs(voltages) < BLOWN_UP):  # NaN is not below either
            raise Infeasible(f"the membrane potential left ±{BLOWN_UP:g} mV")
        return features.protocol_features(voltages, steps)
