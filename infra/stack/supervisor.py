"""supervisord: its configuration, starting it, and talking to it over its private Unix socket."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
import xmlrpc.client
from dataclasses import dataclass
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from infra.stack.components import COMPONENTS, STORE, Component
from infra.stack.layout import Layout
from l2l_tasks.errors import L2LError

LOG_BYTES = 10_000_000  # a log file is rotated at this size
LOG_BACKUPS = 4


class SupervisorError(L2LError):
    """The supervisor does not start, stop or answer."""


@dataclass(frozen=True)
class ProcessState:
    """A component as the supervisor sees it.

    Attributes:
        state: RUNNING, STOPPED, ...
        pid: of its guard.
        seconds: since its start.
    """

    name: str
    state: str
    pid: int
    seconds: int


def render(layout: Layout) -> str:
    """The configuration. It holds no secrets: every component's guard reads those itself."""
    main = f"""\
        [unix_http_server]
        file = {_quoted(layout.supervisor_socket)}
        chmod = 0600

        [supervisord]
        logfile = {_quoted(layout.supervisor_log)}
        logfile_maxbytes = {LOG_BYTES}
        logfile_backups = {LOG_BACKUPS}
        pidfile = {_quoted(layout.supervisor_pid)}
        directory = {_quoted(layout.run)}
        umask = 077
        {"user = root" if os.getuid() == 0 else ""}

        [rpcinterface:supervisor]
        supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
    """
    groups: dict[str, list[str]] = {}
    for component in COMPONENTS.values():
        groups.setdefault(component.group, []).append(component.name)
    sections = [main, *(_program(layout, component) for component in COMPONENTS.values())]
    for priority, (group, names) in enumerate(groups.items(), start=1):
        sections.append(f"[group:{group}]\nprograms = {','.join(names)}\npriority = {priority}\n")
    return "\n".join("\n".join(line.strip() for line in section.splitlines()) for section in sections) + "\n"


def _program(layout: Layout, component: Component) -> str:
    python = str(sys.executable).replace("%", "%%")
    # The services are started by `up` once PostgreSQL holds their tables.
    return f"""\
        [program:{component.name}]
        command = "{python}" -m infra.stack.guard {component.name}
        autostart = {"true" if component.group == STORE else "false"}
        autorestart = true
        startsecs = 1
        startretries = 100
        stopwaitsecs = {component.stop_seconds + 15}
        redirect_stderr = true
        stdout_logfile = {_quoted(layout.log(component.name))}
        stdout_logfile_maxbytes = {LOG_BYTES}
        stdout_logfile_backups = {LOG_BACKUPS}
    """


def _quoted(path: object) -> str:
    return str(path).replace("%", "%%")


class Supervisor:
    """The supervisor of one state folder."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def alive(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self._call("getState")["statename"])
        except SupervisorError:
            return False

    def start(self, environment: dict[str, str]) -> None:
        """Start supervisord in the background with the configuration on disk; returns when it answers."""
        argv = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.layout.supervisor_config)]
        done = subprocess.run(
            argv,
            env=environment,
            cwd=self.layout.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        deadline = time.monotonic() + 30
        while done.returncode == 0 and time.monotonic() < deadline:
            if self.alive():
                return
            time.sleep(0.1)
        output = (done.stdout + done.stderr).strip()[-1500:]
        raise SupervisorError(f"supervisord does not start: {output}\nIts log: {self.layout.supervisor_log}")

    def states(self) -> dict[str, ProcessState]:
        """Every component's state; empty when no supervisor answers."""
        try:
            answer = self._call("getAllProcessInfo")
        except SupervisorError:
            return {}
        found = {}
        for item in answer:
            seconds = item["now"] - item["start"] if item["pid"] else 0
            found[item["name"]] = ProcessState(item["name"], item["statename"], item["pid"], seconds)
        return found

    def start_component(self, component: Component) -> None:
        """Start it unless it runs; returns once its guard runs."""
        state = self.states().get(component.name)
        if state is None or state.state not in ("RUNNING", "STARTING"):
            self._call("startProcess", component.process_name)

    def stop_component(self, component: Component) -> None:
        """Stop it; returns when all of it has ended."""
        state = self.states().get(component.name)
        if state is not None and state.state not in ("STOPPED", "EXITED", "FATAL"):
            self._call("stopProcess", component.process_name)

    def shutdown(self, patience: float = 120.0) -> None:
        """Stop the components, the store last, and then supervisord; returns when it is gone."""
        self._call("shutdown")
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not self.alive() and not self.layout.supervisor_pid.exists():
                return
            time.sleep(0.2)
        log = self.layout.supervisor_log
        raise SupervisorError(f"supervisord is still there after {patience:.0f} s; its log: {log}")

    def _call(self, method: str, *arguments: str) -> Any:
        # A transport is of no use any more after a failed call.
        transport = SupervisorTransport(None, None, f"unix://{self.layout.supervisor_socket}")
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            raise SupervisorError(f"supervisord refused {method}{arguments}: {fault.faultString}") from None
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            where = self.layout.supervisor_socket
            raise SupervisorError(f"supervisord does not answer at {where}: {error}") from None
        finally:
            transport.close()
