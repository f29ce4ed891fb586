"""What one generation is made of: submit, wait, collect, update, log.

Each step is a plain function of (context, campaign, generation) and idempotent: run it twice, run it
concurrently or kill it between any two lines, and the same rows result. The Airflow operators and
`l2l run` are thin shells round these functions.
"""

from l2l_tasks.planning import Decision
from l2l_tasks.steps.begin import begin
from l2l_tasks.steps.change import change
from l2l_tasks.steps.collect import collect
from l2l_tasks.steps.control import pause, release, resume, stop
from l2l_tasks.steps.log import log
from l2l_tasks.steps.submit import submit
from l2l_tasks.steps.update import decision, update
from l2l_tasks.steps.wait import WaitRequest, remaining_target

__all__ = [
    "Decision",
    "WaitRequest",
    "begin",
    "change",
    "collect",
    "decision",
    "log",
    "pause",
    "release",
    "remaining_target",
    "resume",
    "stop",
    "submit",
    "update",
]
