"""CampaignSpec: what a user writes to describe a campaign (YAML, or the JSON of a trigger form).

Light on purpose (pydantic and yaml only): Airflow reads every campaign file each time it parses its DAGs.
Whether the optimizer, the optimizee and the site exist and fit together is checked by `validation`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
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

from l2l_tasks.spec_problems import Salvage, salvage, shorten
from l2l_tasks.spec_types import (
    LONGEST,
    LONGEST_METRIC_NAME,
    Aggregate,
    Duration,
    FromCampaign,
    Limits,
    Memory,
    parse_cron,
)
from l2l_tasks.spec_values import Line, Options, Text, Whole, Word, check_override
from l2l_tasks.spec_yaml import Loc, Problem

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
    """The inner loop: a built-in by `name`, or a `class` ("module:Class") of your own."""

    name: str | None = Field(default=None, description="a built-in optimizee")
    class_: str | None = Field(
        None, alias="class", pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="your own: module:Class"
    )
    path: str | None = Field(
        default=None,
        description="folder of your own optimizee, relative to the campaign file; none: an installed package",
    )
    options: Options = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.name is None) == (self.class_ is None):
            raise ValueError("give either name (a built-in) or class (your own)")
        if self.class_ is None and self.path is not None:
            raise ValueError("path is the folder of a class of your own: give class: module:Class, not name")
        return self

    @property
    def reference(self) -> str:
        """The name or the `module:Class`."""
        return self.name or self.class_ or ""


class HeldOutSpec(Section):
    """Tests on tasks that the optimizer never hears of: before the first generation, between, at the end."""

    tasks: Whole = Field(description="held-out tasks")
    repeats: Whole = Field(default=1, description="evaluations per held-out task, each with its own seed")
    every: Whole | None = Field(default=None, description="generations between two tests on the way")


class TasksSpec(Section):
    """The tasks that an individual is evaluated on, and how its evaluations become one fitness."""

    per_individual: Whole = Field(default=1, description="tasks per individual and generation")
    fresh: bool = Field(default=True, description="other tasks in every generation")
    repeats: Whole = Field(default=1, description="evaluations per task, each with its own seed")
    aggregate: Aggregate = "mean"
    test: HeldOutSpec | None = Field(default=None, description="tests on held-out tasks")


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
    # Belongs to the file, not to the campaign: never dumped, stored or fingerprinted.
    small: Options = Field(
        default_factory=dict,
        exclude=True,
        description="for `l2l run --small`, the same campaign in a minute: new values by dotted name",
    )

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
    ("tasks", "test", "tasks"): (("tasks", "test", "tasks"), 1),
    ("optimizer",): (("optimizer",), {"name": "random"}),
    ("optimizer", "name"): (("optimizer",), {"name": "random"}),
    ("budget",): (("budget",), {"generations": 1}),
    **{("budget", key): (("budget", key), 1) for key in ENDINGS},
    ("resources",): (("resources",), {"time": LONGEST}),
    ("resources", "time"): (("resources", "time"), LONGEST),
}


def parse(value: Any) -> tuple[CampaignSpec | None, list[Problem]]:
    """A specification from plain values, or everything that is wrong with them."""
    found = salvaged(value)
    return (None if found.problems else found.model), found.problems


def salvaged(value: Any, unread: Sequence[Loc] = ()) -> Salvage[CampaignSpec]:
    """The specification of plain values without their mistakes; `unread`: places that are wrong already."""
    if isinstance(value, dict):
        return salvage(CampaignSpec, value, _STAND_INS, unread)
    message = f"expected a campaign (name, optimizee, optimizer, budget), got {shorten(value)}"
    return Salvage(None, [Problem((), message)], frozenset())


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a campaign file, for editors and forms."""
    schema = CampaignSpec.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
