"""Ask/tell optimizers: a module each, in folders by kind; one contract (`optimizers.base`) and test suite.

The registry is lazy: importing this package loads neither numpy nor an optimizer, because the package
is also staged to the site (for `optimizers.space`), where Python may be 3.8.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Dict, List, Type, cast

if TYPE_CHECKING:
    from optimizers.base import Optimizer

_REGISTRY: Dict[str, str] = {
    "bayesian": "models.bayesian:Bayesian",
    "cmaes": "cma.cmaes:CMAES",
    "cross_entropy": "evolution.cross_entropy:CrossEntropy",
    "differential_evolution": "population.differential_evolution:DifferentialEvolution",
    "ensemble_kalman": "local.ensemble_kalman:EnsembleKalman",
    "evolution_strategy": "evolution.evolution_strategy:EvolutionStrategy",
    "face": "evolution.face:FACE",
    "genetic": "population.genetic:Genetic",
    "gest": "combined.gest:Gest",
    "gradient_descent": "local.gradient_descent:GradientDescent",
    "grid": "designs.grid:Grid",
    "latin_hypercube": "designs.latin_hypercube:LatinHypercube",
    "map_elites": "population.map_elites:MapElites",
    "nsga2": "population.nsga2:NSGA2",
    "nsga3": "population.nsga3:NSGA3",
    "parallel_tempering": "local.parallel_tempering:ParallelTempering",
    "particle_swarm": "population.particle_swarm:ParticleSwarm",
    "population_based_training": "population.population_based_training:PopulationBasedTraining",
    "portfolio": "combined.portfolio:Portfolio",
    "random": "designs.random_search:RandomSearch",
    "saltelli": "designs.saltelli:Saltelli",
    "simulated_annealing": "local.simulated_annealing:SimulatedAnnealing",
    "snes": "evolution.snes:SNES",
    "sobol": "designs.sobol:SobolSearch",
    "successive_halving": "combined.successive_halving:SuccessiveHalving",
    "tpe": "models.tpe:TPE",
    "xnes": "evolution.xnes:XNES",
}


class OptimizerError(Exception):
    """An optimizer was asked for, told or restored from something that cannot be right."""


def names() -> List[str]:
    """Names of all optimizers, sorted."""
    return sorted(_REGISTRY)


def get(name: str) -> Type[Optimizer]:
    """The optimizer class of this name.

    Raises:
        OptimizerError: there is none; the message names those that exist.
    """
    if name not in _REGISTRY:
        close = difflib.get_close_matches(name, _REGISTRY, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise OptimizerError(f"There is no optimizer {name!r}.{hint} Known: {', '.join(names())}.")
    module, _, attribute = _REGISTRY[name].partition(":")
    return cast("Type[Optimizer]", getattr(importlib.import_module(f"optimizers.{module}"), attribute))
