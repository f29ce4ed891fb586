"""The cell in NEST 3.10 (environments/nest.txt): model `hh_psc_alpha`, whose solver chooses its own step."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Sequence

import numpy as np

from optimizees import nest_kernel
from optimizees.base import Infeasible
from optimizees.single_cell.cell import AREA, E_K, E_NA, END, SAMPLE, SAMPLES, STEP_OFF, STEP_ON, V_INIT

# The gates' equilibrium at V_INIT: the model would start in that of its default leak potential.
GATES = {"Act_m": 0.0529325, "Inact_h": 0.5961208, "Act_n": 0.3176769}


def simulate(params: Mapping[str, float], steps: Sequence[float], dt: float) -> np.ndarray:  # noqa: ARG001
    """See cell.Backend. Each step has a neuron of its own in one simulation; `dt` is left to the solver."""
    nest = nest_kernel.fresh(resolution=SAMPLE)
    neurons = nest.Create("hh_psc_alpha", len(steps), _whole_cell(params))
    neurons.set({"V_m": V_INIT, **GATES})
    # A current acts one resolution after the generator's time, because of the connection's delay.
    window = {"start": STEP_ON - SAMPLE, "stop": STEP_OFF - SAMPLE}
    clamps = nest.Create("dc_generator", len(steps), window)
    clamps.amplitude = [1000.0 * step for step in steps]  # pA
    meters = nest.Create("multimeter", len(steps), {"record_from": ["V_m"], "interval": SAMPLE})
    nest.Connect(clamps, neurons, "one_to_one", {"delay": SAMPLE})
    nest.Connect(meters, neurons, "one_to_one")
    try:
        nest.Simulate(END + SAMPLE)
    except nest.NESTErrors.NESTError as error:
        raise Infeasible(f"NEST's solver gave up: {error}") from error
    return np.array([np.asarray(events["V_m"])[:SAMPLES] for events in _events(meters)])


def _whole_cell(params: Mapping[str, float]) -> Dict[str, float]:
    """The parameters of NEST's point neuron, which are those of the whole cell (nS, pF, mV)."""
    return {
        "g_Na": params["gnabar"] * AREA * 1e9,
        "g_K": params["gkbar"] * AREA * 1e9,
        "g_L": params["gl"] * AREA * 1e9,
        "C_m": params["cm"] * AREA * 1e6,
        "E_L": params["el"],
        "E_Na": E_NA,
        "E_K": E_K,
    }


def _events(meters: Any) -> Sequence[Mapping[str, Any]]:
    """The recorded events of each meter; NEST gives those of a single one without a list."""
    events = meters.events
    return [events] if isinstance(events, dict) else events
