"""Values on the command line: `--set KEY=VALUE`, lists of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from l2l_tasks import spec_yaml
from l2l_tasks.errors import SpecError, UserError


def parse(changes: Sequence[str]) -> dict[str, Any]:
    """Field -> value; values are YAML, as in the file. Raises SpecError for what is not KEY=VALUE."""
    found: dict[str, Any] = {}
    problems = []
    for change in changes:
        key, equals, text = change.partition("=")
        parsed = spec_yaml.parse(text, "--set")
        if not equals or not key.strip():
            problems.append(f"--set {change}: expected KEY=VALUE, such as budget.generations=3")
        elif parsed.problems:
            problems.append(f"--set {change}: {parsed.problems[0].message}")
        else:
            found[key.strip()] = parsed.value
    if problems:
        raise SpecError(problems)
    return found


def whole_numbers(option: str, text: str) -> list[int]:
    """The numbers of `1,2,5`. Raises UserError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"{option} {text}: expected whole numbers such as 1,2,5")
    return [int(part) for part in parts]
