"""The trigger form of a campaign's DAG: what can be changed for one run without editing the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param

import optimizers
from l2l_tasks.site import profile
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.spec_overrides import apply_overrides, small_form

# Name in the form -> field of the specification.
FIELDS = {
    "optimizer": "optimizer.name",
    "batch": "execution.batch",
    "generations": "budget.generations",
    "evaluations": "budget.evaluations",
    "site": "site",
    "seed": "seed",
    "note": "note",
}
LARGEST_SEED = 2**32 - 1
SMALL = Param(
    False,
    type="boolean",
    title="Small",
    description="The same campaign in a minute, as its file says below `small`. Other fields of this form "
    "that differ from the file are changed in it too.",
)


def form(spec: CampaignSpec) -> dict[str, Param]:
    """The fields of the form, filled with what the campaign file says.

    Airflow opens only the section of the fields that name none: there is what changes from run to run.
    """
    optimizer_names = sorted({*optimizers.names(), spec.optimizer.name})
    site_names = sorted({*profile.names(), spec.site})
    return {
        **({"small": SMALL} if spec.small else {}),
        "optimizer": Param(
            spec.optimizer.name,
            type="string",
            enum=optimizer_names,
            title="Optimizer",
            description="Another one than in the campaign file starts with its default options.",
        ),
        "batch": Param(
            spec.execution.batch,
            type=["null", "integer"],
            minimum=1,
            maximum=100_000,
            title="Population",
            description="Individuals per generation. "
            "Empty: as in the campaign file, or else the optimizer's choice.",
        ),
        "site": Param(
            spec.site,
            type="string",
            enum=site_names,
            title="Site",
            description="Where the simulations run (a profile of infra/sites or $L2L_SITES).",
        ),
        "seed": Param(
            spec.seed,
            type="integer",
            minimum=0,
            maximum=LARGEST_SEED,
            title="Seed",
            description="Same specification, seed and results: same individuals.",
        ),
        "note": Param(
            spec.note,
            type=["null", "string"],
            title="Note",
            description="Why this campaign is run; shown in MLflow.",
        ),
        "generations": Param(
            spec.budget.generations,
            type=["null", "integer"],
            minimum=1,
            title="Generations",
            description="The campaign ends after this many. Empty: as in the campaign file.",
            section="Budget",
        ),
        "evaluations": Param(
            spec.budget.evaluations,
            type=["null", "integer"],
            minimum=1,
            title="Evaluations",
            description="The campaign ends when this many are done. Empty: as in the campaign file.",
            section="Budget",
        ),
    }


def apply(spec: CampaignSpec, values: Mapping[str, Any]) -> CampaignSpec:
    """The specification, or its small form, with what was changed in the form.

    Raises:
        UserError: the small form is wanted and the file has none.
        SpecError: a value is not allowed.
    """
    data = spec.model_dump(mode="json")
    changed = {
        field: values[name]
        for name, field in FIELDS.items()
        if values.get(name) is not None and values[name] != _at(data, field)
    }
    if values.get("small"):
        spec = small_form(spec)
    return apply_overrides(spec, changed) if changed else spec


def _at(data: Mapping[str, Any], field: str) -> Any:
    for key in field.split("."):
        data = data[key]
    return data
