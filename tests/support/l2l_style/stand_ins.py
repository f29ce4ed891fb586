"""Optimizees in the form of L2L, but without its base class (they need L2L no more than a test does)."""

from __future__ import annotations

import collections
import random
from types import SimpleNamespace
from typing import Any

import numpy as np

HillParameters = collections.namedtuple("HillParameters", ["height", "noise"])


class Hill:
    """A noisy hill over a vector, a number and a whole number, with what such classes do to a trajectory."""

    def __init__(self, traj: Any, parameters: Any) -> None:
        traj.f_add_parameter_group("individual", "as the base class does")
        self.height = parameters.height
        self.noise = parameters._asdict()["noise"]
        self.first_index = traj.individual.ind_idx
        for name, value in self.create_individual().items():
            traj.individual.f_add_parameter(name, value)
        traj.f_add_parameter("scale", 2.0, comment="a setting of its own")

    def create_individual(self) -> dict[str, Any]:
        return {"coords": np.random.rand(2), "width": random.uniform(0.5, 1.5), "steps": 3}

    def bounding_func(self, individual: dict[str, Any]) -> dict[str, Any]:
        return {**individual, "coords": np.clip(individual["coords"], -1.0, 1.0)}

    def simulate(self, traj: Any) -> Any:
        one = traj.individual
        assert one.ind_idx == self.first_index == traj.v_idx
        assert isinstance(one.coords, np.ndarray)
        assert type(one.width) is float
        assert type(one.steps) is int
        assert one.nothing is None
        assert traj.par["scale"] == traj.parameters.scale == traj.scale == 2.0
        traj.results.f_add_result_group("detail")
        traj.results.f_add_result("detail.largest", np.max(one.coords))
        traj.f_add_result("coords", one.coords)
        traj.f_add_result("text", "no number")
        distance = float(np.sum(one.coords**2)) / one.width
        return (self.height - distance / one.steps + self.noise * (np.random.randn() + random.gauss(0, 1)),)


class Plain:
    """No bounding function, no parameters; several numbers as its fitness."""

    answer: Any = (1.0, np.array([2.0]))

    def __init__(self, traj: Any) -> None:
        self.traj = traj

    def create_individual(self) -> dict[str, Any]:
        return {"group.x": 0.5}

    def simulate(self, traj: Any) -> Any:
        assert traj.individual["group.x"] == traj.individuals[0][0]["group.x"]
        return self.answer


class Scalar(Plain):
    answer = np.float64(4.0)


class Nothing(Plain):
    answer = None


class Arguments(Plain):
    """Arguments by name instead of a tuple of parameters."""

    def __init__(self, traj: Any, settings: Any, seed: int, factor: float = 2.0) -> None:
        super().__init__(traj)
        self.answer = (settings.depth * factor, seed)


def make_arguments(traj: Any, depth: int) -> Arguments:
    """A function that makes the optimizee, for classes whose arguments are no plain values."""
    return Arguments(traj, SimpleNamespace(depth=depth), 5)
