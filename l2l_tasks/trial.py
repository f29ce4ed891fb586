"""A campaign file checked in a process of its own: an own optimizee may end its process, or never return.

`python -m l2l_tasks.trial FILE` ends with status TRIED whatever mistakes the file has.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from l2l_tasks.errors import SpecError

TRIED = 99  # a status that no code ends with by chance
PATIENCE = 60.0  # seconds; importing and making an optimizee takes a few at most


def fate(campaign_file: Path) -> str | None:
    """What befell the process that checked a file: `ends the process ...`; None when it came to its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "l2l_tasks.trial", str(campaign_file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        status = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return f"does not end within {PATIENCE:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError):  # with whatever it has started
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if status < 0:
        return f"ends the process by signal {-status} ({signal.strsignal(-status)})"
    return None if status == TRIED else f"ends the process with exit status {status}"


def main() -> None:
    """Check the file of the command line, for the sake of what happens to this process."""
    from l2l_tasks import validation

    with contextlib.suppress(SpecError):
        validation.load(Path(sys.argv[1]))
    sys.exit(TRIED)


if __name__ == "__main__":
    main()
