"""Pythons of a site, tried as workers start them: set-up lines, variables, a limit of time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from l2l_tasks.agent import probing
from tests.agent.lab import Site

PRINT = "import os; print(os.environ['FROM_SETUP'], os.environ['FROM_PROFILE'])"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def environment(check: str, **more: Any) -> dict[str, Any]:
    return {"python": sys.executable, "setup": [], "env": {}, "check": check, **more}


def test_a_python_is_started_after_its_set_up_lines(site: Site) -> None:
    """A line that fails ends nothing, as in a job; what it says is in the output."""
    setup = ["no_such_program", "export FROM_SETUP=1"]
    asked = {
        "a": environment(PRINT, setup=setup, env={"FROM_PROFILE": "$2 '"}),
        "b": environment("open('left here', 'w'); import no_such_module"),
        "c": environment("", python="/no/such/python"),
    }
    found = site.call("probe", write=False, environments=asked)["environments"]
    assert [found[name]["status"] for name in "abc"] == [0, 1, 127]
    assert "no_such_program: command not found" in found["a"]["output"]
    assert found["a"]["output"].endswith("1 $2 '")
    assert found["b"]["output"].endswith("ModuleNotFoundError: No module named 'no_such_module'")
    assert not list(Path.cwd().glob("left here"))


def test_the_workers_python_may_come_from_the_set_up_lines(site: Site, tmp_path: Path) -> None:
    """A module that puts another `python3` first: the login node's own is not the one that is judged."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "our-python").symlink_to(sys.executable)
    local: dict[str, Any] = {"kind": "local", "setup": [f"export PATH={tmp_path}/bin:$PATH"]}
    assert site.call("probe", write=False, python="our-python", scheduler=local)["problems"] == []
    (problem,) = site.call("probe", write=False, python="our-python", scheduler={"kind": "local"})["problems"]
    assert "our-python does not start" in problem


def test_an_import_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With whatever it has started."""
    monkeypatch.setattr(probing, "PYTHON_SECONDS", 2.0)
    note = tmp_path / "pid"
    start = "import subprocess; p = subprocess.Popen(['sleep', '600'])"
    hang = environment(f"{start}; open({str(note)!r}, 'w').write(str(p.pid)); p.wait()")
    found = probing.probe(tmp_path, {"write": False, "environments": {"a": hang}})
    assert found["environments"] == {"a": {"status": None, "output": "it took longer than 2 s"}}
    child = Path(f"/proc/{int(note.read_text())}/stat")
    assert not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z"
