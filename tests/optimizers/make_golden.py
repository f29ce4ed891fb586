"""Write the golden state of every optimizer whose format version has none yet.

python -m tests.optimizers.make_golden
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optimizers
from optimizers.base import Evaluated, Optimizer, Suggestion
from tests.optimizers.problems import MIXED, fresh, mixed_loss

GOLDEN = Path(__file__).parent / "golden"


def told(asked: list[Suggestion]) -> list[Evaluated]:
    """Losses of the mixed problem; every fifth individual fails."""
    return [
        Evaluated(s.id, None, "failed") if s.id % 5 == 4 else Evaluated(s.id, (mixed_loss(s.params),))
        for s in asked
    ]


def next_generation(optimizer: Optimizer) -> dict[str, Any]:
    """What the optimizer asks now, and what it recommends and reports once that is told."""
    asked = optimizer.ask(12)
    optimizer.tell(told(asked))
    recommendation = optimizer.recommend()
    return {
        "asked": [[s.id, s.params] for s in asked],
        "recommended": recommendation and recommendation.params,
        "diagnostics": optimizer.diagnostics(),
    }


def main() -> None:
    for name in optimizers.names():
        path = GOLDEN / f"{name}-{optimizers.get(name).format_version}.npz"
        if path.exists():
            continue
        optimizer = fresh(name, seed=2024)
        for _ in range(6):
            asked = optimizer.ask(12)
            optimizer.tell(told(asked)[:-1])  # one individual of each generation stays in flight
        path.write_bytes(optimizer.state())
        expected = {"space": MIXED.to_json(), **next_generation(optimizer)}
        path.with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
