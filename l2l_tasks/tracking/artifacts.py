"""Files of a campaign's MLflow run, made in memory: the population as Parquet, the fitness plot as PNG."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from l2l_tasks.figures import literal


def population_parquet(rows: Sequence[Mapping[str, Any]], generation: int) -> bytes:
    """One generation's individuals as a Parquet file.

    Args:
        rows: `individual`, `status`, `fitness` (one value per objective, None unless ok), `params`.
        generation: number of the generation, a column of its own so that files can be concatenated.

    Returns:
        Columns generation, individual, status, fitness (list), then `param.<name>` each. Values that no
        one Arrow type can hold (mixed choices) are JSON text.
    """
    names = sorted({name for row in rows for name in row["params"]})
    columns = {
        "generation": pa.array([generation] * len(rows), pa.int64()),
        "individual": pa.array([row["individual"] for row in rows], pa.int64()),
        "status": pa.array([row["status"] for row in rows], pa.string()),
        "fitness": pa.array([row["fitness"] for row in rows], pa.list_(pa.float64())),
    }
    columns |= {f"param.{name}": _column([row["params"].get(name) for row in rows]) for name in names}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def _column(values: Sequence[Any]) -> Any:
    """An Arrow array of the values' own type, or of JSON texts when they have none in common."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.array([json.dumps(value) for value in values])


def fitness_plot(summaries: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """Fitness against generation as PNG, one panel per objective.

    Args:
        summaries: the stored summaries of generations 0, 1, 2, ...; each with `objectives` (names),
            `fitness` (`best`, `mean`, `std`: one value per objective, empty when nothing succeeded) and
            `progress.best.fitness`.
        title: above the plot.
    """
    # The object interface: pyplot keeps global state and would pick a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    objectives = summaries[-1]["objectives"]
    figure = Figure(figsize=(7, 1 + 2.8 * len(objectives)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(len(objectives), 1, squeeze=False, sharex=True)[:, 0]
    for i, (panel, name) in enumerate(zip(panels, objectives, strict=True)):
        told = [(g, s["fitness"]) for g, s in enumerate(summaries) if s["fitness"]["best"]]
        generations = [g for g, _ in told]
        mean = [f["mean"][i] for _, f in told]
        low = [f["mean"][i] - f["std"][i] for _, f in told]
        high = [f["mean"][i] + f["std"][i] for _, f in told]
        panel.fill_between(generations, low, high, alpha=0.2, linewidth=0, label="mean ± sd")
        panel.plot(generations, mean, linewidth=1, label="mean")
        panel.plot(generations, [f["best"][i] for _, f in told], ".", markersize=4, label="best")
        so_far = [(g, s["progress"]["best"]) for g, s in enumerate(summaries) if s["progress"]["best"]]
        panel.step(
            [g for g, _ in so_far],
            [best["fitness"][i] for _, best in so_far],
            where="post",
            color="black",
            linewidth=1,
            label="best so far",
        )
        panel.set_ylabel(literal(name))
        panel.grid(alpha=0.3)
    panels[0].set_title(literal(title))
    if panels[0].has_data():
        panels[0].legend(fontsize="small")
    panels[-1].set_xlabel("generation")
    buffer = io.BytesIO()
    canvas.print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()
