"""The cell in Arbor 0.12 (environments/arbor.txt): density mechanism `hh` of its default catalogue."""

from __future__ import annotations

import functools
import importlib
from typing import Any, Mapping, Sequence

import numpy as np

from optimizees.single_cell.cell import (
    AXIAL_RESISTIVITY,
    CELSIUS,
    DIAMETER,
    E_K,
    E_NA,
    END,
    SAMPLE,
    SAMPLES,
    STEP_OFF,
    STEP_ON,
    V_INIT,
)

MIDDLE = "(location 0 0.5)"


def simulate(params: Mapping[str, float], steps: Sequence[float], dt: float) -> np.ndarray:
    """See cell.Backend. Each step has a cell of its own in one simulation."""
    arbor: Any = importlib.import_module("arbor")
    units = arbor.units
    recipe = _recipe_class()(_cell(params), steps)
    simulation = arbor.simulation(recipe, arbor.context(threads=1))
    every = arbor.regular_schedule(SAMPLE * units.ms)
    handles = [simulation.sample((gid, "voltage"), every) for gid in range(len(steps))]
    simulation.run(tfinal=(END + SAMPLE) * units.ms, dt=dt * units.ms)  # the last sample is at END
    samples = [simulation.samples(handle)[0][0] for handle in handles]  # time, voltage; the first at 0
    return np.array([sample[1 : SAMPLES + 1, 1] for sample in samples])


def _cell(params: Mapping[str, float]) -> Any:
    """Everything of the cell but its input: morphology and decoration."""
    arbor: Any = importlib.import_module("arbor")
    units = arbor.units
    radius = DIAMETER / 2
    tree = arbor.segment_tree()
    ends = (arbor.mpoint(-radius, 0, 0, radius), arbor.mpoint(radius, 0, 0, radius))
    tree.append(arbor.mnpos, *ends, tag=1)
    channels = {name: params[name] for name in ("gnabar", "gkbar", "gl", "el")}
    decor = (
        arbor.decor()
        .set_property(
            Vm=V_INIT * units.mV,
            tempK=(273.15 + CELSIUS) * units.Kelvin,
            cm=params["cm"] * 1e-2 * units.F / units.m2,
            rL=AXIAL_RESISTIVITY * units.Ohm * units.cm,
        )
        .set_ion("na", rev_pot=E_NA * units.mV)
        .set_ion("k", rev_pot=E_K * units.mV)
        .paint("(all)", arbor.density("hh", channels))
    )
    return tree, decor


@functools.lru_cache(maxsize=None)
def _recipe_class() -> Any:
    """The class of the recipe; it cannot be defined before Arbor is imported."""
    arbor: Any = importlib.import_module("arbor")
    units = arbor.units
    base: Any = arbor.recipe

    class Recipe(base):  # type: ignore[misc]
        """One cell per current step."""

        def __init__(self, cell: Any, steps: Sequence[float]) -> None:
            base.__init__(self)
            self.tree, self.decor = cell
            self.steps = steps
            self.properties = arbor.neuron_cable_properties()
            self.properties.catalogue = arbor.default_catalogue()

        def num_cells(self) -> int:
            return len(self.steps)

        def cell_kind(self, gid: int) -> Any:  # noqa: ARG002
            return arbor.cell_kind.cable

        def global_properties(self, kind: Any) -> Any:  # noqa: ARG002
            return self.properties

        def probes(self, gid: int) -> Any:  # noqa: ARG002
            return [arbor.cable_probe_membrane_voltage(MIDDLE, "voltage")]

        def cell_description(self, gid: int) -> Any:
            begin, duration = STEP_ON * units.ms, (STEP_OFF - STEP_ON) * units.ms
            clamp = arbor.i_clamp(begin, duration, self.steps[gid] * units.nA)
            decor = arbor.decor(self.decor).place(MIDDLE, clamp)
            return arbor.cable_cell(self.tree, decor, arbor.label_dict(), arbor.cv_policy_single())

    return Recipe
