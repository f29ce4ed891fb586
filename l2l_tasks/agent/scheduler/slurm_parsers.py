"""Reads what Slurm's programs print. Pure; everything that is not understood is said to be so."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from . import base
from .base import Submission, WorkerState
from .runner import Ran
from .slurm_commands import ACCOUNTING_FIELDS, QUEUE_FIELDS, SEPARATOR


class NotUnderstood(ValueError):
    """Output that does not have the expected form."""


# --- states --------------------------------------------------------------------------------------
_NORMAL = {
    "PENDING": base.PENDING,
    "CONFIGURING": base.PENDING,
    "REQUEUED": base.PENDING,
    "REQUEUE_FED": base.PENDING,
    "REQUEUE_HOLD": base.PENDING,
    "RESV_DEL_HOLD": base.PENDING,
    "SPECIAL_EXIT": base.PENDING,
    "RUNNING": base.RUNNING,
    "COMPLETING": base.RUNNING,
    "POWER_UP_NODE": base.RUNNING,
    "RESIZING": base.RUNNING,
    "SIGNALING": base.RUNNING,
    "STAGE_OUT": base.RUNNING,
    "STOPPED": base.RUNNING,
    "SUSPENDED": base.RUNNING,
    "UPDATE_DB": base.RUNNING,
    "COMPLETED": base.COMPLETED,
    "FAILED": base.FAILED,
    "OUT_OF_MEMORY": base.OUT_OF_MEMORY,
    "TIMEOUT": base.TIMEOUT,
    "DEADLINE": base.TIMEOUT,
    "NODE_FAIL": base.NODE_FAIL,
    "BOOT_FAIL": base.NODE_FAIL,
    "PREEMPTED": base.PREEMPTED,
    "CANCELLED": base.CANCELLED,
    "REVOKED": base.CANCELLED,
}
_HELD_STATES = frozenset({"REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
# Reasons of waiting that do not go away by waiting: impossible requests, holds, spent budgets.
_STUCK = re.compile(
    r"Partition(TimeLimit|NodeLimit|Config|Inactive|Down)\Z|DependencyNeverSatisfied|JobHeld|BadConstraints|"
    r"Invalid(Account|QOS)|(Account|QOS|Association)NotAllowed|ReservationDeleted|MaxRequeue|"
    r"JobHoldMaxRequeue|launch_failed|(Assoc|QOS)\w*(PerJob|PerNode|WallDuration|Minutes|MinGRES|MinCpu)|"
    r"QOSUsageThreshold"
)


def normalise(text: str) -> str:
    """One of base.STATES for a state as Slurm writes it (`CANCELLED by 1001`); UNKNOWN for a new word."""
    words = text.split()
    return _NORMAL.get(words[0].rstrip("+").upper(), base.UNKNOWN) if words else base.UNKNOWN


def is_stuck(raw: str, reason: str) -> bool:
    """Whether a job in this state, waiting for this reason, needs a person (or will never start)."""
    word = raw.split()[0] if raw.split() else ""
    if word in _HELD_STATES:
        return True
    return normalise(raw) == base.PENDING and _STUCK.search(reason.replace(" ", "_")) is not None


# --- arrays --------------------------------------------------------------------------------------
_RANGE = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?\Z", re.ASCII)
_LARGEST_INDEX = 4_000_000  # Slurm's own maximum of MaxArraySize is 4000001


def indices(text: str) -> List[int]:
    """Array indices of `7`, `5-20%2`, `[0,3,7-9:2%4]`, in the order given.

    Raises NotUnderstood, also for a list that was cut off (`0,2...`).
    """
    body = text.strip().strip("[]").partition("%")[0]
    found: List[int] = []
    for part in body.split(","):
        match = _RANGE.match(part)
        if match is None:
            raise NotUnderstood("array indices %r" % text)
        first = int(match.group(1))
        last = int(match.group(2) or first)
        step = int(match.group(3) or 1)
        if not first <= last <= _LARGEST_INDEX or step < 1:
            raise NotUnderstood("array indices %r" % text)
        found.extend(range(first, last + 1, step))
    return found


# --- squeue --------------------------------------------------------------------------------------
def queue(text: str, job_names: Iterable[str]) -> Dict[str, List[WorkerState]]:
    """Workers by job name from squeue; an entry for each of `job_names`, jobs of other names are left out.

    Raises NotUnderstood for any line that cannot be read: half an answer would make live workers look dead.
    """
    found: Dict[str, Dict[Tuple[str, int], WorkerState]] = {name: {} for name in job_names}
    # What is left of an ended array comes without index: it must not hide the workers that have one.
    for line in sorted(text.splitlines(), key=_has_no_index):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split(SEPARATOR)]
        if len(fields) != len(QUEUE_FIELDS) + 1 or fields[-1]:
            raise NotUnderstood("squeue line %r" % line)
        job, index_text, restart, raw, reason, name = fields[:-1]
        if name not in found:
            continue
        if not job.isdigit() or not restart.isdigit():
            raise NotUnderstood("squeue line %r" % line)
        for index in [0] if index_text == "N/A" else indices(index_text):
            state = WorkerState(job, index, int(restart), normalise(raw), raw, _reason(reason))
            found[name].setdefault((job, index), replace(state, stuck=is_stuck(raw, reason)))
    return {name: [states[key] for key in sorted(states, key=_job_order)] for name, states in found.items()}


def _has_no_index(line: str) -> bool:
    return line.split(SEPARATOR)[1:2] == ["N/A"]


def _job_order(key: Tuple[str, int]) -> Tuple[int, int]:
    return int(key[0]), key[1]


def _reason(text: str) -> str:
    return "" if text in ("None", "N/A", "(null)") else text


# --- sacct ---------------------------------------------------------------------------------------
_JOB_ID = re.compile(r"(\d+)(?:_(?:(\d+)|\[([^\]]*)\]))?\Z", re.ASCII)


def accounting(text: str, job_name: str, ids: Sequence[str]) -> List[WorkerState]:
    """Ended workers of `job_name` in the jobs `ids`, from sacct with duplicates.

    An attempt that was put back into the queue is over too (PREEMPTED: it was not its fault); attempts of one
    worker are numbered in the order of their start. Unreadable lines are skipped: they only leave a gap.
    """
    rows: List[Tuple[bool, str, str, int, str, str]] = []
    for line in text.splitlines():
        fields = line.split(SEPARATOR)
        match = _JOB_ID.match(fields[0]) if len(fields) == len(ACCOUNTING_FIELDS) else None
        if match is None or fields[1] != job_name or match.group(1) not in ids:
            continue
        many = match.group(3)
        for index in _known_indices(many) if many is not None else [int(match.group(2) or 0)]:
            rows.append((many is not None, fields[4], match.group(1), index, fields[2], fields[3]))
    found: List[WorkerState] = []
    seen: Dict[Tuple[str, int], int] = {}
    for is_range, _, job, index, raw, code in sorted(rows):  # single tasks first, then by start
        if is_range and (job, index) in seen:
            continue
        restart = seen.get((job, index), -1) + 1
        seen[job, index] = restart
        state = base.PREEMPTED if raw.startswith("REQUEUED") else normalise(raw)
        if state in base.ENDED_STATES:
            found.append(WorkerState(job, index, restart, state, "%s %s" % (raw, code)))
    return found


def _known_indices(text: str) -> List[int]:
    """The indices of a list that sacct may have cut off (`0,2,4...`): those that are surely in it."""
    if text.endswith("..."):
        text = text[:-3].rpartition(",")[0]
    try:
        return indices(text)
    except NotUnderstood:
        return []


# --- sbatch --------------------------------------------------------------------------------------
_SUBMITTED = re.compile(r"^(\d+)(?:;\S*)?$", re.MULTILINE | re.ASCII)
# Slurm's own words for "no, and nothing was queued". Anything else may have been queued all the same.
_REFUSALS = re.compile(
    r"Invalid partition name specified|No partition specified or system default partition|"
    r"User's group not permitted to use this partition|Requested nodes not in this partition|"
    r"More processors requested than permitted|Node count specification invalid|"
    r"Requested node configuration is not available|Requested partition configuration not available now|"
    r"Task distribution specification invalid|Task count specification invalid|"
    r"CPU count specification invalid|"
    r"Requested more tasks than available processors|Memory required by task is not available|"
    r"Invalid account or account/partition combination|Job violates accounting/QOS policy|"
    r"Requested time limit is invalid|Invalid time specified|Invalid feature specification|"
    r"Invalid preferred feature specification|Invalid qos specification|Invalid wckey specification|"
    r"Invalid license specification|Invalid generic resource \(gres\) specification|"
    r"Duplicate generic resource \(gres\) specification|Invalid GRES specification|"
    r"Invalid Trackable RESource \(TRES\) specification|Invalid job array specification|"
    r"Requested reservation is invalid|Access denied to requested reservation|"
    r"Required partition not available \(inactive or drain\)|Partition in DOWN state|"
    r"Required node not available \(down, drained or reserved\)|Invalid node name specified|"
    r"Requested account has breached requested QOS usage threshold|Only batch jobs are accepted or processed|"
    r"Access/permission denied|System submissions disabled|Job dependency problem|Invalid --nice value|"
    r"Pathname of a file, directory or other parameter too long|"
    r"unrecognized option|option requires an argument|ambiguous option|"
    r"[Ii]nvalid (?:--)?[a-z-]+ specification|[Ii]nvalid argument|Invalid numeric value|"
    r"This does not look like a batch script|Batch script is empty|DOS line breaks|Unable to open file"
)
_DOUBTFUL = re.compile(
    r"Socket timed out|Unable to contact|Zero Bytes|Connection re|temporarily un|Unexpected message"
)
_TOO_MANY = re.compile(r"\w*(?:MaxSubmit|GrpSubmit)\w*")
_POLICY = "Job violates accounting/QOS policy"
_POLICY_REASON = re.compile(r"\b(?:QOS|Assoc)\w+")


def submission(ran: Ran, n: int) -> Submission:
    """What came of an sbatch of `n` workers. Only an id is success, only a known refusal is a refusal."""
    if ran.status == 0:
        ids = _SUBMITTED.findall(ran.out)
        if ids:
            return Submission(base.SUBMITTED, job=ids[-1], count=n)
        return Submission(base.UNCERTAIN, message="sbatch printed no job id: " + ran.complaint)
    if is_refusal(ran):
        return Submission(base.REJECTED, message=ran.complaint, temporary=is_too_many(ran.err))
    return Submission(base.UNCERTAIN, message=ran.complaint)


def is_refusal(ran: Ran) -> bool:
    """Whether sbatch said for certain that it took nothing."""
    failed = ran.status is not None and ran.status != 0
    return failed and _REFUSALS.search(ran.err) is not None and _DOUBTFUL.search(ran.err) is None


def is_about_nodes(text: str) -> bool:
    """Whether a refusal is about the nodes: that none can ever run the job, or none can just now."""
    return "Requested node configuration is not available" in text


def is_too_many(text: str) -> bool:
    """Whether a refusal is about the number of queued jobs (Slurm may not say which limit it was)."""
    if _TOO_MANY.search(text):
        return True
    return _POLICY in text and not _POLICY_REASON.search(text.replace(_POLICY, ""))


# --- limits --------------------------------------------------------------------------------------
def config(text: str) -> Dict[str, str]:
    """`scontrol show config` as a mapping."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def partitions(text: str) -> Dict[str, Dict[str, Any]]:
    """`scontrol -o show partition`: by name its state and limits (`max_time` in seconds)."""
    found = {}
    for line in text.splitlines():
        fields = dict(part.partition("=")[::2] for part in line.split())
        if "PartitionName" in fields:
            found[fields["PartitionName"]] = {
                # DOWN takes jobs and starts none: maintenance, which is waited for.
                "takes_jobs": fields.get("State") not in ("DRAIN", "INACTIVE"),
                "default": fields.get("Default") == "YES",
                "max_time": duration(fields.get("MaxTime", "")),
                "max_nodes": _number(fields.get("MaxNodes", "")),
                "nodes": _number(fields.get("TotalNodes", "")),
                "cpus": _number(fields.get("TotalCPUs", "")),
            }
    return found


_NODE_OUT = re.compile(r"(?:down|drain|fail|error|inval|unk|reboot)|.*\*")


def any_node_out(text: str) -> bool:
    """Whether one of these node states (`idle`, `down*`, `drained`; `*`: does not respond) takes no jobs."""
    return any(_NODE_OUT.match(line.strip().lower()) for line in text.splitlines())


_DURATION = re.compile(r"(?:(\d+)-)?(\d+):(\d+):(\d+)\Z", re.ASCII)


def duration(text: str) -> Optional[int]:
    """Seconds of `1-02:03:04` or `02:03:04`; None for UNLIMITED and the like."""
    match = _DURATION.match(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _number(text: str) -> Optional[int]:
    return int(text) if re.match(r"\d+\Z", text, re.ASCII) else None


def max_submit(associations: str, qos: str, account: Optional[str]) -> Optional[int]:
    """The smallest limit on queued jobs in the output of sacctmgr; None when there is none."""
    numbers = [_number(line.rpartition(SEPARATOR)[2]) for line in qos.splitlines()]
    for line in associations.splitlines():
        if not account or line.partition(SEPARATOR)[0] == account:
            numbers.append(_number(line.rpartition(SEPARATOR)[2]))
    known = [number for number in numbers if number is not None]
    return min(known) if known else None
