"""infra/slurm itself: what it leaves alone, what it lets in, where it listens, what it hands out."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from infra.slurm import ports
from tests.support.slurm import SlurmLab

LISTEN = "0A"
LOOPBACK = "0100007F"


def pids(lab: SlurmLab) -> dict[str, str]:
    """The daemons' pids by pid file."""
    files = [*(lab.root / "run").glob("*.pid"), *(lab.root / "run" / "slurm").glob("*.pid")]
    return {file.name: file.read_text().strip() for file in files}


def ssh(lab: SlurmLab, *options: str) -> subprocess.CompletedProcess[str]:
    """`whoami` over SSH, with more options before the lab's own."""
    command = ["ssh", *options, "-F", str(lab.ssh_config), lab.alias, "whoami; echo $SLURM_CONF"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def test_up_again_leaves_everything_running(slurm_fault_lab: SlurmLab) -> None:
    before = pids(slurm_fault_lab)
    assert {"slurmctld.pid", "slurmdbd.pid", "slurmd-node1.pid", "sshd.pid", "mysqld.pid"} <= set(before)
    slurm_fault_lab.up()
    assert pids(slurm_fault_lab) == before


def test_only_the_account_with_its_key_and_the_pinned_host_key_gets_in(
    slurm_lab: SlurmLab, tmp_path: Path
) -> None:
    assert ssh(slurm_lab).stdout.split() == [slurm_lab.login, slurm_lab.environment["SLURM_CONF"]]
    other = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    port, known = str(slurm_lab.connection["port"]), slurm_lab.root / "client" / "known_hosts"
    by_hand = [
        "-p",
        port,
        "-o",
        f"UserKnownHostsFile={known}",
        "-o",
        "BatchMode=yes",
        "-o",
        "IdentitiesOnly=yes",
    ]
    for user, key in ((slurm_lab.login, other), ("root", slurm_lab.root / "client" / "id_ed25519")):
        command = ["ssh", "-F", "none", *by_hand, "-i", str(key), f"{user}@127.0.0.1", "whoami"]
        refused = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert (refused.returncode, refused.stdout) == (255, "")
        assert "Permission denied (publickey)" in refused.stderr
    wrong = tmp_path / "known_hosts"
    address = (slurm_lab.root / "client" / "known_hosts").read_text().split()[0]
    wrong.write_text(f"{address} {' '.join(other.with_suffix('.pub').read_text().split()[:2])}\n")
    unknown = ssh(slurm_lab, "-o", f"UserKnownHostsFile={wrong}")
    assert unknown.returncode == 255
    assert "Host key verification failed" in unknown.stderr


def test_everything_listens_on_loopback_only(slurm_lab: SlurmLab) -> None:
    wanted = {int(port) for port in (slurm_lab.root / "etc" / "ports").read_text().split()}
    listening = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        address, _, port = local.partition(":")
        if state == LISTEN and int(port, 16) in wanted:
            assert address == LOOPBACK, f"port {int(port, 16)} listens on {address}"
            listening.add(int(port, 16))
    assert listening == wanted


def test_the_settings_that_it_writes_are_complete(slurm_lab: SlurmLab) -> None:
    """The same connection as JSON and as shell exports, private to their owner."""
    connection = slurm_lab.connection
    assert (connection["conn_type"], connection["host"], connection["login"]) == (
        "ssh",
        "127.0.0.1",
        slurm_lab.login,
    )
    assert Path(connection["extra"]["key_file"]).stat().st_mode & 0o077 == 0
    assert connection["extra"]["host_key"] in Path(connection["extra"]["known_hosts"]).read_text()
    file = slurm_lab.root / "site.env"
    assert file.stat().st_mode & 0o077 == 0
    show = 'printf "%s\\n" "$AIRFLOW_CONN_L2L_SLURM_LAB" "$SLURM_LAB_PORT" "$SLURM_LAB_USER"'
    line = f". {shlex.quote(str(file))}; {show}"
    shown = subprocess.run(
        ["bash", "-euc", line], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert json.loads(shown[0]) == connection
    assert shown[1:] == [str(connection["port"]), slurm_lab.login]


def test_jobs_have_a_python_with_numpy(slurm_lab: SlurmLab) -> None:
    ran = slurm_lab.as_user([str(slurm_lab.python), "-c", "import numpy; print(numpy.arange(3).sum())"])
    assert ran.stdout == "3\n", ran.stderr


def test_ports_that_are_taken_are_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not ports.is_free(port)
        monkeypatch.setattr(ports, "CANDIDATES", range(port, port + 1))
        with pytest.raises(SystemExit, match="fewer than 1 free"):
            ports.choose(1)
    assert len(set(ports.choose(1))) == 1
