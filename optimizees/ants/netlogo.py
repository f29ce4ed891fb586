"""The published NetLogo model of the ants, run by an installed NetLogo as an external program.

Contract of that model: it reads `individual_config.csv` beside it (a row of weights, a row of delays) and
writes `individual_result.csv` there, whose last row begins with the fitness.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from optimizees.base import Context, OptionsError, check_path

EXPERIMENT = "experiment1"  # its name in the model's BehaviorSpace
CONFIG, RESULT = "individual_config.csv", "individual_result.csv"
TAIL = 500  # characters of the program's output in an error


@dataclass(frozen=True)
class NetLogo:
    """An installed NetLogo (its headless launcher) and a model, both by absolute path."""

    program: str
    model: str

    @classmethod
    def checked(cls, program: object, model: object) -> Optional[NetLogo]:
        """None when neither is given; OptionsError for what cannot be a path at the site."""
        paths = check_path("netlogo", program), check_path("model", model)
        if bool(program) != bool(model):
            raise OptionsError("options 'netlogo' and 'model' belong together")
        return cls(*paths) if program else None

    def run(self, weights: np.ndarray, delays: np.ndarray, context: Context) -> float:
        """The fitness that the model writes; it draws its own random numbers, the seed has no influence.

        There is no limit of time here: the worker kills all processes of an evaluation at its deadline.
        """
        copy = context.scratch / Path(self.model).name  # the model looks for its files beside itself
        shutil.copyfile(self.model, copy)
        rows = [",".join(map(repr, values.tolist())) for values in (weights, delays)]
        (context.scratch / CONFIG).write_text("\n".join(rows) + "\n")
        result = context.scratch / RESULT
        if result.exists():
            result.unlink()  # the model appends
        command = [self.program, "--model", str(copy), "--experiment", EXPERIMENT, "--threads", "1"]
        done = subprocess.run(
            command,
            cwd=context.scratch,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        said = done.stdout.decode(errors="replace")[-TAIL:]
        written = result.read_text().split() if result.exists() else []
        if done.returncode or not written:
            raise RuntimeError(f"NetLogo ended with status {done.returncode} without a result: {said}")
        return float(written[-1].partition(",")[0])
