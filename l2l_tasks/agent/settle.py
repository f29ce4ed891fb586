"""Settle the death of a worker: what it finished stays finished, the rest goes back or has failed.

May be killed at any line and run again: it only ever looks at what is in the files.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from . import checkpoints, results
from .files import LineWriter
from .pool import Bundle, Pool, remove_tree
from .reconcile import Death
from .results import ResultLine, StartedLine, make_error

MAX_LOST = 20
"""So many workers may die with an evaluation, whatever they die of: some take their node down with them."""
RECONCILE_FILE = "reconcile.ndjson"
"""Results that no worker could write."""


@dataclass
class Written:
    """What a worker's results say, by (key, nonce); `started` by key, as those lines carry no nonce."""

    final: Set[Tuple[str, str]] = field(default_factory=set)
    next_attempt: Dict[Tuple[str, str], int] = field(default_factory=dict)
    started: Dict[str, StartedLine] = field(default_factory=dict)


def read_written(path: Path, limits: Mapping[str, int]) -> Written:
    """What is in a results file. Damaged lines do not count: their evaluation is run again."""
    written = Written()
    try:
        lines, _ = results.split_lines(path.read_bytes())
    except FileNotFoundError:
        return written
    for data in lines:
        try:
            line = results.parse_line(data, limits)
        except results.Rejected:
            continue
        if isinstance(line, StartedLine):
            written.started[line.key] = line
        elif isinstance(line, ResultLine):
            identity = (line.key, line.nonce)
            written.next_attempt[identity] = line.attempt + 1
            if line.final:
                written.final.add(identity)
    return written


def settle(folder: Path, pool: Pool, worker: str, death: Death, campaign: Mapping[str, Any]) -> None:
    """Give back or finish the bundles of a dead worker, then remove its folder. Under the campaign's lock."""
    limits = campaign["limits"]
    written = read_written(folder / "results" / (worker + ".ndjson"), limits)
    for bundle in pool.held(worker):
        left: List[Mapping[str, Any]] = []
        for evaluation in bundle.evaluations:
            if (evaluation["key"], evaluation["nonce"]) in written.final:
                continue
            counted = _count(evaluation, written, death)
            if counted["attempt"] < int(campaign["attempts"]) and counted["lost"] < MAX_LOST:
                left.append(counted)
            elif not _is_settled(folder, counted, limits):
                checkpoints.finish(folder, counted["key"])
                _write_lost(folder, bundle, counted, worker, death, written)
        if left:
            pool.give_back(worker, Bundle(bundle.name, bundle.generation, bundle.timeout, left))
        else:
            pool.finish(worker, bundle.name)
    remove_tree(folder / "scratch" / worker)
    pool.unregister(worker)


def _count(evaluation: Mapping[str, Any], written: Written, death: Death) -> Dict[str, Any]:
    """The evaluation with the attempts and losses that this death adds."""
    key = evaluation["key"]
    attempt = max(evaluation["attempt"], written.next_attempt.get((key, evaluation["nonce"]), 0))
    started = written.started.get(key)
    ran = started is not None and started.attempt == attempt
    if ran and death.own_fault:
        attempt += 1
    return {**evaluation, "attempt": attempt, "lost": evaluation.get("lost", 0) + (1 if ran else 0)}


def _is_settled(folder: Path, evaluation: Mapping[str, Any], limits: Mapping[str, int]) -> bool:
    written = read_written(folder / "results" / RECONCILE_FILE, limits)
    return (evaluation["key"], evaluation["nonce"]) in written.final


def _write_lost(
    folder: Path, bundle: Bundle, evaluation: Mapping[str, Any], worker: str, death: Death, written: Written
) -> None:
    started: Optional[StartedLine] = written.started.get(evaluation["key"])
    now = time.time()
    message = "its worker ended in the middle of the evaluation (%s), and no attempt is left" % death.how
    line = ResultLine(
        key=evaluation["key"],
        nonce=evaluation["nonce"],
        attempt=max(0, evaluation["attempt"] - 1),
        worker=worker,
        bundle=bundle.name,
        status="failed",
        final=True,
        fitness=None,
        metrics={},
        curve=[],
        started=min(now, started.time) if started is not None else now,
        ended=now,
        cpu=0.0,
        host="",
        error=make_error("worker_lost", message),
    )
    writer = LineWriter(folder / "results" / RECONCILE_FILE)
    try:
        writer.append(results.build_line(line))
    finally:
        writer.close()
