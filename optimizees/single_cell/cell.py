"""The cell, the current steps and the recording that all simulators share, and what a back-end is.

The squid axon's channels at 6.3 °C (Hodgkin and Huxley 1952) on one isopotential cylinder without end faces.
"""

from __future__ import annotations

import math
from typing import Dict, Mapping, Sequence

import numpy as np

AREA = 1e-4  # cm2; so 1 nA is 10 uA/cm2
DIAMETER = 1e4 * math.sqrt(AREA / math.pi)  # um, and the length of the cylinder
E_NA = 50.0  # mV
E_K = -77.0  # mV
CELSIUS = 6.3
V_INIT = -65.0  # mV; the gates start in equilibrium there
AXIAL_RESISTIVITY = 35.4  # ohm cm; without effect in one compartment, but some simulators ask for it

STEP_ON = 20.0  # ms
STEP_OFF = 120.0  # ms
END = 150.0  # ms
SAMPLE = 0.05  # ms between two samples of the voltage
SAMPLES = round(END / SAMPLE)  # at SAMPLE, 2 SAMPLE ... END

REFERENCE: Dict[str, float] = {
    "gnabar": 0.12,  # S/cm2
    "gkbar": 0.036,  # S/cm2
    "gl": 3e-4,  # S/cm2
    "el": -54.387,  # mV; the resting potential is then V_INIT
    "cm": 1.0,  # uF/cm2
}


class Backend:
    """What each module of this package named after a simulator offers: a function `simulate` of this form."""

    def simulate(self, params: Mapping[str, float], steps: Sequence[float], dt: float) -> np.ndarray:
        """Voltages (mV), shape (steps, SAMPLES), of the cell under current steps (nA), integrated at dt (ms).

        The current directory may be used for temporary files. Raises Infeasible where the simulator gives up
        on the cell; voltages that are not finite are the caller's business.
        """
        raise NotImplementedError


def times() -> np.ndarray:
    """The time (ms) of each sample."""
    return SAMPLE * np.arange(1, SAMPLES + 1)
