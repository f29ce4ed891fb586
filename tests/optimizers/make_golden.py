"""Write the golden state of every optimizer whose format version has none yet.

python -m tests.optimizers.make_golden
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optimizers
from optimizers.base import Evaluated, Optimizer, Suggestion
from optimizers.versions import BASE_VERSION
from tests.optimizers.problems import evaluated, fresh, mixed_loss, outcome

GOLDEN = Path(__file__).parent / "golden"


def file_of(name: str) -> Path:
    """Where the golden state of an optimizer's current format is."""
    return GOLDEN / f"{name}-{BASE_VERSION}.{optimizers.get(name).format_version}.npz"


def told(optimizer: Optimizer, asked: list[Suggestion]) -> list[Evaluated]:
    """Losses of the mixed problem; every fifth individual fails."""
    return [
        Evaluated(s.id, None, "failed") if s.id % 5 == 4 else evaluated(optimizer, s, mixed_loss(s.params))
        for s in asked
    ]


def next_generation(optimizer: Optimizer) -> dict[str, Any]:
    """What the optimizer asks now, and what it recommends and reports once that is told."""
    asked = optimizer.ask(12)
    optimizer.tell(told(optimizer, asked))
    return {
        "asked": [[s.id, s.params] for s in asked],
        "best": json.loads(outcome(optimizer)),
        "diagnostics": optimizer.diagnostics(),
    }


def main() -> None:
    for name in optimizers.names():
        path = file_of(name)
        if path.exists():
            continue
        optimizer = fresh(name, seed=2024)
        for _ in range(6):
            asked = optimizer.ask(12)
            optimizer.tell(told(optimizer, asked)[:-1])  # one individual of each generation stays in flight
        path.write_bytes(optimizer.state())
        problem = {"space": optimizer.space.to_json(), "n_objectives": optimizer.n_objectives}
        expected = {**problem, **next_generation(optimizer)}
        path.with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
