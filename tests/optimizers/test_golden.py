"""States written by earlier releases load and go on: one stored file per optimizer and format version.

Tolerances: reals agree to 1e-9, not to the bit, because numpy's exp and log, and the BLAS behind CMA-ES,
differ in the last bits between processors and versions. Only one generation is compared: where those bits
meet an eigendecomposition or a ranking, later individuals may differ altogether.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import optimizers
from optimizers import state
from optimizers.space import Space
from tests.optimizers.make_golden import GOLDEN, file_of, next_generation
from tests.optimizers.problems import REQUIRED, fresh

FILES = sorted(GOLDEN.glob("*.npz"))


def assert_close(value: Any, expected: Any) -> None:
    if isinstance(expected, float):
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)
    elif isinstance(expected, list):
        assert len(value) == len(expected)
        for one, other in zip(value, expected, strict=True):
            assert_close(one, other)
    elif isinstance(expected, dict):
        assert value.keys() == expected.keys()
        for key in expected:
            assert_close(value[key], expected[key])
    else:
        assert value == expected


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden_state_goes_on_as_recorded(path: Path) -> None:
    expected = json.loads(path.with_suffix(".json").read_text())
    space = Space.from_json(expected.pop("space"))
    objectives = expected.pop("n_objectives")
    name = path.stem.rpartition("-")[0]
    options = REQUIRED.get(name, {})
    optimizer = optimizers.get(name).from_state(path.read_bytes(), space, objectives, options)
    found = next_generation(optimizer)
    # Later releases report more figures, never fewer.
    found["diagnostics"] = {key: found["diagnostics"].get(key) for key in expected["diagnostics"]}
    assert_close(found, expected)


@pytest.mark.parametrize("name", optimizers.names())
def test_the_current_format_is_the_golden_one(name: str) -> None:
    """A field that comes, goes or changes its type needs a new format version, and with it a new file."""
    golden_meta, golden_arrays = state.load(file_of(name).read_bytes())
    optimizer = fresh(name)
    optimizer.ask(12)
    next_generation(optimizer)
    meta, arrays = state.load(optimizer.state())
    assert fields(meta) == fields(golden_meta)
    assert {key: (a.dtype, a.ndim) for key, a in arrays.items()} == {
        key: (a.dtype, a.ndim) for key, a in golden_arrays.items()
    }


def fields(value: Any) -> Any:
    """The names of all fields, however deep."""
    return {key: fields(part) for key, part in value.items()} if isinstance(value, dict) else None
