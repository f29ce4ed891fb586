"""The evaluations that something asked for comes to: its tasks, each repeated."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from l2l_tasks.planning import evaluation_seed
from l2l_tasks.store.generations import NewEvaluation


def evaluations_at(
    split: str, tasks: Iterable[int], repeats: int, campaign_seed: int, individual: int, seeded_as: int
) -> list[NewEvaluation]:
    """An individual at tasks of a split; with the seeds of the individual `seeded_as` at these."""
    return [
        NewEvaluation(
            individual=individual,
            task_index=task,
            repeat=repeat,
            task={"split": split, "index": task, "seed": campaign_seed},
            seed=evaluation_seed(campaign_seed, seeded_as, task, repeat),
            nonce=secrets.token_hex(8),
        )
        for task in tasks
        for repeat in range(repeats)
    ]
