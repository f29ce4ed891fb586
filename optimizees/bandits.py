"""Bernoulli bandits: how to explore, learned from many bandits.

Task family as in work on learning to learn with bandits (Wang et al. 2016, "Learning to reinforcement learn",
arXiv:1611.05763; Duan et al. 2016, arXiv:1611.02779): machines with a few arms that pay 1 or 0 with
probabilities of their own, drawn evenly from a range and unknown to the player. There the player is a
recurrent network; here it is a rule with five parameters that has UCB1 (Auer, Cesa-Bianchi & Fischer 2002,
Machine Learning 47:235-256), its default, and softmax and optimistic greedy players as special cases.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping

import numpy as np

from optimizees.base import (
    SPLITS,
    Context,
    Optimizee,
    OptionsError,
    Result,
    TaskFamily,
    check_number,
    check_whole,
)
from optimizers.space import Float, Space


class Machines(TaskFamily):
    """Probabilities of reward, one per arm, drawn evenly; the splits draw from separate random streams."""

    def __init__(self, arms: int, low: float, high: float) -> None:
        self.arms, self.low, self.high = arms, low, high

    def task(self, split: str, index: int, seed: int) -> Dict[str, Any]:
        stream = np.random.SeedSequence([seed, SPLITS.index(split), index])
        rng = np.random.Generator(np.random.PCG64(stream))
        return {"probabilities": rng.uniform(self.low, self.high, self.arms).tolist()}


class Bandits(Optimizee):
    """A rule for choosing among arms that loses little on bandits of unknown probabilities.

    An evaluation is one machine, played by `players` players that know nothing of each other. The loss is the
    regret: what always taking the best arm would have earned on average over `pulls` pulls, less what the
    arms taken earn on average (rewards); 0 cannot be undercut. `curve` is the mean expected reward of a pull,
    from the first pull to the last.

    Options:
        arms: arms of a machine.
        pulls: pulls of a player.
        players: independent players whose regrets are averaged; more: less noise.
        low, high: range of the probabilities of reward.
    """

    summary = "Bernoulli bandits: an exploration rule with little regret on machines of unknown probabilities"

    def __init__(
        self, arms: int = 5, pulls: int = 100, players: int = 50, low: float = 0.0, high: float = 1.0
    ) -> None:
        self.arms = check_whole("arms", arms, 2)
        self.pulls = check_whole("pulls", pulls, 1)
        self.players = check_whole("players", players, 1)
        self.low = check_number("low", low, 0.0, 1.0)
        self.high = check_number("high", high, 0.0, 1.0)
        if self.high <= self.low:
            raise OptionsError("option 'high' must be above option 'low'")

    def space(self) -> Space:
        """The default is UCB1, which explores far too much for short games."""
        return Space(
            {
                "prior_mean": Float(0.0, 1.0, default=0.5),  # reward expected of an arm before it is tried
                "prior_pulls": Float(1e-3, 10.0, log=True, default=1e-3),  # pulls that this belief is worth
                "bonus": Float(0.0, 2.0, default=2.0**0.5),  # for arms that were tried less
                "temperature": Float(1e-3, 1.0, log=True, default=1e-3),  # of the softmax choice, rewards
                "cooling": Float(0.0, 2.0, default=0.0),  # temperature falls as pulls ** -cooling
            }
        )

    def family(self) -> TaskFamily:
        return Machines(self.arms, self.low, self.high)

    def evaluate(
        self,
        params: Dict[str, Any],
        task: Dict[str, Any],
        rng: np.random.Generator,
        context: Context,  # noqa: ARG002
    ) -> Result:
        probabilities = np.tile(np.asarray(task["probabilities"]), (self.players, 1))
        expected = play(params, probabilities, self.pulls, rng)
        best = float(np.max(probabilities))
        regret = float(np.sum(best - expected) / self.players)
        last = expected[-max(1, self.pulls // 10) :]  # tenth of the game
        return Result(
            [regret], {"best_arm_share": float(np.mean(last == best))}, expected.mean(axis=1).tolist()
        )


def play(
    params: Mapping[str, Any], probabilities: np.ndarray, pulls: int, rng: np.random.Generator
) -> np.ndarray:
    """Expected reward of the arm that each player takes: shape (pulls, players).

    The value of an arm is its mean reward so far, the prior counted as pulls, plus
    bonus * sqrt(ln t / n) with t pulls of the player, n of the arm (prior included). A player takes the arm
    with the largest value + temperature * t ** -cooling * Gumbel noise, which is a draw from a softmax.

    Args:
        probabilities: of reward, shape (players, arms).
    """
    players = np.arange(len(probabilities))
    counts = np.full(probabilities.shape, float(params["prior_pulls"]))
    rewards = counts * float(params["prior_mean"])
    expected = np.empty((pulls, len(players)))
    for pull in range(pulls):
        noise = float(params["temperature"]) * (pull + 1.0) ** -float(params["cooling"])
        bonus = float(params["bonus"]) * np.sqrt(np.log(pull + 1.0) / counts)
        arms = np.argmax(rewards / counts + bonus + noise * rng.gumbel(size=counts.shape), axis=1)
        expected[pull] = probabilities[players, arms]
        counts[players, arms] += 1.0
        rewards[players, arms] += rng.random(len(players)) < expected[pull]
    return expected
