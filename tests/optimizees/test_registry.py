"""Users' own optimizees from a folder, code bundles, and the contract's base class."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optimizees
from optimizees import code_bundle, load
from optimizees.base import (
    Context,
    Infeasible,
    Objective,
    Optimizee,
    OptimizeeError,
    OptionsError,
    Result,
    TaskFamily,
)
from optimizers.space import Float, Space
from tests.support.optimizee_runner import Runner

OWN = """
from optimizees.base import Infeasible, Objective, Optimizee, Result, TaskFamily
from optimizers.space import Float, Space
from helper import OFFSET
from pathlib import Path

class Shifts(TaskFamily):
    def task(self, split, index, seed):
        return {{"shift": index + (1000 if split == "test" else 0)}}

class Mine(Optimizee):
    objectives = (Objective("cost"), Objective("gain", "maximize"))
    def __init__(self, scale: float = 1.0):
        if scale <= 0:
            raise ValueError("scale must be above 0")
        self.scale = scale
    def space(self):
        return Space({{"a": Float(0.0, 1.0)}})
    def family(self):
        return Shifts()
    def evaluate(self, params, task, rng, context):
        if params["a"] > 0.9:
            raise Infeasible("a is too large")
        data = float((Path(__file__).parent / "data" / "table.csv").read_text())
        return Result([{value} + OFFSET + data + task["shift"], self.scale], curve=[3.0, 2.0, 1.0])
"""


def folder(place: Path, value: float = 1.0) -> Path:
    """A user's folder: a module, a helper module and a small data file."""
    (place / "data").mkdir(parents=True)
    (place / "mine.py").write_text(OWN.format(value=value))
    (place / "helper.py").write_text(f"OFFSET = {value} * 10\n")
    (place / "data" / "table.csv").write_text("0.5")
    return place


def test_importing_the_registry_is_cheap() -> None:
    """DAG files and the site's evaluator import it."""
    code = (
        "import optimizees, sys; optimizees.names(); print({'numpy', 'optimizees.base'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_staged_modules_run_on_python_3_8() -> None:
    files = [
        "optimizees/__init__.py",
        "optimizees/base.py",
        "optimizees/functions.py",
        "optimizees/brunel.py",
    ]
    done = subprocess.run(
        [str(Path(sys.executable).with_name("vermin")), "-t=3.8-", "--no-tips", *files],
        capture_output=True,
        text=True,
        cwd=Path(optimizees.__file__).parent.parent,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_own_optimizee_runs_from_its_bundle(tmp_path: Path) -> None:
    """Helpers and data files travel along; objectives, tasks and curves arrive."""
    own = folder(tmp_path / "own")
    optimizee = load("mine:Mine", {"scale": 2.0}, own)
    assert [o.direction for o in optimizee.objectives] == ["minimize", "maximize"]
    with Runner.start("mine:Mine", {"scale": 2.0}, tmp_path, own, sys.executable) as runner:
        reply = runner.ask({"a": 0.5}, 1, split="test", index=1)["reply"]
        assert reply == {"status": "ok", "fitness": [1012.5, 2.0], "metrics": {}, "curve": [3.0, 2.0, 1.0]}
        assert runner.ask({"a": 1.0}, 1)["reply"] == {
            "status": "infeasible",
            "reason": "a is too large",
        }
        assert "KeyError" in runner.ask({}, 1)["error"]


def test_two_folders_may_use_the_same_names(tmp_path: Path) -> None:
    """In one process, as in an Airflow worker: neither sees the other's modules."""
    one, two = folder(tmp_path / "one", 1.0), folder(tmp_path / "two", 2.0)
    path_before = list(sys.path)
    made = [load("mine:Mine", {}, f) for f in (one, two, one)]
    offsets = [type(m).evaluate.__globals__["OFFSET"] for m in made]
    assert offsets == [10.0, 20.0, 10.0]
    assert sys.path == path_before
    assert not {"mine", "helper"} & set(sys.modules)


def test_wrong_folders_and_classes_are_explained(tmp_path: Path) -> None:
    own = folder(tmp_path / "own")
    (own / "broken.py").write_text("import simulator_that_is_not_here\n")
    (own / "other.py").write_text("class NotOne: pass\n")
    (own / "json.py").write_text("from mine import Mine\n")
    (own / "half.py").write_text(
        "from optimizees.base import Optimizee\nclass Half(Optimizee):\n    def space(self): return None\n"
    )
    for reference, path, match in (
        ("mine:Mine", tmp_path / "nowhere", "no such folder"),
        ("missing:Mine", own, "No module named 'missing'"),
        ("broken:Mine", own, "simulator_that_is_not_here.*inside evaluate only"),
        ("mine:Nine", own, "no class 'Nine'"),
        ("other:NotOne", own, "derived from optimizees.base.Optimizee"),
        ("half:Half", own, "lacks: evaluate"),
        ("json:Mine", own, "'json' belongs to another module"),
        ("sfere", None, "did you mean 'sphere'"),
    ):
        with pytest.raises(OptimizeeError, match=match):
            load(reference, {}, path)
    with pytest.raises(OptionsError, match="scale must be above 0"):
        load("mine:Mine", {"scale": -1.0}, own)


def test_bundle_is_named_by_its_content(tmp_path: Path) -> None:
    """Equal files in another place: the same name. Any other byte or name: another."""
    own = folder(tmp_path / "own")
    first = code_bundle("mine:Mine", own)
    again = code_bundle("mine:Mine", folder(tmp_path / "copy"))
    assert first == again
    seen = {first.sha256}
    (own / "helper.py").write_text("OFFSET = 11\n")
    seen.add(code_bundle("mine:Mine", own).sha256)
    (own / "data" / "table.csv").rename(own / "data" / "other.csv")
    seen.add(code_bundle("mine:Mine", own).sha256)
    (own / "data" / "other.csv").unlink()
    seen.add(code_bundle("mine:Mine", own).sha256)
    assert len(seen) == 4


def test_bundle_leaves_out_caches_and_hidden_files(tmp_path: Path) -> None:
    own = folder(tmp_path / "own")
    before = code_bundle("mine:Mine", own)
    for name in ("__pycache__/mine.cpython-311.pyc", ".git/config", ".env", "data/.cache/x"):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text("secret")
    assert code_bundle("mine:Mine", own) == before


def test_bundle_of_a_built_in_holds_only_what_it_needs() -> None:
    assert sorted(code_bundle("brunel").files) == [
        "optimizees/__init__.py",
        "optimizees/base.py",
        "optimizees/brunel.py",
        "optimizees/nest_kernel.py",
        "optimizers/__init__.py",
        "optimizers/space.py",
    ]
    assert code_bundle("sphere").sha256 == code_bundle("ackley").sha256  # one module, staged once


def test_bundle_refuses_what_does_not_belong(tmp_path: Path) -> None:
    own = folder(tmp_path / "own")
    with pytest.raises(OptimizeeError, match=r"no nine\.py"):
        code_bundle("nine:Mine", own)
    (own / "big.dat").write_bytes(bytes(optimizees.MAX_FILE_BYTES + 1))
    with pytest.raises(OptimizeeError, match="put data at the site"):
        code_bundle("mine:Mine", own)
    (own / "big.dat").unlink()
    (own / "optimizers").mkdir()
    (own / "optimizers" / "space.py").write_text("")
    with pytest.raises(OptimizeeError, match="belong to the framework"):
        code_bundle("mine:Mine", own)


def installed(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as pip leaves it, in a folder of the import path; the optimizee is in a module of it."""
    package = folder(place / "ours" / "models")
    for module in ("mine", "helper"):
        file = package / f"{module}.py"
        file.write_text(file.read_text().replace("from helper", "from ours.models.helper"))
    (place / "ours" / "__init__.py").write_text("from ours.models.mine import Mine\n")
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(place))
    return place / "ours"


@pytest.mark.parametrize("reference", ["ours.models.mine:Mine", "ours:Mine"])
def test_an_installed_package_runs_from_its_bundle(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole package travels, with its data, and nothing else of the folder that it is installed in."""
    package = installed(tmp_path / "site-packages", monkeypatch)
    (package.parent / "other.py").write_text("")
    bundle = code_bundle(reference)
    assert bundle.origin == package
    assert {name for name in bundle.files if name not in optimizees.STAGED} == {
        "ours/__init__.py", "ours/models/__init__.py", "ours/models/mine.py", "ours/models/helper.py",
        "ours/models/data/table.csv",
    }  # fmt: skip
    assert load(reference, {"scale": 2.0}).space().names == ("a",)
    assert not [name for name in sys.modules if name.partition(".")[0] == "ours"]
    with Runner.start(reference, {"scale": 2.0}, tmp_path, None, sys.executable) as runner:
        assert runner.ask({"a": 0.5}, 1)["reply"]["fitness"] == [11.5, 2.0]


def test_an_installed_module_without_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OWN.format(value=1.0).replace("from helper import OFFSET", "OFFSET = 10.0")
    (tmp_path / "alone.py").write_text(own)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load("alone:Mine", {}).space().names == ("a",)
    assert code_bundle("alone:Mine").files["alone.py"] == own.encode()


def test_a_package_is_loaded_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that lives for weeks: the next campaign is given the version that was installed meanwhile."""
    package = installed(tmp_path, monkeypatch)
    first = code_bundle("ours:Mine").sha256
    assert load("ours:Mine", {}).objectives[0].name == "cost"
    file = package / "models" / "mine.py"
    file.write_text(file.read_text().replace('"cost"', '"other_cost"'))
    assert load("ours:Mine", {}).objectives[0].name == "other_cost"
    assert code_bundle("ours:Mine").sha256 != first


def test_packages_that_cannot_travel_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = installed(tmp_path, monkeypatch)
    (tmp_path / "spaces").mkdir()
    for reference, match in (
        ("nowhere:Mine", "no package 'nowhere' where l2l runs: install it"),
        ("spaces.mine:Mine", r"without an __init__\.py"),
        ("sys:Mine", "built in"),
        ("optimizees.functions:Sphere", "belongs to the framework"),
        ("numpy:Mine", "compiled parts .*install it in the Python environment at the site"),
    ):
        with pytest.raises(OptimizeeError, match=match):
            code_bundle(reference)
    (package / "data.bin").write_bytes(bytes(optimizees.MAX_FILE_BYTES + 1))
    with pytest.raises(OptimizeeError, match=r"'ours' .*data\.bin: too much .*install it in the Python"):
        code_bundle("ours:Mine")
    (package / "data.bin").unlink()
    (package / "fast.cpython-311-x86_64-linux-gnu.so").write_bytes(b"")
    with pytest.raises(OptimizeeError, match=r"compiled parts \(fast\..*inside evaluate"):
        code_bundle("ours:Mine")


def test_a_class_of_a_folder_may_be_in_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what a campaign with an installed package is checked against later."""
    installed(tmp_path / "own", monkeypatch)
    monkeypatch.undo()
    assert load("ours:Mine", {}, tmp_path / "own").space().names == ("a",)
    assert "ours/__init__.py" in code_bundle("ours:Mine", tmp_path / "own").files


class Named(TaskFamily):
    """Tasks that say how they were drawn."""

    size = 4

    def task(self, split: str, index: int, seed: int) -> dict[str, Any]:
        return {"drawn": [split, index, seed]}


class Scripted(Optimizee):
    """Returns what the test says."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def family(self) -> TaskFamily:
        return Named()

    def space(self) -> Space:
        return Space({"x": Float(0.0, 1.0)})

    def evaluate(
        self, params: dict[str, Any], task: dict[str, Any], rng: np.random.Generator, context: Context
    ) -> Result:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer(params, task, rng, context) if callable(self.answer) else self.answer  # type: ignore[no-any-return]


NAME = {"split": "train", "index": 6, "seed": 9}
REQUEST = {"params": {"x": 0.5}, "task": NAME, "seed": 3, "scratch": "/tmp", "deadline": None}


def test_numpy_values_become_json() -> None:
    fitness: Any = np.array([1.5])
    metrics: Any = {"a": np.float32(0.5), "n": np.int64(3)}
    curve: Any = np.arange(3)
    assert Scripted(Result(fitness, metrics, curve)).evaluate_json(REQUEST) == {
        "status": "ok", "fitness": [1.5], "metrics": {"a": 0.5, "n": 3}, "curve": [0, 1, 2],
    }  # fmt: skip


def test_broken_values_reach_the_worker_unchanged() -> None:
    """It is the worker that refuses them, with its own error kind."""
    reply = Scripted(Result([math.nan, "0.5"])).evaluate_json(REQUEST)  # type: ignore[list-item]
    assert math.isnan(reply["fitness"][0])
    assert reply["fitness"][1] == "0.5"


@pytest.mark.parametrize("answer", [0.5, None, {"fitness": [1.0]}])
def test_anything_but_a_result_is_refused(answer: object) -> None:
    with pytest.raises(OptimizeeError, match="must return a Result"):
        Scripted(answer).evaluate_json(REQUEST)


def test_infeasible_is_an_answer_and_other_errors_are_not() -> None:
    assert Scripted(Infeasible()).evaluate_json(REQUEST)["status"] == "infeasible"
    with pytest.raises(ZeroDivisionError):
        Scripted(ZeroDivisionError()).evaluate_json(REQUEST)


@given(seed=st.integers(0, 2**63))
def test_generator_context_and_task_belong_to_the_request(seed: int) -> None:
    """Guards decision 2: the task is drawn here, by name; a family of four begins again after the fourth."""

    def answer(params: Any, task: Any, rng: np.random.Generator, context: Context) -> Result:
        assert (params, task, context.seed) == ({"x": 0.5}, {"drawn": ["train", 2, 9]}, seed)
        assert context.remaining() == math.inf
        return Result([rng.random()])

    replies = [Scripted(answer).evaluate_json({**REQUEST, "seed": seed}) for _ in range(2)]
    assert replies[0] == replies[1]


def test_objective_direction_is_checked() -> None:
    with pytest.raises(OptimizeeError, match="direction"):
        Objective("loss", "down")
