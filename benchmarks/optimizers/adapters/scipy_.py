"""SciPy's differential evolution and dual annealing: functions that call the loss, so they run in a thread.

Without local search (`polish`), as the other libraries; when converged, they begin anew with another seed.
Failures are told as infinity.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.optimize import differential_evolution, dual_annealing

from benchmarks.optimizers.adapters import Adapter, Task, UnsupportedError
from optimizers.individuals import FloatArray

Loss = Callable[[FloatArray], Any]
Minimiser = Callable[[Loss, int], None]


class _EndError(Exception):
    """The run is over."""


class Threaded(Adapter):
    """A minimiser that is called with a loss function and a seed, again and again."""

    def __init__(self, task: Task, minimise: Minimiser) -> None:
        self.batch = task.batch or 1
        self._points: queue.Queue[FloatArray | Exception] = queue.Queue(1)
        self._losses: queue.Queue[FloatArray | None] = queue.Queue(1)
        self._thread = threading.Thread(target=self._run, args=(minimise, task.seed), daemon=True)
        self._thread.start()

    def _run(self, minimise: Minimiser, seed: int) -> None:
        try:
            while True:
                minimise(self._loss, seed)
                seed += 1
        except _EndError:
            pass
        except Exception as error:
            self._points.put(error)

    def _loss(self, x: FloatArray) -> Any:
        """The loss of one point (D,), or, vectorised, of points (D, n)."""
        self._points.put(np.array(x.T).reshape(-1, x.shape[0]))
        losses = self._losses.get()
        if losses is None:
            raise _EndError
        return float(losses[0]) if x.ndim == 1 else losses

    def ask(self, n: int) -> FloatArray:  # noqa: ARG002
        points = self._points.get()
        if isinstance(points, Exception):
            raise points
        return points

    def tell(self, points: FloatArray, losses: FloatArray) -> None:  # noqa: ARG002
        self._losses.put(losses[:, 0])

    def close(self) -> None:
        """Wakes the thread wherever it waits, and waits for its end."""
        while self._thread.is_alive():
            try:
                self._points.get_nowait()
            except queue.Empty:
                pass
            else:
                self._losses.put(None)
            with contextlib.suppress(queue.Full):
                self._losses.put_nowait(None)
            self._thread.join(0.01)


def make(name: str, task: Task, options: Mapping[str, Any]) -> Adapter:
    bounds = [(task.low, task.high)] * task.dimension
    if name == "dual-annealing":
        if task.batch:
            raise UnsupportedError("dual annealing evaluates one point at a time")

        def anneal(loss: Loss, seed: int) -> None:
            x0 = task.start if seed == task.seed else None
            dual_annealing(loss, bounds, rng=seed, x0=x0, maxfun=10**9, **options)

        return Threaded(task, anneal)

    def evolve(loss: Loss, seed: int) -> None:
        given: dict[str, Any] = {"polish": False, "maxiter": 10**9, **options}
        if task.batch:
            chance = np.random.default_rng(seed)
            init = chance.uniform(task.low, task.high, (task.batch, task.dimension))
            given |= {"init": init, "vectorized": True, "updating": "deferred"}
        differential_evolution(loss, bounds, rng=seed, **given)

    return Threaded(task, evolve)
