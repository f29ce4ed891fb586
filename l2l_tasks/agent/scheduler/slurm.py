"""Workers as the tasks of Slurm job arrays.

Options: `partition`, `account`, `qos`, `nodes`, `tasks`, `cpus` (per task), `gpus`, `memory` ("4G"; per
node), `time` (seconds), `extra` ({"--constraint": "x"}), `setup` (shell lines), `max_array_size` (most
workers in one submission; the default of 1000 is below Slurm's own), `max_submit` (most queued workers).
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from . import slurm_commands as commands
from . import slurm_parsers as parsers
from .base import Answer, Scheduler, SchedulerUnavailable, Submission
from .options import check_keys, positive
from .runner import Ran, run
from .script import script, setup_lines

MAX_ARRAY_SIZE = 1000
QUERY_TIMEOUT = 60.0
"""Seconds. Slurm's programs give up on a dead controller by themselves after 10 to 20 s."""
SUBMIT_TIMEOUT = 120.0
"""Seconds. Longer: an sbatch cut short leaves an uncertain submission behind."""
SIGNAL_MARGIN = 60
"""Seconds before the end of the time at which a worker is warned, when the campaign does not say."""


class SlurmScheduler(Scheduler):
    """Slurm under the contract of Scheduler, through its command line programs."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        check_keys(config, "slurm", frozenset())
        self.config = dict(config)
        self.setup = setup_lines(config)
        self.max_array_size = positive(config, "max_array_size") or MAX_ARRAY_SIZE
        self.max_submit = positive(config, "max_submit")
        commands.header(config, SIGNAL_MARGIN)  # a wrong option is reported now, not at the first submission
        self.user = _user()

    def job_script(self, campaign: Mapping[str, Any], folder: Path) -> str:
        margin = int(campaign.get("margin") or SIGNAL_MARGIN)
        return script(commands.header(self.config, margin), self.setup, campaign, folder)

    def submit(self, job_name: str, n: int, folder: Path) -> Submission:
        """See Scheduler. Where too many jobs are queued, fewer are tried: an array is all or nothing."""
        count = min(n, self.max_array_size)
        while True:
            ran = self._run(commands.submit(job_name, count, folder), SUBMIT_TIMEOUT)
            result = parsers.submission(ran, count)
            if not result.temporary or count == 1:
                return result
            count //= 2

    def workers(self, job_names: Sequence[str]) -> Answer:
        if not job_names:
            return Answer(True)
        ran = self._run(commands.queue(self.user, job_names))
        if not ran.ok:
            return Answer(False, message=ran.complaint)
        try:
            return Answer(True, parsers.queue(ran.out, job_names))
        except parsers.NotUnderstood as error:
            return Answer(False, message="output of squeue not understood: %s" % error)

    def ended(self, job_name: str, ids: Sequence[str]) -> Answer:
        if not ids:
            return Answer(True, {job_name: []})
        ran = self._run(commands.accounting(self.user, job_name, ids))
        if not ran.ok:
            return Answer(False, message=ran.complaint)
        return Answer(True, {job_name: parsers.accounting(ran.out, job_name, ids)})

    def cancel(self, job_name: str) -> bool:
        return self._run(commands.cancel(self.user, job_name)).ok

    def limits(self) -> Dict[str, Any]:
        shown = parsers.config(self._ask(commands.show_config()).out)
        at_site = int(shown.get("MaxArraySize", MAX_ARRAY_SIZE))
        return {
            "kind": "slurm",
            "version": shown.get("SLURM_VERSION"),
            "max_array_size": min(at_site, self.max_array_size),
            "max_submit": self._max_submit(),
            "partitions": parsers.partitions(self._ask(commands.show_partitions()).out),
        }

    def check(self) -> List[str]:
        known = parsers.partitions(self._ask(commands.show_partitions()).out)
        problems = _partition_problems(self.config, known)
        text = "\n".join(["#!/bin/bash", *commands.header(self.config, SIGNAL_MARGIN), "true", ""])
        ran = self._run(commands.test_only(), stdin=text)
        if parsers.is_refusal(ran):
            if not (parsers.is_about_nodes(ran.err) and self._is_a_node_out()):
                problems.append("Slurm would refuse the job: " + ran.complaint)
        elif not ran.ok:
            raise SchedulerUnavailable(ran.complaint)
        return problems

    def _is_a_node_out(self) -> bool:
        """Whether a node takes no jobs for now: Slurm's test then refuses what a submission would queue."""
        return parsers.any_node_out(self._ask(commands.show_node_states(self.config.get("partition"))).out)

    def _max_submit(self) -> Optional[int]:
        """The limit of the configuration or of the accounting, the smaller one; sites may hide theirs."""
        associations = self._run(commands.show_associations(self.user))
        qos = self._run(commands.show_qos(self.config["qos"])) if self.config.get("qos") else Ran(0, "", "")
        shown = [text.out if text.ok else "" for text in (associations, qos)]
        limits = [self.max_submit, parsers.max_submit(shown[0], shown[1], self.config.get("account"))]
        return min((limit for limit in limits if limit is not None), default=None)

    def _ask(self, argv: Sequence[str]) -> Ran:
        ran = self._run(argv)
        if not ran.ok:
            raise SchedulerUnavailable(ran.complaint)
        return ran

    def _run(self, argv: Sequence[str], timeout: float = QUERY_TIMEOUT, stdin: str = "") -> Ran:
        return run(argv, commands.environment(os.environ, self.config), timeout, stdin)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # no entry: Slurm's programs take the number as well
        return str(os.getuid())


def _partition_problems(config: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> List[str]:
    """What Slurm would take and then leave waiting for ever: it does not check these at submission."""
    name = config.get("partition") or next((name for name in known if known[name]["default"]), None)
    if name is None or "," in name:
        return []
    if name not in known:
        return ["partition %s does not exist; there are %s" % (name, ", ".join(sorted(known)))]
    partition, problems = known[name], []
    if not partition["takes_jobs"]:
        problems.append("partition %s takes no jobs at present" % name)
    for key, limit, unit in (("time", "max_time", " s"), ("nodes", "max_nodes", ""), ("nodes", "nodes", "")):
        asked, most = config.get(key), partition[limit]
        if asked and most is not None and asked > most:
            problems.append("%s: %d%s asked, partition %s allows %d%s" % (key, asked, unit, name, most, unit))
    return problems
