"""What pydantic found wrong, in the words of somebody who writes campaign files."""

from __future__ import annotations

import copy
import difflib
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from l2l_tasks.spec_yaml import Loc, Problem

M = TypeVar("M", bound=BaseModel)

# Each round drops what is wrong; one more shows what pydantic checks only where all else is right.
_ROUNDS = 10
_MAPPING = "expected `key: value` lines"
_SIMPLE = {
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "bool_type": "expected true or false",
    "string_type": "expected a text (put it between quotes if it looks like a number)",
    "list_type": "expected a list",
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Every mistake that a validation found, in the order of the model's fields."""
    return [Problem(tuple(e["loc"]), _message(e, model)) for e in error.errors(include_url=False)]


@dataclass(frozen=True)
class Salvage(Generic[M]):
    """What could be read of values with mistakes.

    Attributes:
        model: what is right, without the rest; None when too little is right.
        problems: every mistake, each once.
        lacking: places whose values were dropped: the model holds a default or a stand-in there.
    """

    model: M | None
    problems: list[Problem]
    lacking: frozenset[Loc]


def salvage(
    model: type[M],
    value: Mapping[str, Any],
    stand_ins: Mapping[Loc, tuple[Loc, Any]],
    unread: Iterable[Loc] = (),
) -> Salvage[M]:
    """Validate, drop what is wrong, and validate the rest, until all mistakes are known.

    Args:
        model: what the values should be.
        value: the values.
        stand_ins: for places that something else depends on: what is to be replaced when their value is
            dropped (the place or a section round it), and by what, so that nothing else is wrong then.
        unread: places whose values are wrong already for another reason.
    """
    left, problems = copy.deepcopy(dict(value)), list[Problem]()
    lacking = {_drop(left, loc, stand_ins) for loc in unread}
    for _ in range(_ROUNDS):
        try:
            return Salvage(model.model_validate(left), problems, frozenset(lacking))
        except ValidationError as error:
            found, meant = problems_of(error, model), _meant(error, model, left)
        found = [p for p in found if p.loc not in meant]
        problems += found
        lacking |= {_drop(left, loc, stand_ins) for loc in (*meant, *(p.loc for p in found))}
        if () in lacking:
            break
    return Salvage(None, problems, frozenset(lacking))


def _drop(values: dict[str, Any], loc: Loc, stand_ins: Mapping[Loc, tuple[Loc, Any]]) -> Loc:
    """Remove the value at a place, in a list the whole list; the place of what was removed."""
    sections: list[dict[str | int, Any]] = []
    step: Any = values
    while isinstance(step, dict) and len(sections) < len(loc):
        sections.append(step)
        step = step.get(loc[len(sections) - 1])
    place = loc[: len(sections)]
    if place in stand_ins:
        where, value = stand_ins[place]
        sections[len(where) - 1][where[-1]] = copy.deepcopy(value)
    elif place:
        sections[-1].pop(place[-1], None)
    return place


def _meant(error: ValidationError, model: type[BaseModel], values: Mapping[str, Any]) -> list[Loc]:
    """Absent keys that misspelt ones stand for: that they are missing is no mistake of its own."""
    found: list[Loc] = []
    for e in error.errors(include_url=False):
        if e["type"] != "extra_forbidden":
            continue
        *path, key = e["loc"]
        section: Any = values
        for step in path:
            section = section[step]
        close = closest(str(key), keys_of(section_at(model, tuple(path)) or model))
        if close is not None and close not in section:
            found.append((*path, close))
    return found


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like `word`, if one is."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known word is close, else nothing."""
    close = closest(word, known)
    return f"; did you mean {close!r}?" if close else ""


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys that users write in a section."""
    return [field.alias or name for name, field in model.model_fields.items()]


def section_at(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """The section of the specification at a location, None when it is not a section."""
    for key in loc:
        found = next((f for name, f in model.model_fields.items() if (f.alias or name) == key), None)
        section = None if found is None else _as_section(found.annotation)
        if section is None:
            return None
        model = section
    return model


def _as_section(annotation: Any) -> type[BaseModel] | None:
    if get_origin(annotation) in (Union, types.UnionType):
        return next((s for a in get_args(annotation) if (s := _as_section(a)) is not None), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _message(error: Any, model: type[BaseModel]) -> str:
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    loc: Loc = tuple(error["loc"])
    got = f", got {shorten(given)}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        section = section_at(model, loc)
        keys = f" ({', '.join(keys_of(section))})" if section is not None else ""
        return f"is missing{keys}"
    if kind == "extra_forbidden":
        section = section_at(model, loc[:-1]) or model
        keys_here = keys_of(section)
        allowed_here = ", ".join(keys_here) or "none"
        return f"unknown key{did_you_mean(str(loc[-1]), keys_here)} (allowed: {allowed_here})"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", context["expected"])
        return f"must be one of {', '.join(allowed)}{got}{did_you_mean(str(given), allowed)}"
    if kind == "string_pattern_mismatch":
        what = _description(model, loc)
        return f"expected {what + ', ' if what else ''}of the form {context['pattern']}{got}"
    if kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        return f"must be {word} {context[key]}{got}"
    if kind in ("too_short", "too_long"):
        most, number = ("at least", "min_length") if kind == "too_short" else ("at most", "max_length")
        return f"must have {most} {context[number]} entries{got}"
    if kind in _SIMPLE:
        section = section_at(model, loc) if _SIMPLE[kind] == _MAPPING else None
        keys = f" with {', '.join(keys_of(section))}" if section is not None else ""
        return f"{_SIMPLE[kind]}{keys}{got}"
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}{got}"


def _description(model: type[BaseModel], loc: Loc) -> str:
    section = section_at(model, loc[:-1]) or model
    return next(
        (f.description or "" for n, f in section.model_fields.items() if (f.alias or n) == loc[-1]), ""
    )


def shorten(value: Any) -> str:
    """A value as it may be quoted in one line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
