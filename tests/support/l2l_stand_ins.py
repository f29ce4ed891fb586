"""Options that run the stand-ins for optimizees of L2L, which are in a folder of their own, as at a site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FOLDER = str(Path(__file__).resolve().parent / "l2l_style")
HILL: dict[str, Any] = {
    "optimizee": "stand_ins:Hill",
    "module_path": FOLDER,
    "parameters": {
        "coords": {"type": "float", "low": -2.0, "high": 3.0, "shape": [2]},
        "width": {"type": "float", "low": 0.5, "high": 1.5},
        "steps": {"type": "int", "low": 1, "high": 5},
    },
    "options": {"height": 10.0, "noise": 0.1},
}


def plain(name: str, *objectives: str, **options: Any) -> dict[str, Any]:
    """Options for one of the stand-ins with the single parameter group.x."""
    return {
        "optimizee": f"stand_ins:{name}",
        "module_path": FOLDER,
        "parameters": {"group.x": {"type": "float", "low": 0.0, "high": 1.0}},
        "objectives": [{"name": objective, "direction": "minimize"} for objective in objectives],
        "options": options,
    }
