"""Tasks in an interval: reproducible, all over it, and never in both splits."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from optimizees.base import SPLITS
from optimizees.intervals import IntervalTasks

FAMILY = IntervalTasks("x", -2.0, 3.0)


@given(split=st.sampled_from(SPLITS), index=st.integers(0, 2**40), seed=st.integers(0, 2**32 - 1))
def test_a_task_is_in_the_interval_and_the_same_every_time(split: str, index: int, seed: int) -> None:
    task = FAMILY.task(split, index, seed)
    assert -2.0 <= task["x"] < 3.0
    assert IntervalTasks("x", -2.0, 3.0).task(split, index, seed) == task


def test_splits_share_no_slice_and_cover_the_interval() -> None:
    slices = {}
    for split in SPLITS:
        values = np.array([FAMILY.task(split, index, seed)["x"] for index in range(100) for seed in range(3)])
        slices[split] = set(np.floor((values + 2.0) / 5.0 * FAMILY.slices).astype(int).tolist())
    assert slices["train"] == set(range(0, 20, 2))
    assert slices["test"] == set(range(1, 20, 2))


def test_index_and_seed_make_other_tasks() -> None:
    values = {FAMILY.task("train", index, seed)["x"] for index in range(20) for seed in range(20)}
    assert len(values) == 400


def test_an_interval_without_width_has_one_value() -> None:
    assert IntervalTasks("x", 1.0, 1.0).task("test", 3, 4) == {"x": 1.0}
