"""TCP ports of the local stack: free ones of 127.0.0.1, kept as long as nobody else takes them."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass

from infra.stack.layout import Layout, write_private

PREFERRED = {"airflow": 8080, "mlflow": 5000}


@dataclass(frozen=True)
class Ports:
    """Where Airflow's and MLflow's servers listen."""

    airflow: int
    mlflow: int


def load(layout: Layout) -> Ports:
    """The ports chosen by `choose`; FileNotFoundError before the first start."""
    return Ports(**json.loads(layout.ports.read_text()))


def choose(layout: Layout) -> Ports:
    """Keep the ports of the last start where they are free, else take others; remembered in the state folder.
    Call it only while the servers are down."""
    try:
        wanted = asdict(load(layout))
    except FileNotFoundError:
        wanted = dict(PREFERRED)
    chosen: list[int] = []
    for port in wanted.values():
        chosen.append(port if _free(port) else _any_free())
    ports = Ports(*chosen)
    write_private(layout.ports, json.dumps(asdict(ports)))
    return ports


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _any_free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
