"""The gest-api adapter: what the generator sees, what it is told, and the replay of the log."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gest_api")

from gest_api.vocs import ContinuousVariable, DiscreteVariable

from optimizers import OptimizerError
from optimizers.base import Evaluated, Observation
from optimizers.combined.gest import Gest
from optimizers.space import Float, Space
from tests.optimizers.problems import MIXED, arrays_of, box, evaluated, fresh, minimise, restored, sphere

HERE = "tests.optimizers.gest_generators"
LINE = Space({"x": Float(-5, 5)})


def gest(name: str = "Climber", space: Space = LINE, **options: Any) -> Gest:
    made = fresh("gest", space, generator=f"{HERE}:{name}", options=options)
    assert isinstance(made, Gest)
    return made


def test_the_generator_sees_the_space_as_vocs() -> None:
    variables = gest(space=MIXED)._generator.vocs.variables
    assert list(variables) == [
        "rate",
        "weights_0",
        "weights_1",
        "weights_2",
        "weights_3",
        "layers",
        "width",
        "kernel",
        "order",
    ]
    assert isinstance(variables["kernel"], DiscreteVariable)
    assert variables["kernel"].values == {0, 1, 2}
    others = [variable for name, variable in variables.items() if name != "kernel"]
    assert all(isinstance(v, ContinuousVariable) and v.domain == [0, 1] for v in others)


def test_names_of_coordinates_never_collide() -> None:
    space = Space({"a": Float(0, 1, shape=(2,)), "a_0": Float(0, 1)})
    assert len(set(gest(space=space)._names)) == 3


def test_it_is_told_its_own_points_with_their_ids_and_others_without() -> None:
    optimizer = gest()
    generator = optimizer._generator
    asked = optimizer.ask(4)
    assert generator.waiting == {0, 1, 2, 3}
    optimizer.tell([evaluated(optimizer, s, s.params["x"]) for s in asked[1:]])
    assert generator.waiting == {0}
    lowest = min(asked[1:], key=lambda s: s.params["x"])
    assert generator.best["_id"] == lowest.id
    assert generator.best["loss"] == lowest.params["x"]
    optimizer.observe([Observation({"x": -4.0}, (-77.0,))])
    assert generator.foreign == 1
    assert generator.best == {"x": pytest.approx(0.1), "loss": -77.0}


def test_failed_ones_are_told_with_the_worst_loss() -> None:
    """Before there is one they wait: a generator neither waits for ever nor sees infinity."""
    optimizer = gest()
    asked = optimizer.ask(4)
    optimizer.tell([Evaluated(0, None, "failed")])
    assert optimizer._generator.waiting == {0, 1, 2, 3}
    optimizer.tell([evaluated(optimizer, asked[1], 5.0), evaluated(optimizer, asked[2], 3.0)])
    assert optimizer._generator.waiting == {3}
    assert optimizer._generator.best["loss"] == 3.0


def test_it_learns_through_the_adapter() -> None:
    assert minimise(gest(space=box(2)), sphere, 300, 5) < 0.05


def test_the_seed_of_the_campaign_is_the_generator_s_unless_it_has_its_own() -> None:
    def first(campaign_seed: int, **options: Any) -> Any:
        return (
            fresh("gest", LINE, campaign_seed, generator=f"{HERE}:Climber", options=options).ask(1)[0].params
        )

    assert first(1) != first(2)
    assert first(1, seed=3) == first(2, seed=3)


def test_a_replay_reaches_the_same_generator() -> None:
    optimizer = gest(space=MIXED)
    for _ in range(5):
        optimizer.tell([evaluated(optimizer, s, float(s.id % 7)) for s in optimizer.ask(6)[1:]])
    copy = restored(optimizer)
    assert isinstance(copy, Gest)
    assert copy._generator.best == optimizer._generator.best
    assert copy._generator.waiting == optimizer._generator.waiting
    assert copy.ask(3) == optimizer.ask(3)


def test_a_replay_that_differs_is_refused() -> None:
    optimizer = gest("Unseeded")
    optimizer.tell([evaluated(optimizer, s, 1.0) for s in optimizer.ask(3)])
    with pytest.raises(OptimizerError, match="suggests other points than before"):
        restored(optimizer)


def test_generators_that_give_their_own_number() -> None:
    """Two at a time; what was not asked for yet is kept, also over a restore."""
    optimizer = gest("Pairs")
    first = optimizer.ask(3)
    assert [s.id for s in first] == [0, 1, 2]
    copy = restored(optimizer)
    second = optimizer.ask(1)
    assert second == copy.ask(1)
    assert optimizer._generator.count == 4
    with pytest.raises(OptimizerError, match=r"gave 2 of 5 points. It may need the results"):
        optimizer.ask(5)
    optimizer.tell([evaluated(optimizer, s, 1.0) for s in [*first, *second]])
    assert len(optimizer.ask(2)) == 2


def test_a_long_log_ends_the_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimizers.combined.gest.LONGEST_LOG", 10)
    optimizer = gest()
    assert len(optimizer.ask(10)) == 10
    assert "the log of" in str(optimizer.stop_reason())
    assert optimizer.ask(1) == []


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        (f"{HERE}:Nosuch", {}, "cannot be imported"),
        ("nosuch.module:Class", {}, "cannot be imported"),
        ("nocolon", {}, "cannot be imported"),
        (f"{HERE}:NoGenerator", {}, "needs the methods suggest and ingest"),
        (f"{HERE}:Climber", {"nosuch": 1}, "cannot be made"),
    ],
)
def test_what_is_no_generator_is_refused(path: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptimizerError, match=message):
        fresh("gest", LINE, generator=path, options=options)


def test_points_out_of_bounds_are_refused() -> None:
    with pytest.raises(OptimizerError, match=r"suggested x = 1.5; it must be in \[0, 1\]"):
        gest("Outside").ask(1)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gest_api.vocs", None)
    with pytest.raises(OptimizerError, match="pip install gest-api"):
        gest()


def test_the_log_holds_numbers_only() -> None:
    optimizer = gest()
    optimizer.tell([evaluated(optimizer, s, 1.0) for s in optimizer.ask(3)])
    arrays = arrays_of(optimizer)
    assert arrays["events"].tolist() == [[0, 3, 0], [1, 3, 0]]
    assert np.isfinite(arrays["losses"]).all()
