"""What is measured on a voltage trace, and the distance between two sets of such features."""

from __future__ import annotations

import math
from typing import Dict, Mapping, Sequence

import numpy as np

from optimizees.single_cell.cell import SAMPLE, STEP_OFF, STEP_ON, times

THRESHOLD = -20.0  # mV; a spike is an upward crossing
WORST = 20.0  # the most that one feature adds: a silent cell shall not drown all other differences

SCALES: Dict[str, float] = {  # a difference that counts as 1
    "rest": 1.0,  # mV, just before the step
    "steady": 1.0,  # mV, at the end of a hyperpolarising step
    "lowest": 1.0,  # mV, during it
    "spikes": 1.0,  # and the part of an interval that has passed at the step's end
    "latency": 0.5,  # ms from the step's beginning to the first spike
    "peak": 2.0,  # mV, mean of all spikes
    "trough": 2.0,  # mV, mean of the minima between spikes
    "width": 0.2,  # ms above the threshold, mean of all spikes
}


def trace_features(voltage: np.ndarray, step: float) -> Dict[str, float]:
    """The features of one trace (mV, sampled as in `cell`) under a step (nA); finite for silent cells too."""
    time = times()
    found = {"rest": float(np.mean(voltage[(time > STEP_ON - 8.0) & (time < STEP_ON - 1.0)]))}
    on, off = round(STEP_ON / SAMPLE) - 1, round(STEP_OFF / SAMPLE) - 1  # the samples at these times
    during = voltage[on : off + 1]
    steady = float(np.mean(during[-40:]))  # 2 ms
    if step < 0:
        return {**found, "steady": steady, "lowest": float(during.min())}
    ups = _crossings(voltage, 1.0)
    ups = ups[(ups > on) & (ups < off)]
    # A spike that begins within the step is followed to its end, even behind the step's.
    downs = np.append(_crossings(voltage, -1.0), voltage.size - 1.0)
    downs = np.array([downs[downs > up][0] for up in ups])
    peaks = [float(voltage[int(up) : int(down) + 2].max()) for up, down in zip(ups, downs)]  # noqa: B905
    troughs = [float(voltage[int(down) : int(up) + 2].min()) for down, up in zip(downs, ups[1:])]  # noqa: B905
    return {
        **found,
        "spikes": _count(ups, off),
        "latency": SAMPLE * float(ups[0] - on) if ups.size else STEP_OFF - STEP_ON,
        "peak": _mean(peaks, float(during.max())),
        "trough": _mean(troughs, steady),
        "width": SAMPLE * float(np.mean(downs - ups)) if ups.size else 0.0,
    }


def protocol_features(voltages: np.ndarray, steps: Sequence[float]) -> Dict[str, float]:
    """The features of all traces of a protocol, named <feature>_<number of the step, from 1>."""
    pairs = enumerate(zip(voltages, steps), start=1)  # noqa: B905
    return {f"{name}_{i}": x for i, (v, step) in pairs for name, x in trace_features(v, step).items()}


def distance(found: Mapping[str, float], wanted: Mapping[str, float]) -> float:
    """Mean difference of the features in their scales; 0: equal, WORST: nothing fits."""
    terms = [abs(found[key] - wanted[key]) / SCALES[key.rpartition("_")[0]] for key in wanted]
    return math.fsum(min(WORST, term) for term in terms) / len(terms)


def _crossings(voltage: np.ndarray, sign: float) -> np.ndarray:
    """Where the voltage crosses the threshold upwards (sign 1) or downwards (-1), in samples.

    Interpolated between samples, so that times change smoothly with the parameters.
    """
    above = sign * (voltage - THRESHOLD)
    before = np.flatnonzero((above[:-1] <= 0) & (above[1:] > 0))
    fraction: np.ndarray = before + above[before] / (above[before] - above[before + 1])
    return fraction


def _count(ups: np.ndarray, off: int) -> float:
    """The spikes, and the fraction of the mean interval between the last of them and the step's end.

    So a spike that moves over the end does not change it by one: an optimizer sees no cliff, and simulators
    whose spikes differ by microseconds agree.
    """
    if ups.size < 2:
        return float(ups.size)
    interval = (ups[-1] - ups[0]) / (ups.size - 1)
    return float(ups.size + min(1.0, (off - ups[-1]) / interval))


def _mean(values: Sequence[float], otherwise: float) -> float:
    return math.fsum(values) / len(values) if values else otherwise
