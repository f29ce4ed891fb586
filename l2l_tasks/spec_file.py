"""Campaign files: a specification with the lines that it was read from, or every mistake by its line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2l_tasks import spec_yaml
from l2l_tasks.errors import SpecError
from l2l_tasks.spec import CampaignSpec, salvaged
from l2l_tasks.spec_overrides import small_problems
from l2l_tasks.spec_yaml import Loc, Problem, Source


@dataclass(frozen=True)
class Draft:
    """A campaign file as far as it is right.

    Attributes:
        spec: the specification; with mistakes, what is left without them. None when nothing is.
        problems: every mistake that can be seen without importing the optimizer and the optimizee.
        lacking: places whose values were dropped because they are wrong (`Salvage.lacking`).
        source: the lines of the file.
    """

    spec: CampaignSpec | None
    problems: list[Problem]
    lacking: frozenset[Loc]
    source: Source


def draft(path: Path) -> Draft:
    """Read a campaign file, mistakes and all."""
    parsed = spec_yaml.read(path)
    if parsed.problems and parsed.value is None:
        return Draft(None, parsed.problems, frozenset(), parsed.source)
    unread = [p.loc for p in parsed.problems if _value_at(parsed.value, p.loc) is None]
    found = salvaged(parsed.value, unread)
    small = [] if found.model is None else small_problems(found.model)
    problems = [*parsed.problems, *found.problems, *small]
    return Draft(found.model, problems, found.lacking, parsed.source)


def _value_at(value: Any, loc: Loc) -> Any:
    """The value at a place, None when there is none."""
    for key in loc:
        if isinstance(value, list) and isinstance(key, int):
            value = value[key]
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def load(path: Path) -> CampaignSpec:
    """Read a campaign file.

    Raises:
        SpecError: with every mistake that can be seen without importing the optimizer and the optimizee,
            each as `file:line: field: what is wrong, what is allowed`.
    """
    return load_with_source(path)[0]


def load_with_source(path: Path) -> tuple[CampaignSpec, Source]:
    """Like `load`, and the lines of the file, for problems that are found later."""
    found = draft(path)
    if found.spec is None or found.problems:
        raise SpecError(found.source.texts(found.problems))
    return found.spec, found.source
