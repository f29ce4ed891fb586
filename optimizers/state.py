"""Optimizer state as bytes: an npz archive of arrays with one JSON member.

No pickle on either side, so a state file can be read by any version of numpy and cannot execute anything.
The same content gives the same bytes: members are sorted, uncompressed, C-ordered, little-endian and
carry no time of day.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from optimizers import OptimizerError

Arrays = Mapping[str, npt.NDArray[Any]]

_META = "meta.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def dump(meta: Mapping[str, Any], arrays: Arrays) -> bytes:
    """Bytes of the JSON object `meta` (finite numbers only) and of `arrays` (numbers, any shape)."""
    text = json.dumps(dict(meta), sort_keys=True, separators=(",", ":"), allow_nan=False)
    members = {_META: text.encode()} | {f"{name}.npy": _npy(array) for name, array in arrays.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3
            archive.writestr(info, members[name])
    return buffer.getvalue()


def load(data: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """What `dump` was given.

    Raises:
        OptimizerError: the bytes are not such an archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        # A damaged length in the directory of the archive hides the members that follow.
        (expected,) = struct.unpack("<H", data[-12:-10])
        if min(len(members), 0xFFFF) != expected:
            raise zipfile.BadZipFile(f"{len(members)} of {expected} members")
        meta = json.loads(members.pop(_META))
        arrays = {
            name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
            for name, raw in members.items()
        }
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, RuntimeError, struct.error) as error:
        raise OptimizerError(
            f"The optimizer state ({len(data)} bytes) cannot be read: {error!r}. Restore an earlier state."
        ) from error
    if not isinstance(meta, dict):
        raise OptimizerError("The optimizer state cannot be read: its JSON member is no object.")
    return meta, arrays


def _npy(array: npt.NDArray[Any]) -> bytes:
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, plain, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()
