"""Ask/tell optimizers: one module each, one contract (`optimizers.base`), one conformance suite.

The registry is lazy: importing this package loads neither numpy nor an optimizer, because the package
is also staged to the site (for `optimizers.space`), where Python may be 3.8.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Dict, List, Tuple, Type, cast

if TYPE_CHECKING:
    from optimizers.base import Optimizer

_REGISTRY: Dict[str, Tuple[str, str]] = {
    "cmaes": ("optimizers.cmaes", "CMAES"),
    "genetic": ("optimizers.genetic", "Genetic"),
    "random": ("optimizers.random_search", "RandomSearch"),
    "sobol": ("optimizers.sobol", "SobolSearch"),
}


class OptimizerError(Exception):
    """An optimizer was asked for, told or restored from something that cannot be right."""


def names() -> List[str]:
    """Names of all optimizers, sorted."""
    return sorted(_REGISTRY)


def get(name: str) -> Type[Optimizer]:
    """The optimizer class of this name.

    Raises:
        OptimizerError: there is none; the message names those that exist.
    """
    if name not in _REGISTRY:
        close = difflib.get_close_matches(name, _REGISTRY, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise OptimizerError(f"There is no optimizer {name!r}.{hint} Known: {', '.join(names())}.")
    module, attribute = _REGISTRY[name]
    return cast("Type[Optimizer]", getattr(importlib.import_module(module), attribute))
