"""A whole-brain network in The Virtual Brain, fitted to functional connectivity.

76 regions of a human brain (weights and tract lengths of tvb-data), each TVB's generic two-dimensional
oscillator, coupled linearly through the tracts with their delays, with additive noise (Sanz-Leon et al. 2013,
Front. Neuroinform. 7:10; 2015, NeuroImage 111:385-430). Coupling and conduction speed of such a network were
a use case of L2L (Yegenoglu et al. 2022, Front. Comput. Neurosci. 16:885207), against the structural
connectivity and on GPUs; here the noise is free too, the target is a functional connectivity, and the
structural one can be a second objective.

Simplified: functional connectivity is the correlation of the activity itself, averaged over 10 ms, of a few
seconds; there is no haemodynamic model. The default target is no empirical one (see `target`).

TVB 2.10 (environments/tvb.txt) is imported inside `evaluate` only.
"""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np

from optimizees.base import (
    Context,
    Infeasible,
    Objective,
    Optimizee,
    OptionsError,
    Result,
    check_number,
    check_path,
)
from optimizees.whole_brain import model, target
from optimizers.space import Float, Space

OBJECTIVES: Dict[str, List[str]] = {
    "functional": ["fc_correlation"],
    "structural": ["sc_correlation"],
    "both": ["fc_correlation", "sc_correlation"],
}


class WholeBrain(Optimizee):
    """Global coupling, conduction speed and noise with which the simulated brain correlates as a real one.

    The fitness is Pearson's correlation of two lists of pairs of regions: the simulated functional
    connectivity (FC), and the target's or the logarithm of the structural weights. 1 is perfect; the default
    target cannot be correlated with better than the simulation's own noise allows, see the documentation.

    Options:
        duration: simulated time that is measured, ms; longer: less noise.
        warmup: simulated time before, ms.
        objectives: "functional" (correlation with the target FC), "structural" (with the structural weights),
            or "both" (multi-objective). What is not an objective is a metric.
        connectivity_file: structure of another brain, in TVB's zip format; absolute path at the site.
        target_file: FC to fit to, a text file with a square matrix in the structure's order of regions;
            absolute path at the site.
    """

    environment = "tvb"
    summary = "whole brain (TVB): coupling, conduction speed and noise for a functional connectivity"

    def __init__(
        self,
        duration: float = 4000.0,
        warmup: float = 500.0,
        objectives: str = "functional",
        connectivity_file: str = "",
        target_file: str = "",
    ) -> None:
        self.duration = check_number("duration", duration, 20 * model.SAMPLE)
        self.warmup = check_number("warmup", warmup, 0.0)
        if not isinstance(objectives, str) or objectives not in OBJECTIVES:
            known = ", ".join(OBJECTIVES)
            raise OptionsError(f"option 'objectives' must be one of {known}, got {objectives!r}")
        self.objectives = [Objective(name, "maximize") for name in OBJECTIVES[objectives]]
        self.connectivity_file = check_path("connectivity_file", connectivity_file)
        self.target_file = check_path("target_file", target_file)
        if connectivity_file and not target_file and objectives != "structural":
            raise OptionsError(
                "option 'connectivity_file' needs 'target_file': the default has other regions"
            )

    def space(self) -> Space:
        return Space(
            {
                "coupling": Float(0.005, 0.5, log=True),  # of all tracts, the largest weight being 1
                "speed": Float(1.0, 20.0, log=True),  # of conduction, mm/ms
                "noise": Float(1e-4, 3e-2, log=True),  # dispersion of the additive noise, 1/ms
            }
        )

    def evaluate(
        self,
        params: Dict[str, Any],
        task: Dict[str, Any],  # noqa: ARG002
        rng: np.random.Generator,
        context: Context,  # noqa: ARG002
    ) -> Result:
        connectivity = self.connectivity_file or model.CONNECTIVITY
        wanted = self._target()
        activity, weights = model.simulate(params, connectivity, self.warmup, self.duration, rng)
        found = model.functional_connectivity(activity)
        measures = {"sc_correlation": _correlation(found, model.structural_connectivity(weights))}
        if wanted is not None:
            measures["fc_correlation"] = _correlation(found, wanted)
        fitness = [measures.pop(objective.name) for objective in self.objectives]
        return Result(fitness, {**measures, "mean_fc": float(np.mean(found))})

    def _target(self) -> Any:
        """The target FC's upper triangle; None where the structure is another and nothing is fitted to."""
        if self.target_file:
            return target.from_file(self.target_file)
        return None if self.connectivity_file else target.synthetic()


def _correlation(found: np.ndarray, wanted: np.ndarray) -> float:
    """Pearson's correlation between pairs of regions."""
    if found.shape != wanted.shape:
        raise ValueError(f"the target is of {wanted.size} pairs of regions, the structure of {found.size}")
    if found.std() == 0.0:
        raise Infeasible("all regions are correlated equally")
    return float(np.corrcoef(found, wanted)[0, 1])
