"""The state's container: deterministic bytes, no pickle, and damage is noticed."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optimizers import OptimizerError, state
from tests.optimizers.problems import fresh

META = {"version": 1, "rng": {"state": 2**127}, "none": None, "x": 0.1}
ARRAYS = {"b": np.arange(6.0).reshape(2, 3), "a": np.array([1, 2], dtype=np.int64), "empty": np.empty((0, 4))}

arrays = st.dictionaries(
    st.from_regex(r"[a-z]{1,5}", fullmatch=True),
    hnp.arrays(st.sampled_from([np.float64, np.int64]), hnp.array_shapes(min_dims=0, max_dims=2, min_side=0)),
    max_size=3,
)


@given(arrays)
def test_round_trip(given_arrays: dict[str, Any]) -> None:
    """Values (NaN and -0.0 included), shapes and dtypes come back; equal content gives equal bytes."""
    data = state.dump(META, given_arrays)
    meta, loaded = state.load(data)
    assert meta == META
    assert loaded.keys() == given_arrays.keys()
    for name, array in given_arrays.items():
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
        assert loaded[name].tobytes() == array.tobytes()
    assert state.dump(meta, dict(reversed(list(loaded.items())))) == data


def test_memory_order_and_byte_order_do_not_show() -> None:
    """A Fortran-ordered or big-endian array of the same values gives the same bytes."""
    usual = state.dump(META, ARRAYS)
    assert state.dump(META, {**ARRAYS, "b": np.asfortranarray(ARRAYS["b"])}) == usual
    assert state.dump(META, {**ARRAYS, "b": ARRAYS["b"].astype(">f8")}) == usual


def test_no_time_of_day_shows() -> None:
    with zipfile.ZipFile(io.BytesIO(state.dump(META, ARRAYS))) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_numpy_can_open_it() -> None:
    """The state is an ordinary npz for whoever wants to look into it."""
    with np.load(io.BytesIO(state.dump(META, ARRAYS)), allow_pickle=False) as archive:
        assert archive["b"].tolist() == ARRAYS["b"].tolist()


def test_what_is_no_data_cannot_be_stored() -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        state.dump(META, {"a": np.array([object()])})
    with pytest.raises(ValueError, match="JSON compliant"):
        state.dump({"x": float("nan")}, {})


def test_pickled_arrays_are_refused() -> None:
    """An object array is the only way for an npy file to execute code."""
    member = io.BytesIO()
    np.lib.format.write_array(member, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("meta.json", "{}")
        archive.writestr("a.npy", member.getvalue())
    with pytest.raises(OptimizerError, match="cannot be read"):
        state.load(buffer.getvalue())


@settings(max_examples=300)
@given(st.integers(0, 10**6), st.integers(1, 255), st.booleans())
def test_damage_is_noticed(position: int, flip: int, truncate: bool) -> None:
    """A flipped byte or a missing end gives OptimizerError, or is in a field that holds no content."""
    data = state.dump(META, ARRAYS)
    position %= len(data)
    end = b"" if truncate else bytes([data[position] ^ flip]) + data[position + 1 :]
    try:
        meta, loaded = state.load(data[:position] + end)
    except OptimizerError:
        return
    assert not truncate
    kept = {name: array for name, array in loaded.items() if name in ARRAYS}
    assert meta == META
    assert all(array.tobytes() == ARRAYS[name].tobytes() for name, array in kept.items())
    assert len(loaded) == len(ARRAYS)


def test_members_hidden_by_a_damaged_directory_are_missed() -> None:
    """With a wrong length of one entry's comment, zipfile passes over the entry that follows."""
    data = bytearray(state.dump(META, ARRAYS))
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 1)
    third = data.index(b"PK\x01\x02", second + 1)
    data[first + 32] = third - second
    with pytest.raises(OptimizerError, match=r"cannot be read.*3 of 4 members"):
        state.load(bytes(data))


@pytest.mark.parametrize("lost", ["elite.means", "own.model.mean", "pending.ids", "rng", "options", "own"])
def test_states_that_lack_something_are_refused_as_unreadable(lost: str) -> None:
    """Not with a KeyError from the depths of an optimizer."""
    optimizer = fresh("cmaes")
    meta, arrays = state.load(optimizer.state())
    less = state.dump(
        {key: value for key, value in meta.items() if key != lost},
        {key: value for key, value in arrays.items() if key != lost},
    )
    with pytest.raises(OptimizerError, match="The state of cmaes cannot be read"):
        type(optimizer).from_state(less, optimizer.space, 1, {})
