"""What MLflow is told, without a server."""

from __future__ import annotations

import io
import json
import posixpath
import re

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2l_tasks.mlflow_pages import run_page
from l2l_tasks.tracking import artifacts, records


@given(st.text(max_size=300))
def test_every_name_becomes_one_that_mlflow_accepts(name: str) -> None:
    safe = records.safe_name(name)
    assert re.fullmatch(r"[\w\-. :/]{1,250}", safe, re.ASCII)
    assert safe == posixpath.normpath(safe), "MLflow refuses names that are not normal paths"


def test_good_names_are_left_alone() -> None:
    assert records.safe_name("loss/best so far") == "loss/best so far"
    assert records.safe_name("rate (Hz)//x/../y") == "rate _Hz_/x/y"


def test_settings_become_flat_texts() -> None:
    flat = records.flatten({"a": {"b": 1, "c": None, "d": {"e": [1, 2]}}, "f": "x" * 7000, "g": True})
    assert flat == {"a.b": "1", "a.d.e": "[1, 2]", "f": "x" * 6000, "g": "true"}


@pytest.mark.parametrize("name", ["L2L_MLFLOW_URL", "MLFLOW_TRACKING_URI"])
def test_links_open_the_view_of_experiments(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("L2L_MLFLOW_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(other, "")
    assert run_page("0a1b") == ""
    monkeypatch.setenv(name, "http://localhost:5000/")
    assert run_page("0a1b") == (
        "http://localhost:5000/#/experiments/-/runs/0a1b?workflowType=machine_learning"
    )
    assert run_page(None) == ""


def test_plots_thin_out() -> None:
    """At a fixed ratio, so that all plots of a campaign together cost about what the last one does."""
    due = [generation + 1 for generation in range(10_000) if records.plot_is_due(generation)]
    assert due == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000]


values = st.one_of(
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.booleans(),
    st.none(),
    st.lists(st.floats(allow_nan=False), max_size=3),
)


@given(st.lists(st.dictionaries(st.sampled_from(["x", "y"]), values), max_size=6))
def test_any_population_fits_into_parquet(params: list[dict[str, object]]) -> None:
    rows = [
        {"individual": i, "status": "ok", "fitness": [float(i), 1.0], "params": p}
        for i, p in enumerate(params)
    ]
    table = pq.read_table(io.BytesIO(artifacts.population_parquet(rows, 3)))
    assert table.num_rows == len(rows)
    assert set(table.column("generation").to_pylist()) <= {3}
    for name in {name for p in params for name in p}:
        column = table.column(f"param.{name}").to_pylist()
        for value, p in zip(column, params, strict=True):
            # Mixed values come back as JSON; a column of numbers as numbers of one type.
            assert value == p.get(name) or json.loads(value) == p.get(name)


def test_a_plot_of_a_campaign_without_any_success() -> None:
    summary = {
        "objectives": ["loss", "cost"],
        "fitness": {"best": [], "median": [], "mean": [], "std": []},
        "progress": {"best": None},
    }
    assert artifacts.fitness_plot([summary, summary], "nothing yet").startswith(b"\x89PNG")
