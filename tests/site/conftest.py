"""An sshd per module (starting one costs little, sharing one across modules would share its log)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site.sshd import SSHD, SshServer


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder of its own, with a path short enough for sockets below it."""
    folder = Path(tempfile.mkdtemp(prefix="l2l"))
    monkeypatch.setenv("L2L_HOME", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def sshd(tmp_path: Path, state: Path) -> Iterator[SshServer]:  # noqa: ARG001 - the state must outlive it
    """A running sshd of this test."""
    if SSHD is None:
        pytest.fail("sshd is not installed: these tests need openssh-server")
    server = SshServer(tmp_path / "sshd")
    yield server
    server.stop()
