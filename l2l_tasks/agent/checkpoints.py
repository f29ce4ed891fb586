"""Checkpoints: a folder per evaluation that outlives its attempts and workers, and that others inherit.

They are kept until the controller says that no individual from which another may go on is so old. A folder in
which nothing was written is removed with the evaluation: most optimizees keep no checkpoints. So are those of
tests on held-out tasks (their individuals are negative), with which nobody goes on.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Dict, Optional

from .pool import remove_tree
from .results import is_key


def prepare(campaign: Path, key: str, parent: Optional[int]) -> Dict[str, Optional[str]]:
    """Make the folder of an evaluation; what its request says of this one and of the parent's, if any."""
    own = _folder(campaign, key)
    own.mkdir(parents=True, exist_ok=True)
    inherited = None if parent is None else _folder(campaign, "%d.%s" % (parent, key.partition(".")[2]))
    there = inherited is not None and inherited.is_dir()
    return {"checkpoint": str(own), "inherited": str(inherited) if there else None}


def finish(campaign: Path, key: str) -> None:
    """Remove the folder of an evaluation that is final, unless something was written from which to go on."""
    if _individual(key) < 0:
        remove_tree(_folder(campaign, key))
    with contextlib.suppress(OSError):
        _folder(campaign, key).rmdir()


def forget(campaign: Path, first: int) -> None:
    """Remove the checkpoints of individuals below `first`; not of tests, which may be running."""
    names = []
    with contextlib.suppress(FileNotFoundError):
        names = os.listdir(str(campaign / "checkpoints"))
    for name in names:
        if is_key(name) and 0 <= _individual(name) < first:
            remove_tree(_folder(campaign, name))


def _individual(key: str) -> int:
    return int(key.partition(".")[0])


def _folder(campaign: Path, key: str) -> Path:
    return campaign / "checkpoints" / key
