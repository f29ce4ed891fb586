"""`--set KEY=VALUE` of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from l2l_tasks import spec_yaml
from l2l_tasks.errors import SpecError


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
