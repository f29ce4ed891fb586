"""Site profiles: what one supercomputer needs to be told apart from the campaign (YAML in infra/sites)."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from l2l_tasks import settings
from l2l_tasks.errors import UserError

SUFFIX = ".yaml"


class SchedulerProfile(BaseModel):
    """How workers are started at the site. What a campaign asks for under `resources` comes on top.

    Attributes:
        kind: "slurm", or "local" for processes on the login host itself.
        partition, account, qos: defaults of the site; a campaign may name others.
        extra: further sbatch options, `{"--constraint": "gpu"}`.
        setup: shell lines at the start of every worker job (`module load ...`), run by bash.
        max_array_size: highest array index + 1; asked of the site when not given.
        max_submit: most array tasks of one user in the queue; asked of the site when not given.
        max_workers: most worker processes at once (kind "local" only).
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["slurm", "local"]
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    extra: dict[str, str | None] = Field(default_factory=dict)
    setup: list[str] = Field(default_factory=list)
    max_array_size: int | None = Field(default=None, ge=1)
    max_submit: int | None = Field(default=None, ge=1)
    max_workers: int | None = Field(default=None, ge=1)


class Environment(BaseModel):
    """What an optimizee that names this environment is run with.

    Attributes:
        python: interpreter that has its simulator; local only: a relative path is below the state folder.
        setup: shell lines at the start of its worker jobs, after those of the scheduler (`module load ...`).
        env: environment variables of its workers, besides those of the site.
    """

    model_config = ConfigDict(extra="forbid")

    python: str = Field(min_length=1)
    setup: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)


class SiteProfile(BaseModel):
    """One site.

    Attributes:
        transport: "ssh", or "local" for this machine.
        connection: Airflow connection id (ssh): host, account, key, host key.
        python: interpreter that runs the optimizee on the compute nodes. Default: the controller's own
            (local), `agent_python` (ssh). Local only: a relative path is below the state folder.
        environments: those of optimizees that name one, by its name.
        environments_folder: where the others are: NAME/bin/python in it. None: they are run with `python`.
            Local only: a relative path is below the state folder.
        agent_python: interpreter of the agent on the login node, Python 3.8 or later, nothing installed.
            Default: the controller's own (local), `python3` (ssh).
        work: folder at the site, on a file system that the compute nodes share: absolute or below `~/`.
            Local only: a relative path is below the state folder ($L2L_HOME).
        poll_interval: seconds between two looks at the scheduler.
        logins_per_hour: SSH logins that this machine may spend in any hour, failed ones included.
        env: environment variables of the workers.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    description: str = ""
    transport: Literal["ssh", "local"]
    connection: str | None = None
    scheduler: SchedulerProfile
    python: str = ""
    environments: dict[str, Environment] = Field(default_factory=dict)
    environments_folder: str | None = None
    agent_python: str = ""
    work: str = Field(min_length=1)
    poll_interval: float = Field(default=30.0, gt=0, le=3600)
    logins_per_hour: int = Field(default=12, ge=1)
    env: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> SiteProfile:
        if self.transport == "ssh" and not self.connection:
            raise ValueError("connection: an ssh site needs the id of an Airflow connection")
        if any("\n" in path for path in (self.work, self.python, self.agent_python)):
            raise ValueError("work, python, agent_python: a path must be one line")
        if self.scheduler.kind == "slurm" and self.scheduler.max_workers:
            raise ValueError("scheduler.max_workers: for kind local only; Slurm's own is max_submit")
        local = self.transport == "local"
        if not local and not self.work.startswith(("/", "~/")):
            raise ValueError(
                f"work: {self.work!r} must be absolute or begin with ~/ (variables such as $SCRATCH are not "
                "set in non-interactive sessions: write the path that they stand for)"
            )
        self.agent_python = self.agent_python or (sys.executable if local else "python3")
        self.python = self.python or self.agent_python
        if not self.work.startswith(("/", "~/")):
            self.work = str((settings.home() / self.work).absolute())
        if local:
            self.python = _below_home(self.python)
            for environment in self.environments.values():
                environment.python = _below_home(environment.python)
            if self.environments_folder is not None:
                self.environments_folder = str((settings.home() / self.environments_folder).absolute())
        return self

    def environment(self, name: str) -> Environment:
        """What to run an optimizee with that needs the environment `name` ("": any Python with NumPy)."""
        python = self.python
        if name and self.environments_folder is not None:
            python = f"{self.environments_folder}/{name}/bin/python"
        found = self.environments.get(name) or Environment(python=python)
        setup = [*self.scheduler.setup, *found.setup]
        return Environment(python=found.python, setup=setup, env={**self.env, **found.env})

    def scheduler_config(self, resources: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
        """The "scheduler" part of campaign.json: the site's values, overridden by what a campaign asks for.

        Args:
            resources: nodes, tasks, cpus, gpus, memory, time, partition, account, qos, extra; None or a
                missing key leaves the site's value.
        """
        asked = resources.model_dump() if isinstance(resources, BaseModel) else dict(resources)
        config = {k: v for k, v in self.scheduler.model_dump().items() if v is not None}
        extra = {**config.pop("extra", {}), **(asked.pop("extra", None) or {})}
        config.update({key: value for key, value in asked.items() if value is not None})
        config["extra"] = extra
        return config


def _below_home(python: str) -> str:
    """An interpreter of this machine: a relative path is below the state folder, a name is one of PATH."""
    if "/" not in python or python.startswith(("/", "~/")):
        return python
    return str((settings.home() / python).absolute())


def folders() -> list[Path]:
    """Where profiles are searched: the folders of `L2L_SITES` (colon between), then infra/sites."""
    listed = [Path(p).expanduser() for p in (settings.value("L2L_SITES") or "").split(":") if p]
    return [*listed, settings.REPOSITORY / "infra" / "sites"]


def names() -> list[str]:
    """Every profile that can be used (templates cannot), sorted."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in folder.glob("*" + SUFFIX):
            found.setdefault(path.stem, path)
    return sorted(name for name, path in found.items() if not _is_template(path))


def load(name: str) -> SiteProfile:
    """The profile `name`; the first folder that has it wins.

    Raises:
        UserError: there is none of that name, or it has mistakes (all of them are listed).
    """
    for folder in folders():
        path = folder / (name + SUFFIX)
        if path.is_file():
            return read(path)
    raise UserError(
        f"there is no site profile {name!r}: known are {', '.join(names()) or 'none'}; "
        f"searched in {', '.join(map(str, folders()))}"
    )


def _is_template(path: Path) -> bool:
    return re.search(r"(?m)^template:\s*true\b", path.read_text(errors="replace")) is not None


def read(path: Path) -> SiteProfile:
    """Read one profile.

    Raises:
        UserError: it is a template, or it has mistakes; one line each, `file: field: what is wrong`.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: a mapping was expected (name, transport, scheduler, work ...)")
    if data.pop("template", False):
        raise UserError(
            f"{path} is a template: copy it to a folder named in L2L_SITES, fill in what it marks, and "
            "remove its line `template: true` (docs/sites.md)"
        )
    data.setdefault("name", path.stem)
    if data["name"] != path.stem:
        raise UserError(f"{path}: name: {data['name']!r} must be the name of the file, {path.stem!r}")
    try:
        return SiteProfile.model_validate(data)
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, e['loc'])) or 'profile'}: {e['msg']}" for e in error.errors()]
        raise UserError("\n".join(lines)) from error
