"""The lines of workers: what is built is parsed again, and nothing else is."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from l2l_tasks.agent import results
from l2l_tasks.agent.results import Line, Rejected, ResultLine, StartedLine, WorkerLine

finite = st.floats(allow_nan=False, allow_infinity=False)
times = st.floats(0, 1e11)
small = st.integers(0, 10**6)
keys = st.builds(lambda a, b, c: f"{a}.{b}.{c}", st.integers(-(10**6), 10**6), small, small)
bundles = st.builds(
    lambda g, n, r: f"g{g:05d}-{n:05d}{r}", small, small, st.sampled_from(["", "-r1", "-r0a9f"])
)
worker_ids = st.from_regex(r"[A-Z0-9][0-9]{0,8}_[0-9]{1,4}_[0-9](-b)?", fullmatch=True)
names = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1)
errors = st.builds(
    results.make_error, st.sampled_from(sorted(results.ERROR_KINDS - {"infeasible"})), st.text(), st.text()
)


@st.composite
def result_lines(draw: st.DrawFn) -> ResultLine:
    status = draw(st.sampled_from(["ok", "infeasible", "failed"]))
    error = {"ok": st.none(), "failed": errors}.get(
        status, st.builds(results.make_error, st.just("infeasible"), st.text())
    )
    return ResultLine(
        key=draw(keys),
        nonce=draw(st.from_regex(r"[0-9a-f]{16}", fullmatch=True)),
        attempt=draw(small),
        worker=draw(worker_ids),
        bundle=draw(bundles),
        status=status,
        final=draw(st.booleans()) or status != "failed",
        fitness=draw(st.lists(finite, min_size=1, max_size=5)) if status == "ok" else None,
        metrics=draw(st.dictionaries(names, finite | st.lists(finite, min_size=1, max_size=3))),
        curve=draw(st.lists(finite, max_size=5)),
        started=draw(times),
        ended=draw(times),
        cpu=draw(times),
        host=draw(st.sampled_from(["", "node-1.site", "ü"])),
        error=draw(error),
    )


lines = st.one_of(
    result_lines(),
    st.builds(StartedLine, keys, small, bundles, times),
    st.builds(
        WorkerLine,
        st.sampled_from(["start", "end"]),
        worker_ids,
        st.from_regex(r"L?[0-9]{1,9}", fullmatch=True),
        small,
        small,
        st.just("host"),
        small,
        times,
        st.one_of(st.none(), st.just("idle")),
    ),
)


@given(lines)
def test_round_trip(line: Line) -> None:
    """Every line comes back as it was, and is one line of ASCII."""
    data = results.build_line(line)
    assert results.parse_line(data) == line
    assert b"\n" not in data
    assert data.isascii()


@given(lines, st.data())
def test_any_change_is_noticed(line: Line, data: st.DataObject) -> None:
    """Bytes changed, removed, inserted or cut off: rejected."""
    good = results.build_line(line)
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 5)))
    changed = good[:start] + data.draw(st.binary(max_size=5)) + good[end:]
    if changed != good:
        with pytest.raises(Rejected):
            results.parse_line(changed)


@given(st.binary(max_size=300))
@example(b"")
@example(b'{"sum":"0000000000000000",}')
def test_garbage_is_rejected(data: bytes) -> None:
    """Whatever the bytes are, the answer is Rejected and no other exception."""
    with pytest.raises(Rejected):
        results.parse_line(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


def signed(body: object) -> bytes:
    """A line with the right checksum, whatever its content."""
    rest = json.dumps(body, separators=(",", ":")).encode()[1:]
    return b'{"sum":"%s",%s' % (results._sum(rest), rest)


@given(line=lines, data=st.data())
def test_wrong_values_with_a_right_checksum(line: Line, data: st.DataObject) -> None:
    """A site that signs nonsense: any field replaced by anything is rejected, or was a legal value."""
    body: dict[str, Any] = json.loads(b"{" + results.build_line(line)[26:])
    name = data.draw(st.sampled_from(sorted(body)))
    body[name] = data.draw(json_values)
    try:
        parsed = results.parse_line(signed(body))
    except Rejected:
        return
    assert json.loads(json.dumps(vars(parsed))) == {k: v for k, v in body.items() if k not in ("v", "type")}


GOOD: dict[str, Any] = {
    "v": 1,
    "type": "result",
    "key": "1.0.0",
    "nonce": "0" * 16,
    "attempt": 0,
    "worker": "1_0_0",
    "bundle": "g00000-00000",
    "status": "ok",
    "final": True,
    "fitness": [1.5],
    "metrics": {},
    "curve": [],
    "started": 1.0,
    "ended": 2.0,
    "cpu": 0.5,
    "host": "n",
    "error": None,
}
ERROR = {"kind": "crash", "message": "m", "tail": ""}


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"v": True},
        {"type": "other"},
        {"type": None},
        {"type": []},
        {"key": "1.0"},
        {"key": "01.0.0"},
        {"key": "-0.0.0"},
        {"key": "1.-1.0"},
        {"key": "1.0.0\n"},
        {"nonce": "0" * 15},
        {"nonce": "G" * 16},
        {"attempt": -1},
        {"attempt": True},
        {"attempt": 10**12},
        {"worker": "../x"},
        {"bundle": "g0-0"},
        {"bundle": "../../x"},
        {"status": "done"},
        {"final": 1},
        {"final": False},
        {"fitness": None},
        {"fitness": []},
        {"fitness": [1]},
        {"fitness": ["1"]},
        {"fitness": [None]},
        {"fitness": [True]},
        {"fitness": [math.nan]},
        {"fitness": [math.inf]},
        {"fitness": [0.0] * 1025},
        {"metrics": {"": 1.0}},
        {"metrics": {"x": "1"}},
        {"metrics": {"x": math.inf}},
        {"metrics": {"x": []}},
        {"metrics": {"x": [1.0, math.inf]}},
        {"metrics": {"x": [[1.0]]}},
        {"metrics": []},
        {"curve": [[1.0]]},
        {"started": -1.0},
        {"ended": 1e300},
        {"host": "x" * 256},
        {"host": "\x00"},
        {"host": "\ud800"},
        {"error": ERROR},
        {"status": "failed", "fitness": None},
        {"status": "failed", "error": ERROR},
        {"status": "failed", "fitness": None, "error": {**ERROR, "kind": "other"}},
        {"status": "failed", "fitness": None, "error": {**ERROR, "kind": "infeasible"}},
        {"status": "infeasible", "fitness": None, "error": ERROR},
        {"status": "failed", "fitness": None, "error": {**ERROR, "message": ""}},
        {"status": "failed", "fitness": None, "error": {**ERROR, "tail": "x" * 20000}},
        {"status": "failed", "fitness": None, "error": {**ERROR, "more": 1}},
        {"more": 1},
    ],
    ids=str,
)
def test_values_that_must_not_pass(changes: dict[str, Any]) -> None:
    """Each of these would otherwise reach the database or the optimizer."""
    assert isinstance(results.parse_line(signed(GOOD)), ResultLine)
    with pytest.raises(Rejected):
        results.parse_line(signed({**GOOD, **changes}))


def test_caps() -> None:
    """Long lines, deep nesting, long numbers and double names are refused before they cost anything."""
    with pytest.raises(Rejected, match="at most 100"):
        results.parse_line(signed(GOOD), {"line_bytes": 100, "depth": 8})
    with pytest.raises(Rejected, match="nested"):
        results.parse_line(b'{"sum":"%s",%s' % (results._sum(b"[" * 9999), b"[" * 9999))
    for text in (b'{"a":1,"a":2}', b"1" * 99, b"NaN", b"-Infinity", b"{", b"\xff"):
        with pytest.raises(Rejected):
            results.load_json(text, 8)


@given(json_values)
def test_depth_is_measured_as_the_parser_sees_it(value: object) -> None:
    """Brackets inside of strings do not count."""

    def depth(inner: object) -> int:
        if isinstance(inner, dict):
            return 1 + max((depth(v) for v in inner.values()), default=0)
        return 1 + max((depth(v) for v in inner), default=0) if isinstance(inner, list) else 0

    assert results.depth_of(json.dumps(value).encode()) == depth(value)


@given(st.lists(st.binary(max_size=5).filter(lambda b: b"\n" not in b)), st.binary(max_size=5))
def test_split_lines(parts: list[bytes], rest: bytes) -> None:
    """Only lines that are finished; the unfinished one is left for the next time."""
    rest = rest.replace(b"\n", b"")
    data = b"".join(part + b"\n" for part in parts) + rest
    found, used = results.split_lines(data)
    assert found == [part for part in parts if part]
    assert data[used:] == rest


def test_a_long_error_is_cut_at_the_right_ends() -> None:
    """The beginning of a message, the end of an output; nothing that a database refuses."""
    error = results.make_error("crash", "a" * 3000 + "z", "a" + "\x00\ud800" + "z" * 20000)
    assert error["message"].startswith("aaa")
    assert error["message"].endswith("…")
    assert error["tail"] == "z" * results.TAIL_CHARS
    assert results.clean_text("a\x00\udfffb", 10) == "a\ufffd\ufffdb"
    with pytest.raises(ValueError, match="other"):
        results.make_error("other", "m")
