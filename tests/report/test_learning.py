"""Campaigns side by side: means over seeds, by the number of training tasks."""

from __future__ import annotations

import pytest

from l2l_tasks.figures import held_out_figure, tasks_figure
from l2l_tasks.held_out import LearningCurve, Performance
from l2l_tasks.learning import FRESH, Learned, table

PNG = b"\x89PNG"


def learned(
    seed: int, tasks: int, before: float | None, after: float, curve: list[float] | None = None
) -> Learned:
    drawn = LearningCurve(list(range(len(curve or []))), curve or [], curve or [], curve or [])
    first = Performance(0, 5, 0) if before is None else Performance(0, 5, 5, [before], [before], [before])
    return Learned(
        f"c-{seed}-{tasks}", seed, tasks, [first, Performance(8, 1, 1, [after], [after], [after], drawn)]
    )


def test_seeds_of_the_same_number_of_tasks_are_one_row() -> None:
    rows = table([learned(s, tasks, 9.0, float(s + tasks)) for s in (1, 2, 3) for tasks in (20, FRESH, 1)])
    assert [(row.tasks, row.seeds) for row in rows] == [(1, [1, 2, 3]), (20, [1, 2, 3]), (FRESH, [1, 2, 3])]
    assert [row.after.mean for row in rows if row.after] == [[3.0], [22.0], [2.0]]
    assert rows[0].before is not None
    assert rows[0].before.mean == rows[0].before.low == [9.0]
    assert rows[0].after is not None
    half = 4.302653 / 3**0.5  # Student's t for two degrees of freedom, of a deviation of 1
    assert rows[0].after.low == pytest.approx([3.0 - half])
    assert rows[0].after.high == pytest.approx([3.0 + half])


def test_what_has_no_result_is_left_out() -> None:
    rows = table([learned(1, 2, None, 1.0), Learned("c-2-2", 2, 2, [])])
    assert rows[0].before is None
    assert rows[0].after is not None
    assert (rows[0].after.n, rows[0].after.mean, rows[0].seeds) == (1, [1.0], [1, 2])


def test_curves_are_averaged_over_seeds_where_they_are_alike() -> None:
    alike = table([learned(1, 2, 1.0, 1.0, [1.0, 3.0]), learned(2, 2, 1.0, 1.0, [3.0, 5.0])])
    assert alike[0].curve_after.mean == [2.0, 4.0]
    assert alike[0].curve_after.low[0] < 2.0 < alike[0].curve_after.high[0]
    other = table([learned(1, 2, 1.0, 1.0, [1.0, 3.0]), learned(2, 2, 1.0, 1.0, [3.0])])
    assert other[0].curve_after.at == []


@pytest.mark.parametrize("curve", [None, [2.0, 1.0]])
def test_figures_are_drawn_with_and_without_curves(curve: list[float] | None) -> None:
    found = [learned(seed, tasks, None, 1.0, curve) for seed in (1, 2) for tasks in (1, FRESH)]
    assert tasks_figure(table(found), ["loss"], "a", "png")[:4] == PNG
    assert held_out_figure(found[0].tests, ["loss"], "a", "png")[:4] == PNG
    assert b"<svg" in held_out_figure([], ["loss"], "a", "svg")
    assert held_out_figure(found[0].tests, ["cost ($) $ ^^ {"], "$ ^^ {$", "png")[:4] == PNG
