"""From an Airflow connection to an OpenSSH configuration, read back by OpenSSH itself (`ssh -G`)."""

from __future__ import annotations

import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2l_tasks.connections import ConnectionInfo
from l2l_tasks.errors import SitePermanentError
from l2l_tasks.site.transport import ssh_config
from l2l_tasks.site.transport.private import LONGEST_SOCKET_PATH, private_folder, state_folder, write_private
from l2l_tasks.site.transport.ssh_config import Endpoint, Timing
from l2l_tasks.site.transport.ssh_errors import classify
from tests.site.sshd import keygen

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILTlBfX7g8HAbMy7x7vSS66HO6QtEItNByqtSkRUZauo"


def info(host: str = "login.example.org", password: str | None = None, **extra: Any) -> ConnectionInfo:
    return ConnectionInfo("hpc", host, 2222, "user1", password, {"host_key": KEY, **extra})


def as_read_by_ssh(where: Endpoint, folder: Path) -> dict[str, str]:
    """What ssh understands of the written configuration."""
    write_private(folder / "config", ssh_config.config_text(where, Timing(), folder / "known hosts"))
    command = ["ssh", "-F", str(folder / "config"), "-G", where.host]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split(" ", 1)[0]: line.split(" ", 1)[-1] for line in lines}


def test_ssh_reads_the_configuration_as_meant(tmp_path: Path) -> None:
    key = keygen(tmp_path / "my key")
    where = info(key_file=str(key), proxy_jump="me@gate:2200", known_hosts="/etc/gate's keys")
    found = as_read_by_ssh(ssh_config.endpoint(where), tmp_path)
    wanted = {
        "hostname": "login.example.org",
        "port": "2222",
        "user": "user1",
        "batchmode": "yes",
        "stricthostkeychecking": "true",
        "userknownhostsfile": f"{tmp_path / 'known hosts'} /etc/gate's keys",
        "globalknownhostsfile": "/dev/null",
        "identityfile": str(key),
        "identitiesonly": "yes",
        "forwardagent": "no",
        "proxyjump": "me@gate:2200",
        "serveraliveinterval": "15",
        "permitlocalcommand": "no",
    }
    assert {key: found.get(key) for key in wanted} == wanted


def test_a_user_s_configuration_cannot_weaken_the_checks(tmp_path: Path) -> None:
    own = tmp_path / "own config"
    own.write_text(
        "Host cluster\n  HostName 10.0.0.1\n  Ciphers aes128-ctr\n"
        "Host *\n  StrictHostKeyChecking no\n  ForwardAgent yes\n  BatchMode no\n"
        "  UserKnownHostsFile /dev/null\n"
    )
    where = replace(ssh_config.endpoint(info(host="cluster", ssh_config=str(own))), port=None, login=None)
    found = as_read_by_ssh(where, tmp_path)
    assert (found["hostname"], found["ciphers"]) == ("10.0.0.1", "aes128-ctr")
    assert (found["stricthostkeychecking"], found["forwardagent"]) == ("true", "no")
    assert found["batchmode"] == "yes"
    assert found["userknownhostsfile"] == str(tmp_path / "known hosts")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"no_host_key_check": True}, "host keys are always checked"),
        ({"no_host_key_check": "true"}, "host keys are always checked"),
        ({"allow_host_key_change": True}, "a changed host key always stops"),
        ({"private_key": "-----BEGIN"}, "keys stay in files"),
        ({"host_key": ""}, "the host key is not pinned"),
        ({"host_kye": KEY}, "host_kye not understood; known are key_file, host_key"),
        ({"key_file": "/nonexistent/key"}, "there is no file /nonexistent/key"),
        ({"proxy_jump": "a\n  ProxyCommand evil"}, "a line break or a quote is not allowed"),
        ({"proxy_jump": "gate"}, "a jump host has a host key, too"),
    ],
)
def test_insecure_or_incomplete_connections_are_refused(extra: dict[str, Any], message: str) -> None:
    with pytest.raises(SitePermanentError, match=message):
        ssh_config.endpoint(info(**extra))


def test_password_is_refused_and_not_shown() -> None:
    with pytest.raises(SitePermanentError, match="only keys are used") as caught:
        ssh_config.endpoint(info(password="hunter2"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("host", ["-oProxyCommand=evil", "a b", "*", "a;b", "$(id)", "a\nb", "user@host"])
def test_a_host_that_could_be_an_option_or_a_pattern_is_refused(host: str) -> None:
    with pytest.raises(SitePermanentError, match="host"):
        ssh_config.endpoint(info(host=host))


def test_empty_fields_of_airflow_s_form_are_ignored() -> None:
    where = ssh_config.endpoint(info(timeout=None, private_key="", no_host_key_check=False))
    assert where == Endpoint("login.example.org", 2222, "user1", host_key=KEY)


def test_host_keys_with_and_without_type_and_several() -> None:
    """Airflow allows the base64 alone (and then guesses ssh-rsa): the key itself says what it is."""
    where = ssh_config.endpoint(info(host_key=f"{KEY} comment\n{KEY.split()[1]}"))
    assert ssh_config.known_hosts_text(where) == f"[login.example.org]:2222 {KEY}\n" * 2
    assert ssh_config.known_hosts_text(replace(where, port=22)) == f"login.example.org {KEY}\n" * 2


@pytest.mark.parametrize("key", ["ssh-rsa " + KEY.split()[1], "nonsense", "ssh-ed25519 AAAA", KEY[:40] + "*"])
def test_what_is_no_public_key_is_refused(key: str) -> None:
    with pytest.raises(SitePermanentError, match="host_key"):
        ssh_config.known_hosts_text(Endpoint("h", host_key=key))


def test_socket_path_is_short_even_below_a_long_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket's path has at most 107 bytes; a home on a deep file system exceeds that quickly."""
    monkeypatch.setenv("L2L_HOME", str(tmp_path / ("x" * 120)))
    folder = state_folder({"host": "h"})
    assert len(str(folder / "s")) <= LONGEST_SOCKET_PATH
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert folder == state_folder({"host": "h"})
    assert folder != state_folder({"host": "h", "login": "other"})
    folder.rmdir()


def test_a_state_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    """Whoever can write there could put a socket of their own in our way."""
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh").chmod(0o770)
    with pytest.raises(SitePermanentError, match="mode 0700"):
        private_folder(tmp_path / "ssh" / "abc")
    (tmp_path / "link").symlink_to("/tmp")
    with pytest.raises(SitePermanentError, match="mode 0700"):
        private_folder(tmp_path / "link" / "abc")


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_any_stderr_has_a_meaning(stderr: bytes) -> None:
    failure = classify(stderr)
    assert failure.reason
    assert len(failure.reason) < 1000


@pytest.mark.parametrize(
    ("stderr", "permanent", "words"),
    [
        ("ssh: connect to host h port 22: No route to host", False, "does not reach"),
        ("ssh: connect to host h port 22: Connection timed out", False, "in time"),
        ("ssh: Could not resolve hostname h: Temporary failure in name resolution", False, "resolved"),
        ("kex_exchange_identification: read: Connection reset by peer", False, "closed"),
        ("System is going down. pam_nologin(8)\nConnection closed by 1.2.3.4 port 22", False, "closed"),
        ("u@h: Permission denied (publickey,keyboard-interactive).", True, "second factor"),
        ("u@gate: Permission denied (publickey).\nConnection closed by UNKNOWN port 65535", True, "accept"),
        ("Received disconnect from h port 22:2: Too many authentication failures", True, "key_file"),
        ("Unable to negotiate with h: no matching cipher found. Their offer: x", True, "algorithm"),
        ("something new", False, "something new"),
        ("", False, "said nothing"),
    ],
)
def test_meaning_of_texts_that_are_hard_to_provoke(stderr: str, permanent: bool, words: str) -> None:
    """The others are provoked at a real sshd in test_ssh.py."""
    failure = classify(f"OpenSSH_9.2p1\ndebug1: Permission denied\n{stderr}\n".encode())
    assert failure.permanent is permanent
    assert words in failure.reason
