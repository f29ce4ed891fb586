"""Which commit of a git repository a user's own code is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SECONDS = 20.0


def commit(place: Path) -> str | None:
    """The commit that is checked out where `place` is, with `-dirty` when `place` differs from it.

    None where `place`, a folder or a file, is not part of a commit, and where git is not there or refuses.
    """
    folder, name = (place, "") if place.is_dir() else (place.parent, place.name)
    found = _git(folder, "rev-parse", "HEAD", f"HEAD:./{name}")
    changes = _git(folder, "status", "--porcelain", "--", name or ".")
    if found is None or changes is None:
        return None
    return found.split()[0] + ("-dirty" if changes else "")


def _git(folder: Path, *words: str) -> str | None:
    """What git prints, without taking its locks; None when it fails."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            env={**ours, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
