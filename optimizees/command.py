"""Any program in any language as an inner loop: parameters and result are JSON files.

The contract for the program's author is docs/use-cases/command.md.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from optimizees import declared
from optimizees.base import (
    Context,
    Infeasible,
    Optimizee,
    OptimizeeError,
    OptionsError,
    Result,
    SingleTask,
    TaskFamily,
)
from optimizees.program import Ended, run
from optimizers.space import Space

INFEASIBLE = os.EX_DATAERR  # 65
RETRY = os.EX_TEMPFAIL  # 75
MAX_RESULT_BYTES = 2**20
LINES, TEXT_CHARS = 10, 1500  # of the program's output in a failure
REASON_CHARS = 500
LAUNCHERS = ("srun: ", "slurmstepd: ")  # how lines begin that Slurm adds when a program fails
SHOWN_CHARS = 80

PLACEHOLDER = re.compile(r"\{(params|task|result|seed|scratch|checkpoint|inherited|artifacts)\}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OWN_VARIABLES = "L2L_"
DEADLINE = "L2L_DEADLINE"


class ListedTasks(TaskFamily):
    """The tasks of two lists, in their order."""

    def __init__(self, train: Sequence[Dict[str, Any]], test: Sequence[Dict[str, Any]]) -> None:
        self.size, self.test_size = len(train), len(test)
        self._tasks = {"train": train, "test": test}

    def task(self, split: str, index: int, seed: int) -> Dict[str, Any]:  # noqa: ARG002
        listed = self._tasks[split]
        if not listed:
            raise OptimizeeError("option 'test_tasks' lists none: there is no held-out task")
        return dict(listed[index % len(listed)])


class Command(Optimizee):
    """A program that reads its parameters from params.json and writes its fitness to result.json.

    It is started without a shell, in the evaluation's scratch folder. Words of `command` and `launch` may
    hold {params}, {task}, {result} (paths of the three files), {scratch}, {artifacts}, {checkpoint},
    {inherited} (folders; the last is empty when there is none) and {seed}. Exit status 0: result.json counts;
    65: infeasible, for the reason in the last line printed; 75: failed for a passing reason; else failed.

    Options:
        command: the program (absolute path at the site, or a name on PATH) and its arguments.
        parameters: the search space: by name {type: float, low: 0, high: 1} or the like (optimizers.space).
        objectives: list of {name, direction}.
        tasks: list of tasks, each a mapping; none: one task without content.
        test_tasks: held-out tasks, for `tasks.test` of a campaign.
        environment: the site's environment that the program needs; "": none.
        launch: words put before the command, as [srun, -n, "4"].
        environ: more environment variables; they are stored with the campaign, so never secrets.
    """

    summary = "any program in any language: parameters and fitness in JSON files"

    def __init__(
        self,
        command: Sequence[str] = (),
        parameters: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
        objectives: Sequence[Mapping[str, str]] = ({"name": "loss", "direction": "minimize"},),
        tasks: Sequence[Mapping[str, Any]] = (),
        test_tasks: Sequence[Mapping[str, Any]] = (),
        environment: str = "",
        launch: Sequence[str] = (),
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.argv = _checked_words("launch", launch) + _checked_words("command", command)
        self._space = declared.space(parameters)
        self.objectives = declared.objectives(objectives)
        self._family = _checked_family(tasks, test_tasks)
        self.environment = declared.environment(environment)
        self.environ = _checked_environ(environ)
        if not command or not parameters:  # last, so that of several mistakes each is told
            raise OptionsError("the options 'command' and 'parameters' are needed")

    def space(self) -> Space:
        return self._space

    def family(self) -> TaskFamily:
        return self._family

    def evaluate(
        self,
        params: Dict[str, Any],
        task: Dict[str, Any],
        rng: np.random.Generator,  # noqa: ARG002
        context: Context,
    ) -> Result:
        files = {name: context.scratch / f"{name}.json" for name in ("params", "task", "result")}
        files["params"].write_text(json.dumps(params))
        files["task"].write_text(json.dumps(task))
        if files["result"].exists():
            files["result"].unlink()
        values = {name: str(path) for name, path in files.items()}
        values["seed"], values["scratch"] = str(context.seed), str(context.scratch)
        values["checkpoint"], values["artifacts"] = str(context.checkpoint), str(context.artifacts)
        values["inherited"] = "" if context.inherited is None else str(context.inherited)
        argv = [PLACEHOLDER.sub(lambda found: values[found.group(1)], word) for word in self.argv]
        ended = run(argv, context.scratch, self._variables(context))
        _check_end(ended)
        return read_result(files["result"], len(self.objectives))

    def _variables(self, context: Context) -> Dict[str, str]:
        variables = {**os.environ, **self.environ}
        variables.pop(DEADLINE, None)
        if context.deadline is not None:
            variables[DEADLINE] = str(math.floor(context.deadline))  # whole: shells calculate with it
        return variables


def _check_end(ended: Ended) -> None:
    """Raise unless the program ended well."""
    if ended.status == INFEASIBLE:
        own = [line for line in ended.lines() if not line.startswith(LAUNCHERS)]
        silent = f"the program {ended.described()} without a word"
        raise Infeasible(own[-1][-REASON_CHARS:] if own else silent)
    if ended.status:
        passing = " (a passing failure)" if ended.status == RETRY else ""
        said = "\n".join(ended.lines()[-LINES:])[-TEXT_CHARS:]
        raise RuntimeError(f"the program {ended.described()}{passing}: {said or 'it printed nothing'}")


def read_result(path: Path, objectives: int) -> Result:
    """The result that a program wrote; ValueError says what is wrong with the file."""
    if not path.is_file():
        raise ValueError("the program ended with exit status 0, but did not write result.json")
    with path.open("rb") as stream:
        data = stream.read(MAX_RESULT_BYTES + 1)
    if len(data) > MAX_RESULT_BYTES:
        raise ValueError(f"result.json is larger than {MAX_RESULT_BYTES} bytes")
    try:
        found = json.loads(data.decode("utf-8"), parse_int=float)  # whole numbers may be endless
    except RecursionError:
        raise ValueError("result.json is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"result.json is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"result.json must hold an object such as {{'fitness': 0.5}}, got {_shown(found)}")
    strangers = sorted(set(found) - {"fitness", "metrics", "curve"})
    if strangers:
        raise ValueError(f"result.json may hold fitness, metrics and curve, not {_shown(strangers)}")
    metrics = found.get("metrics", {})
    if not isinstance(metrics, dict):
        raise ValueError(f"metrics in result.json must be an object of numbers, got {_shown(metrics)}")
    for name, value in metrics.items():
        _check_numbers(f"metrics[{_shown(name)}]", value if isinstance(value, list) else [value])
    curve = found.get("curve", [])
    _check_numbers("curve", curve)
    return Result(_fitness(found, objectives), metrics, curve)


def _fitness(found: Mapping[str, Any], objectives: int) -> List[float]:
    if "fitness" not in found:
        raise ValueError("result.json holds no fitness")
    fitness = found["fitness"] if isinstance(found["fitness"], list) else [found["fitness"]]
    _check_numbers("fitness", fitness)
    if len(fitness) != objectives:
        raise ValueError(f"fitness in result.json must be {objectives} number(s), got {len(fitness)}")
    if not all(map(math.isfinite, fitness)):
        raise ValueError(
            f"fitness in result.json must be finite, got {_shown(fitness)} (for parameters that cannot be "
            f"simulated, end with exit status {INFEASIBLE})"
        )
    return fitness


def _check_numbers(name: str, values: object) -> None:
    """Infinite ones may be among metrics and in the curve, where they are left out."""
    if not isinstance(values, list):
        raise ValueError(f"{name} in result.json must be a list of numbers, got {_shown(values)}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{name} in result.json must be a number or several, got {_shown(value)}")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except RecursionError:
        return "something nested too deep"
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "..."


def _checked_words(name: str, words: object) -> Tuple[str, ...]:
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise OptionsError(
            f"option {name!r} must be a list of words, numbers in quotation marks, as there is no shell: "
            f'[echo, "1"]; got {words!r}'
        )
    if words and not words[0]:
        raise OptionsError(f"option {name!r} must begin with a program, got {words!r}")
    if words and "/" in words[0] and not words[0].startswith(("/", "{")):
        raise OptionsError(
            f"option {name!r}: {words[0]!r} must be an absolute path at the site or the name of a program on "
            "PATH: files beside the campaign file are not brought there"
        )
    return tuple(words)


def _checked_family(train: object, test: object) -> TaskFamily:
    made: List[Dict[str, Any]] = []
    for name, tasks in (("tasks", train), ("test_tasks", test)):
        if not isinstance(tasks, (list, tuple)) or not all(isinstance(task, Mapping) for task in tasks):
            raise OptionsError(f"option {name!r} must be a list of mappings, got {tasks!r}")
        for task in tasks:
            if task in made:
                raise OptionsError(f"option {name!r}: {task!r} is listed twice (in tasks and test_tasks)")
            made.append(dict(task))
    number = len(train)  # type: ignore[arg-type]
    if made and not number:
        raise OptionsError("option 'test_tasks' needs tasks to learn from too: list them as 'tasks'")
    return ListedTasks(made[:number], made[number:]) if made else SingleTask()


def _checked_environ(environ: object) -> Dict[str, str]:
    if not isinstance(environ, Mapping):
        raise OptionsError(f"option 'environ' must be a mapping of variables, got {environ!r}")
    for name, value in environ.items():
        if not isinstance(name, str) or not VARIABLE.fullmatch(name) or not isinstance(value, str):
            raise OptionsError(
                f"option 'environ': names of variables and texts (numbers in quotation marks) are needed, "
                f"got {name!r}: {value!r}"
            )
        if name.startswith(OWN_VARIABLES):
            raise OptionsError(f"option 'environ': names with {OWN_VARIABLES} are not yours: {name}")
    return dict(environ)
