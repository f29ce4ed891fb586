"""What each Python environment of the built-in optimizees can do; their packages are pinned in `NAME.txt`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple


@dataclass(frozen=True)
class Environment:
    """How to see whether a Python can run the optimizees that name this environment.

    Attributes:
        check: Python statements that import what the optimizees import and leave `version`, a text;
            ModuleNotFoundError where the simulator is not there, another exception where it does not work.
        least: the oldest version that has what the optimizees use.
    """

    check: str
    least: Tuple[int, ...]


ENVIRONMENTS: Dict[str, Environment] = {
    "": Environment("import numpy; version = numpy.__version__", (1, 17)),
    "arbor": Environment("import numpy, arbor; version = arbor.__version__", (0, 12)),
    # EDEN's program is run, its package is not imported (single_cell/on_eden.py).
    "eden": Environment(
        "import numpy, shutil; from importlib import metadata; version = metadata.version('eden-simulator')\n"
        "if not shutil.which('gcc'): raise OSError('EDEN needs a gcc, and there is none on the PATH')",
        (0, 2, 3),
    ),
    "nest": Environment("import numpy, nest; version = nest.__version__", (3, 10)),
    "neuron": Environment("import numpy, neuron; version = neuron.__version__", (8, 2)),
    "tvb": Environment(
        "import numpy, tvb_data, tvb.simulator.integrators; from importlib import metadata\n"
        "version = metadata.version('tvb-library')",
        (2, 8),
    ),
}
