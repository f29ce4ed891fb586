"""Durations, memory and cron schedules."""

from __future__ import annotations

import contextlib

import pytest
from croniter import croniter  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from l2l_tasks.spec_types import CRON_PRESETS, parse_cron, parse_duration, parse_memory


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800), ("30 min", 1800), ("1h", 3600), ("1h30m", 5400), ("1h 30m", 5400), ("2d", 172800),
        ("1.5h", 5400), ("90s", 90), ("00:30:00", 1800), ("24:00:00", 86400), ("1-00:00:00", 86400),
        (45, 45), (0.5, 0.5), (0, 0),
    ],
)  # fmt: skip
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "30", "1h30", "30m1h", "1h1h", "00:30", "1:2:3", "-5m", "1e3s", "h1", None]
)
def test_ambiguous_durations_are_refused(text: object) -> None:
    """`00:30` is minutes to Slurm and hours to most people."""
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@given(st.integers(0, 3000), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_both_ways_to_write_a_duration_agree(days: int, hours: int, minutes: int, seconds: int) -> None:
    words = parse_duration(f"{days}d{hours}h{minutes}m{seconds}s")
    assert parse_duration(f"{days}-{hours:02}:{minutes:02}:{seconds:02}") == words
    assert parse_duration(words) == words


@pytest.mark.parametrize(
    ("text", "mebibytes"),
    [("2G", 2048), ("500M", 500), ("1.5g", 1536), ("2 GiB", 2048), ("1T", 1048576), ("2GB", 2048)],
)
def test_memory(text: str, mebibytes: int) -> None:
    assert parse_memory(text) == mebibytes


@given(st.integers(1, 10**6))
def test_memory_survives_its_json(mebibytes: int) -> None:
    assert parse_memory(f"{mebibytes}M") == mebibytes


@given(st.text(max_size=12) | st.integers() | st.none())
def test_durations_and_memory_never_crash(value: object) -> None:
    for parser in (parse_duration, parse_memory):
        with contextlib.suppress(ValueError):
            assert parser(value) >= 0


def _item(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low - 1, high + 1)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.tuples(number, number).map(lambda pair: f"{pair[0]}-{pair[1]}"),
        st.integers(0, 30).map(lambda step: f"*/{step}"),
    )


_cron = st.tuples(*(_item(*limits) for limits in ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6)))).map(" ".join)


@given(_cron)
def test_what_is_accepted_is_cron(text: str) -> None:
    """Airflow's own parser takes every schedule that is accepted here."""
    try:
        accepted = parse_cron(text) == text
    except ValueError:
        return
    assert accepted
    assert croniter.is_valid(text)


@pytest.mark.parametrize(
    "text", ["0 3 * * *", "*/10 0-6,22 1,15 jan-mar mon-fri", "5 4 * * sun", *CRON_PRESETS]
)
def test_usual_schedules_are_accepted(text: str) -> None:
    assert parse_cron(text) == text
    assert croniter.is_valid(text)
