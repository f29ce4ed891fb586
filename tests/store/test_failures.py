"""What the evaluations of a generation fail with."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from l2l_tasks.store import evaluations, failures, generations
from l2l_tasks.store.failures import Failure
from tests.store import build


def test_the_messages_of_a_generation(connection: Connection) -> None:
    """The most frequent first, each with its first evaluation; of this generation and campaign only."""
    campaign, other = (build.campaign(connection).id for _ in range(2))
    rare: dict[str, Any] = {"error_kind": "timeout", "error_message": "longer than 10 s"}
    for name in (campaign, other):
        build.ask(connection, name, 0, range(6))
        results = [build.failure(i, final=True, error_message=f"ValueError: {i + 10} s") for i in range(4)]
        results += [build.failure(4, final=True, **rare), build.result(5)]
        evaluations.ingest(connection, name, results if name == campaign else [results[4]])
        told = range(6) if name == campaign else [4]
        build.tell(connection, name, 0, told)
    build.ask(connection, campaign, 1, [6])
    evaluations.ingest(connection, campaign, [build.result(6)])
    generations.mark_collected(connection, campaign, 1)
    build.tell(connection, campaign, 1, [6])

    assert failures.of_generation(connection, campaign, 0) == [
        Failure(4, 5, 1, "exception", "ValueError: 10 s", "0.0.0", "Traceback ..."),
        Failure(1, 5, 1, "timeout", "longer than 10 s", "4.0.0", "Traceback ..."),
    ]
    last = Failure(1, 1, 0, "timeout", "longer than 10 s", "4.0.0", "Traceback ...")
    assert failures.of_generation(connection, other, 0) == [last]
    assert failures.of_generation(connection, campaign, 1) == []
    assert failures.of_generation(connection, campaign, -1) == []
