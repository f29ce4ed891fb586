"""A spiking network in NEST that drives the mountain car.

The task of Moore (1990), Efficient memory-based learning for robot control (PhD thesis, Cambridge), in the
form of Sutton and Barto (2018), Reinforcement Learning, 2nd edition, example 10.1: a car whose engine is too
weak for the hill before it must first back up the hill behind it. As a use case of L2L, with a network of the
same size: Yegenoglu et al. (2022), Front. Comput. Neurosci. 16:885207.

The network: one input neuron per section of the road and one per section of the range of speeds; one hidden
layer; an output neuron each for backwards, no and forward thrust. Leaky integrate-and-fire neurons with delta
synapses. In each time step of the car the two input neurons of its state fire regularly, and the output
neuron with the most spikes decides; when the most active ones are equal, there is no thrust.
The potentials are carried over from one time step to the next.

NEST 3.10 (environments/nest.txt) is imported inside `evaluate` only.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Tuple

import numpy as np

from optimizees import nest_kernel
from optimizees.base import Context, Objective, Optimizee, Result, TaskFamily, check_whole
from optimizees.intervals import IntervalTasks
from optimizers.space import Float, Space

BACK, GOAL = -1.2, 0.5  # both ends of the road
TOP_SPEED = 0.07
THRUST, GRAVITY, HILLS = 0.001, 0.0025, 3.0
START = (-0.6, -0.4)  # about the bottom of the valley

OUTPUTS = 3  # backwards, none, forward
NEURON = {
    "C_m": 1.0, "tau_m": 20.0, "t_ref": 2.0, "E_L": 0.0, "V_reset": 0.0, "V_m": 0.0, "V_th": 20.0,
}  # fmt: skip
LARGEST_WEIGHT = 20.0  # mV: one spike brings a neuron at rest to its threshold
DRIVE = 6.0  # mV/ms into the input neurons of the present state: one spike in 6 ms
RESOLUTION = 0.5  # ms
DELAY = 1.0  # ms


class MountainCar(Optimizee):
    """Weights of a network with which the car comes as far as possible, at best to the goal at 0.5.

    Tasks are start positions within [-0.6, -0.4), at rest. Nothing is random within an evaluation: its seed
    changes nothing, and repeats of a task are of no use.

    Options:
        steps: time steps of the car within which it has to come far.
        sections: input neurons for the position, and as many for the speed.
        hidden: hidden neurons.
        step_time: simulated time of the network per time step of the car, whole ms.
    """

    environment = "nest"
    summary = "a spiking network (NEST) that drives the mountain car: largest position that it reaches"
    objectives = (Objective("position", "maximize"),)

    def __init__(self, steps: int = 110, sections: int = 30, hidden: int = 5, step_time: int = 20) -> None:
        self.steps = check_whole("steps", steps, 1)
        self.sections = check_whole("sections", sections, 1)
        self.hidden = check_whole("hidden", hidden, 1)
        self.step_time = check_whole("step_time", step_time, 2)

    def space(self) -> Space:
        """Weights in mV, one row per receiving neuron; the inputs are positions, then speeds."""
        low, high = -LARGEST_WEIGHT, LARGEST_WEIGHT
        return Space(
            {
                "w_hidden": Float(low, high, shape=(self.hidden, 2 * self.sections)),
                "w_output": Float(low, high, shape=(OUTPUTS, self.hidden)),
            }
        )

    def family(self) -> TaskFamily:
        return IntervalTasks("start", *START)

    def evaluate(
        self,
        params: Dict[str, Any],
        task: Dict[str, Any],
        rng: np.random.Generator,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> Result:
        network = Network(self.sections, params["w_hidden"], params["w_output"])
        position, speed = float(task["start"]), 0.0
        farthest, done, thrusts = position, 0, 0
        with network.running():
            while done < self.steps and position < GOAL:
                thrust = network.decide(position, speed, self.step_time)
                position, speed = drive(position, speed, thrust)
                farthest, done, thrusts = max(farthest, position), done + 1, thrusts + abs(thrust)
        reached = float(position >= GOAL)
        return Result([farthest], {"reached": reached, "steps": done, "thrust_share": thrusts / done})


def drive(position: float, speed: float, thrust: int) -> Tuple[float, float]:
    """One time step of the car; thrust is -1, 0 or 1. The road ends in a wall behind and at the goal."""
    speed += THRUST * thrust - GRAVITY * math.cos(HILLS * position)
    speed = min(max(speed, -TOP_SPEED), TOP_SPEED)
    position = min(position + speed, GOAL)
    return (BACK, 0.0) if position < BACK else (position, speed)


def section(value: float, low: float, high: float, sections: int) -> int:
    """The number of the equal section of [low, high] in which the value lies."""
    return min(max(int((value - low) / (high - low) * sections), 0), sections - 1)


class Network:
    """The network in NEST: inputs of the position, inputs of the speed, hidden neurons, outputs."""

    def __init__(self, sections: int, w_hidden: List[List[float]], w_output: List[List[float]]) -> None:
        nest = nest_kernel.fresh(resolution=RESOLUTION)
        self._nest, self._sections = nest, sections
        self._inputs = nest.Create("iaf_psc_delta", 2 * sections, NEURON)
        hidden = nest.Create("iaf_psc_delta", len(w_hidden), NEURON)
        outputs = nest.Create("iaf_psc_delta", OUTPUTS, NEURON)
        for source, target, weights in ((self._inputs, hidden, w_hidden), (hidden, outputs, w_output)):
            synapse = {"weight": np.array(weights, dtype=float), "delay": DELAY}
            nest.Connect(source, target, "all_to_all", synapse)
        self._counters = nest.Create("spike_recorder", OUTPUTS)
        nest.Connect(outputs, self._counters, "one_to_one")
        self._counted = np.zeros(OUTPUTS, dtype=int)
        self._driven: Any = None

    def running(self) -> Any:
        """NEST's own context for many short runs."""
        return self._nest.RunManager()

    def decide(self, position: float, speed: float, duration: int) -> int:
        """The thrust (-1, 0, 1) after that many ms with the car in this state."""
        place = section(position, BACK, GOAL, self._sections)
        pace = section(speed, -TOP_SPEED, TOP_SPEED, self._sections)
        if self._driven is not None:
            self._driven.I_e = 0.0
        self._driven = self._inputs[[place, self._sections + pace]]
        self._driven.I_e = DRIVE
        self._nest.Run(float(duration))
        counted = np.array(self._counters.n_events)
        spikes, self._counted = counted - self._counted, counted
        most = np.flatnonzero(spikes == spikes.max())
        return int(most[0]) - 1 if most.size == 1 else 0
