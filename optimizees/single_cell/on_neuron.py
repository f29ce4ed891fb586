"""The cell in NEURON 9 (environments/neuron.txt): mechanism `hh`, implicit Euler."""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any, Mapping, Sequence, Tuple

import numpy as np

from optimizees.single_cell.cell import (
    AXIAL_RESISTIVITY,
    CELSIUS,
    DIAMETER,
    E_K,
    E_NA,
    END,
    SAMPLE,
    SAMPLES,
    STEP_OFF,
    STEP_ON,
    V_INIT,
)


def simulate(params: Mapping[str, float], steps: Sequence[float], dt: float) -> np.ndarray:
    """See cell.Backend."""
    h, soma, clamp, voltage = _cell()
    h.celsius, h.dt, soma.cm, soma.ena, soma.ek = CELSIUS, dt, params["cm"], E_NA, E_K
    for name in ("gnabar", "gkbar", "gl", "el"):
        setattr(soma(0.5).hh, name, params[name])
    parallel, stride = h.ParallelContext(), round(SAMPLE / dt)
    parallel.set_maxstep(10)
    traces = []
    for step in steps:
        clamp.amp = step
        h.finitialize(V_INIT)
        parallel.psolve(END)  # one call: `continuerun` comes back to the interpreter after each time step
        traces.append(np.array(voltage)[stride::stride][:SAMPLES])
    return np.array(traces)


@functools.lru_cache(maxsize=None)
def _cell() -> Tuple[Any, Any, Any, Any]:
    """NEURON's model is global: it is built once per process, and only its parameters change."""
    os.environ.setdefault("NEURON_MODULE_OPTIONS", "-nogui")
    h: Any = importlib.import_module("neuron").h
    h.load_file("stdrun.hoc")
    soma = h.Section(name="soma")
    soma.L = soma.diam = DIAMETER
    soma.nseg, soma.Ra = 1, AXIAL_RESISTIVITY
    soma.insert("hh")
    clamp = h.IClamp(soma(0.5))
    clamp.delay, clamp.dur = STEP_ON, STEP_OFF - STEP_ON
    return h, soma, clamp, h.Vector().record(soma(0.5)._ref_v)
