"""Site profiles: the shipped ones, mistakes with their place, and what a campaign may override."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from l2l_tasks.agent import scheduler
from l2l_tasks.errors import UserError
from l2l_tasks.settings import REPOSITORY
from l2l_tasks.site import profile
from l2l_tasks.site.profile import SiteProfile
from l2l_tasks.spec import ResourcesSpec

SHIPPED = sorted((REPOSITORY / "infra" / "sites").glob("*.yaml"))
SSH = {"transport": "ssh", "connection": "hpc", "scheduler": {"kind": "slurm"}, "work": "~/l2l"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of profiles that is searched first."""
    monkeypatch.setenv("L2L_SITES", f"/nonexistent:{tmp_path}")
    monkeypatch.setenv("L2L_HOME", str(tmp_path / "state"))
    return tmp_path


def write(folder: Path, stem: str, /, **values: object) -> Path:
    path = folder / f"{stem}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_only_what_can_be_used_is_offered(folder: Path) -> None:
    """Templates must not appear in a trigger form, nor make `l2l doctor` fail."""
    write(folder, "mine", **SSH)
    assert profile.names() == ["local", "mine", "slurm-lab"]
    for name in profile.names():
        assert profile.load(name).name == name


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_filled_in_template_is_a_valid_profile(path: Path, folder: Path) -> None:
    """Every shipped file has only fields that there are, also those that are marked FILL IN."""
    text = path.read_text()
    if "template: true" in text:
        with pytest.raises(UserError, match="is a template: copy it"):
            profile.read(path)
    filled = text.replace("template: true", "").replace("work: FILL_IN", "work: /scratch/me/l2l")
    (folder / path.name).write_text(filled)
    assert profile.load(path.stem).transport in ("local", "ssh")


def test_unknown_name_lists_the_known_ones_and_the_places(folder: Path) -> None:
    with pytest.raises(UserError, match=rf"no site profile 'jewels': known are local, .*{folder}"):
        profile.load("jewels")


def test_every_mistake_is_listed_with_file_and_field(folder: Path) -> None:
    scheduler_part = {"kind": "pbs", "partitoin": "x"}
    path = write(folder, "bad", **{**SSH, "scheduler": scheduler_part, "logins_per_hour": 0, "wrok": 1})
    with pytest.raises(UserError) as caught:
        profile.load("bad")
    lines = str(caught.value).splitlines()
    assert {line.split(": ")[1] for line in lines} == {
        "scheduler.kind", "scheduler.partitoin", "logins_per_hour", "wrok"
    }  # fmt: skip
    assert all(line.startswith(f"{path}: ") for line in lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"connection": None}, "needs the id of an Airflow connection"),
        ({"work": "$SCRATCH/l2l"}, "must be absolute or begin with ~/"),
        ({"work": "l2l"}, "must be absolute or begin with ~/"),
        ({"work": "~/a\nb"}, "must be one line"),
        ({"scheduler": {"kind": "slurm", "max_workers": 3}}, "kind local only"),
        ({"name": "other"}, "must be the name of the file, 'site'"),
    ],
)
def test_what_would_fail_later_is_refused_now(folder: Path, changes: dict[str, object], message: str) -> None:
    write(folder, "site", **{**SSH, **changes})
    with pytest.raises(UserError, match=message):
        profile.load("site")


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "", "just text"])
def test_what_is_no_mapping_is_refused(folder: Path, text: str) -> None:
    (folder / "site.yaml").write_text(text)
    with pytest.raises(UserError, match=r"site\.yaml"):
        profile.load("site")


def test_defaults_of_interpreters_and_of_the_local_work_folder(folder: Path) -> None:
    local, ssh = profile.load("local"), profile.read(write(folder, "site", **SSH))
    assert (local.python, local.agent_python) == (str(folder / "state/envs/nest/bin/python"), sys.executable)
    plain = local.model_dump() | {"python": "", "agent_python": ""}
    assert SiteProfile.model_validate(plain).python == sys.executable
    assert local.work == str(folder / "state" / "site")
    assert (ssh.python, ssh.agent_python, ssh.work) == ("python3", "python3", "~/l2l")


def test_an_optimizee_is_run_in_the_environment_that_it_names(folder: Path) -> None:
    """Listed ones come first, then the folder, then the site's own Python; setup and variables add up."""
    listed = {"python": "~/arbor/bin/python", "setup": ["module load gcc"], "env": {"A": "2", "B": "1"}}
    write(
        folder,
        "mine",
        **{**SSH, "scheduler": {"kind": "slurm", "setup": ["module load Python"]}},
        python="/opt/python",
        env={"A": "1"},
        environments={"arbor": listed},
        environments_folder="~/envs",
    )
    site = profile.load("mine")
    arbor = site.environment("arbor")
    assert arbor.python == "~/arbor/bin/python"
    assert arbor.setup == ["module load Python", "module load gcc"]
    assert arbor.env == {"A": "2", "B": "1"}
    assert site.environment("nest").python == "~/envs/nest/bin/python"
    assert site.environment("").python == "/opt/python"
    write(folder, "plain", **SSH, python="/opt/python")
    assert profile.load("plain").environment("nest").python == "/opt/python"


def test_environments_of_this_machine_are_below_the_state_folder(folder: Path) -> None:
    local = profile.load("local")
    assert local.environment("arbor").python == str(folder / "state/envs/arbor/bin/python")
    assert local.environment("").python == str(folder / "state/envs/nest/bin/python")


def test_campaign_overrides_the_site_and_what_it_leaves_out_stays() -> None:
    site = SiteProfile.model_validate(
        {
            **SSH,
            "name": "site",
            "scheduler": {
                "kind": "slurm", "partition": "batch", "account": "a1", "setup": ["module load x"],
                "extra": {"--constraint": "cpu", "--licenses": "l"}, "max_submit": 50,
            },
        }
    )  # fmt: skip
    asked = ResourcesSpec(cpus=4, account="a2", time=7200, extra={"--constraint": "gpu"})
    config = site.scheduler_config(asked)
    assert config["partition"] == "batch"
    assert config["account"] == "a2"
    assert config["extra"] == {"--constraint": "gpu", "--licenses": "l"}
    assert (config["cpus"], config["time"]) == (4, 7200)
    assert (config["setup"], config["max_submit"]) == (["module load x"], 50)
    assert "qos" not in config
    assert "max_workers" not in config


@pytest.mark.parametrize("name", ["local", "slurm-lab"])
def test_the_agent_accepts_the_scheduler_part(name: str, tmp_path: Path) -> None:
    """Controller and agent are two programs: what one writes, the other must understand."""
    config = profile.load(name).scheduler_config(ResourcesSpec(extra={"--exclusive": None}))
    assert scheduler.make(config, tmp_path) is not None
