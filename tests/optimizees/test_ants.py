"""Ants: the world's rules, the genome's layout in NEST, the fitness, and NetLogo in the grid's place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import optimizees
from optimizees.ants import Ants
from optimizees.ants.brain import connections, genes
from optimizees.ants.world import (
    ACTUATORS,
    FOOD_AHEAD,
    HEIGHT,
    LEFT,
    MARK,
    MOVE,
    ON_FOOD,
    ON_NEST,
    ON_WALL,
    PHEROMONE,
    PILES,
    SCENT,
    SENSORS,
    WALL_AHEAD,
    WIDTH,
    Tally,
    World,
    spread,
)
from optimizees.base import Context, OptionsError
from tests.support.optimizee_runner import Runner

HIDDEN = 4
SMALL = {"ants": 4, "hidden": HIDDEN, "ticks": 60}
NEST = (20, 30)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner.start("ants", SMALL, tmp_path_factory.mktemp("ants")) as started:
        yield started


def genome(strengths: dict[tuple[int, int], float], delay: int = 1) -> dict[str, Any]:
    """Weights for (source, target) of a network, 0 for all others. Numbers of neurons: see `connections`."""
    pairs = list(zip(*(row.tolist() for row in connections(HIDDEN)), strict=True))
    assert set(strengths) <= set(pairs)
    return {"weights": [strengths.get(pair, 0.0) for pair in pairs], "delays": [delay] * len(pairs)}


HEARTBEAT, INNER, OUT = SENSORS, SENSORS + 1, SENSORS + 1 + HIDDEN
WALKER = {(HEARTBEAT, INNER): 20.0, (INNER, OUT + MOVE): 20.0}


def commands(**active: int) -> np.ndarray:
    """Commands for one ant."""
    row = np.zeros((1, ACTUATORS), dtype=int)
    for name, value in active.items():
        row[0, {"move": MOVE, "left": LEFT, "right": LEFT + 1, "mark": MARK}[name]] = value
    return row


def test_genome_has_the_published_size() -> None:
    """250 weights and delays with 10 hidden neurons; of the 720 of the paper, 700 are connections."""
    assert genes(10) == 250
    assert genes(20) == 700


@pytest.mark.parametrize("hidden", [1, 3, 10])
def test_every_connection_is_there_once(hidden: int) -> None:
    sources, targets = connections(hidden)
    assert len(sources) == len(targets) == genes(hidden)
    assert len(set(zip(sources.tolist(), targets.tolist(), strict=True))) == genes(hidden)
    assert not np.any(sources == targets)


def test_networks_without_weights_do_nothing(runner: Runner) -> None:
    """The fitness is then what time costs."""
    reply = runner.ask(genome({}), 1)["reply"]
    assert reply["fitness"] == [-0.5 * 60]
    assert set(reply["metrics"].values()) == {0}


def test_heartbeat_makes_ants_walk_to_the_wall(runner: Runner) -> None:
    metrics = runner.ask(genome(WALKER), 1)["reply"]["metrics"]
    assert metrics["moved"] > 4 * 50
    assert metrics["on_wall"] > 20
    assert metrics["turned"] == metrics["marked"] == 0


def test_inhibition_stops_them_at_the_wall(runner: Runner) -> None:
    """A sensor has a say: whoever is on the wall stands still, all others walk."""
    stopping = {**WALKER, (ON_WALL, INNER): -20.0}
    free, stopped = (runner.ask(genome(g), 1)["reply"]["metrics"] for g in (WALKER, stopping))
    assert 0 < stopped["moved"] < free["moved"]


def test_long_delays_are_late(runner: Runner) -> None:
    early, late = (runner.ask(genome(WALKER, d), 1)["reply"]["metrics"]["moved"] for d in (1, 7))
    assert late < early


def test_other_seed_other_headings_other_task_other_nest(runner: Runner) -> None:
    params = genome({**WALKER, (FOOD_AHEAD, INNER + 1): 20.0, (INNER + 1, OUT + LEFT): 20.0})
    replies = [
        runner.ask(params, seed, split=split)["reply"]
        for seed, split in ((1, "train"), (2, "train"), (1, "test"), (1, "train"))
    ]
    assert replies[0] == replies[3]
    assert replies[0] != replies[1]
    assert replies[0] != replies[2]


@settings(max_examples=50)
@given(index=st.integers(0, 10**6), seed=st.integers(0, 2**32 - 1))
def test_training_and_test_never_share_a_nest(index: int, seed: int) -> None:
    family = Ants().family()
    for split, colour in (("train", 0), ("test", 1)):
        x, y = family.task(split, index, seed)["nest"]
        assert (x + y) % 2 == colour
        assert 12 <= x < 26
        assert 18 <= y < 36


def test_an_ant_brings_food_home() -> None:
    """Found and returned once; the pile has less, and the ant can go for more."""
    world = World(NEST, np.zeros(1))
    before = world.food.sum()
    world.place[0] = PILES[0]
    assert world.sense()[0, ON_FOOD]
    world.sense()
    assert (world.tally.found, world.tally.returned) == (1, 0)
    world.place[0] = NEST
    assert world.sense()[0, ON_NEST]
    assert (world.tally.found, world.tally.returned) == (1, 1)
    assert world.food.sum() == before - 1
    assert not world.carries.any()


def test_a_patch_feeds_as_many_as_it_has() -> None:
    world = World(NEST, np.zeros(5))
    world.place[:] = PILES[1]
    world.sense()
    assert world.tally.found == 2
    assert world.carries.sum() == 2


def test_it_is_finished_when_all_food_is_home() -> None:
    world = World(NEST, np.zeros(1))
    world.food[:] = 0
    world.food[PILES[0][1], PILES[0][0]] = 1
    world.place[0] = PILES[0]
    world.sense()
    assert not world.is_finished
    world.place[0] = NEST
    world.sense()
    assert world.is_finished


def test_it_sees_what_is_first_in_sight() -> None:
    """To the left of the world's middle a pile, ahead a wall; food hides the wall behind it."""
    world = World(NEST, np.array([0.0, np.pi]))
    world.place[:] = [[30.0, 30.0], [20.0, 45.0]]
    senses = world.sense()
    assert senses[0, [WALL_AHEAD, FOOD_AHEAD]].tolist() == [False, True]
    assert senses[1, [WALL_AHEAD, FOOD_AHEAD]].tolist() == [True, False]


def test_it_smells_where_the_nest_is() -> None:
    """The nest to the left, ahead, to the right; angles grow to the left."""
    world = World(NEST, np.array([0.0, np.pi / 2, np.pi]))
    world.place[:] = [20.0, 10.0]
    assert world.sense()[:, SCENT : SCENT + 3].tolist() == np.eye(3, dtype=bool).tolist()


def test_it_smells_its_own_mark() -> None:
    world = World(NEST, np.zeros(1))
    world.act(commands(mark=1))
    world.place[0] += [-1.5, -1.5]
    assert world.sense()[0, PHEROMONE : PHEROMONE + 3].tolist() == [True, False, False]


def test_turns_and_steps() -> None:
    world = World(NEST, np.zeros(1))
    world.act(commands(left=2, right=1))
    assert world.heading[0] == pytest.approx(np.deg2rad(6))
    world.act(commands(left=1, right=1))
    world.act(commands(right=3, move=1))
    assert world.heading[0] == pytest.approx(0.0)
    assert world.place[0] == pytest.approx([21.0, 30.0])
    assert (world.tally.turned, world.tally.moved) == (2, 1)


def test_nobody_leaves_the_world() -> None:
    world = World(NEST, np.random.default_rng(1).uniform(0, 7, 20))
    for _ in range(80):
        world.act(np.tile(commands(move=1), (20, 1)))
    assert np.all((world.place >= 0) & (world.place <= [WIDTH - 1, HEIGHT - 1]))
    world.sense()
    assert world.tally.on_wall == 20


@given(st.lists(st.floats(0.0, 1e6), min_size=12, max_size=12))
def test_spreading_loses_no_pheromone(amounts: list[float]) -> None:
    field = np.array(amounts).reshape(3, 4)
    after = spread(field)
    assert after.sum() == pytest.approx(field.sum())
    assert np.all(after >= 0)
    assert np.ptp(after) <= np.ptp(field) + 1e-6


def test_fitness_is_that_of_the_paper() -> None:
    tally = Tally(found=3, returned=2, moved=100, turned=50, marked=20, on_wall=2)
    assert Ants(ticks=200).fitness(tally, 200) == pytest.approx(
        2 * 220 + 3 * 1.5 - 200 * 0.5 - 100 * 0.25 - 50 * 0.02 - 20 * 0.05 - 2 * 5.5
    )
    assert Ants(ticks=200, costs=0.0).fitness(tally, 190) == pytest.approx(2 * 220 + 3 * 1.5 + 10 * 30)


STAND_IN = """#!{python}
import pathlib, sys
model = pathlib.Path(sys.argv[sys.argv.index("--model") + 1])
assert sys.argv[3:] == ["--experiment", "experiment1", "--threads", "1"], sys.argv
weights, delays = (model.parent / "individual_config.csv").read_text().splitlines()
if model.read_text() == "broken":
    sys.exit("no such primitive")
fitness = sum(map(float, weights.split(","))) + 1000 * sum(map(int, delays.split(",")))
result = model.parent / "individual_result.csv"
result.write_text(weights + "\\n" + delays + "\\n" + repr(fitness) + "\\n")
"""


def netlogo(folder: Path, model: str = "fine") -> Ants:
    """The optimizee with a program that answers in NetLogo's place."""
    program, text = folder / "netlogo-headless.sh", folder / "ants.nlogo"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    text.write_text(model)
    return Ants(hidden=1, netlogo=str(program), model=str(text))


def ask_netlogo(ants: Ants, scratch: Path) -> list[float]:
    scratch.mkdir()
    params = {"weights": [0.25] * genes(1), "delays": [2] * genes(1)}
    result = ants.evaluate(params, {}, np.random.default_rng(1), Context(1, scratch))
    return list(result.fitness)


def test_netlogo_is_given_the_genome_and_its_fitness_is_read(tmp_path: Path) -> None:
    assert ask_netlogo(netlogo(tmp_path), tmp_path / "scratch") == [16 * 0.25 + 1000 * 16 * 2]


def test_what_netlogo_said_is_told_when_there_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="status 1 without a result: no such primitive"):
        ask_netlogo(netlogo(tmp_path, "broken"), tmp_path / "scratch")


@pytest.mark.parametrize(
    "options",
    [
        {"ants": 0},
        {"hidden": 0},
        {"ticks": 0},
        {"costs": -1.0},
        {"netlogo": "netlogo-headless.sh", "model": "/m.nlogo"},
        {"netlogo": "/opt/netlogo-headless.sh"},
        {"model": "/m.nlogo"},
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=next(iter(options))):
        optimizees.load("ants", options)
