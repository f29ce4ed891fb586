"""The conformance suite of Transport: what every implementation promises; local processes and a real sshd."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from l2l_tasks.errors import SitePermanentError, SiteUnknown
from l2l_tasks.site.transport.base import Completed, Transport
from l2l_tasks.site.transport.local import LocalTransport
from tests.site.sshd import SshServer


@pytest.fixture(params=["local", "ssh"])
def transport(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Transport]:
    """One of each kind; HOME is a folder of the test with both."""
    if request.param == "local":
        (tmp_path / "home").mkdir()
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        yield LocalTransport(max_output=8_000_000)
        return
    server: SshServer = request.getfixturevalue("sshd")
    monkeypatch.setenv("HOME", str(server.home))
    ssh = server.transport()
    ssh.max_output = 8_000_000
    yield ssh
    ssh.disconnect()


@pytest.mark.parametrize("code", [0, 1, 7, 127])
def test_exit_status_is_the_command_s_own(transport: Transport, code: int) -> None:
    done = transport.run(["/bin/sh", "-c", f"exit {code}"])
    assert (done.exit_status, done.lost) == (code, "")


def test_arguments_arrive_unchanged(transport: Transport) -> None:
    """No shell on the way may interpret an argument."""
    argument = "a b'c\"d $HOME `id` \\ * !x ~ ; | & > <"
    done = transport.run(["/bin/sh", "-c", 'printf "%s" "$1"', "x", argument])
    assert done.stdout.decode() == argument


def test_stdin_and_stdout_carry_any_bytes(transport: Transport) -> None:
    data = bytes(range(256)) * 4096
    assert transport.run(["cat"], data).stdout == data


def test_empty_stdin_is_an_ended_stdin(transport: Transport) -> None:
    """A command that reads its input must not wait for more."""
    assert transport.run(["cat"], b"", timeout=20).exit_status == 0


def test_big_output_while_input_is_ignored(transport: Transport) -> None:
    """Neither direction may block the other: 5 MB come back while 2 MB of input are never read."""
    script = "head -c 5000000 /dev/zero; echo end >&2"
    done = transport.run(["/bin/sh", "-c", script], b"x" * 2_000_000)
    assert (done.exit_status, len(done.stdout), done.stderr) == (0, 5_000_000, b"end\n")


def test_output_over_the_cap_is_lost(transport: Transport) -> None:
    """A site that floods the controller is cut off, and nothing is concluded from what came."""
    done = transport.run(["/bin/sh", "-c", "head -c 50000000 /dev/zero"])
    assert done.exit_status is None
    assert len(done.stdout) == 8_000_000
    assert "8000000 bytes" in done.lost


def test_timeout_is_lost_and_keeps_what_came(transport: Transport) -> None:
    assert transport.run(["true"]).exit_status == 0
    done = transport.run(["/bin/sh", "-c", "echo begun; exec sleep 20"], timeout=2)
    assert (done.exit_status, done.stdout) == (None, b"begun\n")
    assert "no end within 2 s" in done.lost
    assert transport.run(["true"]).exit_status == 0


def test_a_child_that_keeps_the_output_open_does_not_hold_a_local_command() -> None:
    """A worker started by the agent may inherit its pipes; the agent's own end counts."""
    done = LocalTransport().run(["/bin/sh", "-c", "sleep 15 & echo done; exit 4"], timeout=10)
    assert (done.exit_status, done.stdout) == (4, b"done\n")


def test_put_writes_a_private_file_below_home(transport: Transport) -> None:
    """~ is the site's home; folders are made; nobody else can read what was put."""
    data = os.urandom(300_000)
    transport.put(data, "~/a b/c/file.bin")
    path = Path(os.environ["HOME"]) / "a b" / "c" / "file.bin"
    assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_put_replaces_a_file_whole(transport: Transport, tmp_path: Path) -> None:
    for data in (b"old" * 1000, b"new", b""):
        transport.put(data, str(tmp_path / "file"))
        assert (tmp_path / "file").read_bytes() == data


def test_put_that_was_cut_leaves_the_old_file(transport: Transport, tmp_path: Path) -> None:
    """A connection that dies during an upload ends the site's stdin early: nothing may be renamed then."""
    transport.put(b"old", str(tmp_path / "file"))
    cut = _Cut(transport)
    with pytest.raises(SiteUnknown, match="sum"):
        cut.put(b"x" * 100_000, str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("file")) == ["file"]


def test_put_where_nothing_can_be_written_is_permanent(transport: Transport) -> None:
    with pytest.raises(SitePermanentError, match=r"cannot write /dev/null/x.*work"):
        transport.put(b"x", "/dev/null/x/y")


def test_data_and_path_of_put_are_in_no_command_line(transport: Transport, tmp_path: Path) -> None:
    """Other users of a login node see command lines; they may see neither a path nor a checksum there."""
    path, data = tmp_path / "secret-name", b"secret-content"
    seen = _Recorder(transport)
    seen.put(data, str(path))
    assert seen.argv
    for argument in seen.argv:
        assert "secret" not in argument
        assert hashlib.sha256(data).hexdigest() not in argument


def test_many_commands_at_once(transport: Transport) -> None:
    """More at once than sshd allows sessions per connection (10): the surplus waits, none is lost."""
    def one(number: int) -> tuple[int | None, bytes]:
        done = transport.run(["/bin/sh", "-c", "cat; sleep 0.3"], str(number).encode())
        return done.exit_status, done.stdout

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(one, range(16)))
    assert results == [(0, str(n).encode()) for n in range(16)]


def test_close_twice_and_go_on(transport: Transport) -> None:
    transport.close()
    transport.close()
    assert transport.run(["true"]).exit_status == 0


def test_passwords_of_the_controller_do_not_reach_the_site(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers, and so the code of optimizees, inherit the environment of the site's commands."""
    for name in ("L2L_DATABASE_URL", "AIRFLOW_CONN_X", "MLFLOW_TRACKING_PASSWORD", "PGPASSWORD"):
        monkeypatch.setenv(name, "confidential")
    found = transport.run(["/bin/sh", "-c", "env"])
    assert found.exit_status == 0
    assert b"PATH=" in found.stdout
    assert b"confidential" not in found.stdout


def test_local_program_that_is_missing_is_permanent() -> None:
    with pytest.raises(SitePermanentError, match="cannot run /nonexistent/program"):
        LocalTransport().run(["/nonexistent/program"])


def test_local_command_killed_by_a_signal_has_no_exit_status() -> None:
    done = LocalTransport().run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    assert done.exit_status is None
    assert "signal 9" in done.lost


class _Recorder(LocalTransport):
    """Passes commands on and remembers their argv."""

    def __init__(self, inner: Transport) -> None:
        super().__init__()
        self.inner = inner
        self.argv: list[str] = []

    def run(self, argv: Sequence[str], stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        self.argv += argv
        return self.inner.run(argv, stdin, timeout)


class _Cut(_Recorder):
    """Loses the second half of every input."""

    def run(self, argv: Sequence[str], stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        return self.inner.run(argv, stdin[: len(stdin) // 2], timeout)
