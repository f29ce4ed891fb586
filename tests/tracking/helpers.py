"""Campaigns with told generations, made straight in the store."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from l2l_tasks.store import campaigns, code, generations, outbox
from l2l_tasks.store.campaigns import Campaign
from l2l_tasks.store.generations import NewIndividual, ToldIndividual
from l2l_tasks.store.states import OptimizerState

SPEC: dict[str, Any] = {
    "name": "probe",
    "description": "A campaign of the tests.",
    "optimizee": {"name": "sphere", "options": {"dimension": 2}},
    "optimizer": {"name": "cmaes", "options": {}},
    "budget": {"generations": 3},
    "site": "local",
    "seed": 7,
    "tags": ["tests"],
    "note": "Is the note shown?",
}


def begin(engine: Engine, origin: str = "airflow:probe/manual__1") -> Campaign:
    """A campaign without generations."""
    with engine.begin() as connection:
        code.put(connection, "c" * 64, {"model.py": b"pass"})
        return campaigns.create(
            connection,
            origin=origin,
            name="probe",
            spec=SPEC,
            problem={"objectives": [{"name": "loss", "direction": "minimize"}]},
            spec_hash="5" * 64,
            code_hash="c" * 64,
            site="local",
            seed=7,
        )


def tell(engine: Engine, campaign_id: str, generation: int, individuals: int = 4) -> dict[str, Any]:
    """One told generation with its outbox row; the payload."""
    first = generation * individuals
    rows: list[dict[str, Any]] = [
        {
            "individual": first + i,
            "status": "ok" if i else "failed",
            "fitness": [1.0 / (first + i)] if i else None,
            "params": {"x": [0.5, float(i)], "kind": "a" if i % 2 else 3},
        }
        for i in range(individuals)
    ]
    best = {"index": first + individuals - 1, "params": rows[-1]["params"], "fitness": rows[-1]["fitness"]}
    payload = {
        "generation": generation,
        "told_at": 1_700_000_000_000 + 1000 * generation,
        "metrics": {"loss/best": rows[-1]["fitness"][0], "individuals/ok": individuals - 1.0},
        "best": best,
        "population": rows,
    }
    summary = {
        "objectives": ["loss"],
        "fitness": {"best": best["fitness"], "median": [0.5], "mean": [0.5], "std": [0.1]},
        "progress": {"best": best, "evaluations": individuals, "stagnant": 0},
    }
    with engine.begin() as connection:
        generations.ask_generation(
            connection,
            campaign_id,
            generation,
            [NewIndividual(row["individual"], row["params"]) for row in rows],
            [],
            OptimizerState(generation, "asked", 1, "cmaes", b"asked"),
        )
        told = [ToldIndividual(row["individual"], row["status"], row["fitness"]) for row in rows]
        state = OptimizerState(generation, "told", 1, "cmaes", b"told")
        generations.tell_generation(connection, campaign_id, generation, told, state, summary, "a" * 64)
        outbox.add(connection, campaign_id, generation, payload)
    return payload


def waiting(engine: Engine, campaign_id: str) -> int:
    """Rows in the campaign's outbox."""
    with engine.begin() as connection:
        return outbox.pending_count(connection, campaign_id)
