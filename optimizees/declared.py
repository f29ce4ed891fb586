"""What a campaign file declares for an optimizee whose class cannot: space, objectives, environment."""

from __future__ import annotations

import re
from typing import List, Mapping, Tuple

from optimizees.base import Objective, OptimizeeError, OptionsError
from optimizers.space import Space, SpaceError

ENVIRONMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*)?")  # becomes a folder's name at some sites


def space(parameters: object) -> Space:
    """The space of `parameters` (name -> {type, low, high, ...}), which may be empty; OptionsError.

    Sorted by name, because the stored campaign does not keep the order of the file.
    """
    if not isinstance(parameters, Mapping):
        raise OptionsError(
            f"option 'parameters' must be a mapping such as {{x: {{type: float, low: 0, high: 1}}}}, "
            f"got {parameters!r}"
        )
    for name, entry in parameters.items():
        if not isinstance(entry, Mapping) or "name" in entry:
            raise OptionsError(
                f"option 'parameters': {name} must be such as {{type: float, low: 0, high: 1}}, got {entry!r}"
            )
        if not isinstance(entry.get("type"), str):
            raise OptionsError(f"option 'parameters': {name} needs a type: float, int, categorical, ...")
    try:
        return Space.from_json({"parameters": [{**parameters[n], "name": n} for n in sorted(parameters)]})
    except SpaceError as error:
        raise OptionsError(f"option 'parameters': {error}") from error


def objectives(entries: object, direction: str = "minimize") -> Tuple[Objective, ...]:
    """The objectives of a list of {name, direction}, `direction` where none is said; OptionsError."""
    if not isinstance(entries, (list, tuple)) or not entries:
        raise OptionsError(f"option 'objectives' must be a list such as [{{name: loss}}], got {entries!r}")
    made: List[Objective] = []
    for given in entries:
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise OptionsError(f"option 'objectives': expected {{name, direction}}, got {given!r}")
        unknown = sorted(map(str, set(given) - {"name", "direction"}))
        if unknown:
            raise OptionsError(f"option 'objectives': unknown {', '.join(unknown)} of {given['name']!r}")
        try:
            made.append(Objective(given["name"], given.get("direction", direction)))
        except OptimizeeError as error:
            raise OptionsError(f"option 'objectives': {error}") from error
    if len({objective.name for objective in made}) < len(made):
        raise OptionsError("option 'objectives': each needs a name of its own")
    return tuple(made)


def environment(name: object) -> str:
    """The name of a Python environment of the site, "" for its own Python; OptionsError."""
    if not isinstance(name, str) or not ENVIRONMENT.fullmatch(name):
        raise OptionsError(f"option 'environment' must be the name of one, got {name!r}")
    return name
