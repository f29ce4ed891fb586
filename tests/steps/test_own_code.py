"""A campaign with a user's own code: an installed package, and the git commit that it is of."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from l2l_tasks import runner, steps, work_tree
from l2l_tasks.context import Context
from l2l_tasks.errors import SpecError
from l2l_tasks.tracking import records
from tests.steps.conftest import campaign_spec, row_of
from tests.support.local_site import LocalSite

MODULE = """
from optimizees.base import Optimizee, Result
from optimizers.space import Float, Space
from ours.helper import SHIFT

class Mine(Optimizee):
    def space(self):
        return Space({"x": Float(0.0, 1.0)})
    def evaluate(self, params, task, rng, context):
        return Result([params["x"] + SHIFT])
"""


def git(folder: Path, *words: str) -> str:
    """Run git without the settings of this account."""
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    argv = ["git", "-C", str(folder), *who, *words]
    done = subprocess.run(argv, env={**os.environ, **settings}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout with a package in `src`."""
    package = tmp_path / "checkout" / "src" / "ours"
    package.mkdir(parents=True)
    for name, text in (("__init__", ""), ("helper", "SHIFT = 2.0\n"), ("mine", MODULE)):
        (package / f"{name}.py").write_text(text)
    (tmp_path / "checkout" / ".gitignore").write_text("ignored/\n")
    git(tmp_path / "checkout", "init", "-q")
    git(tmp_path / "checkout", "add", ".")
    git(tmp_path / "checkout", "commit", "-qm", "first")
    return tmp_path / "checkout"


def test_the_commit_of_a_folder(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes elsewhere in the work tree do not count; a folder that is in no commit has none."""
    head, package = git(repository, "rev-parse", "HEAD"), repository / "src" / "ours"
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    for place in (repository, package, package / "mine.py"):
        assert work_tree.commit(place) == head
    (package / "new.py").write_text("")
    assert work_tree.commit(package) == f"{head}-dirty"
    assert work_tree.commit(repository) == f"{head}-dirty"
    assert work_tree.commit(package / "mine.py") == head
    (package / "mine.py").write_text("changed")
    assert work_tree.commit(package / "mine.py") == f"{head}-dirty"
    (repository / "ignored").mkdir()
    assert work_tree.commit(repository / "ignored") is None
    assert work_tree.commit(repository.parent) is None
    monkeypatch.setenv("PATH", "/nonexistent")
    assert work_tree.commit(package) is None


def test_a_campaign_of_an_installed_package(
    ctx: Context, local_site: LocalSite, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs at the site, names its commit, and keeps its code when the package changes or goes."""
    monkeypatch.syspath_prepend(str(repository / "src"))
    spec = campaign_spec(
        local_site.name,
        optimizee={"class": "ours.mine:Mine"},
        optimizer={"name": "random"},
        budget={"generations": 1},
    )
    campaign = runner.run(ctx, spec, repository)
    row = row_of(ctx, campaign)
    assert (row.status, row.evaluations_ok) == ("finished", 4)
    head = git(repository, "rev-parse", "HEAD")
    assert row.problem["commit"] == head
    assert records.tags(row, {})["l2l.code_commit"] == head

    (repository / "src" / "ours" / "helper.py").write_text("SHIFT = 5.0\n")
    later = steps.begin(ctx, "test:later", spec, repository, "test")
    assert row_of(ctx, later).problem["commit"] == f"{head}-dirty"
    assert row_of(ctx, later).code_hash != row.code_hash

    (repository / "src" / "ours" / "mine.py").unlink()
    steps.change(ctx, later, None, {"parameters.x": {"high": 0.5}}, "me")
    with pytest.raises(SpecError, match=r"cannot import 'ours\.mine'"):
        steps.begin(ctx, "test:gone", spec, repository, "test")


def test_built_ins_have_no_commit(ctx: Context, local_site: LocalSite, base_dir: Path) -> None:
    row = row_of(ctx, steps.begin(ctx, "test:plain", campaign_spec(local_site.name), base_dir, "test"))
    assert row.problem["commit"] is None
    assert "l2l.code_commit" not in records.tags(row, {})
