"""Continue every saved optimizer in a folder to the end of the fixed history; run in a new process.

    python -m tests.optimizers.continue_run FOLDER

FOLDER holds `<name>.<step>.npz` and `<name>.<step>.json` (the suggestions in flight). Prints one JSON
object: file stem to the digest of what followed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from optimizers.base import Suggestion
from tests.optimizers.problems import digest, fresh, history


def main(folder: Path) -> None:
    digests = {}
    for path in sorted(folder.glob("*.npz")):
        name, step = path.stem.split(".")
        like = fresh(name)
        optimizer = type(like).from_state(path.read_bytes(), like.space, like.n_objectives, like.options)
        in_flight = json.loads(path.with_suffix(".json").read_text())
        pending = {i: Suggestion(i, params) for i, params in in_flight}
        digests[path.stem] = digest(list(history(optimizer, int(step), pending)), optimizer)
    print(json.dumps(digests))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
