"""The Markdown tables of docs/use-cases.md, printed from the results.

    python -m benchmarks.use_cases.table [results.jsonl]

One table has the figures, the other says what they are and what stands beside them.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.use_cases.cases import CASES, Case
from benchmarks.use_cases.run import KNOWN, RANDOM, RESULTS, SEARCH, Row, read

FIGURES = (
    "use case",
    "random parameters",
    "random search",
    "campaign",
    "reference",
    "evaluations",
    "core-minutes",
)
TEXTS = ("use case", "campaign file, and what is changed", "fitness", "reference")
Cells = tuple[str, ...]


def table(head: Cells, lines: Iterable[Cells]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *lines))


def figures(case: Case, rows: Sequence[Row]) -> Cells:
    """What a case came to: medians, with the range of the seeds."""
    searched, random, known = (
        [row for row in rows if (row["case"], row["kind"]) == (case.name, kind)]
        for kind in (SEARCH, RANDOM, KNOWN)
    )
    return (
        case.title,
        _typical(random),
        _best(random),
        _best(searched),
        case.reference or number(known[0]["test"]),
        number(statistics.median(row["evaluations"] for row in searched)),
        number(statistics.median(row["cpu_seconds"] for row in searched) / 60),
    )


def texts(case: Case) -> Cells:
    """What a case's figures are, and how they differ from those that stand beside them."""
    changed = {"generations": case.generations, **case.set}
    fields = ", ".join(f"{name.rpartition('.')[2]} {_value(value)}" for name, value in changed.items())
    return case.title, f"`{case.campaign}`: {fields}", case.fitness, case.source


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return str(value)


def _typical(random: Sequence[Row]) -> str:
    """The median individual, and how many of all evaluations failed or were infeasible."""
    percent = 100 * sum(row["not_ok"] for row in random) / sum(row["evaluations"] for row in random)
    text = spread([row["median"] for row in random])
    return f"{text}, {percent:.0f} % infeasible" if percent >= 1 else text


def _best(rows: Sequence[Row]) -> str:
    """The best of the campaigns, and what they recommend on held-out tasks."""
    text = spread([row["reached"] for row in rows])
    if all("test" not in row for row in rows):
        return text
    infeasible = sum(row["test_infeasible"] for row in rows)
    note = f", {infeasible} infeasible" if infeasible else ""
    return f"{text}; held out **{spread([row['test'] for row in rows])}**{note}"


def spread(values: Sequence[float | None]) -> str:
    """The median, with the range where there are several; values that are not there are left out."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    middle = number(statistics.median(known))
    return middle if len(known) == 1 else f"{middle} ({number(min(known))} to {number(max(known))})"


def number(value: float) -> str:
    """Three digits, whole numbers as they are."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.3g}" if abs(value) >= 1 or value == 0 else f"{value:.2g}"
    return text.replace("-", "−").replace("e−0", "e−")


def main() -> None:
    rows = read(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS)
    measured = [case for case in CASES.values() if any(row["case"] == case.name for row in rows)]
    print(table(FIGURES, [figures(case, rows) for case in measured]), end="\n\n")
    print(table(TEXTS, [texts(case) for case in measured]))


if __name__ == "__main__":
    main()
