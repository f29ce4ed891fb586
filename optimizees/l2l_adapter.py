"""Optimizees written for L2L (L2LforHPC 2.0), run as they are.

A class with `create_individual()`, `simulate(traj)` and perhaps `bounding_func(individual)` is imported at
the site, where it is installed or lies in a folder, and evaluated with a stand-in for L2L's trajectory.
L2L itself is needed only as far as the class imports it. How to move a whole experiment:
docs/migrating-from-l2l.md. L2L: Yegenoglu et al. (2022), Front. Comput. Neurosci. 16:885207.
"""

from __future__ import annotations

import importlib
import inspect
import keyword
import os
import random
import re
import sys
from collections import namedtuple
from types import MappingProxyType
from typing import Any, Callable, Dict, List, Mapping, Sequence, cast

import numpy as np

from optimizees import declared
from optimizees.base import Context, Optimizee, OptimizeeError, OptionsError, Result
from optimizees.l2l_trajectory import Individual, Trajectory, numbers
from optimizers.space import Space

REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
INDICES = 2**31  # such classes name files and seed generators by an individual's index


class L2L(Optimizee):
    """An existing optimizee class of L2L.

    Its module is imported once per process, the class constructed for every evaluation, after the
    generators of `random` and `numpy.random` were seeded with the evaluation's seed. `create_individual` is
    called once: what it gives must have the names and sizes of `parameters`. `bounding_func` is applied to
    the parameters before `simulate`. Scalars are float or int, all others numpy arrays. Numbers and arrays
    that the class adds to the trajectory's results become metrics. `traj.individual.ind_idx` is made from
    the evaluation's seed, so that names of files differ; `traj.individual.generation` is always 0.

    Options:
        optimizee: "module:Class", or a function of the same arguments that returns the object.
        parameters: the search space, by name: {type: float, low, high, log, default, shape}, the same with
            type: int, {type: categorical, choices} and so on (optimizers.space).
        objectives: a list of {name, direction: minimize or maximize}, one per number of the fitness.
        options: arguments of the constructor by name; others become attributes of its parameters (of the
            one argument that is left, as in `Optimizee(traj, parameters)`).
        module_path: folder at the site that the module is imported from, absolute or below ~/; "" when it
            is installed.
        environment: name of the Python environment that has what the class imports; "" for the site's own.
    """

    summary = "an existing optimizee class of L2L (L2LforHPC), unmodified"

    def __init__(
        self,
        optimizee: str,
        parameters: Mapping[str, Mapping[str, Any]],
        objectives: Sequence[Mapping[str, str]] = (
            MappingProxyType({"name": "fitness", "direction": "maximize"}),
        ),
        options: Mapping[str, Any] = MappingProxyType({}),
        module_path: str = "",
        environment: str = "",
    ) -> None:
        if not isinstance(optimizee, str) or not REFERENCE.fullmatch(optimizee):
            raise OptionsError(f"option 'optimizee' must be a text 'module:Class', got {optimizee!r}")
        if not isinstance(module_path, str) or (module_path and not module_path.startswith(("/", "~/"))):
            raise OptionsError(
                f"option 'module_path' must be a folder at the site, /... or ~/..., got {module_path!r}"
            )
        self.optimizee = optimizee
        self.options = _check_options(options)
        self.module_path = module_path
        self.environment = declared.environment(environment)
        self.objectives = declared.objectives(objectives, "maximize")
        self._space = declared.space(parameters)
        if not parameters:
            raise OptionsError("option 'parameters' is needed: {name: {type: float, ...}}")

    def space(self) -> Space:
        return self._space

    def evaluate(
        self,
        params: Dict[str, Any],
        task: Dict[str, Any],  # noqa: ARG002
        rng: np.random.Generator,  # noqa: ARG002
        context: Context,
    ) -> Result:
        make = self._import()
        random.seed(context.seed)
        np.random.seed(context.seed % 2**32)
        trajectory = Trajectory(context.seed % INDICES)
        made = make(trajectory, **_arguments(make, self.options))
        values = {name: np.array(v) if isinstance(v, list) else v for name, v in params.items()}
        self._compare(made.create_individual(), values)
        if callable(getattr(made, "bounding_func", None)):
            values = made.bounding_func(values)
        trajectory.show(Individual(trajectory.v_idx, values))
        fitness = self._fitness(made.simulate(trajectory))
        return Result(fitness, numbers(trajectory.results))

    def _import(self) -> Callable[..., Any]:
        module, _, name = self.optimizee.partition(":")
        folder = os.path.expanduser(self.module_path)
        if folder and folder not in sys.path:
            sys.path.insert(0, folder)
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            place = f" (module_path: {folder})" if folder else ""
            raise OptimizeeError(f"cannot import {self.optimizee!r}{place}: {error}") from error
        if not callable(found):
            raise OptimizeeError(f"{self.optimizee!r} is neither a class nor a function")
        return cast(Callable[..., Any], found)

    def _compare(self, individual: Any, values: Mapping[str, Any]) -> None:
        """Refuse parameters that differ from the class's own: it would run with what it was not given."""
        if not isinstance(individual, Mapping):
            raise OptimizeeError(f"create_individual of {self.optimizee!r} gave no dict, but {individual!r}")
        own, given = _sizes(individual), _sizes(values)
        if own != given:
            raise OptimizeeError(f"{self.optimizee!r} has the parameters {own}, the campaign {given}")

    def _fitness(self, answer: Any) -> List[float]:
        parts = answer if isinstance(answer, (tuple, list)) else [answer]
        try:
            found = [float(number) for part in parts for number in np.ravel(part)]
        except (TypeError, ValueError) as error:
            raise OptimizeeError(
                f"simulate of {self.optimizee!r} must give a number or a tuple of numbers: {error}"
            ) from error
        if len(found) != len(self.objectives):
            raise OptimizeeError(
                f"simulate of {self.optimizee!r} gave {len(found)} numbers, but there are "
                f"{len(self.objectives)} objectives"
            )
        return found


def _check_options(options: Any) -> Dict[str, Any]:
    if not isinstance(options, Mapping):
        raise OptionsError(f"option 'options' must be {{name: value}}, got {options!r}")
    for name in options:
        if not str(name).isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
            raise OptionsError(f"option 'options': {name!r} cannot be the name of an attribute")
    return dict(options)


def _sizes(values: Mapping[str, Any]) -> Dict[str, int]:
    return {name: int(np.size(values[name])) for name in sorted(values)}


def _arguments(make: Callable[..., Any], options: Mapping[str, Any]) -> Dict[str, Any]:
    """The constructor's arguments after the trajectory, by name."""
    arguments = list(inspect.signature(make).parameters.values())[1:]
    named = [a for a in arguments if a.kind in (a.POSITIONAL_OR_KEYWORD, a.KEYWORD_ONLY)]
    given = {a.name: options[a.name] for a in named if a.name in options}
    rest = {name: options[name] for name in sorted(options) if name not in given}
    if any(a.kind is a.VAR_KEYWORD for a in arguments):
        return {**given, **rest}
    free = [a.name for a in named if a.name not in given]
    needed = [a.name for a in named if a.name in free and a.default is a.empty]
    if rest and not needed:
        needed = free[:1]
    if len(needed) > 1 or (rest and not needed):
        known = ", ".join(a.name for a in named) or "none"
        raise OptimizeeError(
            f"of the constructor's arguments ({known}) all but one must be in the option 'options', "
            f"which has {', '.join(options) or 'none'}"
        )
    for name in needed:
        given[name] = namedtuple("Parameters", list(rest))(**rest)
    return given
