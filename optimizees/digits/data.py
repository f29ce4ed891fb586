"""Handwritten digits, 8 x 8 pixels, and mini-batches of them as tasks.

`images.npz`: the 1797 images of the test set of "Optical Recognition of Handwritten Digits", E. Alpaydin and
C. Kaynak (1998), UCI Machine Learning Repository, licence CC BY 4.0; the copy that scikit-learn ships,
unchanged but for the file format: `images` (1797, 8, 8), shades 0 to 16, and `labels` (1797).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np

from optimizees.base import SPLITS, OptionsError, TaskFamily, check_whole

PIXELS = 64
DARKEST = 16.0
DIGITS = 10
HELD_OUT = 4  # every fourth image is a test image


@functools.lru_cache(maxsize=None)
def images() -> Tuple[np.ndarray, np.ndarray]:
    """Shades between 0 and 1, shape (1797, 64), and the digits that the images show."""
    with np.load(Path(__file__).with_name("images.npz")) as stored:
        return stored["images"].reshape(-1, PIXELS) / DARKEST, stored["labels"].astype(int)


@functools.lru_cache(maxsize=None)
def numbers(split: str, classes: int) -> np.ndarray:
    """The numbers of the images of a split that show one of the first digits."""
    labels = images()[1]
    test = np.arange(labels.size) % HELD_OUT == HELD_OUT - 1
    return np.asarray(np.flatnonzero((labels < classes) & (test == (split == "test"))))


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """What a network should put out, shape (images, classes)."""
    return np.asarray(np.eye(classes)[labels])


def softmax(values: np.ndarray) -> np.ndarray:
    """Shares that sum up to 1 in the last dimension."""
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


class MiniBatches(TaskFamily):
    """Tasks {"images": numbers}: consecutive indices show other images, until fewer than a batch are left.

    Training and test have no image in common. They show the same writers.
    """

    def __init__(self, classes: int, batch: int) -> None:
        self.classes, self.batch = classes, batch

    def task(self, split: str, index: int, seed: int) -> Dict[str, Any]:
        known = numbers(split, self.classes)
        epoch, place = divmod(index, len(known) // self.batch)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, SPLITS.index(split)])))
        return {"images": rng.permutation(known)[place * self.batch :][: self.batch].tolist()}


def check_batches(classes: int, batch: int) -> MiniBatches:
    """The family of tasks; OptionsError when there are not as many digits or images."""
    if check_whole("classes", classes, 2) > DIGITS:
        raise OptionsError(f"option 'classes' must be at most {DIGITS}, got {classes!r}")
    most = len(numbers("test", classes))
    if check_whole("batch", batch, 1) > most:
        raise OptionsError(f"option 'batch' must be at most {most}, the test images of {classes} digits")
    return MiniBatches(classes, batch)
