"""Any generator with the public protocol of the field (`gest-api`: class Generator, suggest and ingest).

The protocol: https://github.com/campa-consortium/gest-api; Xopt, optimas, libEnsemble have such generators.

* What the generator sees: every number as a variable in [0, 1], its coordinate of the unit cube (logarithms
  are taken already, and whole numbers are rounded afterwards); every choice as its place in the list. A
  scalar keeps its name, elements of arrays are name_0, name_1, ... Fixed parameters are not shown.
* A failed individual is told with the worst losses so far; before the first ok one it waits.
* The protocol has no state. So the state is the log of what was asked and told; restoring makes a new
  generator and replays the log. It grows with the history, and needs a generator that does the same for the
  same calls: if its constructor takes `seed`, that is the campaign's unless the options say another. A replay
  that gives other points is refused.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import math
from collections import Counter
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from optimizers import OptimizerError
from optimizers.base import Arrays, Capabilities, FloatArray, Optimizer, Options, Told
from optimizers.bins import Bins

LONGEST_LOG = 100_000  # individuals; a replay takes as long as all suggestions did
_ASK, _TELL, _OBSERVE = range(3)


class GestOptions(Options):
    """Options of `gest`."""

    generator: str = Field(description="class of the generator, as module:Class")
    options: dict[str, Any] = Field(
        default_factory=dict, description="further arguments of its constructor, by name"
    )


class Gest(Optimizer):
    """A generator, the points that it waits for, and the log."""

    name = "gest"
    summary = "Any generator with the gest-api protocol, from another library or your own."
    format_version = 1
    Options: ClassVar[type[GestOptions]] = GestOptions
    capabilities = Capabilities(objectives="any", asynchronous=False)
    options: GestOptions

    def _start(self) -> None:
        self._bins = Bins(self.space)
        self._names = variable_names(self.space.slices)
        single = self.n_objectives == 1
        self._objectives = ["loss"] if single else [f"loss_{i}" for i in range(self.n_objectives)]
        self._generator = self._made()
        # What the generator suggested, by id, while it is pending.
        self._points: dict[int, dict[str, Any]] = {}
        self._surplus: list[dict[str, Any]] = []  # suggested, but not asked for yet
        self._failed_points: list[dict[str, Any]] = []  # to be told once there is a worst loss
        self._worst = np.full(self.n_objectives, -math.inf)
        self._digest = hashlib.sha256()  # of all suggestions
        # The log: (kind, number, first id); and one row for each individual told or observed.
        self._events: list[tuple[int, int, int]] = []
        self._log_ids: list[int] = []
        self._log_genomes: list[FloatArray] = []
        self._log_losses: list[FloatArray] = []

    def _made(self) -> Any:
        """The generator, for our space as a VOCS."""
        try:
            vocs = importlib.import_module("gest_api.vocs")
        except ImportError as error:
            raise OptimizerError(
                "gest needs the package gest-api, which is not installed here: pip install gest-api"
            ) from error
        variables = {
            name: {"type": "DiscreteVariable", "values": set(range(self._bins.choices[i]))}
            if i in self._bins.choices
            else [0.0, 1.0]
            for i, name in enumerate(self._names)
        }
        problem = vocs.VOCS(variables=variables, objectives=dict.fromkeys(self._objectives, "MINIMIZE"))
        cls = load_class(self.options.generator)
        options = json.loads(json.dumps(self.options.options))  # a copy: the generator may change it
        try:
            if "seed" in inspect.signature(cls).parameters:
                options.setdefault("seed", self.seed)
            return cls(problem, **options)
        except (TypeError, ValueError) as error:
            raise OptimizerError(f"{self.options.generator} cannot be made: {error}") from error

    def stop_reason(self) -> str | None:
        if self._next_id < LONGEST_LOG:
            return None
        return (
            f"the log of {self.options.generator} has {LONGEST_LOG} individuals; a longer one is not replayed"
        )

    def _sample(self, n: int) -> FloatArray:
        if self.stop_reason() is not None:
            return np.empty((0, self.space.dimension))
        self._events.append((_ASK, n, self._next_id))
        return self._suggestions(n, self._next_id)

    def _suggestions(self, n: int, first_id: int) -> FloatArray:
        """The next `n` points, shape (n, dimension)."""
        while len(self._surplus) < n:
            missing = n - len(self._surplus)
            try:
                new = self._generator.suggest(missing)
            except ValueError:  # the protocol's answer when it cannot give exactly so many
                new = self._generator.suggest(None)
            if not new:
                raise OptimizerError(
                    f"{self.options.generator} gave {n - missing} of {n} points. It may need the results of "
                    "earlier ones: use a batch of its own size, and no steady state."
                )
            self._surplus += new
        points, self._surplus = self._surplus[:n], self._surplus[n:]
        units = np.array([self._unit_of(point) for point in points])
        self._digest.update(units.tobytes())
        self._points |= dict(enumerate(points, first_id))
        return units

    def _unit_of(self, point: dict[str, Any]) -> FloatArray:
        """The point of the unit cube that a suggestion stands for."""
        unit = np.empty(self.space.dimension)
        for i, name in enumerate(self._names):
            value, choices = point.get(name), self._bins.choices.get(i)
            allowed = range(choices) if choices else None
            try:
                number = float(value)  # type: ignore[arg-type]
            except (TypeError, ValueError):
                number = math.nan
            if not (number in allowed if allowed else -1e-9 <= number <= 1 + 1e-9):
                raise OptimizerError(
                    f"{self.options.generator} suggested {name} = {value!r}; it must be "
                    + (f"a whole number below {choices}." if choices else "in [0, 1].")
                )
            unit[i] = (number + 0.5) / choices if choices else min(1.0, max(0.0, number))
        return unit

    def _learn(self, told: Told) -> None:
        self._log(_TELL, told)
        self._ingest(told.ids.tolist(), told.genomes, told.losses)

    def _observe(self, told: Told) -> None:
        self._log(_OBSERVE, told)
        self._ingest([], told.genomes, told.losses)

    def _ingest(self, ids: list[int], genomes: FloatArray, losses: FloatArray) -> None:
        """Tell the generator: what it suggested as it was suggested, other points without an id."""
        own = [self._points.pop(i) for i in ids] if ids else [self._point(unit) for unit in genomes]
        ok: list[bool] = np.isfinite(losses[:, 0]).tolist()
        self._worst = np.maximum(self._worst, losses[ok].max(axis=0, initial=-math.inf))
        results = [self._result(point, row) for point, row, fine in zip(own, losses, ok, strict=True) if fine]
        self._failed_points += [point for point, fine in zip(own, ok, strict=True) if not fine]
        if np.isfinite(self._worst).all():
            results += [self._result(point, self._worst) for point in self._failed_points]
            self._failed_points = []
        if results:
            self._generator.ingest(results)

    def _point(self, unit: FloatArray) -> dict[str, Any]:
        choices = self._bins.choices
        return {
            name: int(unit[i] * choices[i]) if i in choices else float(unit[i])
            for i, name in enumerate(self._names)
        }

    def _result(self, point: dict[str, Any], losses: FloatArray) -> dict[str, Any]:
        return {**point, **dict(zip(self._objectives, losses.tolist(), strict=True))}

    def _log(self, kind: int, told: Told) -> None:
        self._events.append((kind, len(told.ids), 0))
        self._log_ids += told.ids.tolist()
        self._log_losses += list(told.losses)
        if kind == _OBSERVE:
            self._log_genomes += list(told.genomes)

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        return {"digest": self._digest.hexdigest()}, {
            "events": np.array(self._events, dtype=np.int64).reshape(-1, 3),
            "ids": np.array(self._log_ids, dtype=np.int64),
            "losses": np.array(self._log_losses, dtype=np.float64).reshape(-1, self.n_objectives),
            "genomes": np.array(self._log_genomes, dtype=np.float64).reshape(-1, self.space.dimension),
        }

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        """Replay the log."""
        self._events = [tuple(event) for event in arrays["events"].tolist()]
        self._log_ids, self._log_losses = arrays["ids"].tolist(), list(arrays["losses"])
        self._log_genomes = list(arrays["genomes"])
        row = observed = 0
        for kind, number, first_id in self._events:
            if kind == _ASK:
                self._suggestions(number, first_id)
                continue
            losses, ids = arrays["losses"][row : row + number], self._log_ids[row : row + number]
            row += number
            if kind == _OBSERVE:
                self._ingest([], arrays["genomes"][observed : observed + number], losses)
                observed += number
            elif not set(ids) <= self._points.keys():
                break  # it gave fewer points than it had given
            else:
                self._ingest(ids, np.empty((0, self.space.dimension)), losses)
        if self._digest.hexdigest() != own["digest"]:
            raise OptimizerError(
                f"{self.options.generator} suggests other points than before when asked and told the same: "
                "it cannot be resumed. Give it a seed in its options, or begin anew with from_campaign."
            )


def variable_names(slices: dict[str, slice]) -> list[str]:
    """A different name for each coordinate."""
    names: list[str] = []
    for name, cut in slices.items():
        size = cut.stop - cut.start
        names += [name] if size == 1 else [f"{name}_{i}" for i in range(size)]
    number = Counter(names)
    return [name if number[name] == 1 else f"{name}.{i}" for i, name in enumerate(names)]


def load_class(path: str) -> Any:
    """The class of `module:Class`.

    Raises:
        OptimizerError: there is none, or it has not the methods of the protocol.
    """
    module, _, attribute = path.partition(":")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise OptimizerError(f"The generator {path!r} (module:Class) cannot be imported: {error}") from error
    if not all(callable(getattr(cls, method, None)) for method in ("suggest", "ingest")):
        raise OptimizerError(f"{path} is no generator: it needs the methods suggest and ingest.")
    return cls
