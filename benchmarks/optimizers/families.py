"""Which algorithms are of one family: ours beside the libraries' and the incumbent's."""

from __future__ import annotations

from collections.abc import Mapping

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "CMA-ES": (*("own:cmaes", "pycma:cma", "cmaes:cma", "cmaes:lra", "nevergrad:CMA", "optuna:cmaes"),),
    "CMA-ES, diagonal": ("pycma:diagonal", "cmaes:sepcma"),
    "natural evolution strategies": ("own:snes", "own:xnes", "cmaes:xnes", "l2l:nes"),
    "evolution strategies": ("own:evolution_strategy", "l2l:es", "l2l:es-tuned"),
    "genetic algorithm": ("own:genetic", "pymoo:ga", "l2l:ga"),
    "differential evolution": (
        *("own:differential_evolution", "scipy:de", "pymoo:de", "nevergrad:DE", "nevergrad:TwoPointsDE"),
    ),
    "particle swarm": ("own:particle_swarm", "pymoo:pso", "nevergrad:PSO"),
    "cross-entropy": ("own:cross_entropy", "own:face", "l2l:ce", "l2l:ce-gauss", "l2l:face"),
    "annealing and tempering": (
        *("own:simulated_annealing", "own:parallel_tempering"),
        *("scipy:dual-annealing", "l2l:sa", "l2l:pt", "l2l:sa-tuned", "l2l:pt-tuned"),
    ),
    "gradient descent": (
        *("own:gradient_descent", "l2l:gd-classic", "l2l:gd-stochastic", "l2l:gd-rmsprop"),
        *("l2l:gd-adam", "l2l:gd-adamax", "l2l:gd-adam-tuned"),
    ),
    "model-based": ("own:bayesian", "own:tpe", "optuna:tpe", "nevergrad:NGOpt"),
    "designs": (
        *("own:random", "own:sobol", "own:latin_hypercube", "own:saltelli", "own:grid"),
        *("optuna:random", "nevergrad:RandomSearch", "l2l:grid"),
    ),
    "several objectives": ("own:nsga2", "own:nsga3", "pymoo:nsga2", "pymoo:nsga3"),
}
"""Options do not change the family."""


def family(algorithm: str) -> str:
    """The family of an algorithm; "other" for those that are in none."""
    plain = ":".join(algorithm.split(":")[:2])
    return next((name for name, members in FAMILIES.items() if plain in members), "other")
