"""What the fields of a specification may hold: texts and JSON that can be stored, overrides of parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from l2l_tasks.spec_problems import shorten
from l2l_tasks.spec_yaml import MAX_DEPTH

NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")
OVERRIDE_KEYS = ("low", "high", "log", "choices", "values", "default")


def check_text(value: str) -> str:
    """`value` unchanged when PostgreSQL can hold it; raises ValueError (NUL, lone surrogates)."""
    if NOT_STORABLE.search(value):
        raise ValueError(f"holds a character that cannot be stored (NUL, half an escape): {shorten(value)}")
    return value


def check_json(value: Any, *, depth: int = MAX_DEPTH) -> Any:
    """`value` unchanged when a JSON column can hold it; raises ValueError (NaN, NUL, too deep, ...)."""
    if depth < 0:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be finite, got {value}")
    if isinstance(value, str):
        check_text(value)
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"keys must be texts, got {key!r}")
            check_text(key)
            check_json(item, depth=depth - 1)
    elif isinstance(value, list):
        for item in value:
            check_json(item, depth=depth - 1)
    elif value is not None and not isinstance(value, (str, int, float, bool)):
        raise ValueError(f"not a plain value: {shorten(value)}")
    return value


def check_override(value: Any) -> Any:
    """An override of one parameter: a value or list (fixed), or a mapping with new bounds or choices."""
    check_json(value)
    if value is None:
        raise ValueError("expected a value (fixes the parameter) or new bounds such as {low: 0, high: 1}")
    if not isinstance(value, Mapping):
        return value
    wrong = []
    unknown = [key for key in value if key not in OVERRIDE_KEYS]
    if unknown or not value:
        wrong.append(f"unknown key {unknown}: allowed are {', '.join(OVERRIDE_KEYS)}")
    bounds = [value[key] for key in ("low", "high") if key in value]
    if any(isinstance(b, bool) or not isinstance(b, (int, float)) for b in bounds):
        wrong.append(f"low and high must be numbers, got {shorten(value)}")
    else:
        if len(bounds) == 2 and bounds[0] >= bounds[1]:
            wrong.append(f"low must be below high, got low {bounds[0]} and high {bounds[1]}")
        if value.get("log") and any(b <= 0 for b in bounds):
            wrong.append(f"a logarithmic range must be above 0, got {shorten(value)}")
    if wrong:
        raise ValueError("; ".join(wrong))
    return value


def check_line(value: str) -> str:
    """A text that goes into a job script: one line, no control characters."""
    if not value.isprintable():
        raise ValueError(f"must be one line of printable characters, got {value!r}")
    return value


Options = dict[str, Annotated[Any, BeforeValidator(check_json)]]
Line = Annotated[str, AfterValidator(check_line)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+:,-]+$")]
Text = Annotated[str, AfterValidator(check_text)]
Whole = Annotated[int, Field(ge=1, le=10**9)]
