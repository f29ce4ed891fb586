"""What the agent answers when the file system of the site is in its way."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from l2l_tasks.agent import commands, frame

REQUEST = {"command": "poll"}


def failing(times: float, number: int) -> Any:
    """A command that meets an error so many times, and then answers how often it was run."""
    runs = 0

    def run(_request: object) -> dict[str, Any]:
        nonlocal runs
        runs += 1
        if runs <= times:
            raise OSError(number, "said the disk")
        return {"runs": runs}

    return run


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_for_a_moment(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """One evaluation may fill it, and the campaign need not be paused for that."""
    monkeypatch.setattr(commands, "run", failing(2, number))
    assert frame.answer(REQUEST) == {"ok": True, "runs": 3}


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, "permanent"), (errno.EACCES, "permanent"), (errno.EIO, "transient")],
)
def test_a_disk_that_does_not_work(monkeypatch: pytest.MonkeyPatch, number: int, kind: str) -> None:
    """A person has to see to it, or it is asked again; the reply says which, and what the disk said."""
    monkeypatch.setattr(frame, "ROOM_PATIENCE", 0.5)
    monkeypatch.setattr(commands, "run", failing(float("inf"), number))
    reply = frame.answer(REQUEST)
    assert (reply["ok"], reply["error"]["kind"]) == (False, kind)
    assert "poll: the file system of the site says" in reply["error"]["message"]
    assert "said the disk" in reply["error"]["message"]
