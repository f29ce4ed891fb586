"""The first distribution of CMA-ES from points that were evaluated before.

M. Nomura, S. Watanabe, Y. Akimoto, Y. Ozaki and M. Onishi, "Warm starting CMA-ES for hyperparameter
optimization", AAAI 2021 (WS-CMA-ES): the Gaussian nearest to a mixture of small ones around the best tenth.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from optimizers.cma.model import Model
from optimizers.cma.shapes import Diagonal, Full, Kind
from optimizers.individuals import FloatArray

_SHARE = 0.1  # gamma: of the known points, those that count
_PRIOR = 0.1  # alpha: standard deviation around each, of the cube
_FEW = 20  # points kept at most, per tenth of the number, for shapes of linear size
_MANY = 400  # the same for full matrices


class Known:
    """The best of the points known, and how many there were."""

    def __init__(self, dimension: int) -> None:
        self.genomes: FloatArray = np.empty((0, dimension))
        self.losses: FloatArray = np.empty(0)
        self.count = 0

    def add(self, genomes: FloatArray, losses: FloatArray, kind: Kind) -> None:
        """Take in further points."""
        self.count += len(losses)
        losses = np.concatenate([self.losses, losses])
        best = np.argsort(losses, kind="stable")[: _MANY if kind == "full" else _FEW]
        self.genomes = np.concatenate([self.genomes, genomes])[best]
        self.losses = losses[best]

    def warm(self, model: Model) -> None:
        """Set the mean, step size and shape of a model without generations; a single point gives the mean."""
        top = self.genomes[: max(1, int(_SHARE * self.count))]
        model.mean = top.mean(axis=0)
        if len(top) == 1:
            return
        off = top - model.mean
        prior = min(_PRIOR, model.sigma) ** 2
        shape = model.shape
        if isinstance(shape, Full):
            covariance = prior * np.eye(len(model.mean)) + off.T @ off / len(top)
            log_det = float(np.log(np.linalg.eigvalsh(covariance)).sum())
        else:
            covariance = prior + (off**2).mean(axis=0)
            log_det = float(np.log(covariance).sum())
        model.sigma = math.exp(log_det / 2 / len(model.mean))
        if isinstance(shape, Full | Diagonal):
            shape.covariance = covariance / model.sigma**2
            shape.settle(0, 0, None)

    def save(self) -> dict[str, npt.NDArray[np.generic]]:
        return {
            "known.genomes": self.genomes,
            "known.losses": self.losses,
            "known.count": np.array(self.count),
        }

    @classmethod
    def load(cls, arrays: dict[str, npt.NDArray[np.generic]]) -> Known:
        new = cls(arrays["known.genomes"].shape[1])
        new.genomes, new.losses = arrays["known.genomes"], arrays["known.losses"]  # type: ignore[assignment]
        new.count = int(arrays["known.count"])
        return new
