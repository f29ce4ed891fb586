"""Command lines, #SBATCH lines and environments for Slurm 21.08 and later. Pure: runs nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .base import SchedulerError
from .options import positive

SEPARATOR = "|"
QUEUE_FIELDS = ("ArrayJobID", "ArrayTaskID", "RestartCnt", "State", "Reason", "Name")
ACCOUNTING_FIELDS = ("JobID", "JobName", "State", "ExitCode", "Start")

# What the agent itself decides, or what would put a job where squeue cannot find it.
_RESERVED = frozenset(
    {"--job-name", "--array", "--parsable", "--wrap", "--output", "--error", "--input", "--chdir", "--export"}
    | {"--signal", "--open-mode", "--wait", "--test-only", "--hold", "--clusters"}
)
_OPTION = re.compile(r"--[a-z][a-z0-9-]*\Z")
# Settings of the account's own shell that change what these programs do or show.
_FOREIGN = re.compile(r"(SBATCH|SQUEUE|SACCT|SCANCEL)_|SLURM_BITSTR_LEN|SLURM_TIME_FORMAT")
_DEFAULTS = {"account": "SBATCH_ACCOUNT", "partition": "SBATCH_PARTITION", "qos": "SBATCH_QOS"}


def environment(own: Mapping[str, str], config: Mapping[str, Any]) -> Dict[str, str]:
    """The environment for Slurm's programs: `own` without what would filter or reformat their answers.

    The account's default account, partition and qos stay where the configuration names none.
    """
    kept = {_DEFAULTS[key] for key in _DEFAULTS if not config.get(key)}
    env = {name: value for name, value in own.items() if name in kept or not _FOREIGN.match(name)}
    # 0 = lists of array indices in full (the default cuts them off after 64 characters).
    env.update(SLURM_BITSTR_LEN="0", SLURM_TIME_FORMAT="standard", LC_ALL="C")
    return env


def header(config: Mapping[str, Any], margin: int) -> List[str]:
    """The #SBATCH lines: what the workers need, and a signal `margin` seconds before the time is over.

    --no-requeue: replacing a lost worker is our own business; Slurm's requeue takes minutes, keeps the id and
    can run twice at once. --export=NONE: the environment is that of the site's login, not of this session.
    Raises SchedulerError for options that cannot be honoured.
    """
    lines = [_option("--" + key, config[key]) for key in ("partition", "account", "qos") if config.get(key)]
    for key, option in (("nodes", "--nodes"), ("tasks", "--ntasks"), ("cpus", "--cpus-per-task")):
        if positive(config, key) is not None:
            lines.append(_option(option, config[key]))
    if config.get("gpus"):
        lines.append(_option("--gres", "gpu:%s" % config["gpus"]))
    if config.get("memory"):
        lines.append(_option("--mem", config["memory"]))
    seconds = positive(config, "time")
    if seconds is not None:
        lines.append(_option("--time", clock(seconds)))
    lines.append(_option("--signal", "B:USR1@%d" % max(1, margin)))
    lines += ["--no-requeue", "--open-mode=append", "--export=NONE"]
    return ["#SBATCH " + line for line in lines + _extra(config.get("extra") or {})]


def _extra(extra: Mapping[str, Any]) -> List[str]:
    if not isinstance(extra, Mapping):
        raise SchedulerError("scheduler option extra: expected a mapping, got %r" % (extra,))
    for name in extra:
        if not _OPTION.match(str(name)):
            raise SchedulerError("scheduler option extra: %r is not like --constraint" % name)
        if name in _RESERVED:
            raise SchedulerError("scheduler option extra: %s is set by the agent" % name)
    return [_option(name, value) for name, value in extra.items()]


def _option(name: str, value: Any) -> str:
    """`--name=value`, quoted for an #SBATCH line; the bare option for None and True."""
    if value is None or value is True:
        return name
    text = str(value)
    if not text.isprintable():
        raise SchedulerError("scheduler option %s: control characters in %r" % (name, text))
    if re.search(r"[\s\"'\\#]", text):
        if '"' in text or "\\" in text:
            raise SchedulerError("scheduler option %s: quote or backslash in %r" % (name, text))
        return '%s="%s"' % (name, text)
    return "%s=%s" % (name, text)


def clock(seconds: int) -> str:
    """Seconds as Slurm's `days-hours:minutes:seconds`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return "%d-%02d:%02d:%02d" % (days, hour, minute, second)


def submit(job_name: str, n: int, folder: Path) -> List[str]:
    """sbatch of `folder/job.sh` as an array 0..n-1."""
    escaped = str(folder).replace("%", "%%")
    return [
        "sbatch",
        "--parsable",
        "--job-name=" + job_name,
        "--array=0-%d" % (n - 1),
        "--chdir=" + str(folder),
        "--output=" + escaped + "/logs/slurm-%A_%a.out",
        str(folder / "job.sh"),
    ]


def test_only() -> List[str]:
    """sbatch that only says whether it would take the script on its standard input."""
    return ["sbatch", "--test-only", "--job-name=l2l-check"]


def queue(user: str, job_names: Sequence[str]) -> List[str]:
    """squeue of all jobs of these names, ended ones that it still remembers included.

    No job ids: one that Slurm has forgotten would turn the whole answer into an error.
    """
    fields = ["%s:%s" % (name, SEPARATOR) for name in QUEUE_FIELDS]
    return [
        "squeue",
        "--noheader",
        "--user=" + user,
        "--states=all",
        "--name=" + ",".join(job_names),
        "--Format=" + ",".join(fields),
    ]


def accounting(user: str, job_name: str, ids: Sequence[str]) -> List[str]:
    """sacct of these jobs under this name: by id alone one may find the job of somebody else of years ago."""
    return [
        "sacct",
        "--allocations",
        "--duplicates",
        "--noheader",
        "--parsable2",
        "--user=" + user,
        "--name=" + job_name,
        "--jobs=" + ",".join(ids),
        "--starttime=now-60days",
        "--format=" + ",".join(ACCOUNTING_FIELDS),
    ]


def cancel(user: str, job_name: str) -> List[str]:
    """scancel by name: needs no id, also catches what an uncertain submission left, may be repeated."""
    return ["scancel", "--user=" + user, "--name=" + job_name]


def show_config() -> List[str]:
    return ["scontrol", "show", "config"]


def show_partitions() -> List[str]:
    return ["scontrol", "--oneliner", "show", "partition"]


def show_node_states(partition: Optional[str]) -> List[str]:
    """sinfo of the states of a partition's nodes, or of all nodes."""
    return ["sinfo", "--noheader", "--format=%T", *(["--partition=" + partition] if partition else [])]


def show_associations(user: str) -> List[str]:
    what = ["show", "association", "user=" + user, "format=Account,Partition,MaxSubmitJobs"]
    return ["sacctmgr", "--noheader", "--parsable2", *what]


def show_qos(qos: str) -> List[str]:
    return ["sacctmgr", "--noheader", "--parsable2", "show", "qos", qos, "format=Name,MaxSubmitJobsPerUser"]
