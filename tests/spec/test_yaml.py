"""YAML as users write it: syntax mistakes with their line, and the traps of YAML 1.1."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from l2l_tasks.errors import SpecError
from l2l_tasks.spec_file import load
from l2l_tasks.spec_yaml import MAX_BYTES, parse, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("007", 7),
        ("-3", -3),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("~", None),
        ("", None),
        ("10:30:00", "10:30:00"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("'1'", "1"),
        ("-.inf", -math.inf),
    ],
)
def test_scalars_are_what_they_look_like(text: str, value: object) -> None:
    parsed = parse(f"key: {text}", "f")
    assert parsed.problems == []
    assert parsed.value == {"key": value}
    assert type(parsed.value["key"]) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("a: 1\nb: 'x\n", 3, "not valid YAML"),
        ("a: 1\n b: 2\n", 2, "not valid YAML"),
        ("a: 1\nb: *nothing\n", 2, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        ("a: 1\nb: 2\na: 3\n", 1, "given twice (again in line 3)"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", 2, "tag"),
        ("a: !secret x\n", 1, "tag"),
        ("? [1, 2]\n: 3\n", 1, "a key must be a word"),
        ('a: 1\nb: "\\ud800"\n', 2, "no character"),
    ],
)
def test_mistakes_have_their_line(text: str, line: int, what: str) -> None:
    parsed = parse(text, "f")
    texts = [parsed.source.text(problem) for problem in parsed.problems]
    assert any(t.startswith(f"f:{line}: ") and what in t for t in texts), texts


def test_aliases_cannot_blow_up() -> None:
    """Ten levels of ten references each are ten thousand million values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 11)]
    parsed = parse("\n".join(lines), "f")
    assert len(parsed.problems) == 1
    assert "too large" in parsed.problems[0].message


def test_recursive_aliases_and_deep_nesting_end() -> None:
    assert parse("a: &a [*a]", "f").problems
    assert parse("[" * 2000 + "]" * 2000, "f").problems
    assert parse("x" * (MAX_BYTES + 1), "f").problems


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    parsed = parse(text, "f")
    for problem in parsed.problems:
        assert parsed.source.text(problem).startswith("f:")


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abcdef", min_size=1, max_size=5), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(_values)
def test_what_json_can_hold_is_read_back(value: object) -> None:
    """JSON is YAML: a file may hold either."""
    parsed = parse(json.dumps(value), "f")
    if not _has_infinity(value):
        assert parsed.problems == []
        assert parsed.value == value


def _has_infinity(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_infinity, value.values()))
    if isinstance(value, list):
        return any(map(_has_infinity, value))
    return isinstance(value, float) and math.isinf(value)


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True))
def test_lines_are_those_of_the_keys(keys: list[str]) -> None:
    text = yaml.safe_dump({key: {"x": 1} for key in keys}, sort_keys=False)
    source = parse(text, "f").source
    assert [source.line((key,)) for key in keys] == [1 + 2 * n for n in range(len(keys))]
    assert [source.line((key, "x", "missing")) for key in keys] == [2 + 2 * n for n in range(len(keys))]


def test_unreadable_files_are_mistakes_too(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("a: ü\n".encode("latin-1"))
    for path in (tmp_path / "missing.yaml", tmp_path, tmp_path / "latin.yaml"):
        assert read(path).problems
        with pytest.raises(SpecError, match=str(path)):
            load(path)


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "just words", "3"])
def test_a_file_without_a_campaign_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(SpecError, match="expected a campaign"):
        load(tmp_path / "c.yaml")
