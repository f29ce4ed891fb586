"""The deep check of a specification: does what it names exist, and does it fit together?

Imports the optimizer and the optimizee, runs no evaluation and contacts no site.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

import optimizees
import optimizers
from l2l_tasks import families, needs
from l2l_tasks.errors import SpecError, UserError
from l2l_tasks.families import MOST_EVALUATIONS, USER_CODE
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.spec_file import draft
from l2l_tasks.spec_overrides import at_entries, small_form
from l2l_tasks.spec_problems import did_you_mean, salvage, shorten
from l2l_tasks.spec_values import check_json
from l2l_tasks.spec_yaml import Loc, Problem, Source
from optimizees.base import Objective, Optimizee, OptimizeeError, OptionsError
from optimizers.space import Space, SpaceError

if TYPE_CHECKING:
    from l2l_tasks.site.profile import SiteProfile
    from optimizees import CodeBundle
    from optimizers.base import Optimizer

LONGEST_NAME = 100
MOST_DIMENSIONS = 100_000


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


def load(path: Path, *, carefully: bool = False) -> Prepared:
    """What the campaign of a file needs to begin.

    Args:
        path: the campaign file.
        carefully: make an own optimizee in another process first, which it may end or keep for ever.

    Raises:
        SpecError: with every mistake, those that `spec_file.load` finds and those of `check`, by line.
    """
    read = draft(path)
    prepared, problems = None, read.problems
    if read.spec is not None:
        prepared, deep = _Check(read.spec, path.parent, read.lacking, path if carefully else None).run()
        problems = problems + deep
    if prepared is not None and prepared.spec.small and not problems:
        small = prepared.spec.small
        problems = at_entries(small, check(small_form(prepared.spec), path.parent))
    if prepared is None or problems:
        raise SpecError(read.source.texts(problems))
    return prepared


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
            raise SpecError(source.texts(problems))
        raise SpecError([f"campaign {spec.name}: {problem.field}: {problem.message}" for problem in problems])
    return prepared


class _Check:
    """One pass over one specification; what can still be checked after a problem is checked.

    Args:
        spec: the specification.
        base_dir: folder of the campaign file.
        lacking: places of the file that are wrong: the specification holds a default there, or a stand-in.
            What depends on them is not checked.
        try_first: the campaign file, when an own optimizee is to be made in another process first.
    """

    def __init__(
        self,
        spec: CampaignSpec,
        base_dir: Path,
        lacking: Iterable[Loc] = (),
        try_first: Path | None = None,
    ) -> None:
        self.spec = spec
        self.path = None if spec.optimizee.path is None else base_dir / spec.optimizee.path
        self.problems: list[Problem] = []
        self._lacking = frozenset(lacking)
        self._try_first = try_first
        # Whether the optimizee was made without some of its options, which its space may depend on.
        self._doubtful = self._lacks("optimizee", "options")

    def run(self) -> tuple[Prepared | None, list[Problem]]:
        profile = None if self._lacks("site") else self._profile()
        optimizer_cls, options = self._optimizer()
        optimizee = self._optimizee()
        code = None if optimizee is None else self._code()
        space = None if optimizee is None else self._space(optimizee)
        if optimizee is not None and not self._doubtful:
            self.problems += families.problems(self.spec, optimizee)
        batch = self._batch(optimizer_cls, space)
        if batch is not None:
            self._sizes(optimizer_cls, batch)
            self._add_all([] if options is None else needs.problems(self.spec, options, batch))
        if optimizer_cls is not None and options is not None:
            self._add_all(needs.slices(self.spec, optimizer_cls.tasks_needed(options)))
        if optimizer_cls is not None and optimizee is not None and not self._doubtful:
            self._suits(optimizer_cls, options, space, optimizee, batch)
        if optimizee is None or space is None or code is None or optimizer_cls is None or options is None:
            return None, self.problems
        if self.problems or self._lacking or batch is None or profile is None:
            return None, self.problems
        execution = self.spec.execution
        sizes = (batch, execution.in_flight or batch, execution.workers or batch)
        return Prepared(self.spec, optimizee, space, optimizer_cls, options, code, profile, *sizes), []

    def _add(self, loc: Loc, message: object) -> None:
        self.problems.append(Problem(loc, str(message)))

    def _add_all(self, found: Iterable[Problem]) -> None:
        """Add those whose place holds what the file says."""
        self.problems += [problem for problem in found if not self._lacks(*map(str, problem.loc))]

    def _lacks(self, *loc: str) -> bool:
        """Whether something at this place, in it or around it is wrong."""
        return any(place[: len(loc)] == loc[: len(place)] for place in self._lacking)

    @property
    def _named(self) -> Loc:
        return ("optimizee", "class" if self.spec.optimizee.class_ else "name")

    def _optimizee(self) -> Optimizee | None:
        if any(self._lacks("optimizee", key) for key in ("name", "class", "path")):
            return None
        if self._try_first is not None and self.spec.optimizee.class_ is not None:
            from l2l_tasks import trial

            if (fate := trial.fate(self._try_first)) is not None:
                self._add(self._named, f"importing or making it {fate}")
                return None
        options = dict(self.spec.optimizee.options)
        while True:
            try:
                optimizee = self._load(options)
            except OptionsError as error:
                wrong = self._wrong_options(options, str(error))
                if wrong or not self._doubtful:  # else a dropped option may be what it misses
                    self._add(("optimizee", "options", *(wrong if len(wrong) == 1 else ())), error)
                if not wrong:
                    return None
                options = {name: value for name, value in options.items() if name not in wrong}
                self._doubtful = True
            except OptimizeeError as error:
                self._add(self._named, error)
                return None
            except USER_CODE as error:
                self._add(self._named, f"its constructor raised {type(error).__name__}: {error}")
                return None
            else:
                return optimizee if self._objectives(optimizee) else None

    def _load(self, options: Mapping[str, Any]) -> Optimizee:
        return optimizees.load(self.spec.optimizee.reference, options, self.path)

    def _wrong_options(self, options: Mapping[str, Any], message: str) -> list[str]:
        """The options that a mistake is about: without one of them, it is gone."""
        wrong = []
        for left_out in options:
            try:
                self._load({name: value for name, value in options.items() if name != left_out})
            except OptionsError as error:
                if str(error) == message:
                    continue
            except USER_CODE:
                continue
            wrong.append(left_out)
        return wrong

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
            self._add(self._named if self.path is None else ("optimizee", "path"), error)
            return None

    def _space(self, optimizee: Optimizee) -> Space | None:
        """The optimizee's space with the overrides, None when it is not known for sure.

        Each override that does not fit is its own problem.
        """
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
                if hint or not self._doubtful:
                    self._add(("parameters", name), f"no such parameter{hint} (parameters: {known})")
            elif not self._doubtful:
                try:
                    space.override({name: change})
                    fine[name] = change
                except SpaceError as error:
                    self._add(("parameters", name), str(error).removeprefix(f"{name}: "))
        if self._doubtful or self._lacks("parameters") or len(fine) < len(self.spec.parameters):
            return None
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

    def _optimizer(self) -> tuple[type[Optimizer] | None, BaseModel | None]:
        wanted = self.spec.optimizer
        if self._lacks("optimizer", "name"):
            return None, None
        try:
            found = optimizers.get(wanted.name)
        except optimizers.OptimizerError as error:
            self._add(("optimizer", "name"), error)
            return None, None
        options = salvage(found.Options, wanted.options, {})
        for problem in options.problems:
            self._add(("optimizer", "options", *problem.loc), problem.message)
        return found, None if options.problems else options.model

    def _batch(self, optimizer_cls: type[Optimizer] | None, space: Space | None) -> int | None:
        """Individuals per generation, None when that is not known for sure."""
        if self._lacks("execution", "batch"):
            return None
        if self.spec.execution.batch is not None:
            return self.spec.execution.batch
        if optimizer_cls is None or space is None:
            return None
        return optimizer_cls.default_batch(space.dimension)

    def _sizes(self, optimizer_cls: type[Optimizer] | None, batch: int) -> None:
        """Are there neither too many nor too few individuals at once?"""
        plan, in_flight = self.spec.tasks, self.spec.execution.in_flight or batch
        if in_flight < batch:
            self._add(("execution", "in_flight"), f"must be at least batch ({batch}), got {in_flight}")
        evaluations = in_flight * plan.per_individual * plan.repeats
        if evaluations > MOST_EVALUATIONS:
            self._add(
                ("execution", "batch"),
                f"{in_flight} individuals of {plan.per_individual} task(s) and {plan.repeats} repeat(s) are "
                f"{evaluations} evaluations at once: at most {MOST_EVALUATIONS} are possible",
            )
        if optimizer_cls is not None and in_flight > batch and not optimizer_cls.capabilities.asynchronous:
            self._add(
                ("execution", "in_flight"),
                f"optimizer {self.spec.optimizer.name!r} needs every result of a batch before it can go on: "
                f"in_flight must be batch ({batch}), got {in_flight}",
            )

    def _suits(
        self,
        optimizer_cls: type[Optimizer],
        options: BaseModel | None,
        space: Space | None,
        optimizee: Optimizee,
        batch: int | None,
    ) -> None:
        """Do optimizer, space and objectives suit each other?"""
        if len(optimizee.objectives) > 1 and optimizer_cls.capabilities.objectives == "single":
            self._add(("optimizer", "name"), self._too_many(optimizee.objectives))
        if options is None or space is None or self.problems or self._lacking:
            return
        try:
            optimizer = optimizer_cls(space, len(optimizee.objectives), options, self.spec.seed)
        except optimizers.OptimizerError as error:
            self._add(("optimizer",), error)
        else:
            needed = optimizer.individuals_needed()
            self._add_all([] if batch is None else needs.whole_design(self.spec, needed, batch))

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
