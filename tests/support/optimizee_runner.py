"""Run an optimizee as a site does: its staged code alone, in the interpreter that has its simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from l2l_tasks import settings
from optimizees import CodeBundle, code_bundle, load

SERVE = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
module, name = sys.argv[2].split(":")
made = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[3]))
answers, sys.stdout = sys.stdout, sys.stderr  # simulators print
for line in sys.stdin:
    try:
        reply = {"reply": made.evaluate_json(json.loads(line))}
    except Exception as error:
        reply = {"error": "%s: %s" % (type(error).__name__, error)}
    print(json.dumps(reply), file=answers, flush=True)
"""


def environment_python(name: str) -> str:
    """The interpreter of an environment that the bootstrap made; its absence is a failure, not a skip."""
    variable = f"L2L_{name.upper()}_PYTHON"
    found = Path(os.environ.get(variable) or settings.home() / "envs" / name / "bin" / "python")
    assert found.exists(), f"{found} is missing: run L2L_ENVS={name} infra/bootstrap.sh, or set {variable}"
    return str(found)


def interpreter(reference: str, options: Mapping[str, Any], path: Path | None = None) -> str:
    """The Python that can run an optimizee."""
    environment = load(reference, options, path).environment
    return environment_python(environment) if environment else sys.executable


def unpack(bundle: CodeBundle, folder: Path) -> None:
    """Write a bundle's files as the agent at a site does."""
    for name, content in bundle.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


class Runner:
    """A warm process that evaluates one optimizee, like an evaluator of a worker."""

    def __init__(self, process: subprocess.Popen[str], scratch: Path) -> None:
        self.process = process
        self.scratch = scratch

    def ask(self, params: Mapping[str, Any], seed: int, **task: Any) -> dict[str, Any]:
        """{"reply": what evaluate_json gave} or {"error": text of its exception}."""
        request = {
            "params": params,
            "task": {"split": "train", "index": 0, "seed": 1, **task},
            "seed": seed,
            "scratch": str(self.scratch),
            "deadline": None,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the evaluator ended with status {self.process.wait()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    @classmethod
    @contextmanager
    def start(
        cls,
        reference: str,
        options: Mapping[str, Any],
        folder: Path,
        path: Path | None = None,
        python: str | None = None,
    ) -> Iterator[Self]:
        """Unpack the bundle below `folder` and start the process there."""
        bundle, code, scratch = code_bundle(reference, path), folder / "code", folder / "scratch"
        unpack(bundle, code)
        scratch.mkdir()
        argv = [
            python or interpreter(reference, options, path),
            "-I",
            "-c",
            SERVE,
            str(code),
            bundle.entry,
            json.dumps(dict(options)),
        ]
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=scratch
        )
        try:
            yield cls(process, scratch)
        finally:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait(timeout=60)
            process.stdout.close()  # type: ignore[union-attr]
