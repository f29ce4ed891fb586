"""The small commands round the stack and the lab, where nothing runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.stack import __main__ as stack

ROOT = Path(__file__).resolve().parent.parent.parent


def test_status_of_a_stack_that_is_down_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("L2L_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["stack", "status"])
    assert stack.main() == 0
    assert capsys.readouterr().out == "the stack is down (make up)\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="the Slurm lab needs root")
def test_wiping_the_lab_takes_the_lab_of_the_tests_with_it(tmp_path: Path) -> None:
    """Labs without daemons; the control groups of this machine's own lab are out of sight."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "find").write_text("#!/bin/sh\n")
    (tools / "find").chmod(0o755)
    for name in ("lab", "lab-faults", "lab-other"):
        (tmp_path / name / "etc").mkdir(parents=True)
    path = f"{tools}:{os.environ['PATH']}"
    environment = {"PATH": path, "LAB": str(tmp_path / "lab"), "LAB_LOGIN": "l2l-nobody"}
    done = subprocess.run(
        [ROOT / "infra" / "slurm" / "down.sh", "wipe"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["bin", "lab-other"]
