"""The world of the foraging ants: a walled grid with a nest, three piles of food and pheromone.

Rules and numbers after the NetLogo model of Jimenez Romero et al. (2024), Swarm Intelligence 18:1-28, which
goes back to NetLogo's "Ants". Lengths are in patches, times in ticks, angles in radians, counted to the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import numpy as np

WIDTH, HEIGHT = 41, 60
PILES = ((9, 53), (9, 6), (36, 30))  # centres
PORTIONS = 2  # of food on a patch
RADIUS = 3.0  # of the nest and the piles
NEST_AREA = ((12, 26), (18, 36))  # where its centre may be: x, y
SIGHT = 32  # how far an ant sees along its line of sight
SMELL = 2.0  # how far ahead it smells
NOSTRIL = np.pi / 4  # between what it smells left, ahead and right
TURN = np.pi / 30  # in a tick
STEP = 1.0  # in a tick
DROP = 60.0  # pheromone
SPREAD, SPREAD_EVERY = 0.15, 7  # share of the pheromone that goes to the 8 neighbours, every so many ticks
EVAPORATES = 0.01  # share, at the same times

WALL_AHEAD, FOOD_AHEAD, PHEROMONE, ON_WALL, ON_FOOD, SCENT, ON_NEST = 0, 1, 2, 5, 6, 7, 10
SENSORS = 11  # pheromone and nest scent have three each: left, ahead, right
MOVE, LEFT, RIGHT, MARK = 0, 1, 2, 3
ACTUATORS = 4


@dataclass
class Tally:
    """What the ants did so far, all together."""

    found: int = 0
    returned: int = 0
    moved: int = 0
    turned: int = 0
    marked: int = 0
    on_wall: int = 0


class World:
    """The grid and the bodies of the ants, which start in the nest.

    Args:
        nest: its centre (x, y).
        headings: where the ants look at first; as many as there are ants.
    """

    def __init__(self, nest: Tuple[int, int], headings: np.ndarray) -> None:
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        self.food = np.zeros((HEIGHT, WIDTH), dtype=int)
        for pile in PILES:
            self.food[np.hypot(x - pile[0], y - pile[1]) < RADIUS] = PORTIONS
        distance = np.hypot(x - nest[0], y - nest[1])
        self.nest = distance < RADIUS
        self._scent = -distance
        self.wall = (x == 0) | (y == 0) | (x == WIDTH - 1) | (y == HEIGHT - 1)
        self.food[self.wall] = 0
        self.pheromone = np.zeros((HEIGHT, WIDTH))
        self.place = np.tile(np.asarray(nest, dtype=float), (len(headings), 1))
        self.heading = np.array(headings, dtype=float)
        self.carries = np.zeros(len(headings), dtype=bool)
        self.tally = Tally()
        self.ticks = 0

    @property
    def is_finished(self) -> bool:
        """Whether all food is in the nest."""
        return not (self.food.any() or self.carries.any())

    def sense(self) -> np.ndarray:
        """What the ants perceive, shape (ants, SENSORS); on food they take it, in the nest they leave it."""
        senses = np.zeros((len(self.place), SENSORS), dtype=bool)
        senses[:, WALL_AHEAD], senses[:, FOOD_AHEAD] = self._seen()
        for first, smell in ((PHEROMONE, self.pheromone), (SCENT, self._scent)):
            senses[:, first : first + 3] = self._smelt(smell)
        here = self._patch(self.place)
        senses[:, ON_WALL], senses[:, ON_FOOD], senses[:, ON_NEST] = (
            self.wall[here],
            self.food[here] > 0,
            self.nest[here],
        )
        self.tally.on_wall += int(self.wall[here].sum())
        self._carry(here)
        return senses

    def act(self, commands: np.ndarray) -> None:
        """One tick: turn, move, mark, as `commands` say, shape (ants, ACTUATORS), positive where active."""
        turns = np.sign(commands[:, LEFT] - commands[:, RIGHT])
        self.heading += TURN * turns
        moving, marking = commands[:, MOVE] > 0, commands[:, MARK] > 0
        self.place[moving] = self._ahead(np.array([STEP]), 0.0)[0][moving]
        self.place = np.clip(self.place, 0, [WIDTH - 1, HEIGHT - 1])
        here = self._patch(self.place[marking])
        np.add.at(self.pheromone, here, DROP)
        self.tally.turned += int(np.abs(turns).sum())
        self.tally.moved += int(moving.sum())
        self.tally.marked += int(marking.sum())
        self.ticks += 1
        if self.ticks % SPREAD_EVERY == 0:
            self.pheromone = (1 - EVAPORATES) * spread(self.pheromone)

    def _carry(self, here: Tuple[np.ndarray, np.ndarray]) -> None:
        """Food is taken one ant after the other: a patch may have less than there are ants on it."""
        for ant in np.flatnonzero((self.food[here] > 0) & ~self.carries):
            patch = here[0][ant], here[1][ant]
            if self.food[patch] > 0:
                self.food[patch] -= 1
                self.carries[ant] = True
                self.tally.found += 1
        home = self.nest[here] & self.carries
        self.carries[home] = False
        self.tally.returned += int(home.sum())

    def _seen(self) -> Tuple[np.ndarray, np.ndarray]:
        """Per ant, whether the first thing in its line of sight is a wall, and whether it is food."""
        along = self._patch(self._ahead(np.arange(1.0, SIGHT + 1), 0.0))
        is_food = self.food[along] > 0
        is_thing = self.wall[along] | is_food
        first = is_thing.argmax(axis=0), np.arange(len(self.place))
        return is_thing[first] & ~is_food[first], is_food[first]

    def _smelt(self, smell: np.ndarray) -> np.ndarray:
        """Per ant, one of left, ahead, right: where the smell is strongest; ahead when nothing stands out."""
        points = [self._ahead(np.array([SMELL]), angle)[0] for angle in (NOSTRIL, 0.0, -NOSTRIL)]
        left, ahead, right = (smell[self._patch(point)] for point in points)
        to_left = (left > ahead) & (left > right)
        to_right = (right > ahead) & (right > left)
        return np.column_stack([to_left, ~(to_left | to_right), to_right])

    def _ahead(self, distances: np.ndarray, angle: float) -> np.ndarray:
        """Points at these distances from the ants, shape (distances, ants, 2)."""
        direction = np.column_stack([np.cos(self.heading + angle), np.sin(self.heading + angle)])
        return np.asarray(self.place + distances[:, None, None] * direction)

    @staticmethod
    def _patch(points: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Row and column of the patches at points (x, y); beyond the walls, those of the walls."""
        nearest = np.rint(points).astype(int)
        return np.clip(nearest[..., 1], 0, HEIGHT - 1), np.clip(nearest[..., 0], 0, WIDTH - 1)


def spread(pheromone: np.ndarray) -> np.ndarray:
    """Each patch gives an eighth of its spreading share to each neighbour; what has none stays."""
    height, width = pheromone.shape
    given = np.pad(pheromone * SPREAD / 8, 1)
    rows, columns = (np.convolve(np.ones(n), np.ones(3), mode="same") for n in (height, width))
    neighbours = np.outer(rows, columns) - 1
    received = sum(
        given[1 + dy : height + 1 + dy, 1 + dx : width + 1 + dx]
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if dx or dy
    )
    return np.asarray(pheromone * (1 - SPREAD * neighbours / 8) + received)
