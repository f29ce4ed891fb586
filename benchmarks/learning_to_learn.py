"""Learning to learn, measured: performance on tasks never seen, before and after an optimizer saw others.

    python -m benchmarks.learning_to_learn [--seeds 1 2 3]

prints the tables of docs/use-cases/sinusoid.md and bandits.md. CMA-ES is driven directly, without a campaign;
all tasks of an individual are computed at once, by the functions that an evaluation calls for its one task.
Every individual costs the same number of evaluations, however many different tasks these are of.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import optimizers
from optimizees.bandits import Bandits, play
from optimizees.sinusoid import LARGEST_ERROR, Sinusoid
from optimizers.base import Evaluated
from optimizers.space import Space

LEARNERS = 20  # sinusoids, equal or not, that an individual is evaluated on
GAMES = 400  # games of bandits that a rule is evaluated on
HELD_OUT = 500  # tasks of the test split

Params = Mapping[str, Any]
Loss = Callable[[Params, np.random.Generator], float]


def search(space: Space, loss: Loss, seed: int, generations: int, population: int, sigma: float) -> Params:
    """What CMA-ES recommends; all individuals of a generation are given the same random numbers."""
    optimizer = optimizers.get("cmaes")(space, 1, {"sigma": sigma}, seed=seed)
    for generation in range(generations):
        told = []
        for suggestion in optimizer.ask(population):
            found = loss(suggestion.params, np.random.default_rng([seed, generation]))
            ok = found < LARGEST_ERROR
            told.append(Evaluated(suggestion.id, (found,) if ok else None, "ok" if ok else "infeasible"))
        optimizer.tell(told)
    recommended = optimizer.recommend()
    assert recommended is not None, "every individual was infeasible"
    return recommended.params


def learned_start(
    sinusoid: Sinusoid, tasks: int, seed: int, generations: int = 30, *, rates_only: bool = False
) -> Params:
    """Weights and learning rates (or these alone) for `tasks` different sinusoids of the train split."""
    family, space = sinusoid.family(), sinusoid.space()
    seen = [family.task("train", i % tasks, seed) for i in range(LEARNERS)]
    if rates_only:
        space = space.override({k: v for k, v in space.default().items() if not k.startswith("rate_")})

    def loss(params: Params, rng: np.random.Generator) -> float:
        return float(np.mean(sinusoid.adapt(params, seen, rng)[-1]))

    return search(space, loss, seed, generations, population=20, sigma=0.1)


def held_out_errors(sinusoid: Sinusoid, params: Params, seed: int) -> np.ndarray:
    """Mean squared errors after 0, 1, … gradient steps on sinusoids of the test split."""
    unseen = [sinusoid.family().task("test", i, seed) for i in range(HELD_OUT)]
    return np.asarray(sinusoid.adapt(params, unseen, np.random.default_rng(seed)).mean(axis=1))


def learned_rule(bandits: Bandits, tasks: int, seed: int, generations: int = 30) -> Params:
    """A rule for `tasks` different machines of the train split."""
    seen = _machines(bandits, "train", tasks, seed, GAMES // tasks)

    def loss(params: Params, rng: np.random.Generator) -> float:
        return _regret(seen, play(params, seen, bandits.pulls, rng))

    return search(bandits.space(), loss, seed, generations, population=10, sigma=0.25)


def held_out_regret(bandits: Bandits, params: Params, seed: int) -> float:
    """Mean regret on machines of the test split, ten games on each."""
    unseen = _machines(bandits, "test", HELD_OUT, seed, 10)
    return _regret(unseen, play(params, unseen, bandits.pulls, np.random.default_rng(seed)))


def thompson_regret(bandits: Bandits, seed: int) -> float:
    """The same for Thompson sampling, which knows that the probabilities are drawn evenly from 0 to 1."""
    unseen, rng = _machines(bandits, "test", HELD_OUT, seed, 10), np.random.default_rng(seed)
    players = np.arange(len(unseen))
    won, lost = np.ones(unseen.shape), np.ones(unseen.shape)
    expected = np.empty((bandits.pulls, len(unseen)))
    for pull in range(bandits.pulls):
        arms = np.argmax(rng.beta(won, lost), axis=1)
        expected[pull] = unseen[players, arms]
        reward = rng.random(len(unseen)) < expected[pull]
        won[players, arms] += reward
        lost[players, arms] += ~reward
    return _regret(unseen, expected)


def _machines(bandits: Bandits, split: str, tasks: int, seed: int, games: int) -> np.ndarray:
    """Probabilities of reward, shape (tasks * games, arms)."""
    family = bandits.family()
    return np.repeat([family.task(split, i, seed)["probabilities"] for i in range(tasks)], games, axis=0)


def _regret(probabilities: np.ndarray, expected: np.ndarray) -> float:
    return float(np.mean(np.sum(probabilities.max(axis=1) - expected, axis=0)))


def _print_sinusoid(seeds: list[int]) -> None:
    sinusoid = Sinusoid()
    variants: dict[str, Callable[[int], Params]] = {
        "before (default)": lambda _: sinusoid.space().default(),
        "learning rates only, 20 sinusoids": lambda s: learned_start(sinusoid, 20, s, rates_only=True),
        "1 sinusoid": lambda s: learned_start(sinusoid, 1, s),
        "2 sinusoids": lambda s: learned_start(sinusoid, 2, s),
        "5 sinusoids": lambda s: learned_start(sinusoid, 5, s),
        "20 sinusoids": lambda s: learned_start(sinusoid, 20, s),
        "1 sinusoid, 300 generations": lambda s: learned_start(sinusoid, 1, s, 300),
        "20 sinusoids, 300 generations": lambda s: learned_start(sinusoid, 20, s, 300),
    }
    print("\nsinusoid: held-out error after 0, 1, ... steps (mean over seeds); after the last, per seed")
    for name, make in variants.items():
        errors = np.array([held_out_errors(sinusoid, make(seed), seed) for seed in seeds])
        print(f"| {name} | {_row(errors.mean(axis=0))} | {_row(errors[:, -1])} |", flush=True)


def _print_bandits(seeds: list[int]) -> None:
    for options in ({"arms": 2}, {"arms": 5}, {"arms": 5, "high": 0.2}):
        bandits = Bandits(**options)
        start = bandits.space().default()
        found = {
            "before (UCB1)": [held_out_regret(bandits, start, seed) for seed in seeds],
            "Thompson sampling": [thompson_regret(bandits, seed) for seed in seeds],
        }
        for tasks in (1, 20):
            rules = [learned_rule(bandits, tasks, seed) for seed in seeds]
            pairs = zip(rules, seeds, strict=True)
            found[f"learned from {tasks}"] = [held_out_regret(bandits, rule, seed) for rule, seed in pairs]
        print(f"\nbandits {options}: held-out regret, mean over seeds; per seed")
        for name, regrets in found.items():
            print(f"| {name} | {np.mean(regrets):.2f} | {_row(np.array(regrets))} |", flush=True)


def _row(values: np.ndarray) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    seeds = parser.parse_args().seeds
    _print_sinusoid(seeds)
    _print_bandits(seeds)


if __name__ == "__main__":
    main()
