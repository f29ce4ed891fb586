"""The page of a report: HTML without any file or address beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import jinja2

from l2l_tasks import figures, spec_yaml
from l2l_tasks.held_out import in_words
from l2l_tasks.learning import FRESH, Estimate, Row
from l2l_tasks.report.gather import Study


def render(study: Study) -> str:
    """The HTML text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("l2l_tasks.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"estimate": estimate, "tasks": tasks}
    names = study.objective_names
    if len(study.campaigns) > 1:
        figure = figures.tasks_figure(study.rows, names, study.title, "png")
    else:
        figure = figures.held_out_figure(study.learned[0].tests, names, study.title, "png")
    return environment.get_template("report.html.j2").render(
        study=study,
        figure=base64.b64encode(figure).decode(),
        specifications=[
            (one.row.id, spec_yaml.dump(one.spec.model_dump(mode="json"))) for one in study.campaigns
        ],
    )


def text(study: Study) -> str:
    """The same tables for a terminal."""
    lines = [study.title, ""]
    for i, objective in enumerate(study.objectives):
        lines += [
            f"{objective['name']} ({objective['direction']}) at held-out tasks, "
            "mean over seeds (95 % interval)",
            f"{'training tasks':>14}  {'seeds':>5}  {'before':>30}  {'after':>30}",
        ]
        lines += [
            f"{tasks(row):>14}  {len(row.seeds):>5}  {estimate(row.before, i):>30}  "
            f"{estimate(row.after, i):>30}"
            for row in study.rows
        ]
        lines.append("")
    if len(study.campaigns) == 1:
        lines += _tests(study)
    lines += [f"not finished: {one.row.id}" for one in study.campaigns if one.row.status != "finished"]
    return "\n".join(lines)


def _tests(study: Study) -> Sequence[str]:
    lines = [f"{'generations':>14}  {'first objective at held-out tasks (95 % interval over tasks)':>30}"]
    lines += [
        f"{test.after:>14}  {in_words(test.fitness, test.low, test.high)}" for test in study.learned[0].tests
    ]
    return [*lines, ""]


def estimate(found: Estimate | None, objective: int) -> str:
    """`1.23 (1.1 to 1.4)`; without an interval for one seed."""
    if found is None:
        return "no result"
    mean, low, high = (values[objective] for values in (found.mean, found.low, found.high))
    return f"{mean:.4g}" if found.n < 2 else f"{mean:.4g} ({low:.4g} to {high:.4g})"


def tasks(row: Row) -> str:
    """The number of training tasks in words."""
    return "fresh" if row.tasks == FRESH else str(row.tasks)
