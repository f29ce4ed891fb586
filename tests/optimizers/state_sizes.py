"""Print the size of the state after ten generations, for docs/optimizers.md.

python -m tests.optimizers.state_sizes
"""

from __future__ import annotations

import numpy as np

import optimizers
from tests.optimizers.problems import box, fresh, minimise, sphere

SIZES = ((10, 10), (10, 100), (100, 100), (1000, 100))


def main() -> None:
    print("| optimizer | " + " | ".join(f"D = {d}, batch {n}" for d, n in SIZES) + " |")
    print("|---|" + "---|" * len(SIZES))
    for name in optimizers.names():
        cells = []
        for dimension, batch in SIZES:
            try:
                optimizer = fresh(name, box(dimension))
            except optimizers.OptimizerError:  # too many dimensions for it
                cells.append("–")
                continue
            minimise(optimizer, sphere, 10 * batch, batch)
            if optimizer.stop_reason() is None:
                optimizer.ask(batch)
            cells.append(f"{len(optimizer.state()) / 1000:.0f} kB")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
