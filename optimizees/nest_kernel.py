"""The simulator NEST (environments/nest.txt) as every optimizee begins with it."""

from __future__ import annotations

import os
from typing import Any

LARGEST_SEED = 2**32 - 1  # NEST takes 1 … 2**32 - 1


def fresh(**settings: Any) -> Any:
    """NEST, imported quietly, with an empty kernel of these settings (resolution, rng_seed).

    One thread: with more, the spikes depend on the number of threads, and on a shared node they spin.
    """
    os.environ.setdefault("PYNEST_QUIET", "1")
    import nest

    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.set(local_num_threads=1, **settings)
    return nest
