"""infra/bootstrap.sh in small clones with one tiny requirement: real environments, made in seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from l2l_tasks.settings import REPOSITORY

PROJECT = """
[project]
name = "tiny"
version = "1"
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[tool.setuptools]
py-modules = []
"""


class Clone:
    """A folder with the script and what it reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "infra").mkdir(parents=True)
        shutil.copy(REPOSITORY / "infra/bootstrap.sh", folder / "infra")
        (folder / "pyproject.toml").write_text(PROJECT)
        (folder / "requirements.txt").write_text("iniconfig==2.1.0\n")
        (folder / "requirements-dev.txt").write_text("iniconfig==2.1.0\npluggy==1.6.0\n")
        (folder / "optimizees/environments").mkdir(parents=True)
        (folder / "optimizees/environments/nest.txt").write_text("iniconfig==2.1.0\n")

    @property
    def venv(self) -> Path:
        return self.folder / ".l2l/venv"

    def run(self, profile: str = "run", **environment: str) -> str:
        """What the script says; AssertionError when it fails."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("L2L_")}
        done = subprocess.run(
            [self.folder / "infra/bootstrap.sh", profile],
            env={**inherited, "L2L_ENVS": "", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def has(self, module: str, environment: str = "venv") -> bool:
        python = self.folder / ".l2l" / environment / "bin/python"
        done = subprocess.run([python, "-c", f"import {module}"], check=False, capture_output=True)
        return done.returncode == 0


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    made = Clone(tmp_path / "clone")
    yield made
    state = made.folder / ".l2l"
    if state.is_symlink():
        shutil.rmtree(state.resolve(), ignore_errors=True)


def test_again_does_nothing_and_a_change_is_followed(clone: Clone) -> None:
    """The second run touches nothing; a changed list of requirements and a broken environment are mended."""
    assert "installing" in clone.run()
    assert clone.has("iniconfig")
    made = clone.venv.stat().st_mtime_ns
    assert clone.run() == ""
    assert clone.venv.stat().st_mtime_ns == made
    with (clone.folder / "requirements.txt").open("a") as file:
        file.write("pluggy==1.6.0\n")
    assert "installing" in clone.run()
    assert clone.has("pluggy")
    (clone.venv / "bin/python").unlink()
    assert "installing" in clone.run()
    assert clone.has("iniconfig")


def test_dev_holds_run(clone: Clone) -> None:
    """After `make test`, `make up` finds everything it needs and does not install anew."""
    clone.run("dev")
    assert clone.has("pluggy")
    assert clone.run("run") == ""
    assert clone.run("dev") == ""


def test_simulators_get_their_own_environment(clone: Clone) -> None:
    clone.run(L2L_ENVS="nest")
    assert clone.has("iniconfig", "envs/nest")
    assert clone.run(L2L_ENVS="nest") == ""


def test_without_uv_in_the_path(clone: Clone, tmp_path: Path) -> None:
    """A bare machine has no uv: it is fetched into the state folder."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for folder in ("/usr/bin", "/bin"):
        for program in Path(folder).iterdir():
            if program.name != "uv" and not (tools / program.name).exists():
                (tools / program.name).symlink_to(program)
    clone.run(PATH=str(tools))
    assert (clone.folder / ".l2l/tools/bin/uv").exists()
    assert clone.has("iniconfig")


@pytest.mark.skipif(os.getuid() != 0, reason="only root keeps state elsewhere")
def test_root_keeps_state_where_other_accounts_reach_it(clone: Clone) -> None:
    """Below a closed folder (/root), PostgreSQL's account could not reach its data."""
    clone.folder.chmod(0o700)
    clone.run()
    state = clone.folder / ".l2l"
    assert state.is_symlink()
    for folder in (state.resolve(), *state.resolve().parents):
        assert folder.stat().st_mode & 0o001, f"{folder} cannot be entered"
    assert clone.run() == ""


def test_refuses_an_unknown_profile(clone: Clone) -> None:
    with pytest.raises(AssertionError, match="unknown profile 'tests'"):
        clone.run("tests")


def test_says_which_python_is_needed(clone: Clone) -> None:
    with pytest.raises(AssertionError, match=r"no Python 3\.11"):
        clone.run(L2L_PYTHON="/bin/false")
