"""The search space: round trips, validation, overrides and JSON, over generated spaces."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizers.space import Categorical, Fixed, Float, Int, Ordinal, Parameter, Space, SpaceError

finite = st.floats(-1e15, 1e15)
positive = st.floats(1e-300, 1e300)
shapes = st.lists(st.integers(1, 3), max_size=2).map(tuple)
scalars = st.one_of(st.text(max_size=3), st.integers(-9, 9), st.floats(-9, 9), st.booleans())


@st.composite
def floats(draw: st.DrawFn) -> Float:
    log = draw(st.booleans())
    low, high = sorted(draw(st.lists(positive if log else finite, min_size=2, max_size=2, unique=True)))
    return Float(low, high, log=log, shape=draw(shapes))


@st.composite
def ints(draw: st.DrawFn) -> Int:
    log = draw(st.booleans())
    most = 2**40 if log else 2**48
    low = draw(st.integers(1 if log else -most, most - 1))
    high = draw(st.one_of(st.integers(low + 1, most), st.integers(low + 1, min(most, low + 20))))
    return Int(low, high, log=log, shape=draw(shapes))


choices = st.lists(scalars, min_size=1, max_size=6, unique_by=lambda v: (v == 0, v))
fixed = st.recursive(scalars | st.none(), lambda v: st.lists(v, max_size=3), max_leaves=4).map(Fixed)
parameters: st.SearchStrategy[Parameter] = st.one_of(
    floats(), ints(), choices.map(Categorical), choices.map(Ordinal), fixed
)
spaces = st.dictionaries(st.text(min_size=1, max_size=4), parameters, max_size=4).map(Space)


@st.composite
def points(draw: st.DrawFn) -> tuple[Space, Any]:
    space = draw(spaces)
    unit = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 0.5]))
    return space, np.array(draw(st.lists(unit, min_size=space.dimension, max_size=space.dimension)))


def flat(value: Any) -> list[Any]:
    return [x for part in value for x in flat(part)] if isinstance(value, list) else [value]


def assert_same(space: Space, one: dict[str, Any], two: dict[str, Any]) -> None:
    """Equal, but for the rounding of reals: a few units in the last place of the range or the logarithm."""
    for name, parameter in space.parameters.items():
        if isinstance(parameter, Float):
            largest = max(abs(parameter.low), abs(parameter.high))
            for a, b in zip(flat(one[name]), flat(two[name]), strict=True):
                if parameter.log:
                    assert math.isclose(a, b, rel_tol=4e-16 * max(4, *map(abs, parameter.scale())))
                else:
                    assert math.isclose(a, b, rel_tol=0, abs_tol=4e-16 * largest)
        else:
            assert one[name] == two[name]
            assert type(one[name]) is type(two[name])


@given(points())
def test_decode_gives_valid_plain_json(drawn: tuple[Space, Any]) -> None:
    space, unit = drawn
    params = space.decode(unit)
    space.validate(params)
    assert json.loads(json.dumps(params, allow_nan=False)) == params


@given(points())
def test_encode_undoes_decode(drawn: tuple[Space, Any]) -> None:
    """Exactly for whole numbers, choices and fixed values; to rounding for reals."""
    space, unit = drawn
    params = space.decode(unit)
    again = space.encode(params)
    assert again.shape == (space.dimension,)
    assert ((again >= 0) & (again <= 1)).all()
    assert_same(space, params, space.decode(again))


@given(spaces)
def test_ends_of_the_cube_are_the_ends_of_the_ranges(space: Space) -> None:
    lowest, highest = space.decode(np.zeros(space.dimension)), space.decode(np.ones(space.dimension))
    for name, parameter in space.parameters.items():
        if isinstance(parameter, (Float, Int)):
            tolerance = 1e-12 if isinstance(parameter, Float) and parameter.log else 0.0
            assert all(math.isclose(v, parameter.low, rel_tol=tolerance) for v in flat(lowest[name]))
            assert all(math.isclose(v, parameter.high, rel_tol=tolerance) for v in flat(highest[name]))
        elif isinstance(parameter, Ordinal):
            assert (lowest[name], highest[name]) == (parameter.values[0], parameter.values[-1])


@given(spaces)
def test_json_round_trip(space: Space) -> None:
    """Through text, and with the keys of every object in another order, as jsonb returns them."""
    data = json.loads(json.dumps(space.to_json(), sort_keys=True))
    again = Space.from_json(data)
    assert again.to_json() == space.to_json()
    assert (again.names, again.dimension) == (space.names, space.dimension)


@given(spaces)
def test_default_is_valid_and_hidden_from_changes(space: Space) -> None:
    before = json.dumps(space.default())
    space.validate(space.default())
    for value in space.default().values():
        if isinstance(value, list):
            value.clear()
    assert json.dumps(space.default()) == before


@given(points())
def test_override_by_a_value_fixes_it(drawn: tuple[Space, Any]) -> None:
    space, unit = drawn
    params = space.decode(unit)
    held = space.override(params)
    assert held.dimension == 0
    assert held.default() == params


@pytest.mark.parametrize(
    "parameter", [Int(-2, 3), Ordinal([1, 2, 4, 8, 16, 32]), Categorical(list("abcdef"))]
)
def test_every_bin_of_whole_numbers_and_choices_is_equally_wide(parameter: Parameter) -> None:
    space = Space({"p": parameter})
    values = [space.decode([u])["p"] for u in (np.arange(1200) + 0.5) / 1200]
    assert [values.count(value) for value in dict.fromkeys(values)] == [200] * 6


def test_log_scales() -> None:
    space = Space({"x": Float(1e-4, 1.0, log=True), "n": Int(1, 1000, log=True)})
    assert math.isclose(space.decode([0.5, 0.5])["x"], 0.01)
    assert space.decode([0.5, 0.5])["n"] == 22  # the root of 0.5 x 1000.5
    assert space.default()["n"] == 22


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Float(1, 1), "low 1.0 must be less than high 1.0"),
        (lambda: Float(0, 1, log=True), "low > 0"),
        (lambda: Float(-1e308, 1e308), "too wide"),
        (lambda: Float(math.nan, 1), "finite number is needed, got nan"),
        (lambda: Float(10**400, 10**401), "finite number"),
        (lambda: Float("1e-5", 1), "YAML reads 1e-5 as a text"),  # type: ignore[arg-type]
        (lambda: Float(True, 2), "finite number is needed, got True"),
        (lambda: Float(0, 1, default=2), "2 is outside"),
        (lambda: Float(0, 1, default=[1, 2], shape=(3,)), "list of 3 elements"),
        (lambda: Float(0, 1, shape=(0,)), "shape: positive"),
        (lambda: Float(0, 1, shape=(2.0,)), "shape: positive"),  # type: ignore[arg-type]
        (lambda: Float(0, 1, log="yes"), "log: true"),  # type: ignore[arg-type]
        (lambda: Int(0, 1.5), "whole number is needed, got 1.5"),  # type: ignore[arg-type]
        (lambda: Int(0, 2**60), "whole numbers up to"),
        (lambda: Int(1, 2**45, log=True), "log: true needs high"),
        (lambda: Categorical([]), "at least one value"),
        (lambda: Categorical("abc"), "a list of at least one value"),
        (lambda: Categorical(["a", "a"]), "distinct"),
        (lambda: Categorical([1, True]), "distinct"),
        (lambda: Categorical([[1], [2]]), "distinct texts"),
        (lambda: Categorical(["a", "b"], default="c"), "'c' is none of 'a', 'b'"),
        (lambda: Ordinal([math.nan]), "JSON value"),
        (lambda: Fixed({1, 2}), "JSON value"),
        (lambda: Space({"": Fixed(1)}), "a name and a Float"),
        (lambda: Space({"a": 3}), "'a': a name and a Float"),  # type: ignore[dict-item]
        (lambda: Space.from_json({"parameters": [{"name": "a", "type": "flot"}]}), "a: unknown type 'flot'"),
        (lambda: Space.from_json({"parameters": [{"name": "a", "type": "int", "high": 2}]}), r"a: .*low"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make()


SPACE = Space(
    {
        "x": Float(0, 1, default=0.25),
        "w": Float(-1, 1, shape=(2,)),
        "n": Int(1, 9),
        "c": Categorical(["a", "b", True]),
        "f": Fixed([1, 2]),
    }
)
GOOD = {"x": 0.5, "w": [0, 1.0], "n": 3, "c": "a", "f": [1, 2]}


def test_validation_lists_every_problem() -> None:
    SPACE.validate(GOOD)
    bad = {"x": "0.5", "w": [0.0], "n": 3.0, "c": 1, "f": [1], "y": 1}
    with pytest.raises(SpaceError) as caught:
        SPACE.validate(bad)
    lines = str(caught.value).split("\n")
    assert [line.split(":")[0] for line in lines] == ["y", "x", "w", "n", "c", "f"]
    with pytest.raises(SpaceError, match=r"^x: missing\nw: missing\nn: missing\nc: missing\nf: missing$"):
        SPACE.validate({})


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.01, 1.01, True, None, [0.5], "0.5"])
def test_a_real_must_be_a_number_within_its_bounds(value: Any) -> None:
    with pytest.raises(SpaceError, match=r"^x: "):
        SPACE.validate({**GOOD, "x": value})


@pytest.mark.parametrize("unit", [[0.5] * 3, [0.5, 0.5, 0.5, 0.5, 1.1], [math.nan] * 5, [-0.1] * 5])
def test_points_outside_the_cube_are_refused(unit: Any) -> None:
    with pytest.raises(SpaceError, match=re.escape("a point in [0, 1] of shape (5,)")):
        SPACE.decode(unit)


def test_override() -> None:
    """Values fix, numbers stand for whole arrays, mappings change; what is not named stays."""
    space = SPACE.override({"x": {"low": 0.5, "log": True}, "w": 0, "c": "b", "f": "other"})
    assert space.parameters["x"] == Float(0.5, 1.0, log=True)  # its default .25 lies outside now
    assert space.parameters["w"] == Fixed([0.0, 0.0])
    assert space.parameters["n"] == SPACE.parameters["n"]
    assert (space.parameters["c"], space.parameters["f"]) == (Fixed("b"), Fixed("other"))
    assert space.dimension == 2
    assert SPACE.override({"x": {"high": 2}}).default()["x"] == 0.25
    assert SPACE.override({"x": 7}).default()["x"] == 7.0  # a user may leave the range
    assert SPACE.dimension == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": 1}, "y: unknown; known: x, w, n, c, f"),
        ({"x": {"hihg": 2}}, "x: unknown hihg; float has low, high, log, default"),
        ({"w": {"shape": [3]}}, "w: unknown shape"),
        ({"x": {"low": 3}}, "x: low 3.0 must be less"),
        ({"x": {"default": 3}}, "x: .*outside"),
        ({"x": {"low": "1e-5"}}, "x: .*YAML"),
        ({"n": 2.5}, "n: a whole number"),
        ({"w": [1, 2, 3]}, "w: a list of 2"),
        ({"c": "z"}, "c: 'z' is none of"),
        ({"c": 1}, "c: 1 is none of"),
        ({"f": {"low": 1}}, "f: unknown low; fixed has value"),
        ({"y": 1, "n": "a"}, "y: unknown.*\nn: a whole"),
    ],
)
def test_wrong_overrides_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SPACE.override(change)
