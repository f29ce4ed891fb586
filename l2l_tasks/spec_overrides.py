"""Changing single fields of a specification by their dotted names: `--set`, the trigger form, `small`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from l2l_tasks.errors import SpecError, UserError
from l2l_tasks.spec import CampaignSpec, parse
from l2l_tasks.spec_yaml import Loc, Problem

SHORT_OVERRIDES = {
    **{key: ("execution", key) for key in ("batch", "in_flight", "workers")},
    "optimizer": ("optimizer", "name"),
}
_NOT_SMALL = {
    "name": "the small form keeps the name of the campaign",
    "schedule": "a schedule starts the campaign as it is without its small form",
}


def apply_overrides(spec: CampaignSpec, overrides: Mapping[str, Any]) -> CampaignSpec:
    """A copy with some fields changed, as a trigger form or the command line asks for.

    Args:
        spec: the specification of the file.
        overrides: new values by dotted name (`budget.generations`), or by the short names `batch`,
            `in_flight`, `workers` and `optimizer`. None changes nothing. Another optimizer starts from
            its default options.

    Raises:
        SpecError: a field is unknown or a value is not allowed; all mistakes at once.
    """
    changed, problems = _changed(spec, overrides)
    if changed is None or problems:
        raise SpecError([f"override {_entry(overrides, p.loc) or p.field}: {p.message}" for p in problems])
    return changed


def small_form(spec: CampaignSpec) -> CampaignSpec:
    """The campaign with what the section `small` of its file changes.

    Raises:
        UserError: the file has no such section.
    """
    if not spec.small:
        raise UserError(
            f"campaign {spec.name} has no small form: give its file a section `small`, such as "
            "`small: {budget.generations: 2}`"
        )
    return apply_overrides(spec, spec.small)


def small_problems(spec: CampaignSpec) -> list[Problem]:
    """What is wrong with the section `small`, each mistake at its entry."""
    own = [Problem((name,), why) for name, why in _NOT_SMALL.items() if name in spec.small]
    own += [Problem(_place(name), "expected a value") for name, value in spec.small.items() if value is None]
    return at_entries(spec.small, [*own, *_changed(spec, spec.small)[1]])


def at_entries(small: Mapping[str, Any], problems: Iterable[Problem]) -> list[Problem]:
    """Problems of a small form at the entries of the section `small` that they come from."""
    moved = []
    for problem in problems:
        entry = _entry(small, problem.loc)
        if entry is None:  # what it changes does not fit something else: optimizer and population, say
            moved.append(Problem(("small",), f"then {problem.field}: {problem.message}"))
        else:
            moved.append(Problem(("small", entry), problem.message))
    return moved


def _changed(spec: CampaignSpec, changes: Mapping[str, Any]) -> tuple[CampaignSpec | None, list[Problem]]:
    """The specification with the changes, and what is wrong with them."""
    values = spec.model_dump(mode="json")
    wanted = {_place(name): value for name, value in changes.items() if value is not None}
    homeless = []
    for place, value in sorted(wanted.items(), key=_outer_first):
        if place == SHORT_OVERRIDES["optimizer"] and value != spec.optimizer.name:
            values["optimizer"]["options"] = {}
        if place[0] == "small" or not _put(values, place, value):
            homeless.append(Problem(place, "there is no such field"))
    changed, problems = parse(values)
    return changed, homeless + problems


def _place(name: str) -> tuple[str, ...]:
    return SHORT_OVERRIDES.get(name, tuple(name.split(".")))


def _outer_first(change: tuple[tuple[str, ...], Any]) -> tuple[int, tuple[str, ...]]:
    """Sections before their keys, the optimizer's name before its options."""
    return len(change[0]), change[0]


def _put(values: dict[str, Any], place: tuple[str, ...], value: Any) -> bool:
    """Set the value at a place, with the sections round it; False when something else is in the way."""
    inner: Any = values
    for key in place[:-1]:
        if inner.get(key) is None:
            inner[key] = {}
        inner = inner[key]
        if not isinstance(inner, dict):
            return False
    inner[place[-1]] = value
    return True


def _entry(changes: Mapping[str, Any], loc: Loc) -> str | None:
    """The name of the change that set the value at a place, or the nearest section round it."""
    place = tuple(map(str, loc))
    around = [name for name in changes if place[: len(_place(name))] == _place(name)]
    return max(around, key=lambda name: len(_place(name)), default=None)
