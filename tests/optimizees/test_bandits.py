"""The rule has the players of the literature as special cases, and a search finds a better one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optimizees
from benchmarks.learning_to_learn import held_out_regret, learned_rule, thompson_regret
from optimizees.bandits import Bandits, play
from optimizees.base import OptionsError

SEEDS = (1, 2, 3)
UCB1 = {"prior_mean": 0.5, "prior_pulls": 1e-9, "bonus": math.sqrt(2.0), "temperature": 1e-12, "cooling": 0.0}
GREEDY = {**UCB1, "bonus": 0.0}
BLIND = {**GREEDY, "temperature": 1e6}


def ask(bandits: Bandits, params: dict[str, Any], index: int = 0, seed: int = 1) -> dict[str, Any]:
    task = {"split": "train", "index": index, "seed": 1}
    request = {"params": params, "task": task, "seed": seed, "scratch": ".", "deadline": None}
    return bandits.evaluate_json(request)


def ucb1_choice(rewards: np.ndarray, counts: np.ndarray) -> int:
    """Auer et al. (2002), Figure 1, written plainly."""
    untried = np.flatnonzero(counts == 0)
    if untried.size:
        return int(untried[0])
    return int(np.argmax(rewards / counts + np.sqrt(2.0 * np.log(counts.sum()) / counts)))


def test_default_is_ucb1() -> None:
    """On arms that pay always or never, there is no luck: the arms of both players must be the same."""
    probabilities = np.array([[0.0, 1.0, 0.0, 1.0]])
    found = play(UCB1, probabilities, 300, np.random.default_rng(1))[:, 0]
    rewards, counts = np.zeros(4), np.zeros(4)
    expected = 0.0
    for _ in range(300):
        arm = ucb1_choice(rewards, counts)
        counts[arm] += 1
        rewards[arm] += probabilities[0, arm]
        expected += probabilities[0, arm]
    assert found.sum() == pytest.approx(expected, abs=2.0)
    assert found.sum() < 290, "it goes on exploring"


def test_a_blind_player_earns_the_mean_of_the_arms() -> None:
    bandits = Bandits(players=500)
    task = bandits.family().task("train", 0, 1)["probabilities"]
    reply = ask(bandits, BLIND)
    assert reply["fitness"][0] == pytest.approx(100 * (max(task) - np.mean(task)), rel=0.03)
    assert np.mean(reply["curve"][-10:]) == pytest.approx(np.mean(task), abs=0.02)


def test_a_hopeful_greedy_player_finds_the_only_arm_that_pays() -> None:
    hopeful = {**GREEDY, "prior_mean": 0.9, "prior_pulls": 1.0}
    probabilities = np.tile([0.0, 0.0, 1.0], (200, 1))
    found = play(hopeful, probabilities, 20, np.random.default_rng(1))
    assert found[:2].min() == 0.0
    assert found[3:].min() == 1.0


def test_the_curve_rises_and_tells_the_regret() -> None:
    bandits = Bandits(players=500)
    reply = ask(bandits, bandits.space().default())
    best = max(bandits.family().task("train", 0, 1)["probabilities"])
    assert len(reply["curve"]) == 100
    assert reply["fitness"][0] == pytest.approx(sum(best - reward for reward in reply["curve"]))
    assert np.mean(reply["curve"][-20:]) > np.mean(reply["curve"][:20]) + 0.03


def test_another_seed_is_another_game_and_another_index_another_machine() -> None:
    bandits = Bandits()
    params = bandits.space().default()
    assert ask(bandits, params, seed=1) != ask(bandits, params, seed=2)
    assert ask(bandits, params, 0)["fitness"] != ask(bandits, params, 1)["fitness"]


@given(index=st.integers(0, 10**6), seed=st.integers(0, 2**32))
def test_machines_are_of_the_family_and_the_splits_differ(index: int, seed: int) -> None:
    family = Bandits(arms=3, low=0.2, high=0.4).family()
    train, test = (family.task(split, index, seed)["probabilities"] for split in ("train", "test"))
    assert len(train) == len(test) == 3
    assert all(0.2 <= p <= 0.4 for p in [*train, *test])
    assert not set(train) & set(test)


@given(unit=st.lists(st.floats(0, 1), min_size=5, max_size=5), seed=st.integers(1, 2**32))
def test_no_rule_has_negative_regret(unit: list[float], seed: int) -> None:
    bandits = Bandits(arms=3, pulls=10, players=3)
    assert 0.0 <= ask(bandits, bandits.space().decode(np.array(unit)), seed=seed)["fitness"][0] <= 10.0


@pytest.mark.parametrize(
    "options",
    [{"arms": 1}, {"pulls": 0}, {"players": 0}, {"low": -0.1}, {"high": 1.1}, {"high": 0.2, "low": 0.3}],
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=next(iter(options))):
        optimizees.load("bandits", options)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_learned_rule_loses_less_on_machines_never_seen(seed: int) -> None:
    """Than UCB1, with which the search began, and than Thompson sampling, which knows the family."""
    bandits = Bandits()
    learned = held_out_regret(bandits, learned_rule(bandits, 20, seed), seed)
    assert learned < 0.5 * held_out_regret(bandits, bandits.space().default(), seed)
    assert learned < 0.85 * thompson_regret(bandits, seed)
