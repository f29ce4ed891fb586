"""MAP-Elites: the archive, its descriptors, emitters and figures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers import OptimizerError
from optimizers.base import Evaluated, Observation, Optimizer
from optimizers.space import Categorical, Int, Space
from tests.optimizers.problems import arrays_of, box, fresh

RATE = {"measure": "rate", "low": 0.0, "high": 10.0, "bins": 5}
POWER = {"measure": "power", "low": -1.0, "high": 1.0, "bins": 4}


def make(dimension: int = 3, seed: int = 1, **options: Any) -> Optimizer:
    return fresh("map_elites", box(dimension, 1.0), seed, **options)


def described(i: int, loss: float, **measures: list[float]) -> Evaluated:
    return Evaluated(i, (loss,), measures={name: np.array(value) for name, value in measures.items()})


# No number is at the edge of a bin, where rounding decides.
rates = st.integers(-20, 60).map(lambda i: i / 4 + 0.1)
powers = st.integers(-20, 20).map(lambda i: i / 10 + 0.05)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(rates, powers, st.one_of(st.none(), st.integers(0, 5))), max_size=40),
    st.integers(1, 9),
)
def test_each_cell_holds_its_best(rows: list[tuple[float, float, int | None]], batch: int) -> None:
    """The archive against its definition; the older one stays if equal, failures leave no trace, and what is
    out of range is in the cell at the end."""
    optimizer = make(descriptors=[RATE, POWER])
    expected: dict[int, tuple[int, int]] = {}
    for first in range(0, len(rows), batch):
        told = []
        for s, (rate, power, loss) in zip(optimizer.ask(batch), rows[first : first + batch], strict=False):
            if loss is None:
                told.append(Evaluated(s.id, None, "failed"))
                continue
            told.append(described(s.id, float(loss), rate=[rate - 1, rate + 1], power=[power]))
            bins = (min(4, max(0, math.floor(rate / 2))), min(3, max(0, math.floor((power + 1) * 2))))
            cell = bins[0] * 4 + bins[1]
            expected[cell] = min(expected.get(cell, (99, 0)), (loss, s.id))
        optimizer.tell(told)
    arrays = arrays_of(optimizer)
    kept = zip(arrays["losses"].tolist(), arrays["ids"].tolist(), strict=True)
    assert dict(zip(arrays["cells"].tolist(), kept, strict=True)) == expected
    assert optimizer.diagnostics()["coverage"] == len(expected) / 20


def test_without_descriptors_the_first_two_coordinates_are_the_axes() -> None:
    optimizer = make(dimension=3, bins=2, start=1)
    asked = optimizer.ask(200)
    optimizer.tell(
        [Evaluated(s.id, (abs(s.params["x"][0] - 0.5) + abs(s.params["x"][1] + 0.5),)) for s in asked]
    )
    assert arrays_of(optimizer)["cells"].tolist() == [0, 1, 2, 3]
    best = arrays_of(optimizer)["genomes"][2]  # the upper half of the first, the lower half of the second
    assert best[:2].tolist() == pytest.approx([0.75, 0.25], abs=0.1)
    assert make(dimension=1, bins=7).diagnostics()["coverage"] == 0


def test_the_archive_fills_and_improves() -> None:
    """2000 evaluations of 6-D; uniform samples rarely come to the ends of the descriptor: more cells than
    by random search, and a higher QD score."""

    def run(**options: Any) -> dict[str, float]:
        axis = {"measure": "mean", "low": -1.0, "high": 1.0, "bins": 50}
        optimizer = make(dimension=6, descriptors=[axis], qd_offset=10.0, **options)
        for _ in range(100):
            told = []
            for s in optimizer.ask(20):
                x = np.array(s.params["x"])
                told.append(described(s.id, float(((x - x.mean()) ** 2).sum()), mean=[float(x.mean())]))
            optimizer.tell(told)
        return optimizer.diagnostics()

    random = run(start=10_000)
    for emitter in ("iso_line", "gaussian"):
        figures = run(emitter=emitter)
        assert figures["coverage"] > random["coverage"] + 0.15
        assert figures["qd_score"] > random["qd_score"] + 50


def test_iso_line_children_lie_on_the_line_of_two_elites() -> None:
    """Without the isotropic part."""
    optimizer = make(dimension=5, start=2, sigma=1e-12)
    optimizer.tell([Evaluated(s.id, (1.0,)) for s in optimizer.ask(2)])
    one, other = arrays_of(optimizer)["genomes"]
    optimizer.ask(50)
    children = arrays_of(optimizer)["pending.genomes"]
    along = (children - one) @ (other - one) / ((other - one) @ (other - one))
    inside = ((children > 0) & (children < 1)).all(axis=1)
    assert np.abs(one + along[:, None] * (other - one) - children)[inside].max() < 1e-9
    assert np.ptp(along) > 0.2


def test_gaussian_children_have_the_width_that_was_asked_for() -> None:
    optimizer = make(dimension=2, start=1, bins=1, emitter="gaussian", sigma=0.01, seed=4)
    optimizer.tell([Evaluated(s.id, (1.0,)) for s in optimizer.ask(1)])
    elite = arrays_of(optimizer)["genomes"][0]
    optimizer.ask(2000)
    steps = arrays_of(optimizer)["pending.genomes"] - elite
    assert 0.05 < elite.min() < elite.max() < 0.95
    assert steps.std(axis=0).tolist() == pytest.approx([0.01, 0.01], rel=0.1)


def test_whole_numbers_and_choices_change() -> None:
    """The step is small against their bins, but not smaller than they need."""
    space = Space({"n": Int(0, 3), "c": Categorical(["a", "b", "c"])})
    optimizer = fresh("map_elites", space, start=1, bins=1, emitter="gaussian", sigma=1e-3)
    first = optimizer.ask(1)[0]
    optimizer.tell([Evaluated(first.id, (1.0,))])
    others = [s.params for s in optimizer.ask(200)]
    assert 0.05 < np.mean([params != first.params for params in others]) < 0.6


def test_qd_score_is_counted_from_the_worst_of_the_first() -> None:
    optimizer = make(dimension=1, bins=4, start=3)
    optimizer.ask(9)
    optimizer.tell([Evaluated(0, (5.0,)), Evaluated(1, (2.0,))])
    assert "qd_score" not in optimizer.diagnostics()
    optimizer.tell([Evaluated(2, (7.0,))])
    score = float(np.maximum(0, 7 - arrays_of(optimizer)["losses"]).sum())
    assert optimizer.diagnostics()["qd_score"] == score
    optimizer.tell([Evaluated(i, (1e300,)) for i in range(3, 9)])
    assert optimizer.diagnostics()["qd_score"] == score


def test_observed_points_are_evaluated_first_where_metrics_describe() -> None:
    """They come without metrics; the best 100 are asked for, the best first, each once."""
    optimizer = make(dimension=1, descriptors=[RATE])
    points = np.linspace(-1, 1, 120)
    optimizer.observe([Observation({"x": [float(x)]}, (float(x),)) for x in points])
    assert len(arrays_of(optimizer)["cells"]) == 0
    asked = [s.params["x"][0] for s in optimizer.ask(70) + optimizer.ask(70)]
    assert asked[:100] == pytest.approx(points[:100].tolist())
    plain = make(dimension=1, start=4)
    plain.observe([Observation({"x": [float(x)]}, (float(x),)) for x in points])
    assert plain.diagnostics()["coverage"] == 1.0


def test_an_individual_without_values_of_a_metric_has_no_cell() -> None:
    optimizer = make(descriptors=[RATE])
    optimizer.ask(2)
    optimizer.tell([described(0, 1.0, rate=[]), described(1, 1.0, rate=[1.7e308, 1.7e308])])
    assert arrays_of(optimizer)["ids"].tolist() == [1]
    assert arrays_of(optimizer)["cells"].tolist() == [4]


def test_metrics_are_named_once_and_must_come() -> None:
    optimizer = make(descriptors=[RATE, POWER, {**RATE, "bins": 2}])
    assert optimizer.measures(optimizer.options) == ("rate", "power")
    optimizer.ask(1)
    with pytest.raises(OptimizerError, match="no finite metric 'power'"):
        optimizer.tell([described(0, 1.0, rate=[1.0])])


@pytest.mark.parametrize(
    ("descriptors", "message"),
    [
        ([{**RATE, "low": 10.0}], "low must be less than high"),
        ([{**RATE, "bins": 1000}, {**POWER, "bins": 1000}], "1000000 cells, at most 100000"),
        ([{**RATE, "high": math.inf}], "finite"),
        ([{"measure": "rate"}], "Field required"),
    ],
)
def test_impossible_archives_are_refused(descriptors: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(OptimizerError, match=message):
        make(descriptors=descriptors)


def test_a_better_estimate_of_an_elite_counts() -> None:
    optimizer = make(dimension=1, bins=1, start=1, reevaluate=1)
    optimizer.tell([Evaluated(s.id, (1.0,)) for s in optimizer.ask(1)])
    again = [s for s in optimizer.ask(3) if s.origin == 0]
    optimizer.tell([Evaluated(again[0].id, (4.0,))])
    assert arrays_of(optimizer)["losses"].tolist() == [2.5]
