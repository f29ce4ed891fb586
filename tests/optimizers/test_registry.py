"""The registry: names, classes, help for typing errors, and that it stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import optimizers
from optimizers import OptimizerError

ROOT = Path(__file__).parents[2]


def test_names_and_classes() -> None:
    assert {"cmaes", "genetic", "nsga2", "random"} < set(optimizers.names())
    assert optimizers.names() == sorted(optimizers.names())
    assert [optimizers.get(name).name for name in optimizers.names()] == optimizers.names()


def test_unknown_name_is_explained() -> None:
    with pytest.raises(OptimizerError, match=r"no optimizer 'cma-es'\. Did you mean 'cmaes'\? Known: bay"):
        optimizers.get("cma-es")
    with pytest.raises(OptimizerError, match=r"no optimizer 'xyz'\. Known"):
        optimizers.get("xyz")


def test_listing_the_names_imports_nothing_heavy() -> None:
    """The command line and the site import this package where numpy would be slow or absent."""
    code = "import optimizers, sys; optimizers.names(); print({'numpy', 'pydantic'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
