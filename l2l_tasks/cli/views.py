"""Tables and pages of the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from l2l_tasks import spec_yaml

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from l2l_tasks.store.campaigns import Overview

COLOURS = {"running": "green", "paused": "yellow", "stopped": "red", "finished": "blue"}
HEADINGS = (
    "campaign",
    "status",
    "gen",
    "best",
    "evals",
    "bad",
    "workers",
    "core-h",
    "told",
    "eta",
    "site",
    "reason",
)
FRONT_SHOWN = 20
FAILURES_SHOWN = 5
EVENTS_SHOWN = 10
GENERATIONS_SHOWN = 10


def as_json(value: Any) -> str:
    """JSON of rows and dataclasses; times as ISO 8601."""
    return json.dumps(value, indent=2, default=_encode)


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"cannot print {type(value).__name__} as JSON")


def print_table(found: Sequence[Overview]) -> None:
    """One line per campaign, however narrow the terminal; what matters least comes last."""
    console = Console(highlight=False)
    if not found:
        console.print("no campaigns yet: start one in Airflow or with `l2l run FILE`", markup=False)
        return
    lines = [HEADINGS, *(_cells(row) for row in found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells in lines:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        text = Text(" ".join(padded).rstrip(), "bold" if cells is HEADINGS else "")
        start = widths[0] + 1
        text.stylize(COLOURS.get(cells[1], ""), start, start + len(cells[1]))
        console.print(text, soft_wrap=True)


def _cells(row: Overview) -> tuple[str, ...]:
    workers = f"{row.live_workers}+{row.waiting_workers}" if row.waiting_workers else str(row.live_workers)
    if row.status in ("finished", "stopped"):  # the site was told to end them and is not asked any more
        workers = "-"
    return (
        row.id,
        row.status,
        str(row.generations_told),
        "-" if not row.best_fitness else ", ".join(f"{value:.4g}" for value in row.best_fitness),
        f"{row.evaluations_done}/{row.evaluations_total}",
        str(row.evaluations_failed + row.evaluations_infeasible),
        workers,
        f"{row.core_seconds / 3600:.2f}",
        ago(row.told_at),
        eta(row),
        row.site,
        " ".join((row.reason or "").split()),
    )


def eta(row: Overview) -> str:
    """When the generations of the budget will be told, at the pace so far."""
    if row.status != "running" or row.told_at is None or not row.generations_budget:
        return "-"
    pace = (row.told_at - row.created_at) / row.generations_told
    left = row.told_at + pace * (row.generations_budget - row.generations_told) - datetime.now(UTC)
    return _short(max(0.0, left.total_seconds()))


def _short(seconds: float) -> str:
    """A duration in its largest unit: `5 min`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def ago(time: datetime | None, now: datetime | None = None) -> str:
    """`5 min ago`; `-` when it never happened."""
    if time is None:
        return "-"
    return f"{_short(max(0.0, ((now or datetime.now(UTC)) - time).total_seconds()))} ago"


def details(connection: Connection, campaign_id: str) -> dict[str, Any]:
    """Everything that `l2l show` shows, as plain values. Raises UserError for an unknown campaign."""
    from l2l_tasks.mlflow_pages import run_page
    from l2l_tasks.steps import stored
    from l2l_tasks.steps.held_out import performances
    from l2l_tasks.store import campaigns, events, failures, generations, held_out, versions

    row = campaigns.get(connection, campaign_id)
    told = row.generations_told
    shown = [
        generations.get(connection, campaign_id, n) for n in range(max(0, told - GENERATIONS_SHOWN), told)
    ]
    return {
        "campaign": asdict(row),
        "mlflow_url": run_page(row.mlflow_run_id),
        "folder": _folder(row.site, campaign_id),
        "failures": [asdict(one) for one in failures.of_generation(connection, campaign_id, told - 1)],
        "generations": [{"generation": g.number, **(g.summary or {})} for g in shown if g is not None],
        "tests": [
            asdict(one) for one in performances(stored.parse(row), held_out.told(connection, campaign_id))
        ],
        "versions": [asdict(version) for version in versions.listing(connection, campaign_id)],
        "events": [asdict(event) for event in events.recent(connection, campaign_id, EVENTS_SHOWN)],
    }


def _folder(site: str, campaign_id: str) -> str | None:
    """A campaign's folder at its site; None where the profile of the site is not to be had."""
    from l2l_tasks.errors import UserError
    from l2l_tasks.site import profile

    try:
        return f"{profile.load(site).work}/campaigns/{campaign_id}"
    except UserError:
        return None


def print_details(found: Mapping[str, Any]) -> None:
    """The page of one campaign."""
    from l2l_tasks.cli.progress import COLUMNS, failure_text, last_lines, test_line, told_line

    console, row = Console(highlight=False), found["campaign"]
    whole = partial(console.print, markup=False, soft_wrap=True)  # long values are to be copied
    head = f"{row['id']}  {row['status']}  {row['reason'] or ''}"
    whole(head, style="bold")
    for name in (
        "site",
        "seed",
        "origin",
        "created_at",
        "ended_at",
        "mlflow_run_id",
        "spec_hash",
        "code_hash",
    ):
        whole(f"{name:>14}  {row[name]}")
    if found["mlflow_url"]:
        whole(f"{'MLflow':>14}  {found['mlflow_url']}")
    if found["folder"]:
        whole(f"{'at the site':>14}  {found['folder']} (artifacts, checkpoints, logs)")
    done = row["evaluations_ok"] + row["evaluations_failed"] + row["evaluations_infeasible"]
    console.print(
        f"{'evaluations':>14}  {done} of {row['evaluations_total']} ({row['evaluations_failed']} failed, "
        f"{row['evaluations_infeasible']} infeasible), {row['core_seconds'] / 3600:.3f} core-hours",
        markup=False,
    )
    told = found["generations"]
    for failure in found["failures"][:FAILURES_SHOWN]:
        whole(f"{'failures':>14}  last generation: {failure_text(failure)}")
        whole("\n".join(last_lines(failure)))
    if len(found["failures"]) > FAILURES_SHOWN:
        whole(f"{'':>14}  and {len(found['failures']) - FAILURES_SHOWN} more (--json)")
    if told:
        console.print(f"\n{COLUMNS[:-8]}", style="bold", markup=False)
        for generation in told:
            console.print(told_line(generation, 0.0)[:-8], markup=False)
        print_found(console, told[-1])
    if found["tests"]:
        console.print("tests on held-out tasks", style="bold", markup=False)
        for test in found["tests"]:
            console.print(test_line(test), markup=False)
        console.print()
    console.print("specification", style="bold")
    whole(spec_yaml.dump(_without_nulls(row["spec"])))
    if len(found["versions"]) > 1:
        console.print("versions of the specification", style="bold")
        for one in found["versions"]:
            force = "  (in force)" if one["version"] == row["spec_version"] else ""
            whole(
                f"{one['version']:>4}  from generation {one['from_generation']}, "
                f"{one['created_at']:%F %T}  {one['who']}{force}"
            )
    console.print("last events", style="bold")
    for event in found["events"]:
        detail = ", ".join(f"{key}: {value}" for key, value in event["detail"].items() if value is not None)
        whole(f"{event['at']:%F %T}  {event['kind']}  {event['who']}  {detail}")


def print_found(console: Console, last: Mapping[str, Any]) -> None:
    """What the campaign found, as of its last generation told."""
    best, front = last["progress"]["best"], last.get("front") or []
    parts: dict[str, Any] = {"best individual" if not front else f"best in {last['objectives'][0]}": best}
    if best is not None and last["recommended"] not in (None, best["params"]):
        parts["recommended by the optimizer"] = last["recommended"]
    if last.get("violated"):
        parts["constraints broken in the last generation (individuals)"] = last["violated"]
    parts["figures of the optimizer"] = {name: float(f"{v:.6g}") for name, v in last["diagnostics"].items()}
    for title, value in parts.items():
        if value:
            console.print(f"\n{title}", style="bold", markup=False)
            console.print(spec_yaml.dump(value), end="", markup=False, soft_wrap=True)
    if front:
        names = "  ".join(f"{name:>12}" for name in last["objectives"])
        console.print(f"\nPareto front\n{'individual':>10}  {names}", style="bold", markup=False)
        for one in front[:FRONT_SHOWN]:
            values = "  ".join(f"{value:>12.5g}" for value in one["fitness"])
            console.print(f"{one['index']:>10}  {values}", markup=False)
        if len(front) > FRONT_SHOWN:
            console.print(f"and {len(front) - FRONT_SHOWN} more (--json)", markup=False)
    console.print()


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item not in (None, {}, [])}
    return value


def print_sites() -> None:
    """One line per site profile; one that has mistakes says so."""
    from l2l_tasks.errors import UserError
    from l2l_tasks.site import profile

    console = Console(highlight=False)
    for name in profile.names():
        try:
            site = profile.load(name)
        except UserError as error:
            console.print(f"{name:<16} has mistakes: {error}", style="red", markup=False, soft_wrap=True)
            continue
        where = f"{site.transport}, {site.scheduler.kind}, {site.work}"
        console.print(f"{name:<16} {site.description or '-'} ({where})", markup=False, soft_wrap=True)
