"""Files that survive being killed."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from l2l_tasks.agent import files, results
from l2l_tasks.agent.files import Busy, LineWriter


def test_a_torn_line_is_closed_off(tmp_path: Path) -> None:
    """The next writer's line is not glued to what a killed one left behind; the torn one is rejected."""
    path = tmp_path / "lines"
    line = results.build_line(results.StartedLine("0.0.0", 0, "g00000-00000", 1.0))
    path.write_bytes(line + b"\n" + line[:50])
    writer = LineWriter(path)
    writer.append(line)
    writer.close()
    found, used = results.split_lines(path.read_bytes())
    assert (found, used) == ([line, line[:50], line], path.stat().st_size)
    with pytest.raises(results.Rejected):
        results.parse_line(found[1])


def test_write_atomic_leaves_nothing_behind(tmp_path: Path) -> None:
    """The old content stays when the new one cannot be written."""
    target = tmp_path / "target"
    files.write_atomic(target, b"old")
    target.unlink()
    target.mkdir()
    (target / "x").touch()
    with pytest.raises(OSError, match="target"):
        files.write_atomic(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def _add(folder: str, times: int) -> None:
    for _ in range(times):
        with files.locked(Path(folder) / "lock"):
            counter = Path(folder) / "counter"
            counter.write_text(str(int(counter.read_text()) + 1))


def test_locks_exclude_processes(tmp_path: Path) -> None:
    """Four processes count to 200 without losing one."""
    (tmp_path / "counter").write_text("0")
    processes = [multiprocessing.Process(target=_add, args=(str(tmp_path), 50)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "counter").read_text() == "200"


def test_a_lock_is_not_waited_for_endlessly(tmp_path: Path) -> None:
    """Busy, and free again when the holder is gone."""
    with (
        files.locked(tmp_path / "lock"),
        pytest.raises(Busy, match="lock"),
        files.locked(tmp_path / "lock", 0.05),
    ):
        pass
    with files.locked(tmp_path / "lock", 0.05):
        pass


def test_the_lock_of_a_deleted_folder_locks_nobody_out(tmp_path: Path) -> None:
    """Whoever waited for it sees that it is another file by now."""
    old = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    (tmp_path / "lock").unlink()
    assert not files._is_current(old, tmp_path / "lock")
    os.close(old)
    with pytest.raises(FileNotFoundError), files.locked(tmp_path / "gone" / "lock"):
        pass
