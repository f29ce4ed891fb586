"""The ants' spiking networks in NEST: all of them in one kernel, all with the same weights and delays.

Layout of the genome as in the published model: sensors to hidden neurons, heartbeat to hidden, hidden to
hidden (no neuron to itself), hidden to actuators; source by source, within a source target by target.
"""

from __future__ import annotations

from types import TracebackType
from typing import Optional, Tuple, Type

import numpy as np

from optimizees import nest_kernel
from optimizees.ants.world import ACTUATORS, SENSORS

RESOLUTION = 1.0  # ms
TICK = 20.0  # ms of the networks in a tick of the world
HEARTBEAT = 2.0  # ms between two spikes that every hidden neuron is given
WEIGHT = 100.0  # pA, of a weight of 1
ACTIVE = 20000.0  # pA, into the neuron of an active sensor: a spike every 2 ms
REFRACTORY = 1.0  # ms
MOST_SPIKES = 5000  # in the recorder, which copies all of them each time it is read


def genes(hidden: int) -> int:
    """Connections of a network with that many hidden neurons."""
    return (SENSORS + 1) * hidden + hidden * (hidden - 1) + hidden * ACTUATORS


def connections(hidden: int) -> Tuple[np.ndarray, np.ndarray]:
    """Sources and targets in the order of the genome.

    The neurons of a network are numbered: sensors, heartbeat, hidden neurons, actuators.
    """
    first = SENSORS + 1
    inner = np.arange(first, first + hidden)
    actuators = np.arange(first + hidden, first + hidden + ACTUATORS)
    sources, targets = np.nonzero(~np.eye(hidden, dtype=bool))
    return (
        np.concatenate([np.repeat(np.arange(first), hidden), inner[sources], np.repeat(inner, ACTUATORS)]),
        np.concatenate([np.tile(inner, first), inner[targets], np.tile(actuators, hidden)]),
    )


class Brains:
    """A context: inside it, `step` runs the networks for one tick.

    Args:
        weights, delays (ms): the genome, `genes(hidden)` numbers each.
        hidden: hidden neurons of a network.
        ants: number of networks.
        ticks: how often `step` will be called at most.
    """

    def __init__(self, weights: np.ndarray, delays: np.ndarray, hidden: int, ants: int, ticks: int) -> None:
        nest = nest_kernel.fresh(resolution=RESOLUTION)
        self._nest, self._ants = nest, ants
        neurons = {"t_ref": REFRACTORY}
        self._sensors = nest.Create("iaf_psc_alpha", ants * SENSORS, neurons)
        inner = nest.Create("iaf_psc_alpha", ants * hidden, neurons)
        self._actuators = nest.Create("iaf_psc_alpha", ants * ACTUATORS, neurons)
        beats = np.arange(RESOLUTION, ticks * TICK + RESOLUTION, HEARTBEAT)
        heartbeat = nest.Create("spike_generator", params={"spike_times": beats})
        of_ant = np.column_stack(
            [
                np.array(self._sensors.tolist()).reshape(ants, SENSORS),
                np.full(ants, heartbeat.tolist()[0]),
                np.array(inner.tolist()).reshape(ants, hidden),
                np.array(self._actuators.tolist()).reshape(ants, ACTUATORS),
            ]
        )
        sources, targets = connections(hidden)
        synapses = {"weight": np.tile(weights * WEIGHT, ants), "delay": np.tile(delays.astype(float), ants)}
        nest.Connect(of_ant[:, sources].ravel(), of_ant[:, targets].ravel(), "one_to_one", synapses)
        self._recorder = nest.Create("spike_recorder")
        nest.Connect(self._actuators, self._recorder)
        self._current = np.zeros(ants * SENSORS)
        self._read = 0  # spikes of the recorder that were reported

    def __enter__(self) -> Brains:
        self._nest.Prepare()
        return self

    def step(self, senses: np.ndarray) -> np.ndarray:
        """Spikes of the actuators (ants, ACTUATORS) in a tick with these sensors (ants, SENSORS) active."""
        if self._read > MOST_SPIKES:
            self._forget()
        current = np.where(senses.ravel(), ACTIVE, 0.0)
        changed = np.flatnonzero(current != self._current)
        if changed.size:  # setting what stays as it is would take most of the time
            self._sensors[changed.tolist()].I_e = current[changed].tolist()
        self._current = current
        self._nest.Run(TICK)
        senders = np.asarray(self._recorder.get("events", "senders"), dtype=int)
        fired = senders[self._read :] - self._actuators[0].global_id
        self._read = senders.size
        return np.bincount(fired, minlength=self._ants * ACTUATORS).reshape(self._ants, ACTUATORS)

    def _forget(self) -> None:
        """Empty the recorder, which NEST only allows between two preparations."""
        self._nest.Cleanup()
        self._recorder.n_events = 0
        self._nest.Prepare()
        self._read = 0

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._nest.Cleanup()
