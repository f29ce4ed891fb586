"""The benchmark's arithmetic: targets, hypervolume, tables, what is still to run. No library is needed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.optimizers import families, pool, problems, table
from benchmarks.optimizers.adapters import Adapter, Algorithm, Task, make
from benchmarks.optimizers.run import plan
from benchmarks.optimizers.runs import NOISES, Job, Row, drive, row_key
from optimizers.individuals import FloatArray


def test_targets_are_those_of_coco() -> None:
    assert len(problems.TARGETS) == 51
    assert problems.TARGETS[[0, 5, 50]] == pytest.approx([1e2, 1e1, 1e-8])


def test_progress_counts_what_was_reached_when() -> None:
    progress = problems.Progress()
    progress.add(np.array([1e3, math.nan, 10.0]))  # 1e2, 1e1.8, .. 1e1 are 6 targets
    progress.add(np.array([50.0, math.inf, 1e-9]))
    assert [progress.reached(n) for n in (2, 3, 5, 6, 100)] == [0, 6, 6, 51, 51]
    assert progress.evaluations == 6
    assert progress.best == 1e-9


def test_area_is_one_when_all_is_reached_at_once_and_half_at_the_root_of_the_budget() -> None:
    at_once, late = problems.Progress(), problems.Progress()
    at_once.add(np.array([0.0]))
    late.add(np.full(20, 1e3))
    late.hits = [20] * 51
    assert at_once.area(200, 2) == pytest.approx(1.0)
    assert late.area(200, 2) == pytest.approx(0.5)
    assert problems.Progress().area(200, 2) == 0.0


@given(st.lists(st.floats(1e-10, 1e4), min_size=1, max_size=30), st.integers(1, 30))
def test_progress_agrees_with_its_definition(gaps: list[float], budget: int) -> None:
    progress = problems.Progress()
    progress.add(np.array(gaps))
    expected = sum(min(gaps[:budget]) <= target for target in problems.TARGETS)
    assert progress.reached(budget) == expected


@pytest.mark.parametrize(
    ("losses", "reference", "volume"),
    [
        ([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [9.0, 0.0]], (3.0, 3.0), 3.0),
        ([[0.0, 0.0, 0.0]], (1.0, 2.0, 3.0), 6.0),
        ([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]], (2.0, 2.0, 2.0), 5.0),
        ([[4.0, 4.0]], (3.0, 3.0), 0.0),
    ],
)
def test_hypervolume(losses: list[list[float]], reference: tuple[float, ...], volume: float) -> None:
    assert problems.hypervolume(np.array(losses), reference) == pytest.approx(volume)


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=8))
def test_hypervolume_counts_the_cubes_that_are_dominated(corners: list[tuple[int, int, int]]) -> None:
    grid = np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1)
    dominated = np.any([(grid >= corner).all(axis=-1) for corner in corners], axis=0)
    losses = np.array(corners, dtype=np.float64)
    assert problems.hypervolume(losses, (6.0, 6.0, 6.0)) == pytest.approx(dominated.sum())


def test_the_fronts_of_several_objectives_are_where_the_literature_says() -> None:
    on_front = np.zeros((1, 30))
    on_front[0, 0] = 0.25
    assert problems.MULTI["zdt1"].evaluate(on_front)[0] == pytest.approx([0.25, 0.5])
    assert problems.MULTI["zdt2"].evaluate(on_front)[0] == pytest.approx([0.25, 1 - 0.25**2])
    sphere = problems.MULTI["dtlz2"].evaluate(np.full((1, 12), 0.5))
    assert (sphere**2).sum() == pytest.approx(1.0)
    assert problems.MULTI["kursawe"].evaluate(np.zeros((1, 3)))[0] == pytest.approx([-20.0, 0.0])


def row(algorithm: str, problem: int, instance: int, reached: int, **other: object) -> Row:
    return {
        "kind": "bbob",
        "algorithm": algorithm,
        "problem": problem,
        "dimension": 2,
        "instance": instance,
        "batch": 0,
        "budget": 100,
        "noise": "",
        "reached": reached,
        "seconds": 0.2,
        "evaluations": 200,
        "ended": "",
        **other,
    }


def test_a_cell_is_quartiles_over_instances_of_means_over_functions() -> None:
    found = table.quartiles({(f, i): float(i + f) for f in (0, 10) for i in range(1, 6)})
    assert found == (5 + 2.0, 5 + 3.0, 5 + 4.0, 5)


def test_algorithms_are_compared_on_the_runs_that_both_have() -> None:
    ours = {(1, 1): 0.5, (1, 2): 0.5, (2, 1): 0.9}
    other = {(1, 1): 0.4, (1, 2): 0.3, (3, 1): 0.0}
    found = table.compare(ours, other)
    assert found is not None
    assert (found.ours.median, found.other.median) == (0.5, 0.35)
    assert found.verdict(table.SHARE) == "better"
    assert found.verdict(table.GAP) == "worse"
    assert table.compare(ours, {(7, 7): 1.0}) is None


@pytest.mark.parametrize(("lower", "same"), [(0.3, True), (0.31, False)])
def test_quartiles_that_touch_are_the_same(lower: float, same: bool) -> None:
    low = table.Quartiles(0.1, 0.2, 0.3, 5)
    high = table.Quartiles(lower, 0.4, 0.5, 5)
    assert low.overlaps(high) == high.overlaps(low) == same
    assert (table.Comparison(high, low).verdict(table.SHARE) == "same") == same


def test_the_table_sets_the_best_of_each_family_beside_ours() -> None:
    rows = [
        *[row("own:cmaes", 1, i, 30) for i in range(4)],
        *[row("pycma:cma", 1, i, 40) for i in range(4)],
        *[row("cmaes:cma", 1, i, 20, ended="broke") for i in range(4)],
        *[row("own:genetic", 1, i, 10) for i in range(4)],
        *[row("l2l:ga", 1, i, 5) for i in range(4)],
    ]
    text = table.bbob(rows)
    assert "| pycma:cma | 78.4 [78.4–78.4] | 1 | 0 of 4 |" in text
    assert "| cmaes:cma | 39.2 [39.2–39.2] | 1 | 4 of 4 |" in text
    assert text.index("pycma:cma") < text.index("**own:cmaes**") < text.index("cmaes:cma |")
    assert "| CMA-ES | own:cmaes | pycma:cma | 58.8 : 78.4 (−19.6, worse, n=4) |" in text
    assert "| genetic algorithm | own:genetic | l2l:ga | 19.6 : 9.8 (+9.8, better, n=4) |" in text


def test_of_two_libraries_the_one_on_fewer_columns_does_not_hide_the_other() -> None:
    both = [
        row(name, 1, i, 20, dimension=d)
        for name in ("own:cmaes", "pycma:cma")
        for i in (1, 2)
        for d in (2, 5)
    ]
    text = table.families([*both, row("cmaes:cma", 1, 1, 50)], lambda r: r["dimension"], table.SHARE)
    assert "| CMA-ES | own:cmaes | pycma:cma |" in text


def test_options_do_not_change_the_family() -> None:
    assert families.family("own:genetic:reevaluate=4") == families.family("pymoo:ga") == "genetic algorithm"
    assert families.family("own:nosuch") == "other"


def test_an_algorithm_is_named_with_options() -> None:
    parsed = Algorithm.parse("own:cmaes:sigma=0.2:start=random")
    assert (parsed.library, parsed.name) == ("own", "cmaes")
    assert parsed.options == {"sigma": 0.2, "start": "random"}


def test_only_what_looks_at_the_budget_is_run_for_each() -> None:
    jobs = plan(["own:cmaes", "l2l:sa"], [1], [2], [1], [1000, 100], [0])
    assert [(job.algorithm, job.budgets) for job in jobs] == [
        ("own:cmaes", (100, 1000)),
        ("l2l:sa", (100,)),
        ("l2l:sa", (1000,)),
    ]


def test_what_the_results_have_is_not_run_again(tmp_path: Path) -> None:
    jobs = plan(["own:cmaes", "own:genetic"], [1], [2], [1], [100, 1000], [0])
    keys = [{**row(job.algorithm, 1, 1, 3), "budget": budget} for job in jobs for budget in (100, 1000)]
    file = tmp_path / "results.jsonl"
    file.write_text("\n".join(map(json.dumps, keys[:3])) + '\n{"kind": "bb')
    rows = pool.read(file)
    assert [row_key(one) for one in rows] == [*jobs[0].keys(), *jobs[1].keys()][:3]
    assert pool.missing(jobs, rows) == [jobs[1]]


class Counting(Adapter):
    """Asks for whole generations of 8; its points are numbered."""

    batch = 8

    def __init__(self, generations: int = 100) -> None:
        self.told: list[float] = []
        self.left = generations

    def ask(self, n: int) -> FloatArray:  # noqa: ARG002
        self.left -= 1
        return np.arange(8.0 * (self.left >= 0))[:, None] - len(self.told)

    def tell(self, points: FloatArray, losses: FloatArray) -> None:
        assert len(points) == len(losses) == 8
        self.told += losses[:, 0].tolist()


JOB = Job("bbob", "own:random", 1, 1, 1, 0, (20,))


def test_a_budget_is_not_exceeded_and_a_part_of_a_generation_not_told() -> None:
    adapter, evaluated = Counting(), []

    def evaluate(points: FloatArray) -> FloatArray:
        evaluated.append(len(points))
        return np.where(points < -14, np.inf, points)

    done = drive(adapter, JOB, 20, evaluate)
    assert evaluated == [8, 8, 4]
    assert (done.evaluations, len(adapter.told), done.ended) == (20, 16, "")
    assert done.lowest is not None
    assert done.lowest[0] == -14.0


def test_a_run_that_ends_early_says_why() -> None:
    done = drive(Counting(1), JOB, 20, lambda points: points)
    assert (done.evaluations, done.ended) == (8, "nothing left after 8 evaluations")

    def broken(points: FloatArray) -> FloatArray:
        raise ValueError(f"no value for {len(points)}")

    assert drive(Counting(), JOB, 20, broken).ended == "ValueError after 0 evaluations: no value for 8"


def test_noises_disturb_as_they_say() -> None:
    gaps = np.full(20_000, 3.0)
    told = {name: noise(gaps, np.random.default_rng(1)) for name, noise in NOISES.items()}
    assert (told["none"] == gaps).all()
    assert (told["additive"] - 3).std() == pytest.approx(1, abs=0.05)
    assert np.log(told["multiplicative"] / 3).std() == pytest.approx(1, abs=0.05)
    assert [np.isinf(told[name]).mean() for name in ("fail10", "fail30")] == pytest.approx(
        [0.1, 0.3], abs=0.02
    )


@pytest.mark.parametrize("name", ["random", "cmaes"])
def test_ours_run_through_the_common_interface(name: str) -> None:
    task = Task(3, -5.0, 5.0, np.ones(3), seed=1, budget=60, batch=10)
    adapter = make(f"own:{name}", task)
    done = drive(adapter, JOB, 60, lambda x: np.where(x[:, :1] > 4, np.inf, (x**2).sum(axis=1)[:, None]))
    assert (done.evaluations, done.ended) == (60, "")
    assert done.recommended is not None
    assert done.recommended.shape == (3,)


def test_a_misspelt_algorithm_is_refused() -> None:
    task = Task(3, -5.0, 5.0, np.ones(3), seed=1, budget=60)
    with pytest.raises(ValueError, match="no such library"):
        make("nosuch:cma", task)
    with pytest.raises(ValueError, match="no such algorithm"):
        make("pycma:nosuch", task)
