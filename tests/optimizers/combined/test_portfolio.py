"""The portfolio: who gets how many, whose individual is whose, what is shared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optimizers import OptimizerError
from optimizers.base import Evaluated, Observation
from optimizers.combined.portfolio import Portfolio
from optimizers.space import Categorical, Space
from tests.optimizers.problems import box, evaluated, fresh, minimise, restored, rosenbrock, sphere


def portfolio(*members: str, seed: int = 1, **options: Any) -> Portfolio:
    named = [{"name": name} for name in members]
    made = fresh("portfolio", box(3), seed, **options, **({"members": named} if named else {}))
    assert isinstance(made, Portfolio)
    return made


def owner(optimizer: Portfolio, individual: int) -> int:
    return next(i for i, member in enumerate(optimizer._members) if individual in member.own)


def test_the_winner_gets_more_and_the_others_a_least_part() -> None:
    """Member 1 always has the lower losses; then they change roles, and so do the parts."""
    optimizer = portfolio("random", "random", "random", floor=0.1)
    parts = []
    for generation in range(60):
        winner = 1 if generation < 30 else 2
        asked = optimizer.ask(20)
        owners = [owner(optimizer, s.id) for s in asked]
        parts.append([owners.count(i) / 20 for i in range(3)])
        told = [
            evaluated(optimizer, s, float(i != winner) + s.id % 7 / 100)
            for s, i in zip(asked, owners, strict=True)
        ]
        optimizer.tell(told)
    assert parts[0] == pytest.approx([1 / 3] * 3, abs=0.05)
    before, after = np.mean(parts[10:30], axis=0), np.mean(parts[45:], axis=0)
    assert before[1] > 0.6
    assert after[2] > 0.6
    assert min(before.min(), after.min()) > 0.05


def test_every_ask_is_divided_whole() -> None:
    optimizer = portfolio("random", "genetic", "cmaes")
    total = 0
    for n in [1, 2, 3, 50, 1, 7]:
        asked = optimizer.ask(n)
        assert [s.id for s in asked] == list(range(total, total + n))
        total += n
    assert sum(len(member.own) for member in optimizer._members) == total


def test_members_learn_from_their_own_individuals_alone() -> None:
    """Each is told as if it were alone, so it goes on as one that is."""
    optimizer = portfolio("genetic", "cmaes", share_every=0)
    for _ in range(6):
        optimizer.tell([evaluated(optimizer, s, sphere(np.array(s.params["x"]))) for s in optimizer.ask(9)])
    figures = [member.optimizer.diagnostics() for member in optimizer._members]
    assert sum(f["told"] for f in figures) == 54
    assert [f["observed"] for f in figures] == [0, 0]
    best = min(f["best_loss"] for f in figures)
    assert optimizer.diagnostics()["best_loss"] == pytest.approx(best)


def test_the_best_is_shared() -> None:
    optimizer = portfolio(
        share_every=2,
        members=[{"name": "genetic", "options": {"population": 4}}, {"name": "random"}],
    )
    optimizer.tell([evaluated(optimizer, s, 100.0 + s.id) for s in optimizer.ask(12)])
    stranger = Observation({"x": [1.0, 2.0, 3.0]}, (-5.0,), individual=None)
    optimizer.observe([stranger])
    assert [m.optimizer.diagnostics()["observed"] for m in optimizer._members] == [1, 1]
    asked = optimizer.ask(12)
    random_one = next(s for s in asked if owner(optimizer, s.id) == 1)
    optimizer.tell([evaluated(optimizer, random_one, -9.0)])
    for _ in range(2):
        optimizer.ask(4)
    genetic = optimizer._members[0].optimizer
    assert -9.0 in genetic._losses  # type: ignore[attr-defined]
    observed = [m.optimizer.diagnostics()["observed"] for m in optimizer._members]
    for _ in range(6):  # the same one is not told again
        optimizer.ask(4)
    assert [m.optimizer.diagnostics()["observed"] for m in optimizer._members] == observed


def test_violations_reach_the_members() -> None:
    optimizer = portfolio("genetic", "genetic")
    asked = optimizer.ask(8)
    optimizer.tell([Evaluated(s.id, None, "infeasible", violation=1.0 + s.id) for s in asked[:6]])
    optimizer.tell([Evaluated(s.id, None, "failed") for s in asked[6:]])
    violations = [m.optimizer._violations.tolist() for m in optimizer._members]  # type: ignore[attr-defined]
    assert sorted(v for one in violations for v in one if v < np.inf) == [1.0, 2, 3, 4, 5, 6]


def test_members_that_are_done_leave_their_part_to_others() -> None:
    optimizer = portfolio("grid", "random")
    total = sum(len(optimizer.ask(200)) for _ in range(10))
    assert total == 2000
    assert optimizer.stop_reason() is None
    assert restored(optimizer).ask(5) == optimizer.ask(5)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([{"name": "portfolio"}, {"name": "random"}], r"members\.0: portfolio says more"),
        ([{"name": "random"}, {"name": "nosuch"}], r"members\.1: There is no optimizer 'nosuch'"),
        (
            [{"name": "random"}, {"name": "genetic", "options": {"x": 1}}],
            r"members\.1\.options\.x: Extra inputs",
        ),
        (
            [{"name": "random"}, {"name": "genetic", "options": {"reevaluate": 2}}],
            r"members\.1.*for the whole",
        ),
        ([{"name": "random"}], "members"),
    ],
)
def test_members_that_do_not_suit_are_refused(members: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(OptimizerError, match=message):
        fresh("portfolio", box(2), members=members)


def test_the_default_members_suit_choices() -> None:
    assert len(fresh("portfolio", Space({"c": Categorical(["a", "b", "c"])})).ask(6)) == 6


def test_nearly_as_good_as_its_best_member() -> None:
    """Far better than its weak members, at most a third of the way behind the good one."""
    runs = {}
    for name, options in {
        "cmaes": {},
        "random": {},
        "portfolio": {"members": [{"name": "random"}, {"name": "cmaes"}, {"name": "random"}]},
    }.items():
        losses = [minimise(fresh(name, box(5), s, **options), rosenbrock, 1500, 20) for s in range(2)]
        runs[name] = np.median(np.log10(losses))
    assert runs["portfolio"] < runs["cmaes"] + (runs["random"] - runs["cmaes"]) / 3, runs
