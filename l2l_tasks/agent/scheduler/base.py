"""The contract between the agent and whatever starts its workers (Slurm, or plain local processes).

Standard library only, Python 3.8 and later: this runs on login nodes.

The rule behind every method: a missing answer is not an answer. A scheduler that is down, slow or unclear
yields `Answer(known=False)`, `UNCERTAIN` or `SchedulerUnavailable`; nobody may conclude "no workers" from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

# --- states of a worker (one array task), normalised ----------------------------------------------
PENDING = "PENDING"
RUNNING = "RUNNING"
COMPLETED = "COMPLETED"
FAILED = "FAILED"
OUT_OF_MEMORY = "OUT_OF_MEMORY"
TIMEOUT = "TIMEOUT"
NODE_FAIL = "NODE_FAIL"
PREEMPTED = "PREEMPTED"
CANCELLED = "CANCELLED"
UNKNOWN = "UNKNOWN"

ENDED_STATES = frozenset({COMPLETED, FAILED, OUT_OF_MEMORY, TIMEOUT, NODE_FAIL, PREEMPTED, CANCELLED})
STATES = ENDED_STATES | {PENDING, RUNNING, UNKNOWN}

# --- verdicts of a submission ---------------------------------------------------------------------
SUBMITTED = "SUBMITTED"
REJECTED = "REJECTED"
UNCERTAIN = "UNCERTAIN"


class SchedulerError(Exception):
    """The scheduler's configuration is wrong; a person has to mend it."""


class SchedulerUnavailable(SchedulerError):
    """The scheduler did not answer (or not clearly): ask again later, conclude nothing."""


@dataclass(frozen=True)
class WorkerState:
    """One worker as the scheduler sees it.

    Attributes:
        job: id of the whole submission (of the array, not of its task).
        index: index in the array, from 0.
        restart: how often the scheduler restarted it (0 when it cannot tell).
        state: one of STATES. UNKNOWN is a text nobody has taught us: treat it as alive.
        raw: the scheduler's own word.
        reason: the scheduler's own reason ("" when it gives none).
        stuck: it waits for something that will not come by itself (over a limit, held, impossible request).
    """

    job: str
    index: int
    restart: int
    state: str
    raw: str
    reason: str = ""
    stuck: bool = False

    @property
    def ended(self) -> bool:
        """Whether it is certain that this worker runs no more and will not start."""
        return self.state in ENDED_STATES

    @property
    def live(self) -> bool:
        """Whether this worker runs, or may still start (the opposite of ended)."""
        return not self.ended


@dataclass(frozen=True)
class Answer:
    """What the scheduler says about jobs, by job name. `known=False`: it said nothing, `workers` is empty.

    With `known=True` there is an entry for every name that was asked, empty when there are no such jobs.
    """

    known: bool
    workers: Dict[str, List[WorkerState]] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True)
class Submission:
    """What came of a submission.

    Attributes:
        verdict: SUBMITTED (it is queued), REJECTED (nothing is queued, certainly) or UNCERTAIN (it may be
            queued: wait out a grace and look for the job name before submitting again).
        job: id of the array, when SUBMITTED and something was started.
        count: how many workers were submitted; may be fewer than asked (limits), also 0.
        message: the scheduler's own text ("" when all is well).
        temporary: only with REJECTED: the same request would be accepted later (too many jobs are queued just
            now). Not a mistake of the campaign; ask again at the next look.
    """

    verdict: str
    job: str | None = None
    count: int = 0
    message: str = ""
    temporary: bool = False


class Scheduler(ABC):
    """Starts workers and tells what became of them.

    Every implementation passes tests/scheduler/test_conformance.py.

    * Job names are the identity: unique per campaign, made of `[a-z0-9-]`. Job ids are only labels, because a
      scheduler that lost its memory gives the same id to somebody else.
    * `submit` runs `folder/job.sh` (written by the caller from `job_script`) once per worker.
    * No method raises because the scheduler is down, except where SchedulerUnavailable is named.
    * The caller serialises `submit` and `cancel` of one campaign (a file lock).
    """

    @abstractmethod
    def job_script(self, campaign: Mapping[str, Any], folder: Path) -> str:
        """The text of `job.sh` for a campaign (content of campaign.json) that lives in `folder`.

        `campaign["python"]` runs the agent; `campaign["agent"]` is the path of the agent's program (default:
        the zipapp that this code is running from). Raises SchedulerError for options that cannot be honoured.
        """

    @abstractmethod
    def submit(self, job_name: str, n: int, folder: Path) -> Submission:
        """Start up to `n` (>= 1) workers under `job_name`, each running `folder/job.sh`.

        Fewer are started where the scheduler's limits say so (`Submission.count`); the next look finds the
        rest missing. Logs go to `folder/logs/`, which must exist.
        """

    @abstractmethod
    def workers(self, job_names: Sequence[str]) -> Answer:
        """All workers of these names: those alive and those that ended a short while ago.

        ONE query for all names. An ended worker disappears after a while; absence from a known answer
        therefore says "ended, or forgotten, or not yet visible", and `ended` says more.
        """

    @abstractmethod
    def ended(self, job_name: str, ids: Sequence[str]) -> Answer:
        """How the workers of `job_name` in the jobs `ids` ended, from the long memory (accounting).

        Holds terminal states only; an empty known answer says nothing about a worker (records come late).
        `known=False` also where the site keeps no accounting.
        """

    @abstractmethod
    def cancel(self, job_name: str) -> bool:
        """End all workers of that name. True: the scheduler took the request (also when there were none)."""

    @abstractmethod
    def limits(self) -> Dict[str, Any]:
        """`{"kind", "version", "max_array_size", "max_submit", "partitions": {name: {...}}}`.

        `max_array_size` is the most workers that one submission may have; None where no limit is known.
        Raises SchedulerUnavailable.
        """

    @abstractmethod
    def check(self) -> List[str]:
        """Problems of the configuration at the real scheduler, one clear line each; [] = all is well.

        Submits nothing. Raises SchedulerUnavailable.
        """


def agent_program(campaign: Mapping[str, Any]) -> str:
    """Path of the agent's program: `campaign["agent"]`, else the zipapp that this module was loaded from."""
    named = campaign.get("agent")
    if named:
        return str(named)
    for parent in Path(__file__).absolute().parents:
        if parent.is_file():
            return str(parent)
    raise SchedulerError('the campaign names no "agent" program and this code does not run from a zipapp')


def worker_argv(campaign: Mapping[str, Any], folder: Path) -> Tuple[str, ...]:
    """The command line of one worker of the campaign."""
    return (str(campaign["python"]), agent_program(campaign), "worker", str(folder))
