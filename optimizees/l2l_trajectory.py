"""What optimizees written for L2L (L2LforHPC) ask of the trajectory that they are given.

L2L's own trajectory holds the history of a whole run. In an evaluation its optimizees see of it one
individual, what they added themselves, and some settings of the run; this is what is here.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, KeysView, Mapping, Optional

import numpy as np

PREFIX = "individual."  # of the names of an individual's parameters in its `params`


class Group:
    """Named values, as attributes and as items; "group.name" is a value of a group within it."""

    def __init__(self) -> None:
        self.params: Dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "params":  # asked for by copying, before there is anything
            raise AttributeError(name)
        place, _, rest = name.partition(".")
        if place not in self.params:
            known = ", ".join(self.params) or "nothing"
            raise AttributeError(f"{name!r} was not added before ({known} was)")
        return getattr(self.params[place], rest) if rest else self.params[place]

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.add(name, value)

    def __contains__(self, name: str) -> bool:
        return name in self.params

    def __iter__(self) -> Iterator[str]:
        return iter(self.params)

    def keys(self) -> KeysView[str]:
        return self.params.keys()

    def get(self, name: str, default: Any = None) -> Any:
        return self.params.get(name, default)

    def add(self, name: str, value: Any) -> None:
        """Add a value, "group.name" to a group; one that is not there yet is made."""
        place, _, rest = name.partition(".")
        if not rest:
            self.params[place] = value
            return
        if not isinstance(self.params.get(place), Group):
            self.params[place] = Group()
        self.params[place].add(rest, value)

    def f_add_parameter(self, key: object, val: Any = None, comment: str = "") -> None:  # noqa: ARG002
        self.add(str(key), val)

    def f_add_parameter_group(self, name: str, comment: str = "") -> None:  # noqa: ARG002
        self.params.setdefault(name, Group())

    def f_add_parameter_to_group(self, group_name: str, key: str, val: Any) -> None:
        self.add(f"{group_name}.{key}", val)

    def f_add_result(self, key: object, val: Any = None, comment: str = "") -> None:  # noqa: ARG002
        self.add(str(key), val)

    def f_add_result_group(self, name: str, comment: str = "") -> None:  # noqa: ARG002
        self.params.setdefault(name, Group())

    def f_add_result_to_group(
        self,
        group_name: str,
        key: object,
        val: Any,
        comment: str = "",  # noqa: ARG002
    ) -> None:
        self.add(f"{group_name}.{key}", val)


class Individual:
    """The parameters of one individual as attributes; None for what is no parameter, as in L2L."""

    def __init__(self, ind_idx: int, values: Optional[Mapping[str, Any]] = None) -> None:
        self.generation = 0
        self.ind_idx = ind_idx
        self.params: Dict[str, Any] = {PREFIX + name: value for name, value in (values or {}).items()}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "params":
            raise AttributeError(name)
        return self.params.keys() if name == "keys" else self.params.get(PREFIX + name)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def f_add_parameter(self, key: str, val: Any, comment: str = "") -> None:  # noqa: ARG002
        self.params[key if key.startswith(PREFIX) else PREFIX + key] = val


class Trajectory:
    """The trajectory of one evaluation.

    Attributes:
        individual: the one to simulate; without parameters while the optimizee is constructed.
        individuals: by generation; here there is one generation of one individual.
        v_idx: the number of the run, here the individual's `ind_idx`.
        parameters, par: what the optimizee added; also found as attributes of the trajectory.
        results: what the optimizee added as results.
    """

    def __init__(self, ind_idx: int) -> None:
        self.parameters = Group()
        self.par = self.parameters
        self.results = Group()
        self.v_idx = ind_idx
        self.current_results: Dict[str, Any] = {}
        self.hall_of_fame: Any = None
        self.is_loaded = False
        self.debug = False
        self.stop_run = False
        self.timeout = False
        self.retry = 0
        self.inner_params = 1  # candidates per individual
        self.show(Individual(ind_idx))

    def show(self, individual: Individual) -> None:
        """Make it the individual to simulate."""
        self.individual = individual
        self.individuals = {individual.generation: [individual]}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "parameters":
            raise AttributeError(name)
        return getattr(self.parameters, name)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def f_add_parameter(self, key: str, val: Any = None, comment: str = "") -> None:
        self.parameters.f_add_parameter(key, val, comment)

    f_add_derived_parameter = f_add_parameter

    def f_add_parameter_group(self, name: str, comment: str = "") -> None:
        self.parameters.f_add_parameter_group(name, comment)

    def f_add_parameter_to_group(self, group_name: str, key: str, val: Any) -> None:
        self.parameters.f_add_parameter_to_group(group_name, key, val)

    def f_add_result(self, key: object, val: Any = None, comment: str = "") -> None:
        self.results.f_add_result(key, val, comment)


def numbers(results: Group, prefix: str = "") -> Dict[str, Any]:
    """The numbers and arrays of numbers among the results, by "group.name"; nothing else."""
    found: Dict[str, Any] = {}
    for name, value in results.params.items():
        if isinstance(value, Group):
            found.update(numbers(value, f"{prefix}{name}."))
            continue
        try:
            array = np.asarray(value)
        except ValueError:  # lists of different lengths
            continue
        if array.dtype.kind in "iuf":
            found[prefix + name] = array if array.ndim else array.item()
    return found
