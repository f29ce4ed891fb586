"""Free TCP ports of 127.0.0.1 for up.sh: `ports.py choose N` prints N, `ports.py free P...` checks."""

from __future__ import annotations

import random
import socket
import sys

# Below the range that systems use for outgoing connections, so that a chosen port stays free.
CANDIDATES = range(20000, 30000)


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose(count: int) -> list[int]:
    """`count` different free ports."""
    found: list[int] = []
    for port in random.sample(CANDIDATES, len(CANDIDATES)):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise SystemExit(f"ports.py: fewer than {count} free ports in {CANDIDATES.start}-{CANDIDATES.stop - 1}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["choose", count]:
            print(*choose(int(count)))
        case ["free", *ports]:
            sys.exit(0 if all(is_free(int(port)) for port in ports) else 1)
        case _:
            sys.exit(__doc__)
