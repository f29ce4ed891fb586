"""An optimizee that does one wrong thing per individual, and nothing wrong in some."""

from __future__ import annotations

import ctypes
import errno
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np

from optimizees.base import Context, Optimizee, Result
from optimizers.space import Categorical, Space

MIB = 2**20
LOOKS_LIKE_A_RESULT = b'{"type":"reply","id":1,"cpu":0}\n{"status":"ok","fitness":[0.0]}'


class Stop(BaseException):
    """What `except Exception` does not catch."""


def resident() -> int:
    """Bytes of memory that this process alone occupies."""
    return 1024 * int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0])


class Wrong(Optimizee):
    """`kind` names one of the methods below, or is a number, which is then the loss."""

    def __init__(self, kinds: list[str], memory: int, disk: int) -> None:
        """`memory`: bytes that a worker has; `disk`: bytes that are surely too much for the disk."""
        self.kinds, self.memory, self.disk = kinds, memory, disk

    def space(self) -> Space:
        return Space({"kind": Categorical(self.kinds)})

    def evaluate(
        self,
        params: dict[str, Any],
        task: dict[str, Any],  # noqa: ARG002
        rng: np.random.Generator,  # noqa: ARG002
        context: Context,
    ) -> Result:
        kind = params["kind"]
        print(f"this is {kind}", flush=True)
        if kind.isdigit():
            own = Path.cwd().samefile(context.scratch) and not list(context.scratch.iterdir())
            (context.artifacts / "figure.svg").write_text(kind)
            return Result([float(kind)], metrics={"own_folder": float(own)})
        return cast(Result, getattr(self, kind)(context))

    # --- these are no failures, and must do no harm to the next evaluation ----------------------------------

    def closes_its_output(self, _context: Context) -> Result:
        sys.stdout.close()
        for descriptor in range(3):
            os.close(descriptor)
        return Result([0.0])

    def goes_elsewhere(self, context: Context) -> Result:
        os.chdir("/")
        context.scratch.rmdir()
        return Result([0.0])

    def leaves_children(self, _context: Context) -> Result:
        subprocess.Popen(["sleep", "1000"])
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
        if os.fork() == 0:
            time.sleep(1)
            raise RuntimeError("the child came back")
        return Result([0.0])

    # --- these are ------------------------------------------------------------------------------------------

    def raises(self, _context: Context) -> None:
        raise ValueError("on purpose")

    def raises_what_nobody_catches(self, _context: Context) -> None:
        raise Stop("at once")

    def raises_a_huge_text(self, _context: Context) -> None:
        raise ValueError("\U0001f9e0" * 10**6)

    def raises_an_odd_text(self, _context: Context) -> None:
        raise ValueError("\ud800\0 is no text")

    def recurses(self, context: Context) -> None:
        self.recurses(context)

    def leaves(self, _context: Context) -> None:
        sys.exit("good-bye")

    def leaves_at_once(self, _context: Context) -> None:
        os._exit(3)

    def segfaults(self, _context: Context) -> None:
        ctypes.string_at(0)

    def kills_itself(self, _context: Context) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hangs(self, _context: Context) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)

    def hangs_with_a_daemon(self, context: Context) -> None:
        self.leaves_children(context)
        raise ValueError("after the children")

    def grows(self, _context: Context) -> None:
        """To just below what the worker has."""
        self.kept = []
        while resident() < 0.96 * self.memory:
            self.kept.append(bytearray(b"x" * MIB))
        time.sleep(1000)

    def grows_for_ever(self, _context: Context) -> None:
        self.kept = []
        while True:
            self.kept.append(bytearray(b"x" * 16 * MIB))

    def prints_garbage(self, _context: Context) -> None:
        for _ in range(20):
            os.write(1, bytes(range(256)) * 400 + LOOKS_LIKE_A_RESULT)
        os.write(1, b"half a line")
        raise ValueError("after the garbage")

    def fills_the_disk(self, context: Context) -> None:
        """Until it is full; a disk that is not made small for the test is taken to be."""
        print("much to say\n" * 1000, flush=True)  # its result needs room as well
        with open(context.scratch / "junk", "wb", buffering=0) as junk:
            for _ in range(self.disk // MIB):
                junk.write(b"x" * MIB)
        raise OSError(errno.ENOSPC, "the disk is larger than expected")

    def returns_a_number(self, _context: Context) -> float:
        return 1.0

    def returns_nan(self, _context: Context) -> Result:
        return Result([math.nan])

    def returns_text(self, _context: Context) -> Result:
        return Result(cast(Any, ["1.0"]))

    def returns_too_many(self, _context: Context) -> Result:
        return Result([1.0, 2.0])
