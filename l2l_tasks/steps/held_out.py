"""Tests on held-out tasks: which parameters are tested when, and what it comes to.

Tests ride along with a generation and hold nobody up. The last one has a generation of its own, in which the
optimizer is asked for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from sqlalchemy import Connection

from l2l_tasks.held_out import UNTRAINED, Outcome, Performance, metric_points, performance
from l2l_tasks.planning import Decision
from l2l_tasks.steps.asked import evaluations_at
from l2l_tasks.steps.stored import StoredCampaign
from l2l_tasks.steps.verdicts import judged
from l2l_tasks.store import held_out
from l2l_tasks.store.generations import Generation, NewEvaluation, NewIndividual, ToldIndividual
from l2l_tasks.store.held_out import HeldOutTest
from optimizers.base import Optimizer, Suggestion

LAST = "last_test"  # key of a generation's summary: why the campaign ends after one more test


@dataclass(frozen=True)
class Finished:
    """Tests that can be told of: to the store, and one performance per generation they were asked with."""

    individuals: list[ToldIndividual]
    performances: list[Performance]


def ended_by(previous: Generation | None) -> str | None:
    """Why, after a generation, only the last test is left; None when more is."""
    return None if previous is None or previous.summary is None else previous.summary.get(LAST)


def with_last_test(
    campaign: StoredCampaign,
    row: Generation,
    previous: Generation | None,
    verdict: Decision,
    recommends: bool,
) -> tuple[dict[str, str], Decision]:
    """A decision to end, put off by one generation that tests what the campaign came to.

    Args:
        campaign: the campaign.
        row: the generation; previous: the one before.
        verdict: the decision of the budget.
        recommends: whether the optimizer has parameters to test.

    Returns:
        What the generation's summary says of it, and the decision.
    """
    if verdict.proceed or campaign.spec.tasks.test is None or not recommends:
        return {}, verdict
    ended = ended_by(previous)
    if ended is not None and not row.asked:
        return {}, replace(verdict, reason=ended)
    reason = verdict.reason or ""
    return {LAST: reason}, replace(verdict, proceed=True, reason=f"{reason}; the last test is left")


def due(campaign: StoredCampaign, generation: int, last: bool) -> bool:
    """Whether something is tested with a generation."""
    wanted = campaign.spec.tasks.test
    if wanted is None:
        return False
    return last or generation == 0 or (wanted.every is not None and generation % wanted.every == 0)


def ask(
    connection: Connection,
    campaign: StoredCampaign,
    generation: int,
    optimizer: Optimizer,
    suggestions: Sequence[Suggestion],
) -> tuple[list[NewIndividual], list[NewEvaluation]]:
    """Tested with a generation: before all learning its first individuals, then what is recommended."""
    if generation == 0:
        params: list[Mapping[str, Any]] = [s.params for s in suggestions[:UNTRAINED]]
    else:
        recommended = optimizer.recommend()
        params = [] if recommended is None else [recommended.params]
    first = held_out.next_index(connection, campaign.row.id)
    tested = [NewIndividual(first - i, dict(one)) for i, one in enumerate(params)]
    return tested, [e for one in tested for e in _evaluations(campaign, one.index)]


def _evaluations(campaign: StoredCampaign, index: int) -> list[NewEvaluation]:
    """The evaluations of one test; the seeds are those of every other test, so that they compare."""
    plan = campaign.tests
    return evaluations_at("test", range(plan.per_individual), plan.repeats, campaign.row.seed, index, -1)


def finished(connection: Connection, campaign: StoredCampaign) -> Finished:
    """What the tests that have become complete came to."""
    if campaign.spec.tasks.test is None:
        return Finished([], [])
    tests = held_out.finished(connection, campaign.row.id)
    found = [judged(campaign, one) for one in tests]
    return Finished(
        [ToldIndividual(told.index, told.status, told.fitness) for told in found],
        performances(campaign, tests),
    )


def points(
    campaign: StoredCampaign, tests: Sequence[Mapping[str, Any]], *, last: bool
) -> list[tuple[str, float, int]]:
    """What MLflow is told of tests: (metric, value, step).

    Fitness against the generations that were told before; learning curves against the inner loop's
    experience, of the untrained (`before`) and of what the campaign came to (`after`).
    """
    found = []
    for test in tests:
        found += metric_points(
            campaign.objective_names, test["fitness"], test["low"], test["high"], test["after"]
        )
        found += [(f"test/metric/{name}", value, test["after"]) for name, value in test["metrics"].items()]
        when = "before" if test["after"] == 0 else "after" if last and test is tests[-1] else None
        if when is not None:
            curve = test["curve"]
            pairs = zip(curve["at"], curve["mean"], strict=True)
            found += [(f"learning_curve/{when}", value, at) for at, value in pairs]
    return found


def performances(campaign: StoredCampaign, tests: Sequence[HeldOutTest]) -> list[Performance]:
    """One for each generation that tests were asked with, in their order."""
    wanted = campaign.spec.tasks.test
    if wanted is None:
        return []
    ordered = sorted(tests, key=lambda one: (one.generation, -one.index))
    return [
        performance(
            generation,
            [_outcome(one) for one in group],
            wanted.tasks,
            campaign.spec.tasks.aggregate,
            campaign.directions,
        )
        for generation, group in groupby(ordered, key=lambda one: one.generation)
    ]


def _outcome(one: HeldOutTest) -> Outcome:
    fitness = [e.fitness for e in one.evaluations if e.fitness is not None]
    if len(fitness) < len(one.evaluations):
        return Outcome(None)
    curves = [e.curve for e in one.evaluations if e.curve]
    return Outcome(fitness, curves, [e.metrics for e in one.evaluations])
