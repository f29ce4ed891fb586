"""Results files to Markdown tables: medians with quartiles, and each family's best beside ours.

    python -m benchmarks.optimizers.table bbob.jsonl multi.jsonl noise.jsonl

A cell is the median [lower quartile-upper quartile] over the instances of the mean over the functions. Two
algorithms are compared on the runs that both have.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.optimizers.families import family
from benchmarks.optimizers.pool import read
from benchmarks.optimizers.problems import TARGETS
from benchmarks.optimizers.runs import Row

Run = tuple[Any, int]
"""(problem, instance)"""
Values = Mapping[Run, float]


class Quartiles(NamedTuple):
    """Of the instances' means."""

    lower: float
    median: float
    upper: float
    instances: int

    def overlaps(self, other: Quartiles) -> bool:
        """Whether the interquartile ranges have a point in common."""
        return self.lower <= other.upper and other.lower <= self.upper


@dataclass(frozen=True)
class Measure:
    """What a table shows: how to read it from a row, and how to print it."""

    title: str
    of: Callable[[Row], float | None]
    text: Callable[[float], str]
    higher_is_better: bool


SHARE = Measure(
    "targets reached", lambda row: row["reached"] / len(TARGETS), lambda v: f"{100 * v:.1f}", True
)
VOLUME = Measure("hypervolume", lambda row: float(row["hypervolume"]), lambda v: f"{v:.4f}", True)


def _log_gap(row: Row) -> float | None:
    gap = row["true_gap"]
    return None if gap is None else float(np.log10(max(gap, 1e-12)))


GAP = Measure("log10 of the true gap", _log_gap, lambda v: f"{v:.2f}", False)


def quartiles(values: Values) -> Quartiles:
    """Mean over the problems of each instance, then quartiles over the instances."""
    by_instance: dict[int, list[float]] = defaultdict(list)
    for (_, instance), value in values.items():
        by_instance[instance].append(value)
    means = [float(np.mean(each)) for each in by_instance.values()]
    lower, median, upper = np.percentile(means, [25, 50, 75])
    return Quartiles(float(lower), float(median), float(upper), len(means))


def collect(
    rows: Iterable[Row], column: Callable[[Row], object], measure: Measure
) -> dict[str, dict[object, dict[Run, float]]]:
    """algorithm -> column -> run -> value; a run that comes twice counts once, the first time."""
    found: dict[str, dict[object, dict[Run, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        value = measure.of(row)
        if value is not None:
            cells = found[row["algorithm"]][column(row)]
            cells.setdefault((row["problem"], row["instance"]), value)
    return found


def cell(values: Values, measure: Measure) -> str:
    """`median [lower-upper]`."""
    if not values:
        return "–"
    found = quartiles(values)
    return f"{measure.text(found.median)} [{measure.text(found.lower)}–{measure.text(found.upper)}]"


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = "|---" * len(head) + "|"
    return "\n".join(
        ["| " + " | ".join(head) + " |", rule, *["| " + " | ".join(line) + " |" for line in lines]]
    )


def ranking(rows: Sequence[Row], column: Callable[[Row], object], measure: Measure) -> str:
    """All algorithms, the best first by the mean of their medians; with all columns before those without."""
    found = collect(rows, column, measure)
    columns = sorted({key for cells in found.values() for key in cells}, key=in_order)
    sign = -1 if measure.higher_is_better else 1

    def place(name: str) -> tuple[int, float]:
        medians = [quartiles(cells).median for cells in found[name].values()]
        return -len(medians), sign * float(np.mean(medians))

    seconds: dict[str, list[float]] = defaultdict(list)
    ended: dict[str, int] = defaultdict(int)
    for row in rows:
        seconds[row["algorithm"]].append(1000 * row["seconds"] / max(1, row["evaluations"]))
        ended[row["algorithm"]] += bool(row["ended"])
    lines = []
    for name in sorted(found, key=place):
        lines.append(
            [
                f"**{name}**" if name.startswith("own:") else name,
                *[cell(found[name].get(key, {}), measure) for key in columns],
                f"{np.median(seconds[name]):.3g}",
                f"{ended[name]} of {len(seconds[name])}",
            ]
        )
    return markdown(["algorithm", *map(str, columns), "ms / evaluation", "ended early"], lines)


def in_order(key: object) -> tuple[int, float, str]:
    """Numbers in their order, then texts in theirs."""
    return (0, float(key), "") if isinstance(key, int | float) else (1, 0.0, str(key))


@dataclass(frozen=True)
class Comparison:
    """Two algorithms on the runs of one column that both have."""

    ours: Quartiles
    other: Quartiles

    def verdict(self, measure: Measure) -> str:
        """`same` when the interquartile ranges overlap, else `better` or `worse` (ours)."""
        if self.ours.overlaps(self.other):
            return "same"
        higher = self.ours.median > self.other.median
        return "better" if higher == measure.higher_is_better else "worse"


def compare(ours: Values, other: Values) -> Comparison | None:
    """On the runs that both have; None when there are none."""
    both = ours.keys() & other.keys()
    if not both:
        return None
    return Comparison(
        quartiles({run: ours[run] for run in both}), quartiles({run: other[run] for run in both})
    )


def families(
    rows: Sequence[Row], column: Callable[[Row], object], measure: Measure, incumbent: bool = False
) -> str:
    """Each family's best algorithm of a library (or each of the incumbent's) beside the best of ours.

    The best is the one with the best mean of its medians over the columns, on the runs that it shares with
    the other side's.
    """
    found = collect(rows, column, measure)
    columns = sorted({key for cells in found.values() for key in cells}, key=in_order)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in found:
        groups[family(name)].append(name)
    lines = []
    for group, members in sorted(groups.items()):
        ours = [name for name in members if name.startswith("own:")]
        theirs = [n for n in members if n.startswith("l2l:") == incumbent and not n.startswith("own:")]
        for rivals in [[name] for name in sorted(theirs)] if incumbent else [theirs]:
            if best := _best_pair(found, ours, rivals, columns, measure):
                lines.append(_family_line(group, *best, found, columns, measure))
    other = "the incumbent's" if incumbent else "best library"
    return markdown(["family", "best of ours", other, *map(str, columns)], lines)


Found = Mapping[str, Mapping[object, Values]]


def _best_pair(
    found: Found, ours: list[str], theirs: list[str], columns: Sequence[object], measure: Measure
) -> tuple[str, str] | None:
    """The best of both sides; None when a side is empty or nothing is shared."""
    shared = {
        (a, b): [pair for key in columns if (pair := compare(found[a].get(key, {}), found[b].get(key, {})))]
        for a in ours
        for b in theirs
    }
    shared = {pair: cells for pair, cells in shared.items() if cells}
    if not shared:
        return None
    widest = max(len(cells) for cells in shared.values())
    shared = {pair: cells for pair, cells in shared.items() if len(cells) == widest}
    sign = 1 if measure.higher_is_better else -1

    def worth(name: str, side: int) -> float:
        own = [cells for pair, cells in shared.items() if pair[side] == name]
        medians = [(one.ours, one.other)[side].median for cells in own for one in cells]
        return sign * float(np.mean(medians))

    best = max(sorted({pair[0] for pair in shared}), key=lambda name: worth(name, 0))
    against = sorted({pair[1] for pair in shared if pair[0] == best})
    return best, max(against, key=lambda name: worth(name, 1))


def _family_line(
    group: str, best: str, against: str, found: Found, columns: Sequence[object], measure: Measure
) -> list[str]:
    cells = []
    for key in columns:
        pair = compare(found[best].get(key, {}), found[against].get(key, {}))
        if pair is None:
            cells.append("–")
            continue
        difference = pair.ours.median - pair.other.median
        sign = "+" if difference >= 0 else "−"
        cells.append(
            f"{measure.text(pair.ours.median)} : {measure.text(pair.other.median)} "
            f"({sign}{measure.text(abs(difference))}, {pair.verdict(measure)}, n={pair.ours.instances})"
        )
    return [group, best, against, *cells]


def split(rows: Iterable[Row], *columns: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """The values of these columns, in their order, each with its rows."""
    parts: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        parts[tuple(row[column] for column in columns)].append(row)
    return sorted(parts.items(), key=lambda part: part[0])


def bbob(rows: Sequence[Row]) -> str:
    """For each budget and batch: the ranking, the families, the incumbent."""
    parts = []
    for (budget, batch), part in split(rows, "budget", "batch"):
        title = f"### BBOB, {budget} D evaluations, batch {batch or 'default'}: % of the 51 targets reached"
        parts += [title, ranking(part, _dimension, SHARE)]
        parts += ["By family, ours : best library", families(part, _dimension, SHARE)]
        parts += ["Ours : the incumbent's", families(part, _dimension, SHARE, incumbent=True)]
    return "\n\n".join(parts)


def _dimension(row: Row) -> object:
    return int(row["dimension"])


def multi(rows: Sequence[Row]) -> str:
    """For each budget: hypervolume by problem."""
    parts = []
    for (budget, batch), part in split(rows, "budget", "batch"):
        parts.append(f"### Several objectives, {budget} evaluations, batch {batch or 'default'}: hypervolume")
        parts.append(ranking(part, lambda row: row["problem"], VOLUME))
        parts.append(families(part, lambda row: row["problem"], VOLUME))
    return "\n\n".join(parts)


def noise(rows: Sequence[Row]) -> str:
    """For each dimension: the true gap of what is recommended, by noise."""
    parts = []
    for (dimension, budget, batch), part in split(rows, "dimension", "budget", "batch"):
        parts.append(
            f"### Noise and failures, {dimension}-D, {budget} D evaluations, batch {batch or 'default'}: "
            "log10 of the recommended point's true gap (lower is better)"
        )
        parts.append(ranking(part, lambda row: row["noise"], GAP))
        parts.append(families(part, lambda row: row["noise"], GAP))
        parts.append(families(part, lambda row: row["noise"], GAP, incumbent=True))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path)
    rows = [row for path in parser.parse_args().results for row in read(path)]
    for kind, table in (("bbob", bbob), ("multi", multi), ("noise", noise)):
        if part := [row for row in rows if row["kind"] == kind]:
            print(table(part), end="\n\n")


if __name__ == "__main__":
    main()
