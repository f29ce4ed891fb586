"""CampaignSpec: what a user writes to describe a campaign (YAML, or the JSON of a trigger form).

Light on purpose (pydantic and yaml only): Airflow reads every campaign file each time it parses its DAGs.
Whether the optimizer, the optimizee and the site exist and fit together is checked by `validation`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from l2l_tasks import spec_yaml
from l2l_tasks.errors import SpecError
from l2l_tasks.spec_problems import Salvage, salvage, shorten
from l2l_tasks.spec_types import (
    LONGEST,
    LONGEST_METRIC_NAME,
    Duration,
    FromCampaign,
    Limits,
    Memory,
    parse_cron,
)
from l2l_tasks.spec_values import Line, Options, Text, Whole, Word, check_override
from l2l_tasks.spec_yaml import Loc, Problem, Source

__all__ = [
    "CampaignSpec",
    "Draft",
    "Problem",
    "Source",
    "apply_overrides",
    "draft",
    "json_schema",
    "load",
    "load_with_source",
]

ENDINGS = ("generations", "evaluations", "core_hours", "wall_time")
"""The limits of a budget that are surely reached."""
OWN_SBATCH_OPTIONS = {
    "--array", "--job-name", "--output", "--error", "--open-mode", "--chdir", "--signal", "--wrap",
    "--nodes", "--ntasks", "--cpus-per-task", "--mem", "--time", "--partition", "--account", "--qos",
    "--parsable", "--requeue", "--no-requeue", "--test-only", "--wait", "--export", "--gpus",
}  # fmt: skip


class Section(BaseModel):
    """A part of the specification. A key without a value means its default."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        serialize_by_alias=True,
        populate_by_name=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, data: Any) -> Any:
        return {key: v for key, v in data.items() if v is not None} if isinstance(data, dict) else data


class OptimizeeSpec(Section):
    """The inner loop: a built-in by `name`, or a `class` ("module:Class") in the folder `path`."""

    name: str | None = Field(default=None, description="a built-in optimizee")
    class_: str | None = Field(
        None, alias="class", pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="your own: module:Class"
    )
    path: str | None = Field(
        default=None, description="folder of your own optimizee, relative to the campaign file"
    )
    options: Options = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.name is None) == (self.class_ is None):
            raise ValueError("give either name (a built-in) or class and path (your own)")
        if (self.class_ is None) != (self.path is None):
            raise ValueError("class and path belong together: class: module:Class, path: its folder")
        return self

    @property
    def reference(self) -> str:
        """The name or the `module:Class`."""
        return self.name or self.class_ or ""


class TasksSpec(Section):
    """The tasks that an individual is evaluated on, and how its evaluations become one fitness."""

    per_individual: Whole = Field(default=1, description="tasks per individual and generation")
    fresh: bool = Field(default=True, description="other tasks in every generation")
    repeats: Whole = Field(default=1, description="evaluations per task, each with its own seed")
    aggregate: Literal["mean", "median", "worst"] = "mean"


class OptimizerSpec(Section):
    """The outer loop."""

    name: str
    options: Options = Field(default_factory=dict)


class BudgetSpec(Section):
    """When the campaign ends: at the first limit reached. At least one that surely comes is needed."""

    generations: Whole | None = None
    evaluations: Whole | None = None
    core_hours: float | None = Field(default=None, gt=0)
    wall_time: Duration | None = Field(default=None, gt=0)
    target: float | None = Field(
        default=None, description="fitness of the first objective that is good enough"
    )
    stagnation: Whole | None = Field(default=None, description="generations without a better individual")

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if not any(getattr(self, key) for key in ENDINGS):
            raise ValueError(f"needs at least one of {', '.join(ENDINGS)}")
        return self


class ResourcesSpec(Section):
    """What one worker (one task of the job array) asks the scheduler for."""

    nodes: Whole = 1
    tasks: Whole = 1
    cpus: Whole = Field(default=1, description="cores per task")
    gpus: int | None = Field(default=None, ge=0)
    memory: Memory | None = Field(default=None, description="per node")
    time: Duration = Field(default=3600.0, ge=60, validate_default=True, description="lifetime of a worker")
    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    extra: dict[str, Line | None] = Field(default_factory=dict, description="more sbatch options")

    @field_validator("gpus")
    @classmethod
    def _some_gpus(cls, value: int | None) -> int | None:
        return value or None

    @field_validator("extra")
    @classmethod
    def _known_form(cls, extra: dict[str, str | None]) -> dict[str, str | None]:
        wrong = []
        for option in extra:
            if not re.fullmatch(r"--[a-z][a-z0-9-]*", option):
                wrong.append(f"expected long sbatch options such as '--constraint', got {option!r}")
            elif option in OWN_SBATCH_OPTIONS:
                wrong.append(f"{option} is set by l2l itself: use the keys of resources, or leave it out")
        if wrong:
            raise ValueError("; ".join(wrong))
        return extra


class ExecutionSpec(Section):
    """How evaluations are kept going at the site."""

    batch: Whole | None = Field(
        default=None, description="individuals per generation; default: the optimizer's choice"
    )
    in_flight: Whole | None = Field(
        default=None,
        description="individuals kept at the site (default: batch); more = steady state, no node waits",
    )
    workers: Whole | None = Field(default=None, description="most workers at once; default: batch")
    linger: Duration = Field(default=60.0, validate_default=True, description="how long an idle worker stays")
    bundle: Whole = Field(default=1, description="evaluations that a worker takes at once")
    slots: Whole = Field(default=1, description="evaluations that a worker runs side by side")
    attempts: int = Field(default=3, ge=1, le=100, description="for on_failure: retry")
    timeout: Duration | None = Field(default=None, gt=0, description="longest time of one evaluation")
    timeout_factor: float | None = Field(
        default=None, gt=1, description="the same as a multiple of the median duration"
    )
    on_failure: Literal["retry", "worst", "infeasible"] = Field(
        default="retry",
        description="failed evaluation: try again (up to attempts), rank last, call it infeasible",
    )

    @field_validator("in_flight")
    @classmethod
    def _at_least_a_batch(cls, value: int | None, info: ValidationInfo) -> int | None:
        batch = info.data.get("batch")
        if value is not None and batch is not None and value < batch:
            raise ValueError(f"must be at least batch ({batch}), got {value}")
        return value


class CampaignSpec(Section):
    """A campaign: an optimizer that searches the parameters of an optimizee at a site, within a budget."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$", description="small letters, digits and dashes")
    description: Text = ""
    optimizee: OptimizeeSpec
    parameters: dict[str, Annotated[Any, BeforeValidator(check_override)]] = Field(
        default_factory=dict,
        description="a value fixes a parameter; {low, high, log, choices} changes its range",
    )
    tasks: TasksSpec = TasksSpec()
    constraints: dict[Text, Limits] = Field(
        default_factory=dict,
        description="limits of metrics (means over an individual's evaluations); others are infeasible",
    )
    optimizer: OptimizerSpec
    from_campaign: FromCampaign | None = Field(
        default=None, description="let the optimizer begin with the individuals of an earlier campaign"
    )
    budget: BudgetSpec
    site: Word = "local"
    resources: ResourcesSpec = ResourcesSpec()
    execution: ExecutionSpec = ExecutionSpec()
    schedule: Annotated[str | None, BeforeValidator(parse_cron)] = Field(
        default=None, description="cron, to start it regularly"
    )
    seed: int = Field(default=0, ge=0, lt=2**32)
    tags: list[Line] = Field(default_factory=list, max_length=50)
    owner: Line | None = None
    note: Text | None = None

    @field_validator("constraints")
    @classmethod
    def _names_metrics(cls, value: dict[str, Any]) -> dict[str, Any]:
        if wrong := [name for name in value if not 0 < len(name) <= LONGEST_METRIC_NAME]:
            raise ValueError(
                f"names of metrics have 1 to {LONGEST_METRIC_NAME} characters, got {shorten(wrong[0])}"
            )
        return value

    @field_validator("execution")
    @classmethod
    def _fits_into_worker(cls, value: ExecutionSpec, info: ValidationInfo) -> ExecutionSpec:
        resources = info.data.get("resources")
        if resources is not None and value.timeout is not None and value.timeout > resources.time:
            raise ValueError(
                f"timeout ({value.timeout:g} s) must not be longer than the lifetime of a worker, "
                f"resources.time ({resources.time:g} s)"
            )
        return value

    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON: equal specifications have equal fingerprints."""
        text = json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        return hashlib.sha256(text.encode()).hexdigest()


# What takes the place of a wrong value: without it, its section or a check of another one would fail too.
_STAND_INS: Mapping[Loc, tuple[Loc, Any]] = {
    ("name",): (("name",), "unnamed"),
    ("optimizee",): (("optimizee",), {"name": "sphere"}),
    **{("optimizee", key): (("optimizee",), {"name": "sphere"}) for key in ("name", "class", "path")},
    ("optimizer",): (("optimizer",), {"name": "random"}),
    ("optimizer", "name"): (("optimizer",), {"name": "random"}),
    ("budget",): (("budget",), {"generations": 1}),
    **{("budget", key): (("budget", key), 1) for key in ENDINGS},
    ("resources",): (("resources",), {"time": LONGEST}),
    ("resources", "time"): (("resources", "time"), LONGEST),
}


@dataclass(frozen=True)
class Draft:
    """A campaign file as far as it is right.

    Attributes:
        spec: the specification; with mistakes, what is left without them. None when nothing is.
        problems: every mistake that can be seen without importing the optimizer and the optimizee.
        lacking: places whose values were dropped because they are wrong (`Salvage.lacking`).
        source: the lines of the file.
    """

    spec: CampaignSpec | None
    problems: list[Problem]
    lacking: frozenset[Loc]
    source: Source


def draft(path: Path) -> Draft:
    """Read a campaign file, mistakes and all."""
    parsed = spec_yaml.read(path)
    if parsed.problems and parsed.value is None:
        return Draft(None, parsed.problems, frozenset(), parsed.source)
    unread = [p.loc for p in parsed.problems if _value_at(parsed.value, p.loc) is None]
    found = _salvage(parsed.value, unread)
    return Draft(found.model, [*parsed.problems, *found.problems], found.lacking, parsed.source)


def _value_at(value: Any, loc: Loc) -> Any:
    """The value at a place, None when there is none."""
    for key in loc:
        if isinstance(value, list) and isinstance(key, int):
            value = value[key]
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def load(path: Path) -> CampaignSpec:
    """Read a campaign file.

    Raises:
        SpecError: with every mistake that can be seen without importing the optimizer and the optimizee,
            each as `file:line: field: what is wrong, what is allowed`.
    """
    return load_with_source(path)[0]


def load_with_source(path: Path) -> tuple[CampaignSpec, Source]:
    """Like `load`, and the lines of the file, for problems that are found later."""
    found = draft(path)
    if found.spec is None or found.problems:
        raise SpecError(found.source.texts(found.problems))
    return found.spec, found.source


def parse(value: Any) -> tuple[CampaignSpec | None, list[Problem]]:
    """A specification from plain values, or everything that is wrong with them."""
    found = _salvage(value)
    return (None if found.problems else found.model), found.problems


def _salvage(value: Any, unread: Sequence[Loc] = ()) -> Salvage[CampaignSpec]:
    if isinstance(value, dict):
        return salvage(CampaignSpec, value, _STAND_INS, unread)
    message = f"expected a campaign (name, optimizee, optimizer, budget), got {shorten(value)}"
    return Salvage(None, [Problem((), message)], frozenset())


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a campaign file, for editors and forms."""
    schema = CampaignSpec.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


SHORT_OVERRIDES = {
    **{key: ("execution", key) for key in ("batch", "in_flight", "workers")},
    "optimizer": ("optimizer", "name"),
}


def apply_overrides(spec: CampaignSpec, overrides: Mapping[str, Any]) -> CampaignSpec:
    """A copy with some fields changed, as a trigger form or the command line asks for.

    Args:
        spec: the specification of the file.
        overrides: new values by dotted name (`budget.generations`), or by the short names `batch`,
            `in_flight`, `workers` and `optimizer`. None changes nothing. Another optimizer starts from
            its default options.

    Raises:
        SpecError: a field is unknown or a value is not allowed; all mistakes at once.
    """
    data = spec.model_dump(mode="json")
    names = {}
    for name, value in overrides.items():
        if value is None:
            continue
        loc = SHORT_OVERRIDES.get(name, tuple(name.split(".")))
        names[loc] = name
        if (
            loc == ("optimizer", "name")
            and value != spec.optimizer.name
            and "optimizer.options" not in overrides
        ):
            data["optimizer"]["options"] = {}
        inner: Any = data
        for key in loc[:-1]:
            inner = inner.setdefault(key, {}) if isinstance(inner, dict) else None
        if not isinstance(inner, dict):
            raise SpecError([f"override {name}: there is no such field"])
        inner[loc[-1]] = value
    changed, problems = parse(data)
    if changed is None:
        raise SpecError([f"override {names.get(_strings(p.loc), p.field)}: {p.message}" for p in problems])
    return changed


def _strings(loc: Loc) -> tuple[str, ...]:
    return tuple(str(part) for part in loc)
