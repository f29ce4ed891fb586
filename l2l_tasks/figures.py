"""Figures of learning to learn, as PNG or SVG. No pyplot: it keeps global state and picks a display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from l2l_tasks.learning import FRESH, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from l2l_tasks.held_out import LearningCurve, Performance

Format = Literal["png", "svg"]
BEFORE, AFTER = "0.55", "C0"


def held_out_figure(
    tests: Sequence[Performance], objectives: Sequence[str], title: str, kind: Format
) -> bytes:
    """One campaign: fitness at held-out tasks against generations, and learning curves before and after.

    Args:
        tests: in the order of the generations.
        objectives: their names.
        title: above the figure.
        kind: file format.
    """
    figure, panels = _panels(len(objectives) + 1, title)
    ok = [test for test in tests if test.fitness]
    for i, name in enumerate(objectives):
        panel = panels[i]
        after = [test.after for test in ok]
        panel.plot(after, [test.fitness[i] for test in ok], "o-", color=AFTER, markersize=4)
        bounded = [test for test in ok if test.low]
        panel.fill_between(
            [test.after for test in bounded],
            [test.low[i] for test in bounded],
            [test.high[i] for test in bounded],
            color=AFTER,
            alpha=0.2,
            linewidth=0,
        )
        panel.set_xlabel("generations")
        panel.set_ylabel(literal(f"{name} at held-out tasks"))
    if ok and ok[0].after == 0:
        _draw_curve(panels[-1], ok[0].curve, BEFORE, "before")
    if ok and ok[-1].after > 0:
        _draw_curve(panels[-1], ok[-1].curve, AFTER, f"after {ok[-1].after} generations")
    _label_curves(panels[-1])
    return _bytes(figure, kind)


def tasks_figure(rows: Sequence[Row], objectives: Sequence[str], title: str, kind: Format) -> bytes:
    """Campaigns over several numbers of training tasks: fitness at held-out tasks, and learning curves.

    Bands and bars are confidence intervals of the mean over seeds.
    """
    figure, panels = _panels(len(objectives) + 1, title)
    for i, name in enumerate(objectives):
        for which, colour, label in (("before", BEFORE, "before"), ("after", AFTER, "after")):
            found = [(place, row, getattr(row, which)) for place, row in enumerate(rows)]
            shown = [(place, estimate) for place, _, estimate in found if estimate is not None]
            mean = [estimate.mean[i] for _, estimate in shown]
            below = [estimate.mean[i] - estimate.low[i] for _, estimate in shown]
            above = [estimate.high[i] - estimate.mean[i] for _, estimate in shown]
            places = [place for place, _ in shown]
            panels[i].errorbar(places, mean, (below, above), fmt="o-", color=colour, label=label, capsize=3)
        panels[i].set_xticks(range(len(rows)), [_tasks(row) for row in rows])
        panels[i].set_xlabel("training tasks")
        panels[i].set_ylabel(literal(f"{name} at held-out tasks"))
        panels[i].legend(fontsize="small")
    if rows:
        _draw_curve(panels[-1], rows[-1].curve_before, BEFORE, "before")
    for place, row in enumerate(rows):
        _draw_curve(panels[-1], row.curve_after, f"C{place}", f"learned from {_tasks(row)}")
    _label_curves(panels[-1])
    return _bytes(figure, kind)


def literal(text: str) -> str:
    """A text that shows as it is: between two $ there would be mathematics."""
    return text.replace("$", r"\$")


def _tasks(row: Row) -> str:
    return "fresh" if row.tasks == FRESH else str(row.tasks)


def _panels(number: int, title: str) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * number, 3.4), layout="constrained")
    panels = list(figure.subplots(1, number, squeeze=False)[0])
    figure.suptitle(literal(title), fontsize="medium")
    for panel in panels:
        panel.grid(alpha=0.3)
    return figure, panels


def _draw_curve(panel: Axes, curve: LearningCurve, colour: str, label: str) -> None:
    if curve.at:
        panel.plot(curve.at, curve.mean, color=colour, label=label)
        panel.fill_between(curve.at, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)


def _label_curves(panel: Axes) -> None:
    panel.set_xlabel("experience in the inner loop")
    panel.set_ylabel("performance at held-out tasks")
    if panel.has_data():
        panel.legend(fontsize="small")
    else:
        panel.text(0.5, 0.5, "the optimizee gives no curves", ha="center", transform=panel.transAxes)


def _bytes(figure: Figure, kind: Format) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=120)
    return buffer.getvalue()
