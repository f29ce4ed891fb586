"""Campaign files for the tests: one with every field, and wrong values for each of them."""

from __future__ import annotations

import copy
from typing import Any

import yaml

FULL: dict[str, Any] = {
    "name": "full",
    "description": "every field is given",
    "optimizee": {"name": "sphere", "options": {"dimension": 3}},
    "parameters": {"x": {"low": -1.0, "high": 2.0}},
    "tasks": {
        "per_individual": 1,
        "fresh": True,
        "repeats": 2,
        "aggregate": {"quantile": 0.9},
        "test": {"tasks": 5, "repeats": 2, "every": 3},
    },
    "constraints": {"value": {"low": 0.0, "high": 10.0}, "rate": {"high": 1}},
    "optimizer": {"name": "cmaes", "options": {"population": 8}},
    "from_campaign": {"campaign": "earlier-0123abcd", "limit": 50},
    "budget": {
        "generations": 10,
        "evaluations": 500,
        "core_hours": 1.5,
        "wall_time": "1h30m",
        "target": 1e-3,
        "stagnation": 5,
    },
    "site": "local",
    "resources": {
        "nodes": 1,
        "tasks": 1,
        "cpus": 2,
        "gpus": 1,
        "memory": "2G",
        "time": "00:30:00",
        "partition": "batch",
        "account": "project1",
        "qos": "normal",
        "extra": {"--constraint": "gpu", "--exclusive": None},
    },
    "execution": {
        "batch": 8,
        "in_flight": 16,
        "workers": 4,
        "linger": "5m",
        "bundle": 2,
        "slots": 1,
        "attempts": 3,
        "timeout": "10m",
        "timeout_factor": 4.0,
        "on_failure": "worst",
    },
    "schedule": "0 3 * * 1-5",
    "seed": 12,
    "tags": ["demo"],
    "owner": "somebody",
    "note": "a note",
}

SECTIONS = ("optimizee", "tasks", "optimizer", "budget", "resources", "execution")

_NO_WHOLE = (0, -3, 1.5, "4", "many", True, [1])
_NO_NUMBER = ("much", True, [1.0], float("nan"), float("inf"))
_NO_DURATION = ("soon", "10 parsecs", "1h30", "12:30", "30m1h", -5, True, [60], "", float("inf"))
_NO_TEXT = (3, True, ["a"], {"a": 1})

WRONG: dict[tuple[str, ...], tuple[Any, ...]] = {
    ("name",): ("My Campaign", "9a", "", "x" * 41, "ü", *_NO_TEXT),
    ("description",): _NO_TEXT,
    ("optimizee",): ("a", 3, [], {"name": "a", "class": "a:B"}, {"name": "a", "path": "."}, {"path": "."}),
    ("optimizee", "options"): (3, "x", [1]),
    ("optimizee", "options", "dimension"): (float("nan"),),
    ("parameters",): (3, "x", [1]),
    ("parameters", "x"): (
        {"low": 2.0, "high": 1.0},
        {"low": 1.0, "high": 1.0},
        {"low": "a"},
        {"lower": 1.0},
        {"low": 0.0, "high": 1.0, "log": True},
        {},
        float("inf"),
        [1.0, float("nan")],
    ),
    ("tasks",): (3, "x"),
    ("tasks", "per_individual"): _NO_WHOLE,
    ("tasks", "fresh"): (1, "true", "yes"),
    ("tasks", "repeats"): _NO_WHOLE,
    ("tasks", "aggregate"): (
        "average",
        3,
        {},
        ["mean"],
        {"quantile": 1.0},
        {"quantile": True},
        {"quantile": "0.5"},
        {"quantile": 0.5, "low": 1},
    ),
    ("tasks", "test"): (3, "x", {"every": 2}),
    ("tasks", "test", "tasks"): _NO_WHOLE,
    ("tasks", "test", "repeats"): _NO_WHOLE,
    ("tasks", "test", "every"): _NO_WHOLE,
    ("constraints",): (3, "x", [1], {"": {"low": 0}}, {"x" * 201: {"low": 0}}),
    ("constraints", "value"): (
        {},
        3,
        [0, 1],
        {"low": 2.0, "high": 1.0},
        {"lower": 1.0},
        {"low": "a"},
        {"high": True},
        {"high": float("nan")},
    ),
    ("optimizer",): ("cmaes", 3),
    ("optimizer", "name"): _NO_TEXT,
    ("optimizer", "options"): (3, "x"),
    ("from_campaign",): (
        3,
        "",
        "No Name",
        {"limit": 3},
        {"campaign": 3},
        {"campaign": "a", "limit": 0},
        {"campaign": "a", "limit": 20_000},
        {"campaign": "a", "limit": True},
        {"campaign": "a", "best": 3},
    ),
    ("budget",): (10, {}, {"target": 0.5}, {"stagnation": 3}),
    ("budget", "generations"): _NO_WHOLE,
    ("budget", "evaluations"): _NO_WHOLE,
    ("budget", "core_hours"): (0, -1.0, *_NO_NUMBER),
    ("budget", "wall_time"): (0, *_NO_DURATION),
    ("budget", "target"): _NO_NUMBER,
    ("budget", "stagnation"): _NO_WHOLE,
    ("site",): ("no such", "a/b", *_NO_TEXT),
    ("resources", "nodes"): _NO_WHOLE,
    ("resources", "tasks"): _NO_WHOLE,
    ("resources", "cpus"): _NO_WHOLE,
    ("resources", "gpus"): (-1, 1.5, "1", True),
    ("resources", "memory"): (20, "20", "2 parsecs", "G", "-2G", "0G", True, [2]),
    ("resources", "time"): (10, *_NO_DURATION),
    ("resources", "partition"): ("two words", "a\nb", "$(id)", "", *_NO_TEXT),
    ("resources", "account"): ("two words", *_NO_TEXT),
    ("resources", "qos"): ("a;b", *_NO_TEXT),
    ("resources", "extra"): ({"-n": "1"}, {"constraint": "x"}, {"--array": "1"}, {"--A b": "c"}, "--x"),
    ("resources", "extra", "--constraint"): ("a\nb", "a\x1b[0m", 3),
    ("execution",): (3, "x"),
    ("execution", "batch"): _NO_WHOLE,
    ("execution", "in_flight"): (7, *_NO_WHOLE),
    ("execution", "workers"): _NO_WHOLE,
    ("execution", "linger"): _NO_DURATION,
    ("execution", "bundle"): _NO_WHOLE,
    ("execution", "slots"): _NO_WHOLE,
    ("execution", "attempts"): (101, *_NO_WHOLE),
    ("execution", "timeout"): (0, *_NO_DURATION),
    ("execution", "timeout_factor"): (1.0, 0.5, *_NO_NUMBER),
    ("execution", "on_failure"): ("retrry", "ignore", 3),
    ("schedule",): ("daily", "* * * *", "61 * * * *", "* 5-3 * * *", "*/0 * * * *", "@often", "a * * * *", 5),
    ("seed",): (-1, 2**32, 1.5, "1", True),
    ("tags",): ("demo", [1], ["a\nb"], {"a": "b"}),
    ("owner",): ("a\nb", *_NO_TEXT),
    ("note",): _NO_TEXT,
    ("small",): (
        3,
        "x",
        [1],
        {"budget.generations": 0},
        {"budget.generatons": 2},
        {"batch": 2, "seed": None},
        {"seed.x": 1},
        {"name": "another"},
        {"schedule": "0 3 * * *"},
        {"small.batch": 2},
        {"resources.time": "1m", "batch": 2},
    ),
}


def changed(loc: tuple[str, ...], value: Any) -> dict[str, Any]:
    """FULL with one field replaced (or added)."""
    document = copy.deepcopy(FULL)
    inner = document
    for key in loc[:-1]:
        inner = inner[key]
    inner[loc[-1]] = value
    return document


def text_of(document: Any) -> str:
    """As YAML in block style, where every key has its own line."""
    return str(yaml.safe_dump(document, sort_keys=False))


def line_of(text: str, loc: tuple[str, ...]) -> int:
    """The line of a key in block-style YAML, found without the code under test."""
    lines, start = text.splitlines(), 0
    for depth, key in enumerate(loc):
        wanted = "  " * depth + key + ":"
        start = next(i for i in range(start, len(lines)) if lines[i].startswith(wanted))
    return start + 1
