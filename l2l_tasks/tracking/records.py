"""What MLflow is told about a campaign, as plain names and values (no MLflow in here)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from l2l_tasks import dag_names, settings
from l2l_tasks.planning import canonical
from l2l_tasks.store.campaigns import Campaign

# MLflow cuts or refuses longer values.
PARAM_CHARACTERS = 6000
CAMPAIGN_TAG = "l2l.campaign"
SWEEP_TAG = "l2l.sweep"
PROSE = ("description", "note", "tags")  # of a specification: to be read in MLflow, not compared


@dataclass(frozen=True)
class GenerationRecord:
    """One generation as the outbox keeps it.

    Attributes:
        generation: number of the generation; MLflow's step.
        told_at: when it was told, milliseconds since the epoch. Every metric point carries this time,
            so that sending a record twice gives the same points and not more of them.
        metrics: finite numbers by name.
        points: finite numbers by name and a step of their own, of tests on held-out tasks.
        best: best individual so far (`index`, `params`, `fitness`), None before the first success.
        population: one row per individual told: `individual`, `status`, `fitness`, `params`.
    """

    generation: int
    told_at: int
    metrics: Mapping[str, float]
    best: Mapping[str, Any] | None
    population: Sequence[Mapping[str, Any]]
    points: Sequence[tuple[str, float, int]] = ()

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> GenerationRecord:
        """The record of an outbox row's payload."""
        return cls(
            int(payload["generation"]),
            int(payload["told_at"]),
            {safe_name(name): float(value) for name, value in payload["metrics"].items()},
            payload.get("best"),
            payload.get("population") or [],
            [(safe_name(name), float(value), int(step)) for name, value, step in payload.get("points") or []],
        )


def safe_name(name: str) -> str:
    """A name that MLflow accepts: letters, digits, `_-. :` and single slashes between non-empty parts."""
    parts = re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII).split("/")
    kept = [part for part in parts if part not in ("", ".", "..")]
    return "/".join(kept)[:250] or "_"


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `section.key` -> text. None is left out, lists become JSON."""
    flat: dict[str, str] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            flat |= flatten(item, name + ".")
        elif item is not None:
            text = item if isinstance(item, str) else json.dumps(item)
            flat[safe_name(name)] = text[:PARAM_CHARACTERS]
    return flat


def params(campaign: Campaign) -> dict[str, str]:
    """What runs are compared by: the specification without its prose."""
    return flatten({key: value for key, value in campaign.spec.items() if key not in PROSE})


def experiment_name(campaign: Campaign) -> str:
    """One experiment per problem, so that campaigns on the same problem compare: the optimizee."""
    optimizee = campaign.spec["optimizee"]
    return str(optimizee.get("name") or optimizee.get("class") or optimizee.get("class_"))


def tags(campaign: Campaign, versions: Mapping[str, str]) -> dict[str, str]:
    """What a run is found by: where it ran, what it optimized, which code, which Airflow run."""
    found = {
        CAMPAIGN_TAG: campaign.id,
        "l2l.site": campaign.site,
        "l2l.optimizee": experiment_name(campaign),
        "l2l.optimizer": str(campaign.spec["optimizer"]["name"]),
        "l2l.seed": str(campaign.seed),
        "l2l.spec_sha256": campaign.spec_hash,
        "l2l.code_sha256": campaign.code_hash,
        "l2l.origin": campaign.origin,
    }
    found |= {f"l2l.version.{name}": version for name, version in versions.items()}
    if commit := campaign.problem.get("commit"):
        found["l2l.code_commit"] = str(commit)
    if url := airflow_run_url(campaign.origin):
        found["l2l.airflow"] = url
    if prose := [str(campaign.spec[key]) for key in ("description", "note") if campaign.spec.get(key)]:
        found["mlflow.note.content"] = "\n\n".join(prose)
    for tag in campaign.spec.get("tags") or []:
        found[f"tag.{safe_name(str(tag))}"] = "true"
    if note := campaign.spec.get("note"):
        found["l2l.note"] = str(note)
    return found


def airflow_run_url(origin: str) -> str | None:
    """Page of the DAG run that began a campaign, or None when Airflow did not."""
    base = settings.value("L2L_AIRFLOW_URL")
    first = dag_names.first_run(origin)
    if not base or first is None:
        return None
    return f"{base.rstrip('/')}/dags/{quote(first[0])}/runs/{quote(first[1], safe='')}"


def spec_text(campaign: Campaign) -> str:
    """The campaign's specification as JSON, the same text for the same specification."""
    return json.dumps(json.loads(canonical(campaign.spec)), indent=2)


def plot_is_due(generation: int) -> bool:
    """Whether a plot is drawn after this generation: the 1st, 2nd, 5th, 10th, 20th, 50th, ...

    A plot reads the whole history; at a fixed ratio between two plots all of them together cost about
    as much as the last.
    """
    return str(generation + 1).rstrip("0") in ("1", "2", "5")
