"""Does the task family of an optimizee have the tasks that a campaign wants?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from l2l_tasks.spec import CampaignSpec
from l2l_tasks.spec_problems import shorten
from l2l_tasks.spec_values import check_json
from l2l_tasks.spec_yaml import Problem
from optimizees.base import Optimizee, TaskFamily

MOST_EVALUATIONS = 1_000_000
"""Per generation: its individuals and evaluations are made, stored and sent in one piece."""
MOST_TESTS = 5_000
"""Evaluations of a test on held-out tasks, whose interval is estimated where the campaign is locked."""
USER_CODE = (Exception, SystemExit)
"""What a user's code may raise here; SystemExit would end `l2l validate` in silence, with status 0."""


def problems(spec: CampaignSpec, optimizee: Optimizee) -> list[Problem]:
    """Tasks that JSON cannot hold, and more of them than there are different ones."""
    try:
        family = optimizee.family()
        found = [*_numbers(spec, family, len(optimizee.objectives))]
        if not found:
            _check(family.task("train", 0, spec.seed))
            if spec.tasks.test is not None:
                _check(family.task("test", 0, spec.seed))
    except NotATaskError as error:
        return [Problem(("tasks",), f"a task must be a mapping of JSON values: {error}")]
    except USER_CODE as error:
        message = f"the optimizee's task family raised {type(error).__name__}: {error}"
        return [Problem(("tasks",), message)]
    return found


class NotATaskError(Exception):
    """A family gives something else than a mapping of JSON values."""


def _check(task: Any) -> None:
    try:
        if not isinstance(task, Mapping):
            raise ValueError(f"got {shorten(task)}")
        check_json(task)
    except ValueError as error:
        raise NotATaskError(error) from error


def _numbers(spec: CampaignSpec, family: TaskFamily, objectives: int) -> Iterator[Problem]:
    for name, size in (("size", family.size), ("test_size", family.test_size)):
        if not isinstance(size, (int, type(None))):
            raise TypeError(f"{name} must be a whole number or None, got {shorten(size)}")
    wanted, test = spec.tasks.per_individual, spec.tasks.test
    if family.size is not None and wanted > family.size:
        yield Problem(
            ("tasks", "per_individual"),
            f"the optimizee has {family.size} task(s), got {wanted}; "
            "to evaluate the same task more than once, use repeats",
        )
    if test is None:
        return
    if family.test_size is not None and test.tasks > family.test_size:
        message = f"the optimizee has {family.test_size} held-out task(s), got {test.tasks}"
        yield Problem(("tasks", "test", "tasks"), message)
    if test.tasks * test.repeats > MOST_TESTS:
        yield Problem(
            ("tasks", "test"),
            f"{test.tasks} task(s) with {test.repeats} repeat(s) are more than {MOST_TESTS} evaluations",
        )
    if objectives > 1:
        message = f"tests are of what is recommended, and with {objectives} objectives that is a front"
        yield Problem(("tasks", "test"), message)
