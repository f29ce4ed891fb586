"""The agent's command line: `call`, `worker FOLDER`, `evaluate FOLDER REQUESTS REPLIES`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, Optional

USAGE = "usage: agent.pyz call | worker FOLDER | evaluate FOLDER REQUESTS REPLIES"


def main(argv: Optional[List[str]] = None) -> int:
    """Run one command; the exit status. Each imports only what it needs: workers start by the thousand."""
    words = sys.argv[1:] if argv is None else argv
    if words == ["call"]:
        from . import frame

        return frame.call(sys.stdin.buffer, sys.stdout.buffer)
    if len(words) == 2 and words[0] == "worker":
        from .worker import Worker

        # Unbuffered, so that the last words of an evaluator that crashes are not lost.
        return Worker(Path(words[1]), [sys.executable, "-u", sys.argv[0]]).run()
    if len(words) == 4 and words[0] == "evaluate":
        from . import evaluator

        return evaluator.main(Path(words[1]), int(words[2]), int(words[3]))
    print(USAGE, file=sys.stderr)
    return 2
