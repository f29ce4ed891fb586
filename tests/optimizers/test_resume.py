"""Exact resume: a state saved after any ask or tell goes on in a new process as if nothing had happened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import optimizers
from optimizers.base import Suggestion
from tests.optimizers.problems import STEPS, digest, fresh, history

ROOT = Path(__file__).parents[2]


def save_all_steps(name: str, folder: Path) -> dict[str, str]:
    """Run the history once, saving the state before every step; the digests of what followed each."""
    optimizer = fresh(name)
    pending: dict[int, Suggestion] = {}
    steps = history(optimizer, 0, pending)
    texts: list[str] = []
    for step in range(STEPS):
        in_flight = [[s.id, s.params] for s in pending.values()]
        (folder / f"{name}.{step:03d}.npz").write_bytes(optimizer.state())
        (folder / f"{name}.{step:03d}.json").write_text(json.dumps(in_flight))
        texts.append(next(steps))
    return {f"{name}.{step:03d}": digest(texts[step:], optimizer) for step in range(STEPS)}


@pytest.fixture(scope="module")
def both_histories(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, str]]:
    """Digests of this process and of a new one, by snapshot; one process continues all snapshots."""
    folder = tmp_path_factory.mktemp("states")
    here: dict[str, str] = {}
    for name in optimizers.names():
        here |= save_all_steps(name, folder)
    command = [sys.executable, "-m", "tests.optimizers.continue_run", str(folder)]
    there = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=240)
    assert there.returncode == 0
    return here, json.loads(there.stdout)


@pytest.mark.parametrize("name", optimizers.names())
def test_resumes_to_the_bit_in_a_new_process(
    name: str, both_histories: tuple[dict[str, str], dict[str, str]]
) -> None:
    """After every ask and every tell: same individuals, same recommendations, same final state bytes."""
    here, there = both_histories
    mine = {stem: value for stem, value in here.items() if stem.startswith(f"{name}.")}
    assert len(mine) == STEPS
    assert {stem: there[stem] for stem in mine} == mine
