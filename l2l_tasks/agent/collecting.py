"""Reading what the workers wrote: complete lines only, from where the caller left off."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping

from .settle import RECONCILE_FILE
from .site_folder import Campaign

SUFFIX = ".ndjson"


def collect(campaign: Campaign, offsets: Mapping[str, int], most: int) -> Dict[str, Any]:
    """New lines of all results files.

    A file of a worker that has ended is moved to results/archive/ once the caller says, by its offset, that
    all of it has arrived.

    Args:
        offsets: bytes of each file that the caller has already.
        most: bytes to return in all (one line at least, however long).

    Returns:
        {"files": [{"file", "offset", "data", "next"}...], "archived": names whose offset is needed no more,
        "more": whether there was too much for one reply}.
    """
    longest = int(campaign.config()["limits"]["line_bytes"]) + 1
    (campaign.results / "archive").mkdir(exist_ok=True)
    found: List[Dict[str, Any]] = []
    archived: List[str] = []
    reply: Dict[str, Any] = {"files": found, "archived": archived, "more": True}
    left = most
    names = sorted(name for name in os.listdir(str(campaign.results)) if name.endswith(SUFFIX))
    for name in names:
        offset = max(0, int(offsets.get(name, 0)))
        # Before reading: a worker that has ended by now writes no more.
        ended = name != RECONCILE_FILE and not (campaign.pool.running / name[: -len(SUFFIX)]).exists()
        if left <= 0:
            return reply
        data, rest = _read(campaign.results / name, offset, left, longest)
        if data:
            # Lines are ASCII; damaged ones must not turn into anything else on the way, so they stay damaged.
            text = data.decode("ascii", "replace").replace("\ufffd", "?")
            found.append({"file": name, "offset": offset, "data": text, "next": offset + len(data)})
            left -= len(data)
        elif offset and ended:
            with contextlib.suppress(FileNotFoundError):
                os.rename(str(campaign.results / name), str(campaign.results / "archive" / name))
            archived.append(name)
        if rest:
            return reply
    # A reply that got lost may have archived files: what is not there any more needs no offset either.
    archived.extend(sorted(set(offsets) - set(names)))
    return {**reply, "more": False}


def _read(path: Path, offset: int, most: int, longest: int) -> Any:
    """Complete lines from `offset`, and whether complete lines may be left behind them."""
    with open(path, "rb") as stream:
        stream.seek(offset)
        data = stream.read(max(most, longest))
        more = bool(stream.read(1))
    used = data.rfind(b"\n", 0, most) + 1 or data.find(b"\n") + 1
    if not used and len(data) >= longest:
        used = len(data)  # no line of ours is that long: hand it over to be refused, or nobody gets past it
    return data[:used], used > 0 and (more or data.find(b"\n", used) >= 0)
