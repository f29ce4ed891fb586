"""The deep check of a specification: does what it names exist, and does it fit together?

Imports the optimizer and the optimizee, runs no evaluation and contacts no site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

import optimizees
import optimizers
from l2l_tasks.errors import SpecError, UserError
from l2l_tasks.spec import CampaignSpec, Problem, Source, check_json
from l2l_tasks.spec_problems import did_you_mean, problems_of, shorten
from l2l_tasks.spec_yaml import Loc
from optimizees.base import Objective, Optimizee, OptimizeeError, OptionsError
from optimizers.space import Space, SpaceError

if TYPE_CHECKING:
    from l2l_tasks.site.profile import SiteProfile
    from optimizees import CodeBundle
    from optimizers.base import Optimizer

LONGEST_NAME = 100
MOST_DIMENSIONS = 100_000
MOST_EVALUATIONS = 1_000_000
"""Per generation: its individuals and evaluations are made, stored and sent in one piece."""
USER_CODE = (Exception, SystemExit)
"""What a user's code may raise here; SystemExit would end `l2l validate` in silence, with status 0."""


@dataclass(frozen=True)
class Prepared:
    """A specification without problems, with everything that it names.

    Attributes:
        space: the optimizee's space with the campaign's overrides.
        options: the optimizer's options, validated.
        batch, in_flight, workers: as in the specification, defaults filled in.
    """

    spec: CampaignSpec
    optimizee: Optimizee
    space: Space
    optimizer_cls: type[Optimizer]
    options: BaseModel
    code: CodeBundle
    profile: SiteProfile
    batch: int
    in_flight: int
    workers: int


def check(spec: CampaignSpec, base_dir: Path) -> list[Problem]:
    """Everything that is wrong with a specification; `base_dir` is the folder of the campaign file."""
    return _Check(spec, base_dir).run()[1]


def build(spec: CampaignSpec, base_dir: Path, source: Source | None = None) -> Prepared:
    """What a campaign needs to begin.

    Args:
        spec: the specification.
        base_dir: folder that relative paths of the specification are relative to.
        source: where it was read, for line numbers in the messages.

    Raises:
        SpecError: with every problem that `check` finds.
    """
    prepared, problems = _Check(spec, base_dir).run()
    if prepared is None:
        if source is not None:
            raise SpecError([source.text(problem) for problem in problems])
        raise SpecError([f"campaign {spec.name}: {problem.field}: {problem.message}" for problem in problems])
    return prepared


class _Check:
    """One pass over one specification; what can still be checked after a problem is checked."""

    def __init__(self, spec: CampaignSpec, base_dir: Path) -> None:
        self.spec = spec
        self.path = None if spec.optimizee.path is None else base_dir / spec.optimizee.path
        self.problems: list[Problem] = []

    def run(self) -> tuple[Prepared | None, list[Problem]]:
        optimizee = self._optimizee()
        optimizer_cls, options = self._optimizer()
        profile = self._profile()
        if optimizee is None:
            return None, self.problems
        self._tasks(optimizee)
        code, space = self._code(), self._space(optimizee)
        if optimizer_cls is None or space is None:
            return None, self.problems
        execution = self.spec.execution
        batch = execution.batch or optimizer_cls.default_batch(space.dimension)
        self._fit(optimizer_cls, options, space, optimizee, batch)
        if self.problems or options is None or code is None or profile is None:
            return None, self.problems
        sizes = (batch, execution.in_flight or batch, execution.workers or batch)
        return Prepared(self.spec, optimizee, space, optimizer_cls, options, code, profile, *sizes), []

    def _add(self, loc: Loc, message: object) -> None:
        self.problems.append(Problem(loc, str(message)))

    @property
    def _named(self) -> Loc:
        return ("optimizee", "class" if self.spec.optimizee.class_ else "name")

    def _optimizee(self) -> Optimizee | None:
        wanted = self.spec.optimizee
        try:
            optimizee = optimizees.load(wanted.reference, wanted.options, self.path)
        except OptionsError as error:
            self._add(("optimizee", "options"), error)
            return None
        except OptimizeeError as error:
            self._add(self._named, error)
            return None
        except USER_CODE as error:
            self._add(self._named, f"its constructor raised {type(error).__name__}: {error}")
            return None
        return optimizee if self._objectives(optimizee) else None

    def _objectives(self, optimizee: Optimizee) -> bool:
        try:
            found: Any = optimizee.objectives
            if not isinstance(found, Sequence) or not all(isinstance(o, Objective) for o in found):
                raise ValueError(f"must be a sequence of Objective, got {shorten(found)}")
            for name in (o.name for o in found):
                if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= LONGEST_NAME):
                    raise ValueError(
                        f"an objective's name must be up to {LONGEST_NAME} printable characters, "
                        f"got {shorten(name)}"
                    )
        except USER_CODE as error:
            self._add(self._named, f"its objectives: {error}")
            return False
        names = [o.name for o in found]
        if not names or len(set(names)) != len(names):
            self._add(self._named, f"needs objectives with different names, declares {names}")
            return False
        return True

    def _code(self) -> CodeBundle | None:
        try:
            return optimizees.code_bundle(self.spec.optimizee.reference, self.path)
        except (OptimizeeError, OSError) as error:
            self._add(("optimizee", "path"), error)
            return None

    def _space(self, optimizee: Optimizee) -> Space | None:
        """The optimizee's space with the overrides; each override that does not fit is its own problem."""
        try:
            found: Any = optimizee.space()
            if not isinstance(found, Space):
                raise TypeError(f"it must return a Space, got {shorten(found)}")
            space = found
            if space.dimension <= MOST_DIMENSIONS:
                check_json(space.to_json())
        except USER_CODE as error:
            self._add(self._named, f"its space() raised {type(error).__name__}: {error}")
            return None
        fine: dict[str, Any] = {}
        for name, change in self.spec.parameters.items():
            if name not in space.names:
                known = ", ".join(space.names)
                hint = did_you_mean(name, space.names)
                self._add(("parameters", name), f"no such parameter{hint} (parameters: {known})")
                continue
            try:
                space.override({name: change})
                fine[name] = change
            except SpaceError as error:
                self._add(("parameters", name), str(error).removeprefix(f"{name}: "))
        space = space.override(fine)
        if space.dimension < 1:
            self._add(("parameters",), "every parameter is fixed: nothing is left to optimise")
            return None
        if space.dimension > MOST_DIMENSIONS:
            self._add(
                ("parameters",),
                f"{space.dimension} dimensions to optimise: at most {MOST_DIMENSIONS} are possible",
            )
            return None
        return space

    def _tasks(self, optimizee: Optimizee) -> None:
        """The family must give tasks that JSON can hold, and enough different ones."""
        wanted = self.spec.tasks.per_individual
        try:
            family = optimizee.family()
            task = family.task("train", 0, self.spec.seed)
            if not isinstance(family.size, (int, type(None))):
                raise TypeError(f"size must be a whole number or None, got {shorten(family.size)}")
        except USER_CODE as error:
            self._add(("tasks",), f"the optimizee's task family raised {type(error).__name__}: {error}")
            return
        try:
            if not isinstance(task, Mapping):
                raise ValueError(f"got {shorten(task)}")
            check_json(task)
        except ValueError as error:
            self._add(("tasks",), f"a task must be a mapping of JSON values: {error}")
        if family.size is not None and wanted > family.size:
            self._add(
                ("tasks", "per_individual"),
                f"the optimizee has {family.size} task(s), got {wanted}; "
                "to evaluate the same task more than once, use repeats",
            )

    def _optimizer(self) -> tuple[type[Optimizer] | None, BaseModel | None]:
        wanted = self.spec.optimizer
        try:
            found = optimizers.get(wanted.name)
        except optimizers.OptimizerError as error:
            self._add(("optimizer", "name"), error)
            return None, None
        try:
            return found, found.Options.model_validate(wanted.options)
        except ValidationError as error:
            for problem in problems_of(error, found.Options):
                self._add(("optimizer", "options", *problem.loc), problem.message)
            return found, None

    def _fit(
        self,
        optimizer_cls: type[Optimizer],
        options: BaseModel | None,
        space: Space,
        optimizee: Optimizee,
        batch: int,
    ) -> None:
        """Do optimizer, space and objectives suit each other?"""
        execution, name = self.spec.execution, self.spec.optimizer.name
        in_flight = execution.in_flight or batch
        if in_flight < batch:
            self._add(("execution", "in_flight"), f"must be at least batch ({batch}), got {in_flight}")
        plan = self.spec.tasks
        evaluations = in_flight * plan.per_individual * plan.repeats
        if evaluations > MOST_EVALUATIONS:
            self._add(
                ("execution", "batch"),
                f"{in_flight} individuals of {plan.per_individual} task(s) and {plan.repeats} repeat(s) are "
                f"{evaluations} evaluations at once: at most {MOST_EVALUATIONS} are possible",
            )
            return
        if in_flight > batch and not optimizer_cls.capabilities.asynchronous:
            self._add(
                ("execution", "in_flight"),
                f"optimizer {name!r} needs every result of a batch before it can go on: in_flight must be "
                f"batch ({batch}), got {in_flight}",
            )
        if len(optimizee.objectives) > 1 and optimizer_cls.capabilities.objectives == "single":
            self._add(("optimizer", "name"), self._too_many(optimizee.objectives))
            return
        if options is None or self.problems:
            return
        try:
            optimizer_cls(space, len(optimizee.objectives), options, self.spec.seed)
        except optimizers.OptimizerError as error:
            self._add(("optimizer",), error)

    def _too_many(self, objectives: Sequence[Objective]) -> str:
        multi = [n for n in optimizers.names() if optimizers.get(n).capabilities.objectives == "multi"]
        return (
            f"{self.spec.optimizer.name!r} optimises one objective, the optimizee has {len(objectives)} "
            f"({', '.join(o.name for o in objectives)}); optimizers for several: {', '.join(multi) or 'none'}"
        )

    def _profile(self) -> SiteProfile | None:
        from l2l_tasks.site import profile

        try:
            return profile.load(self.spec.site)
        except UserError as error:
            self._add(("site",), error)
            return None
