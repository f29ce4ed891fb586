"""Sensitivity analysis: Sobol's first-order and total indices of every parameter, by Saltelli's design.

For each of n base points there are two independent points A and B, and for each coordinate i the point AB_i,
which is A with coordinate i of B: n (D + 2) individuals. Once all are told, the diagnostics give for each
coordinate `first_order/<name>`, the share of the loss's variance that it explains alone, and
`total/<name>`, the share that it takes part in, together with others or alone.

Sobol, "Global sensitivity indices for nonlinear mathematical models" (2001). First order: Saltelli et al.,
"Variance based sensitivity analysis of model output", Computer Physics Communications 181 (2010), with
losses centred; total: Jansen, "Analysis of variance designs for model output" (1999). Base points are a
scrambled Sobol sequence in 2 D dimensions.

A failed individual makes its base point useless for one coordinate (AB_i) or for all (A or B); the indices
are then means over the other base points, which is right if failures do not depend on the parameters.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field, field_validator
from scipy.stats import qmc

from optimizers import OptimizerError
from optimizers.base import Arrays, Capabilities, FloatArray, IntArray, Options, Told
from optimizers.designs.design import Design, coordinate_names
from optimizers.low_discrepancy import next_points, sobol_sequence

MOST_REPORTED = 100  # coordinates in the diagnostics: those with the largest total index
LEAST_BASE_POINTS = 4  # complete ones; with fewer, no index is given


class SaltelliOptions(Options):
    """Options of `saltelli`."""

    samples: int = Field(
        64, ge=4, description="base points, a power of two; (D + 2) times as many individuals are evaluated"
    )

    @field_validator("samples")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"a power of two is needed, such as {1 << value.bit_length()}, got {value}")
        return value


class Saltelli(Design):
    """Row j (D + 2) + k of the design is A (k = 0), B (k = 1) or AB_{k - 2} of base point j.

    Attributes:
        _ids: individual of each row that was asked, ascending.
        _losses: shape (rows asked, n_objectives); infinite: not told yet, or failed.
    """

    name = "saltelli"
    summary = "Sobol sensitivity indices: which parameters matter, alone and together; n (D + 2) individuals."
    format_version = 1
    Options: ClassVar[type[SaltelliOptions]] = SaltelliOptions
    capabilities = Capabilities(objectives="any", asynchronous=True)
    options: SaltelliOptions

    def _start(self) -> None:
        d = self.space.dimension
        if 2 * d > qmc.Sobol.MAXDIM:
            raise OptimizerError(f"saltelli covers at most {qmc.Sobol.MAXDIM // 2} dimensions, got {d}.")
        self._set_total(self.options.samples * (d + 2), "Ask for fewer samples, or fix parameters.")
        self._ids: IntArray = np.empty(0, dtype=np.int64)
        self._losses = np.empty((0, self.n_objectives))
        self._answered = 0

    def _rows(self, first: int, last: int) -> FloatArray:
        d = self.space.dimension
        start = first // (d + 2)
        base = self._base_points(start, -(-last // (d + 2)))
        genomes = np.empty((last - first, d))
        for i in range(first, last):
            j, k = divmod(i, d + 2)
            a, b = base[j - start, :d], base[j - start, d:]
            genomes[i - first] = b if k == 1 else a
            if k > 1:
                genomes[i - first, k - 2] = b[k - 2]
        self._ids = np.concatenate([self._ids, np.arange(self._next_id, self._next_id + last - first)])
        self._losses = np.concatenate([self._losses, np.full((last - first, self.n_objectives), np.inf)])
        return genomes

    def _base_points(self, first: int, last: int) -> FloatArray:
        """A and B side by side, shape (last - first, 2 D)."""
        return next_points(sobol_sequence(2 * self.space.dimension, self.seed, first), last - first)

    def _learn(self, told: Told) -> None:
        for individual, losses in zip(told.ids.tolist(), told.losses, strict=True):
            row = self._row_of(individual)
            if row is not None:
                self._losses[row] = losses
                self._answered += 1

    def _observe(self, told: Told) -> None:
        """What was asked elsewhere is no part of the design."""

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: ARG002
        row = self._row_of(individual)
        if row is not None:
            self._losses[row] = loss

    def _row_of(self, individual: int) -> int | None:
        row = int(np.searchsorted(self._ids, individual))
        return row if row < len(self._ids) and self._ids[row] == individual else None

    def indices(self) -> tuple[FloatArray, FloatArray] | None:
        """First-order and total indices, each of shape (n_objectives, dimension), NaN where too few base
        points are usable; None before all individuals are told."""
        if self._answered < self._total:
            return None
        d = self.space.dimension
        parts = self._losses.reshape(self.options.samples, d + 2, self.n_objectives)
        results = [
            sobol_indices(parts[:, 0, m], parts[:, 1, m], parts[:, 2:, m]) for m in range(parts.shape[2])
        ]
        return np.array([first for first, _ in results]), np.array([total for _, total in results])

    def _figures(self) -> dict[str, float]:
        figures = super()._figures()
        found = self.indices()
        if found is None:
            return figures
        ok = np.isfinite(self._losses[:, 0]).reshape(self.options.samples, -1)
        figures["base_points_usable_share"] = float(ok.all(axis=1).mean())
        names = coordinate_names(self)
        for m, (first, total) in enumerate(zip(*found, strict=True)):
            suffix = "" if self.n_objectives == 1 else f"/{m}"
            order = np.argsort(np.where(np.isnan(total), np.inf, -total), kind="stable")
            for i in sorted(order[:MOST_REPORTED].tolist()):
                figures[f"first_order/{names[i]}{suffix}"] = float(first[i])
                figures[f"total/{names[i]}{suffix}"] = float(total[i])
        if len(names) > MOST_REPORTED:
            figures["coordinates_left_out"] = float(len(names) - MOST_REPORTED)
        return figures

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        own, _ = super()._save()
        return {**own, "answered": self._answered}, {"ids": self._ids, "losses": self._losses}

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        super()._restore(own, arrays)
        self._answered = own["answered"]
        self._ids, self._losses = arrays["ids"], arrays["losses"]


def sobol_indices(a: FloatArray, b: FloatArray, ab: FloatArray) -> tuple[FloatArray, FloatArray]:
    """First-order and total indices, shape (d,) each, of losses at A (n,), B (n,) and AB_i (n, d).

    Infinite losses mark failures: their rows are left out. NaN where fewer than LEAST_BASE_POINTS rows are
    left, or where the loss does not vary.
    """
    first, total = np.full(ab.shape[1], np.nan), np.full(ab.shape[1], np.nan)
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < LEAST_BASE_POINTS:
        return first, total
    # Indices depend neither on the mean nor on the scale; without them, nothing overflows or cancels.
    known = np.concatenate([a[both], b[both]])
    scale = max(float(np.abs(known / 2).max()), float(np.abs(ab[np.isfinite(ab)] / 2).max(initial=0.0)))
    scale = scale or 1.0
    middle = float((known / scale).mean())
    a, b, ab = a / scale - middle, b / scale - middle, ab / scale - middle
    variance = float(np.concatenate([a[both], b[both]]).var())
    if not variance > 0:
        return first, total
    for i in range(ab.shape[1]):
        ok = both & np.isfinite(ab[:, i])
        if ok.sum() >= LEAST_BASE_POINTS:
            first[i] = float((b[ok] * (ab[ok, i] - a[ok])).mean()) / variance
            total[i] = float(((a[ok] - ab[ok, i]) ** 2).mean()) / 2 / variance
    return first, total
