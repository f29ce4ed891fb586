"""What an optimizer with its options needs of the rest of a campaign, beyond what its class declares."""

from __future__ import annotations

from pydantic import BaseModel

import optimizers
from l2l_tasks.spec import CampaignSpec, OptimizerSpec
from l2l_tasks.spec_yaml import Problem


def problems(spec: CampaignSpec, options: BaseModel, batch: int) -> list[Problem]:
    """What does not suit: re-evaluations that fill a batch, learners whose checkpoints are not found."""
    name, found = spec.optimizer.name, []
    again = int(getattr(options, "reevaluate", 0))
    if again >= batch:
        loc = ("optimizer", "options", "reevaluate")
        found.append(
            Problem(loc, f"must be less than the individuals of a generation ({batch}), got {again}")
        )
    if not _inherits(name):
        return found
    if spec.tasks.test is not None:
        message = f"optimizer {name!r} goes on with learners, and a test would begin with an untrained one"
        found.append(Problem(("tasks", "test"), message))
    if spec.tasks.fresh:
        message = f"optimizer {name!r} goes on with learners at the task that they know: fresh: false"
        found.append(Problem(("tasks", "fresh"), message))
    needed = optimizers.get(name).in_flight_needed(options) + again
    in_flight = spec.execution.in_flight or batch
    if in_flight < needed:
        found.append(
            Problem(
                ("execution", "batch"),
                f"optimizer {name!r} needs its whole population in flight, {needed} with re-evaluations: "
                f"checkpoints of members that wait are not kept; got {in_flight}",
            )
        )
    return found


def slices(spec: CampaignSpec, needed: int) -> list[Problem]:
    """What does not suit an optimizer that evaluates individuals on some of `needed` tasks first."""
    if needed < 2:
        return []
    name, plan, found = spec.optimizer.name, spec.tasks, []
    if needed > plan.per_individual:
        message = f"optimizer {name!r} with these options needs {needed} tasks, got {plan.per_individual}"
        found.append(Problem(("tasks", "per_individual"), message))
    if plan.fresh:
        message = (
            f"optimizer {name!r} evaluates individuals on some of the tasks first, so they must stay the "
            "same: fresh: false"
        )
        found.append(Problem(("tasks", "fresh"), message))
    if plan.aggregate != "mean":
        message = f"optimizer {name!r} weighs the tasks seen so far equally: aggregate: mean"
        found.append(Problem(("tasks", "aggregate"), message))
    return found


def whole_design(spec: CampaignSpec, needed: int, batch: int) -> list[Problem]:
    """What of the budget ends the campaign before `needed` individuals are told; 0: any number will do."""
    again, found = int(spec.optimizer.options.get("reevaluate", 0)), []
    per_generation = batch * spec.tasks.per_individual * spec.tasks.repeats
    for key, unit in (("generations", 1), ("evaluations", per_generation)):
        limit = getattr(spec.budget, key)
        if limit is None:
            continue
        generations = -(-limit // unit)  # the last one is evaluated whole
        told = batch + (generations - 1) * (batch - again)  # nothing is evaluated again in the first
        if told < needed:
            enough = unit * -(-(needed - batch) // (batch - again)) + 1
            message = (
                f"optimizer {spec.optimizer.name!r} has no result before all {needed} individuals of its "
                f"design are evaluated, these are at most {told}: at least {enough} {key} with batch {batch}"
            )
            found.append(Problem(("budget", key), message))
    return found


def all_checkpoints(optimizer: OptimizerSpec) -> bool:
    """Whether any individual's checkpoint may be needed again: an elite begins again from its parent's."""
    return bool(optimizer.options.get("reevaluate")) and _inherits(optimizer.name)


def as_many_as_first(optimizer: OptimizerSpec) -> bool:
    """Whether as many individuals must stay in flight as were asked first: they are the population."""
    return not optimizer.options.get("population") and _inherits(optimizer.name)


def _inherits(name: str) -> bool:
    """Whether the optimizer declares it; one that this release does not know does not."""
    return name in optimizers.names() and optimizers.get(name).capabilities.inherits
