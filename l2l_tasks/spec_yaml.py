"""Campaign files: YAML to plain values that remember their lines.

Scalars follow the YAML 1.2 core schema, not PyYAML's 1.1: `1e-3` is a number, `no` and `2024-01-01` are texts
and `10:30` is not 630. Keys given twice are mistakes, and aliases cannot blow a file up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Loc = tuple[str | int, ...]

MAX_NODES = 100_000
MAX_DEPTH = 50
MAX_BYTES = 4 * 2**20

_KINDS = ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value")
_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in _KINDS}
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)\Z")
_WORDS: Mapping[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Attributes:
        loc: the keys (and list indices) from the top of the specification to the field.
        message: what is wrong and what is allowed.
    """

    loc: Loc
    message: str

    @property
    def field(self) -> str:
        """The place in dotted form, as users name it; empty for the whole file."""
        return ".".join(str(part) for part in self.loc)


@dataclass(frozen=True)
class Source:
    """Where a specification was read: the file's name and the line (from 1) of every key and list item."""

    name: str
    lines: Mapping[Loc, int] = field(default_factory=dict)

    def line(self, loc: Loc) -> int:
        """The line of a field, or of the nearest enclosing one that is in the file; 1 for the whole file."""
        while loc and loc not in self.lines:
            loc = loc[:-1]
        return self.lines.get(loc, 1)

    def text(self, problem: Problem) -> str:
        """`file:line: field: what is wrong, what is allowed`."""
        place = f"{problem.field}: " if problem.loc else ""
        return f"{self.name}:{self.line(problem.loc)}: {place}{problem.message}"

    def texts(self, problems: Iterable[Problem]) -> list[str]:
        """`text` of each problem once, in the order of the lines."""
        return [self.text(p) for p in sorted(dict.fromkeys(problems), key=lambda p: self.line(p.loc))]


@dataclass(frozen=True)
class Parsed:
    """A YAML file: its value, its lines, and what is wrong with it as YAML."""

    value: Any
    source: Source
    problems: list[Problem]


def parse(text: str, name: str) -> Parsed:
    """Parse one YAML document; mistakes of YAML are returned, never raised."""
    if len(text) > MAX_BYTES:
        return Parsed(None, Source(name), [Problem((), f"longer than {MAX_BYTES // 2**20} MiB")])
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        source = Source(name, {} if mark is None else {(): mark.line + 1})
        return Parsed(None, source, [Problem((), f"not valid YAML: {what}")])
    except (yaml.YAMLError, RecursionError) as error:
        return Parsed(
            None, Source(name), [Problem((), f"not valid YAML: {str(error) or 'nested too deeply'}")]
        )
    reader = _Reader()
    value = None if node is None else reader.read(node, ())
    return Parsed(value, Source(name, reader.lines), reader.problems)


def read(path: Path, name: str | None = None) -> Parsed:
    """Parse a file; one that cannot be read is a mistake like any other."""
    name = name or str(path)
    try:
        return parse(path.read_text(encoding="utf-8"), name)
    except OSError as error:
        return Parsed(None, Source(name), [Problem((), f"cannot be read: {error.strerror}")])
    except UnicodeDecodeError as error:
        return Parsed(None, Source(name), [Problem((), f"is not UTF-8 text (byte {error.start})")])


class _Reader:
    """Turns the node graph of one document into values."""

    def __init__(self) -> None:
        self.lines: dict[Loc, int] = {}
        self.problems: list[Problem] = []
        self._left = MAX_NODES

    def read(self, node: yaml.Node, loc: Loc) -> Any:
        self._left -= 1
        if self._left < 0 or len(loc) > MAX_DEPTH:
            if self._left >= 0 or self._left == -1:
                self.problems.append(Problem(loc, "too large or nested too deeply (aliases count in full)"))
            return None
        self.lines.setdefault(loc, node.start_mark.line + 1)
        if node.tag not in _TAGS:
            self.problems.append(Problem(loc, f"the tag {node.tag} is not allowed: write a plain value"))
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*loc, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, loc)

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(loc, f"line {line}: a key must be a word"))
                continue
            key = str(key_node.value)
            here = (*loc, key)
            if key in found:
                self.problems.append(Problem(here, f"given twice (again in line {line})"))
                continue
            self.lines[here] = line
            found[key] = self.read(value_node, here)
        return found

    def _quoted(self, text: str, loc: Loc) -> str | None:
        """A quoted text; JSON's escapes give characters beyond U+FFFF in two halves."""
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            self.problems.append(Problem(loc, "has half an escape (\\ud800 to \\udfff) that is no character"))
            return None

    def _scalar(self, node: yaml.Node, loc: Loc) -> Any:
        text = str(node.value)
        if isinstance(node, yaml.ScalarNode) and node.style in ("'", '"', "|", ">"):
            return self._quoted(text, loc)
        if text in _WORDS:
            return _WORDS[text]
        if _INT.match(text):
            return int(text) if len(text) < 400 else math.inf
        if _FLOAT.match(text):
            return float(text)
        special = _SPECIAL.match(text)
        if special:
            value = math.inf if special[2].lower() == "inf" else math.nan
            return -value if special[1] == "-" else value
        return text


def dump(value: object) -> str:
    """Plain values as somebody would write them: keys in their order, every language as it is."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
