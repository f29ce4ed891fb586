"""Versions of stored optimizer states: a state of any older release is brought to the present form.

A state has two versions: that of what all optimizers share, and that of the optimizer's own part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from optimizers import OptimizerError
from optimizers.elite import Elite
from optimizers.pareto import Front
from optimizers.space import Space

Arrays = dict[str, npt.NDArray[Any]]
Migration = Callable[[dict[str, Any], Arrays], None]
"""Changes a state's JSON (`meta["own"]` above all) and the optimizer's own arrays, in place, from one format
version to the next."""

BASE_VERSION = 2


def migrate(
    meta: dict[str, Any], arrays: Arrays, name: str, format_version: int, migrations: Mapping[int, Migration]
) -> None:
    """Bring a state of `name` to the present versions, in place.

    Raises:
        OptimizerError: a newer release wrote it.
    """
    base, version = meta.get("base_version", 1), meta["format_version"]
    if base > BASE_VERSION or version > format_version:
        raise OptimizerError(
            f"This state of {name} has format version {base}.{version}, this installation reads up to "
            f"{BASE_VERSION}.{format_version}. Install the release that wrote it, or a newer one."
        )
    if base < BASE_VERSION:
        _to_base_2(meta, arrays)
    own = part(arrays, "own.")
    for older in range(version, format_version):
        migrations[older](meta, own)
    for key in [key for key in arrays if key.startswith("own.")]:
        del arrays[key]
    arrays |= {f"own.{key}": array for key, array in own.items()}


def check_same(meta: Mapping[str, Any], space: Space, n_objectives: int) -> None:
    """Raise OptimizerError unless a state was made for this problem."""
    name = meta["name"]
    if meta["space"] != fingerprint(space):
        raise OptimizerError(f"This state of {name} was made for another search space.")
    if meta["n_objectives"] != n_objectives:
        raise OptimizerError(
            f"This state of {name} was made for another number of objectives: "
            f"{meta['n_objectives']}, now {n_objectives}."
        )


def fingerprint(space: Space) -> str:
    """SHA-256 of a space."""
    # PostgreSQL's jsonb turns 1e22 into a whole number, which is the same parameter all the same.
    numbers_alike = json.loads(json.dumps(space.to_json()), parse_int=float)
    return hashlib.sha256(json.dumps(numbers_alike, sort_keys=True).encode()).hexdigest()


def part(arrays: Arrays, prefix: str) -> Arrays:
    """The arrays whose names begin with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def _to_base_2(meta: dict[str, Any], arrays: Arrays) -> None:
    """Version 1 kept one best individual, none with several objectives, and knew no observations."""
    best, genome = meta.pop("best"), arrays.pop("best.genome", None)
    meta["observed"] = 0
    arrays["pending.origins"] = np.full(len(arrays["pending.ids"]), -1, dtype=np.int64)
    dimension = arrays["pending.genomes"].shape[1]
    if meta["n_objectives"] == 1:
        elite = Elite(dimension, 0)
        if best is not None and genome is not None:
            elite.admit(np.array([best[1]], dtype=np.int64), genome[None], np.array([best[0]]))
        arrays |= {f"elite.{name}": array for name, array in elite.save().items()}
    else:
        arrays |= {f"front.{k}": a for k, a in Front(dimension, meta["n_objectives"]).save().items()}
