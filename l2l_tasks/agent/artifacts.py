"""Artifacts: files of an evaluation that stay at the site when it has succeeded.

An attempt has a folder of its own beside its scratch folder. The one that succeeds has its folder renamed to
artifacts/<key of the evaluation>, unless it is empty: what is there is whole, and nobody has a folder for
nothing. They stay until the campaign's folder is removed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .pool import remove_tree


def prepare(scratch: Path) -> Path:
    """Make the folder of the attempt that has this scratch folder."""
    folder = _folder(scratch)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def finish(campaign: Path, key: str, scratch: Path, keep: bool) -> None:
    """Keep what the attempt wrote, in place of what an earlier one may have kept; else remove it."""
    folder, kept = _folder(scratch), campaign / "artifacts" / key
    with contextlib.suppress(OSError):
        folder.rmdir()  # as most are empty
        return
    if keep and folder.is_dir():
        kept.parent.mkdir(exist_ok=True)
        remove_tree(kept)
        os.rename(str(folder), str(kept))
    remove_tree(folder)


def _folder(scratch: Path) -> Path:
    return scratch.with_name(scratch.name + "-artifacts")
