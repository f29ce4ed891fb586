"""The typed search space, and its map to the unit cube in which optimizers work.

A parameter set is a dict of plain JSON values. `Space.decode` maps a point of the cube [0, 1]^D to one,
`Space.encode` maps back. Every element of a `Float` or `Int` and every `Categorical` or `Ordinal` is one
coordinate; `Fixed` is none. Whole numbers and choices own one bin of their coordinate each (equal bins,
except for `Int(log=True)`) and are encoded as the middle of it.

This module is staged to the site: standard library and numpy only, Python 3.8.
"""

from __future__ import annotations

import contextlib
import json
import math
import numbers
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Dict, List, Mapping, Sequence, Tuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]

_NUMBERS: Any = numbers.Real  # numpy's scalars included
_WHOLE_NUMBERS: Any = numbers.Integral
_LARGEST_INT, _LARGEST_LOG_INT = 2**48, 2**40  # beyond, float64 loses the middle of a bin; so on a log scale


class SpaceError(ValueError):
    """A search space, an override or a parameter set with mistakes; one line per mistake."""


def _plain_number(value: Any, whole: bool) -> Any:
    """The number as plain int or float; SpaceError for all that is no finite number."""
    wanted = "a whole number" if whole else "a finite number"
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        hint = " (YAML reads 1e-5 as a text, 1.0e-5 as a number)" if isinstance(value, str) else ""
        raise SpaceError(f"{wanted} is needed, got {value!r}{hint}")
    if whole and isinstance(value, _WHOLE_NUMBERS):
        if abs(int(value)) > _LARGEST_INT:
            raise SpaceError(f"whole numbers up to {_LARGEST_INT} are exact, got {value!r}")
        return int(value)
    if whole or not -sys.float_info.max <= value <= sys.float_info.max:
        raise SpaceError(f"{wanted} is needed, got {value!r}")
    return float(value)


def _elements(value: Any, shape: Tuple[int, ...]) -> List[Any]:
    """The elements of nested lists of this shape, in C order; SpaceError when the shape differs."""
    if not shape:
        return [value]
    if not isinstance(value, (list, tuple)) or len(value) != shape[0]:
        raise SpaceError(f"a list of {shape[0]} elements is needed (shape {list(shape)}), got {value!r}")
    return [element for part in value for element in _elements(part, shape[1:])]


def _plain_json(value: Any) -> Any:
    """A deep copy of a JSON value; SpaceError when it is none."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise SpaceError(f"a JSON value is needed, got {value!r} ({error})") from None


class Parameter(ABC):
    """One entry of a space. Immutable; the constructor raises SpaceError for what cannot be."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of coordinates in the unit cube."""

    @abstractmethod
    def decode(self, unit: FloatArray) -> Any:
        """JSON value of `unit`, shape (size,), within [0, 1]."""

    @abstractmethod
    def encode(self, value: Any) -> FloatArray:
        """Coordinates, shape (size,), of a valid value."""

    @abstractmethod
    def check(self, value: Any) -> object:
        """Raise SpaceError unless the value is of this parameter's type, shape and range."""

    @abstractmethod
    def start(self) -> Any:
        """The default, or the middle of the range where none is declared."""

    @abstractmethod
    def fixed(self, value: Any) -> Fixed:
        """This parameter held at a value of its type. A number may leave the range: the user decides."""

    def changed(self, change: Mapping[str, Any]) -> Parameter:
        """This parameter with other bounds, choices or default (not another shape)."""
        allowed = [name for name in self.to_json() if name not in ("type", "shape")]
        unknown = [str(key) for key in change if key not in allowed]
        if unknown:
            raise SpaceError(f"unknown {', '.join(unknown)}; {self.kind} has {', '.join(allowed)}")
        with contextlib.suppress(SpaceError):
            return replace(self, **change)  # type: ignore[type-var]
        # The declared default may lie outside the new range; then the new range decides.
        return replace(self, **{"default": None, **change})  # type: ignore[type-var]

    def to_json(self) -> Dict[str, Any]:
        """All fields and `type`, as JSON."""
        return {"type": self.kind, **vars(self)}


@dataclass(frozen=True)
class _Numeric(Parameter):
    """What Float and Int share. `shape` () is a scalar; else the values are nested lists."""

    low: float
    high: float
    log: bool = False
    default: Any = None
    shape: Tuple[int, ...] = ()
    whole: ClassVar[bool] = False

    def __post_init__(self) -> None:
        low, high = (_plain_number(bound, self.whole) for bound in (self.low, self.high))
        if low >= high:
            raise SpaceError(f"low {low!r} must be less than high {high!r} (for one value only, fix it)")
        if not math.isfinite(high - low):
            raise SpaceError(f"the range from {low!r} to {high!r} is too wide for float64")
        if not isinstance(self.log, bool) or (self.log and low <= 0):
            raise SpaceError(f"log: true (then low > 0) or false is needed, got {self.log!r}, low {low!r}")
        if self.log and self.whole and high > _LARGEST_LOG_INT:
            raise SpaceError(f"log: true needs high <= {_LARGEST_LOG_INT}, got {high}")
        shape = tuple(self.shape)
        if not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape):
            raise SpaceError(f"shape: positive whole numbers are needed, got {self.shape!r}")
        for name, value in (("low", low), ("high", high), ("shape", shape)):
            object.__setattr__(self, name, value)
        if self.default is not None:
            object.__setattr__(self, "default", _plain_json(self._broadcast(self.default)))
            self.check(self.default)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def check(self, value: Any) -> None:
        for element in _elements(value, self.shape):
            if not self.low <= _plain_number(element, self.whole) <= self.high:
                raise SpaceError(f"{element!r} is outside [{self.low!r}, {self.high!r}]")

    def encode(self, value: Any) -> FloatArray:
        low, high = self.scale()
        values = np.array(_elements(value, self.shape), dtype=np.float64)
        return np.clip(((np.log(values) if self.log else values) - low) / (high - low), 0.0, 1.0)

    def start(self) -> Any:
        return _plain_json(self.default) if self.default is not None else self.decode(np.full(self.size, 0.5))

    def fixed(self, value: Any) -> Fixed:
        value = self._broadcast(value)
        for element in _elements(value, self.shape):
            _plain_number(element, self.whole)
        return Fixed(value)

    def scale(self) -> Tuple[float, float]:
        """Both ends of the coordinate, as logarithms if `log`; for whole numbers, bins included."""
        margin = 0.5 if self.whole else 0.0
        low, high = self.low - margin, self.high + margin
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def unscaled(self, unit: FloatArray) -> Any:
        """Values of coordinates, of their shape, neither rounded nor clipped; exact at both ends."""
        low, high = self.scale()
        values = low * (1 - unit) + high * unit
        return np.exp(values) if self.log else values

    def _broadcast(self, value: Any) -> Any:
        """A number stands for all elements of an array."""
        if not self.shape or isinstance(value, (list, tuple)):
            return value
        return np.full(self.shape, _plain_number(value, self.whole)).tolist()


@dataclass(frozen=True)
class Float(_Numeric):
    """A real number in [low, high]; `log`: uniform in its logarithm."""

    kind: ClassVar[str] = "float"

    def decode(self, unit: FloatArray) -> Any:
        return np.clip(self.unscaled(unit), self.low, self.high).reshape(self.shape).tolist()


@dataclass(frozen=True)
class Int(_Numeric):
    """A whole number in [low, high], both included; `log`: k owns the logarithms from k - .5 to k + .5."""

    low: int
    high: int
    kind: ClassVar[str] = "int"
    whole: ClassVar[bool] = True

    def decode(self, unit: FloatArray) -> Any:
        values = np.floor(self.unscaled(unit) + 0.5).astype(np.int64)
        return np.clip(values, self.low, self.high).reshape(self.shape).tolist()


class Choice(Parameter):
    """What Categorical and Ordinal share: distinct JSON scalars in `field`, one equal bin each."""

    default: Any
    field: ClassVar[str]

    def __post_init__(self) -> None:
        given = self.options
        if isinstance(given, (str, bytes)) or not isinstance(given, Sequence) or not given:
            raise SpaceError(f"{self.field}: a list of at least one value is needed, got {given!r}")
        options = tuple(_plain_json(value) for value in given)
        for i, value in enumerate(options):
            if isinstance(value, (list, dict)) or value in options[:i]:
                raise SpaceError(f"{self.field}: distinct texts, numbers, booleans are needed, got {value!r}")
        object.__setattr__(self, self.field, options)
        if self.default is not None:
            self.check(self.default)

    @property
    def options(self) -> Any:
        """The values, in the order of their bins."""
        return getattr(self, self.field)

    @property
    def size(self) -> int:
        return 1

    def decode(self, unit: FloatArray) -> Any:
        return self.options[min(int(unit[0] * len(self.options)), len(self.options) - 1)]

    def encode(self, value: Any) -> FloatArray:
        return np.array([(self.check(value) + 0.5) / len(self.options)])

    def check(self, value: Any) -> int:
        for i, option in enumerate(self.options):
            if option == value and isinstance(option, bool) == isinstance(value, bool):
                return i
        raise SpaceError(f"{value!r} is none of {', '.join(map(repr, self.options))}")

    def fixed(self, value: Any) -> Fixed:
        return Fixed(self.options[self.check(value)])

    def start(self) -> Any:
        return self.options[0] if self.default is None else self.default


@dataclass(frozen=True)
class Categorical(Choice):
    """One of `choices`, which have no order. The first is the default."""

    choices: Sequence[Any]
    default: Any = None
    kind: ClassVar[str] = "categorical"
    field: ClassVar[str] = "choices"


@dataclass(frozen=True)
class Ordinal(Choice):
    """One of `values`, given in their order: neighbours are alike. The first is the default."""

    values: Sequence[Any]
    default: Any = None
    kind: ClassVar[str] = "ordinal"
    field: ClassVar[str] = "values"


@dataclass(frozen=True)
class Fixed(Parameter):
    """A value that is not optimised, but handed to every evaluation. Any JSON value."""

    value: Any
    kind: ClassVar[str] = "fixed"

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _plain_json(self.value))

    @property
    def size(self) -> int:
        return 0

    def decode(self, unit: FloatArray) -> Any:  # noqa: ARG002
        return self.start()

    def encode(self, value: Any) -> FloatArray:  # noqa: ARG002
        return np.empty(0)

    def check(self, value: Any) -> None:
        if _plain_json(value) != self.value:
            raise SpaceError(f"is fixed at {self.value!r}, got {value!r}")

    def start(self) -> Any:
        return _plain_json(self.value)

    def fixed(self, value: Any) -> Fixed:
        return Fixed(value)


_KINDS = {cls.kind: cls for cls in (Float, Int, Categorical, Ordinal, Fixed)}


class Space:
    """Named parameters in a fixed order. SpaceError for what is no name or no Parameter."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self.parameters: Dict[str, Parameter] = dict(parameters)
        self.names: Tuple[str, ...] = tuple(self.parameters)
        self.slices: Dict[str, slice] = {}
        self.dimension: int = 0
        for name, parameter in self.parameters.items():
            if not isinstance(name, str) or not name or not isinstance(parameter, Parameter):
                raise SpaceError(f"{name!r}: a name and a Float, Int, Categorical, ... are needed")
            self.slices[name] = slice(self.dimension, self.dimension + parameter.size)
            self.dimension += parameter.size

    def decode(self, unit: Any) -> Dict[str, Any]:
        """The parameter set (plain JSON values) at a point of the unit cube, shape (dimension,)."""
        point = np.asarray(unit, dtype=np.float64)
        if point.shape != (self.dimension,) or not bool(np.all((point >= 0) & (point <= 1))):
            raise SpaceError(f"a point in [0, 1] of shape ({self.dimension},) is needed, got {unit!r}")
        return {name: self.parameters[name].decode(point[cut]) for name, cut in self.slices.items()}

    def encode(self, params: Mapping[str, Any]) -> FloatArray:
        """The point, shape (dimension,), of a parameter set; SpaceError when the set is not valid."""
        self.validate(params)
        parts = [self.parameters[name].encode(params[name]) for name in self.names]
        return np.concatenate([np.empty(0), *parts])

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raise SpaceError, one line per problem, unless every parameter is there and valid."""
        known = ", ".join(self.names)
        errors = [f"{name}: unknown; known: {known}" for name in params if name not in self.parameters]
        for name, parameter in self.parameters.items():
            if name not in params:
                errors.append(f"{name}: missing")
            else:
                _gather(errors, name, parameter.check, params[name])
        _raise(errors)

    def default(self) -> Dict[str, Any]:
        """The parameter set of all defaults; where none is declared, the middle of the range."""
        return {name: parameter.start() for name, parameter in self.parameters.items()}

    def override(self, changes: Mapping[str, Any]) -> Space:
        """A copy: a value or list fixes a parameter, a mapping changes its fields. SpaceError as validate."""
        errors: List[str] = []
        parameters = dict(self.parameters)
        for name, change in changes.items():
            if name not in parameters:
                errors.append(f"{name}: unknown; known: {', '.join(self.names)}")
                continue
            old = parameters[name]
            apply = old.changed if isinstance(change, Mapping) else old.fixed
            parameters[name] = _gather(errors, name, apply, change) or old
        _raise(errors)
        return Space(parameters)

    def to_json(self) -> Dict[str, Any]:
        """As JSON; the parameters are a list, because jsonb does not keep the order of keys."""
        return {"parameters": _plain_json([{"name": n, **p.to_json()} for n, p in self.parameters.items()])}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Space:
        """The space that `to_json` described; SpaceError when it describes none."""
        errors: List[str] = []
        parameters: Dict[str, Parameter] = {}
        for entry in data["parameters"]:
            given = dict(entry)
            name, kind = given.pop("name", "?"), given.pop("type", None)
            if kind in _KINDS:
                parameters[name] = _gather(errors, name, lambda kind=kind, given=given: _KINDS[kind](**given))
            else:
                errors.append(f"{name}: unknown type {kind!r}; known: {', '.join(_KINDS)}")
        _raise(errors)
        return cls(parameters)


def _gather(errors: List[str], name: str, function: Any, *arguments: Any) -> Any:
    """Call; a SpaceError becomes a line about `name` in `errors`."""
    try:
        return function(*arguments)
    except (SpaceError, TypeError) as error:
        errors.append(f"{name}: {error}")
        return None


def _raise(errors: List[str]) -> None:
    if errors:
        raise SpaceError("\n".join(errors))
