"""What only SSH has: one login for all, a budget of logins, and every way in which a connection fails."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from l2l_tasks.errors import SitePermanentError, SiteTransientError
from l2l_tasks.site.transport.ssh import SshTransport
from l2l_tasks.site.transport.ssh_config import Timing
from tests.site.sshd import ACCOUNT, FAST, SshServer, free_port, keygen

ONE_COMMAND = """
import json, sys
from tests.site.sshd import FAST
from l2l_tasks.connections import ConnectionInfo
from l2l_tasks.site.transport.ssh import SshTransport
transport = SshTransport(ConnectionInfo(**json.load(sys.stdin)), site="test", logins_per_hour=3, timing=FAST)
print(transport.run(["echo", "hello"]).stdout.decode())
"""


def master_pid(transport: SshTransport) -> int:
    """Process id of the shared connection's master."""
    done = subprocess.run(
        ["ssh", "-F", str(transport.config), "-S", transport.socket, "-O", "check", transport.host],
        capture_output=True,
        check=True,
        text=True,
    )
    return int(done.stderr.split("pid=")[1].split(")")[0])


def test_concurrent_processes_share_one_login(sshd: SshServer) -> None:
    """Eight processes that start at once, as Airflow tasks do, cost the site one login."""
    info = sshd.connection()
    data = {"id": info.id, "host": info.host, "port": info.port, "login": info.login, "extra": info.extra}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    outputs = [process.communicate(json.dumps(data))[0].strip() for process in processes]
    transport = sshd.transport()
    status = transport.status()
    transport.disconnect()
    assert outputs == ["hello"] * 8
    assert sshd.logins() == 1
    assert (status.connected, status.logins, status.total) == (True, 1, 1)


def test_login_noise_stays_outside_the_command_s_own_meaning(sshd: SshServer) -> None:
    """A .bashrc that prints does so on stdout, before the command; exit status and put are unharmed."""
    (sshd.home / ".bashrc").write_text("echo Welcome; echo news >&2; printf 'no newline'\n")
    transport = sshd.transport()
    done = transport.run(["echo", "answer"])
    assert b"Welcome" in done.stdout
    assert done.stdout.endswith(b"answer\n")
    transport.put(b"data", str(sshd.home / "put"))
    assert (sshd.home / "put").read_bytes() == b"data"
    transport.disconnect()


def test_killed_master_is_replaced(sshd: SshServer) -> None:
    """A master killed with -9 leaves a dead socket: the next command logs in again instead of failing."""
    transport = sshd.transport()
    assert transport.run(["true"]).exit_status == 0
    pid = master_pid(transport)
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text():
        time.sleep(0.01)
    assert Path(transport.socket).exists()
    assert transport.run(["echo", "again"]).stdout == b"again\n"
    assert sshd.logins() == 2
    transport.disconnect()


def test_session_killed_at_the_site_is_lost_not_failed(sshd: SshServer) -> None:
    """The server's process dies in the middle of a command: no exit status may be invented."""
    transport = sshd.transport()
    transport.run(["true"])
    killer = threading.Timer(1.0, sshd.break_connections)
    killer.start()
    done = transport.run(["/bin/sh", "-c", "echo begun; sleep 20"], timeout=15)
    killer.join()
    assert (done.exit_status, done.stdout) == (None, b"begun\n")
    assert "session lost" in done.lost
    assert transport.run(["true"]).exit_status == 0
    assert sshd.logins() == 2
    transport.disconnect()


def test_frozen_session_is_lost_and_recovered_from(sshd: SshServer) -> None:
    """A network that went dead without a word: ServerAlive notices, the next command logs in again."""
    transport = sshd.transport()
    transport.run(["true"])
    sshd.freeze()
    done = transport.run(["true"], timeout=20)
    assert done.exit_status is None
    assert "session lost" in done.lost
    assert transport.run(["true"]).exit_status == 0
    assert sshd.logins() == 2
    transport.disconnect()


def test_changed_host_key_stops_all_logins(sshd: SshServer, tmp_path: Path) -> None:
    """A wrong host key may be an attack: no retry, no acceptance, until a person resets."""
    other = keygen(tmp_path / "other").with_suffix(".pub").read_text().rsplit(" ", 1)[0]
    transport = sshd.transport(host_key=other)
    with pytest.raises(SitePermanentError, match=r"not the pinned one.*l2l doctor --site test --reset"):
        transport.run(["true"])
    with pytest.raises(SitePermanentError, match="logins are stopped: the host key is not the pinned one"):
        transport.run(["true"])
    status = transport.status()
    assert (status.connected, status.logins) == (False, 1)
    assert "host key" in status.circuit
    assert sshd.logins() == 0


def test_wrong_key_stops_logins_until_reset(sshd: SshServer, tmp_path: Path) -> None:
    """A second try with the same key would only look like an attack."""
    transport = sshd.transport()
    installed = (sshd.folder / "authorized_keys").read_text()
    (sshd.folder / "authorized_keys").write_text(keygen(tmp_path / "other").with_suffix(".pub").read_text())
    with pytest.raises(SitePermanentError, match=r"did not accept the key.*Permission denied"):
        transport.run(["true"])
    (sshd.folder / "authorized_keys").write_text(installed)
    with pytest.raises(SitePermanentError, match="logins are stopped"):
        transport.run(["true"])
    transport.reset()
    assert transport.run(["true"]).exit_status == 0
    status = transport.status()
    assert (status.circuit, status.last_error, status.total) == ("", "", 2)
    transport.disconnect()


def test_from_clause_that_excludes_us_is_permanent(sshd: SshServer) -> None:
    """sshd does not tell the client why; the message names the from-clause among the causes."""
    sshd.allow('from="10.1.2.0/24"')
    with pytest.raises(SitePermanentError, match="from= clause allows this machine"):
        sshd.transport().run(["true"])


def test_key_readable_by_others_is_permanent(sshd: SshServer) -> None:
    sshd.key.chmod(0o644)
    with pytest.raises(SitePermanentError, match="chmod 600"):
        sshd.transport().run(["true"])


def test_refused_port_backs_off(sshd: SshServer) -> None:
    """Nobody listens: passing, and the next try is not made before its time."""
    closed = free_port()
    info = sshd.connection()
    info = type(info)(info.id, info.host, closed, info.login, extra=info.extra)
    transport = SshTransport(info, site="test", logins_per_hour=5, timing=FAST)
    with pytest.raises(SiteTransientError, match=r"the connection was refused.*retry in \d+ s"):
        transport.run(["true"])
    with pytest.raises(SiteTransientError, match=r"retry at \d\d:\d\d:\d\d \(in \d+ s, failure 1 in a row\)"):
        transport.run(["true"])
    status = transport.status()
    assert status.logins == 1
    assert status.retry_at > time.time()


def test_server_that_says_nothing_is_transient(sshd: SshServer) -> None:
    """A login node that accepts and then hangs (seen with an overloaded sshd)."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        info = sshd.connection()
        info = type(info)(info.id, info.host, mute.getsockname()[1], info.login, extra=info.extra)
        transport = SshTransport(info, site="test", logins_per_hour=5, timing=Timing(connect=1))
        with pytest.raises(SiteTransientError, match=r"said nothing|in time"):
            transport.run(["true"])


def test_unknown_host_is_transient(sshd: SshServer) -> None:
    info = sshd.connection()
    info = type(info)(info.id, "no-such-host.invalid", 22, info.login, extra=info.extra)
    with pytest.raises(SiteTransientError, match="could not be resolved"):
        SshTransport(info, site="test", logins_per_hour=5, timing=FAST).run(["true"])


def test_used_up_budget_says_when(sshd: SshServer) -> None:
    """The third login of an hour is not made; a connection that is open goes on without one."""
    transport = sshd.transport(budget=2)
    for _ in range(2):
        transport.run(["true"])
        transport.disconnect()
    with pytest.raises(SiteTransientError, match=r"budget of 2 logins per hour is used up; retry at \d\d:"):
        transport.run(["true"])
    assert sshd.logins() == 2
    assert sshd.transport(budget=3).run(["true"]).exit_status == 0
    assert transport.run(["true"]).exit_status == 0
    transport.disconnect()


def test_connection_opened_by_a_person_is_used(sshd: SshServer) -> None:
    """With a second factor only a person can log in: what `login_command` opens is enough, circuit or not."""
    sshd.allow('from="10.1.2.0/24"')
    transport = sshd.transport()
    with pytest.raises(SitePermanentError):
        transport.run(["true"])
    sshd.allow()
    subprocess.run(["/bin/sh", "-c", transport.login_command()], check=True, timeout=30)
    assert transport.run(["echo", "ok"]).stdout == b"ok\n"
    assert transport.status().logins == 1
    transport.disconnect()


def test_user_s_own_control_path_is_never_logged_in_for(sshd: SshServer, state: Path) -> None:
    """control_path: the person's socket is used when it is there; else the person is told how."""
    path = state / "mine"
    transport = sshd.transport(control_path=str(path))
    with pytest.raises(SitePermanentError, match=r"nobody has opened the connection.*ssh -F"):
        transport.run(["true"])
    assert sshd.logins() == 0
    subprocess.run(["/bin/sh", "-c", transport.login_command()], check=True, timeout=30)
    assert transport.run(["echo", "ok"]).stdout == b"ok\n"
    assert sshd.logins() == 1
    transport.disconnect()


def test_user_s_own_ssh_configuration_with_a_jump_host(sshd: SshServer, state: Path) -> None:
    """An alias, a user's options and a ProxyJump through a second server work; checks stay strict."""
    public = sshd.host_key.with_suffix(".pub").read_text().rsplit(" ", 1)[0]
    (state / "known").write_text(f"[127.0.0.1]:{sshd.port} {public}\n")
    (state / "user_config").write_text(
        f"Host cluster\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {ACCOUNT}\n  ProxyJump gate\n"
        f"Host gate\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {ACCOUNT}\n"
        "Host *\n  StrictHostKeyChecking no\n  RemoteCommand touch /nonexistent/x\n"
        "  ControlMaster auto\n  ControlPath none\n"
    )
    extra = {"ssh_config": str(state / "user_config"), "known_hosts": str(state / "known"), "host_key": ""}
    info = sshd.connection(**extra)
    info = type(info)(info.id, "cluster", extra=info.extra)
    transport = SshTransport(info, site="test", logins_per_hour=5, timing=FAST)
    assert transport.run(["echo", "through"]).stdout == b"through\n"
    assert sshd.logins() == 2, "one at the gate, one behind it"
    transport.disconnect()
    (state / "known").write_text("")
    with pytest.raises(SitePermanentError, match="host key is not the pinned one"):
        transport.run(["true"])


def test_broken_user_configuration_is_permanent_and_costs_no_login(sshd: SshServer, state: Path) -> None:
    (state / "user_config").write_text("Host *\n  NoSuchOption yes\n")
    transport = sshd.transport(ssh_config=str(state / "user_config"))
    with pytest.raises(SitePermanentError, match=r"ssh configuration is wrong.*user_config"):
        transport.run(["true"])
    assert transport.status().total == 0


def test_restarted_server_is_found_again(sshd: SshServer) -> None:
    """Maintenance of a login node: commands fail as passing, and work again after the pause."""
    timing = Timing(connect=5, login=10, alive_interval=1, alive_count=2, first_pause=0.1, longest_pause=0.1)
    transport = sshd.transport(timing=timing)
    transport.run(["true"])
    sshd.stop()
    while transport.connected():  # the master needs a moment to see that its server is gone
        time.sleep(0.05)
    with pytest.raises(SiteTransientError, match="refused"):
        transport.run(["true"], timeout=10)
    sshd.start()
    time.sleep(0.2)
    assert transport.run(["true"]).exit_status == 0
    transport.disconnect()


def test_command_line_of_the_client_is_fixed(sshd: SshServer) -> None:
    """What `ps` shows on this machine while a command runs: no stdin, no key material."""
    transport = sshd.transport()
    transport.run(["true"])
    command = ["/bin/sh", "-c", "read x; sleep 2"]
    thread = threading.Thread(target=transport.run, args=(command, b"secret-input\n"))
    thread.start()
    time.sleep(1)
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout
    thread.join()
    transport.disconnect()
    assert b"read x; sleep 2" in shown
    assert b"secret-input" not in shown
