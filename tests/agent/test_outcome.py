"""The judgement over replies."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from l2l_tasks.agent import outcome, results
from l2l_tasks.agent.outcome import Outcome

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
replies = st.one_of(
    anything,
    st.fixed_dictionaries(
        {"status": st.sampled_from(["ok", "infeasible", "x"])},
        optional={"fitness": anything, "metrics": anything, "curve": anything, "reason": anything},
    ),
    st.fixed_dictionaries(
        {"status": st.just("ok"), "fitness": st.lists(st.floats() | st.integers(), min_size=2, max_size=2)},
        optional={
            "metrics": st.dictionaries(st.text(max_size=5), st.floats()),
            "curve": st.lists(st.floats()),
        },
    ),
)


def judge(reply: object, objectives: int = 2) -> Outcome:
    return outcome.judge(json.dumps(reply).encode(), objectives, 8, "tail")


@given(replies)
def test_every_reply_gets_a_legal_outcome(reply: object) -> None:
    """Whatever the reply, its line is accepted by the controller; "ok" only with right fitness."""
    found = judge(reply)
    line = results.ResultLine(
        "0.0.0", "0" * 16, 0, "w", "g00000-00000", found.status, True,
        found.fitness, found.metrics, found.curve, 0.0, 0.0, 0.0, "", found.error,
    )  # fmt: skip
    assert results.parse_line(results.build_line(line)) == line
    if found.status == "ok":
        assert isinstance(reply, dict)
        assert found.fitness == reply["fitness"]
        assert all(isinstance(x, float) and math.isfinite(x) for x in found.fitness or [])


@given(st.binary(max_size=50))
def test_garbage_is_invalid(payload: bytes) -> None:
    """Bytes that are no JSON do not raise."""
    assert outcome.judge(payload, 1, 8, "").status == "failed"


def test_what_is_not_finite_beside_the_fitness() -> None:
    """A metric that is not finite is left out, a curve ends where it diverges; the evaluation stays sound."""
    reply = {
        "status": "ok",
        "fitness": [1, 2.5],
        "metrics": {"a": math.nan, "b": 2, "c": [1, 2.5], "d": [1, math.inf]},
        "curve": [1, 0.5, math.inf, 3],
    }
    found = judge(reply)
    assert (found.fitness, found.metrics, found.curve) == (
        [1.0, 2.5],
        {"b": 2.0, "c": [1.0, 2.5]},
        [1.0, 0.5],
    )


def test_reasons_name_the_mistake() -> None:
    """The author of an optimizee reads these."""
    cases: list[tuple[object, str]] = [
        ({"status": "ok", "fitness": [1.0]}, "2 numbers, one per objective, got 1"),
        ({"status": "ok", "fitness": [1.0, math.nan]}, "fitness[1] must be a finite number, got nan"),
        ({"status": "ok", "fitness": [1.0, 2.0], "loss": 1}, "unknown entries: loss"),
        (
            {"status": "ok", "fitness": [1.0, 2.0], "metrics": {"m": "x"}},
            "metric m must be a number or a list of numbers, got 'x'",
        ),
        (
            {"status": "ok", "fitness": [1.0, 2.0], "metrics": {"m": [[1.0], [2.0]]}},
            "metric m must be a number or a list of numbers, got [[1.0], [2.0]]",
        ),
        ({"status": "ok", "fitness": [1.0, 2.0], "metrics": {"m": []}}, "a list of numbers, got []"),
        ({"status": "ok", "fitness": [1.0, 2.0], "metrics": {"m": [True]}}, "a list of numbers, got [True]"),
        ({"status": "ok", "fitness": [1.0, 2.0], "curve": [[1]]}, "curve[0] must be a number, got [1]"),
        ({"fitness": [1.0, 2.0]}, "got None"),
    ]
    for reply, reason in cases:
        error = judge(reply).error
        assert error is not None
        assert error["kind"] == "invalid"
        assert reason in error["message"]
