"""Small campaigns for the tests of the store."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection

from l2l_tasks.store import campaigns, code, generations
from l2l_tasks.store.campaigns import Campaign
from l2l_tasks.store.evaluations import IngestedResult
from l2l_tasks.store.generations import NewEvaluation, NewIndividual, ToldIndividual
from l2l_tasks.store.states import OptimizerState

SHA = "a" * 64
_numbers = itertools.count()


def campaign(connection: Connection, **changes: Any) -> Campaign:
    """A new campaign with an origin of its own."""
    values: dict[str, Any] = {
        "origin": f"test/{next(_numbers)}",
        "name": "sphere-test",
        "spec": {"name": "sphere-test"},
        "spec_hash": "1" * 64,
        "problem": {"entry": "model:Model"},
        "code_hash": "2" * 64,
        "site": "local",
        "seed": 7,
    }
    code.put(connection, values["code_hash"], {"model.py": b"pass"})
    return campaigns.create(connection, **{**values, **changes})


def state(generation: int, phase: str = "asked", data: bytes = b"state") -> OptimizerState:
    return OptimizerState(generation, phase, 1, "random", data)


def nonce(individual: int, task: int = 0, repeat: int = 0) -> str:
    return f"{individual:010d}{task:03d}{repeat:03d}"


def ask(
    connection: Connection, campaign_id: str, number: int, indexes: Sequence[int], tasks: int = 1
) -> bool:
    """Ask generation `number` with these individuals, each with `tasks` evaluations."""
    return generations.ask_generation(
        connection,
        campaign_id,
        number,
        [NewIndividual(index, {"x": float(index)}) for index in indexes],
        [
            NewEvaluation(index, task, 0, {"target": task}, 100 + index, nonce(index, task))
            for index in indexes
            for task in range(tasks)
        ],
        state(number),
    )


def tell(connection: Connection, campaign_id: str, number: int, indexes: Sequence[int]) -> bool:
    """Tell generation `number` that these individuals were ok, with their index as fitness."""
    return generations.tell_generation(
        connection,
        campaign_id,
        number,
        [ToldIndividual(index, "ok", [float(index)]) for index in indexes],
        state(number, "told"),
        {"best": [float(min(indexes, default=0))]},
        SHA,
    )


def result(individual: int, task: int = 0, **changes: Any) -> IngestedResult:
    """A good final result of an evaluation asked by `ask`."""
    values: dict[str, Any] = {
        "individual": individual,
        "task_index": task,
        "repeat": 0,
        "nonce": nonce(individual, task),
        "attempt": 0,
        "status": "ok",
        "final": True,
        "fitness": [float(individual)],
        "metrics": {"rate": 5.5},
        "curve": [3.0, 2.0],
        "started": 1000.0,
        "ended": 1010.0,
        "cpu": 9.5,
        "host": "node1",
        "worker": "1_0_0",
    }
    return IngestedResult(**{**values, **changes})


def failure(individual: int, task: int = 0, **changes: Any) -> IngestedResult:
    """A failed attempt with another one to come."""
    error = {"error_kind": "exception", "error_message": "ValueError: no", "error_tail": "Traceback ..."}
    values = {"status": "failed", "final": False, "fitness": None, **error}
    return result(individual, task, **{**values, **changes})
