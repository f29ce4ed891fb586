"""A colony of ants, each driven by the same small spiking network in NEST, looks for food.

Model after Jimenez Romero, Yegenoglu, Pérez Martín, Diaz-Pier and Morrison (2024), "Emergent communication
enhances foraging behavior in evolved swarms controlled by spiking neural networks", Swarm Intelligence
18:1-28, doi 10.1007/s11721-023-00231-6 (code and data: Meta-optimization/emergent_communication_in_agents).
There the world is a NetLogo model; here it is a grid in numpy (`world`), or that NetLogo model where NetLogo
is installed (`netlogo`). Simplified in the grid: positions in place of sensor agents, sight in whole patches.

NEST 3.10 (environments/nest.txt) is imported inside `evaluate` only.
"""

from __future__ import annotations

import math
from typing import Any, Dict

import numpy as np

from optimizees.ants.brain import Brains, genes
from optimizees.ants.netlogo import NetLogo
from optimizees.ants.world import NEST_AREA, Tally, World
from optimizees.base import (
    SPLITS,
    Context,
    Objective,
    Optimizee,
    Result,
    TaskFamily,
    check_number,
    check_whole,
)
from optimizers.space import Float, Int, Space

STRONGEST = 20.0  # weight, in units of 100 pA
LONGEST = 7  # delay, ms
# What the published fitness takes off.
COST_OF_TICK, COST_OF_MOVE, COST_OF_TURN, COST_OF_MARK, COST_OF_WALL = 0.5, 0.25, 0.02, 0.05, 5.5
BONUS = 30.0  # for each tick that is left when all food is in the nest


class NestPlaces(TaskFamily):
    """Tasks {"nest": [x, y]}: training on one colour of a chessboard, test on the other."""

    def task(self, split: str, index: int, seed: int) -> Dict[str, Any]:
        colour = SPLITS.index(split)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, colour])))
        x, y = (int(rng.integers(low, high)) for low, high in NEST_AREA)
        if (x + y) % 2 != colour:
            y = y + 1 if y + 1 < NEST_AREA[1][1] else y - 1
        return {"nest": [x, y]}


class Ants(Optimizee):
    """Synaptic weights and delays that make a colony bring food to its nest.

    The fitness is that of the paper, over all ants: 220 for each portion of food that is returned to the nest
    and 1.5 for each that is found; less 0.5 per tick, 0.25 per step, 0.02 per turn, 0.05 per mark of
    pheromone and 5.5 per tick that an ant is on the wall; and 30 per tick left when all food is returned.
    Metrics: `returned`, `found`, `moved`, `turned`, `marked`, `on_wall`, how often each happened.

    Options:
        ants: how many there are.
        hidden: hidden neurons of each network; 20 in the paper, 10 in Yegenoglu et al. (2022).
        ticks: length of the simulation, ticks of 20 ms; 2000 in the paper.
        reward_returned: fitness of a returned portion.
        reward_found: fitness of a portion that is found.
        costs: factor of what the fitness takes off; less of it rewards activity early on.
        netlogo: path of `netlogo-headless.sh` at the site; "": the grid in numpy.
        model: path of the NetLogo model (.nlogo) at the site. It has its own ants, ticks, rewards, costs,
            nest and seed, and must have the same number of hidden neurons.
    """

    environment = "nest"
    summary = "foraging ants with spiking networks (NEST) and pheromone; weights and delays for returned food"
    objectives = (Objective("fitness", "maximize"),)

    def __init__(
        self,
        ants: int = 15,
        hidden: int = 10,
        ticks: int = 250,
        reward_returned: float = 220.0,
        reward_found: float = 1.5,
        costs: float = 1.0,
        netlogo: str = "",
        model: str = "",
    ) -> None:
        self.ants = check_whole("ants", ants, 1)
        self.hidden = check_whole("hidden", hidden, 1)
        self.ticks = check_whole("ticks", ticks, 1)
        self.reward_returned = check_number("reward_returned", reward_returned, 0.0)
        self.reward_found = check_number("reward_found", reward_found, 0.0)
        self.costs = check_number("costs", costs, 0.0)
        self._netlogo = NetLogo.checked(netlogo, model)

    def space(self) -> Space:
        """weights: in 100 pA; delays: ms. Order of the connections: see `brain`."""
        size = genes(self.hidden)
        return Space(
            {
                "weights": Float(-STRONGEST, STRONGEST, shape=(size,)),
                "delays": Int(1, LONGEST, shape=(size,)),
            }
        )

    def family(self) -> TaskFamily:
        return NestPlaces()

    def evaluate(
        self, params: Dict[str, Any], task: Dict[str, Any], rng: np.random.Generator, context: Context
    ) -> Result:
        weights, delays = np.asarray(params["weights"], dtype=float), np.asarray(params["delays"])
        if self._netlogo is not None:
            return Result([self._netlogo.run(weights, delays, context)])
        world = World(tuple(task["nest"]), rng.uniform(0.0, 2.0 * math.pi, self.ants))
        with Brains(weights, delays, self.hidden, self.ants, self.ticks) as brains:
            while world.ticks < self.ticks and not world.is_finished:
                world.act(brains.step(world.sense()))
        return Result([self.fitness(world.tally, world.ticks)], vars(world.tally))

    def fitness(self, tally: Tally, ticks: int) -> float:
        """The fitness of ants that did this; fewer ticks than there could be: all food was returned."""
        costs = (
            COST_OF_TICK * ticks,
            COST_OF_MOVE * tally.moved,
            COST_OF_TURN * tally.turned,
            COST_OF_MARK * tally.marked,
            COST_OF_WALL * tally.on_wall,
        )
        rewards = self.reward_returned * tally.returned + self.reward_found * tally.found
        return rewards - self.costs * math.fsum(costs) + BONUS * (self.ticks - ticks)
