"""The embedded PostgreSQL: made once, closed to strangers, started and stopped in both ways."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from infra import postgres
from infra.postgres import Cluster
from l2l_tasks.errors import StoreError
from tests.support.postgres import FAST


def query(url: str, statement: str) -> object:
    """The first value that `statement` answers."""
    connection = psycopg2.connect(url.replace("+psycopg2", ""), connect_timeout=5)
    try:
        cursor = connection.cursor()
        cursor.execute(statement)
        row = cursor.fetchone()
        return row[0] if row else None
    finally:
        connection.close()


def remove(cluster: Cluster) -> None:
    postgres.stop(cluster)
    shutil.rmtree(cluster.root)
    shutil.rmtree(cluster.place, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="l2l-embedded-"))
    folder.chmod(0o755)
    made = postgres.init(folder / "a folder", settings={"fsync": "off", "log_statement": "all"})
    yield made
    remove(made)
    folder.rmdir()


@pytest.fixture
def started(cluster: Cluster) -> Iterator[Cluster]:
    postgres.start(cluster)
    yield cluster
    postgres.stop(cluster)


def test_init_leaves_a_stopped_server_and_is_done_once(cluster: Cluster) -> None:
    assert not postgres.running(cluster)
    again = postgres.init(cluster.root, port=1)
    assert again == cluster == postgres.load(cluster.root)
    assert (again.port, again.passwords) == (cluster.port, cluster.passwords)


def test_each_role_opens_its_own_databases_only(started: Cluster) -> None:
    own = {"airflow": ["airflow"], "mlflow": ["mlflow"], "l2l": ["l2l_owner", "l2l_app", "l2l_reader"]}
    roles = [role for names in own.values() for role in names]
    for database, allowed in own.items():
        for role in roles:
            if role in allowed:
                assert query(started.url(role, database), "SELECT current_user") == role
            else:
                with pytest.raises(psycopg2.OperationalError, match="permission denied"):
                    query(started.url(role, database), "SELECT 1")
    owners = "SELECT string_agg(datname || '=' || rolname, ' ' ORDER BY datname) FROM pg_database d"
    owners += " JOIN pg_roles r ON r.oid = d.datdba WHERE NOT datistemplate AND datname <> 'postgres'"
    assert query(started.admin_url, owners) == "airflow=airflow l2l=l2l_owner mlflow=mlflow"
    for url in (started.airflow_url, started.mlflow_url, started.owner_url):
        connection = psycopg2.connect(url.replace("+psycopg2", ""))
        connection.cursor().execute("CREATE SCHEMA test CREATE TABLE t (x int)")  # owners may
        connection.close()
    no_powers = "SELECT bool_or(rolsuper OR rolcreaterole OR rolcreatedb) FROM pg_roles WHERE rolname !~ '^p'"
    assert query(started.admin_url, no_powers) is False


def test_a_password_is_asked_for(started: Cluster) -> None:
    for role in (*started.passwords, postgres.ADMIN):
        with pytest.raises(psycopg2.OperationalError, match=r"password authentication failed|no password"):
            psycopg2.connect(
                host="127.0.0.1", port=started.port, user=role, password="guess", dbname="postgres"
            )
    assert query(started.admin_url, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'trust'") == 0


def test_only_loopback_is_listened_on(started: Cluster) -> None:
    assert query(started.admin_url, "SHOW listen_addresses") == "127.0.0.1"
    assert query(started.admin_url, "SHOW unix_socket_directories") == ""
    table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    suffix = f":{started.port:04X}"
    listening = [line.split()[1] for line in table.splitlines() if line.split()[3] == "0A"]
    assert [address for address in listening if address.endswith(suffix)] == [f"0100007F{suffix}"]


def test_passwords_are_in_one_private_file(started: Cluster) -> None:
    """Not in the log (which holds every statement here), not on the command line of any process."""
    saved = started.root / "cluster.json"
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert json.loads(saved.read_text())["passwords"] == started.passwords
    assert len(set(started.passwords.values())) == len(started.passwords) == 6
    assert all(len(password) >= 32 for password in started.passwords.values())
    assert "CREATE ROLE" in started.log.read_text()
    texts = [started.log.read_text(), *map(command_line, processes())]
    others = [path for path in started.root.rglob("*") if path.is_file() and path != saved]
    for password in started.passwords.values():
        assert not any(password in text for text in texts)
        assert not any(password.encode() in path.read_bytes() for path in others if "base" not in path.parts)
    assert not any(password in repr(started) for password in started.passwords.values())


def processes() -> list[Path]:
    return [path for path in Path("/proc").iterdir() if path.name.isdigit()]


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended
        return ""


def test_start_and_stop_can_be_repeated(cluster: Cluster) -> None:
    for _ in range(2):
        postgres.start(cluster)
        postgres.start(cluster)
        assert postgres.running(cluster)
        assert query(cluster.app_url, "SELECT 1") == 1
        postgres.stop(cluster)
        postgres.stop(cluster)
        assert not postgres.running(cluster)


def test_stop_does_not_wait_for_clients(cluster: Cluster) -> None:
    postgres.start(cluster)
    client = psycopg2.connect(cluster.app_url.replace("+psycopg2", ""))
    postgres.stop(cluster)
    assert not postgres.running(cluster)
    client.close()


def test_the_command_for_a_supervisor_runs_in_the_foreground(cluster: Cluster) -> None:
    """The process started is the server itself, drops root, and ends cleanly with the stop signal."""
    repository = Path(postgres.__file__).resolve().parent.parent
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(postgres.command(cluster), cwd=repository, stdout=output, stderr=output)
        try:
            wait_for(cluster)
            assert postgres.running(cluster)
            pid_file = query(cluster.admin_url, "SELECT pg_read_file('postmaster.pid')")
            assert str(pid_file).split()[0] == str(process.pid)
            assert os.stat(f"/proc/{process.pid}").st_uid != 0
        finally:
            process.send_signal(getattr(signal, f"SIG{postgres.STOP_SIGNAL}"))
            assert process.wait(60) == 0
    assert not postgres.running(cluster)


def wait_for(cluster: Cluster) -> None:
    """Until the server answers."""
    for attempt in range(600):
        try:
            query(cluster.app_url, "SELECT 1")
            return
        except psycopg2.OperationalError:
            if attempt == 599:
                raise
            signal.sigtimedwait([], 0.1)


def test_a_server_that_was_killed_comes_back(started: Cluster) -> None:
    """kill -9 leaves postmaster.pid behind, and a zombie where nobody reaps; the next start recovers."""
    connection = psycopg2.connect(started.owner_url.replace("+psycopg2", ""))
    connection.cursor().execute("CREATE TABLE public.kept AS SELECT 42 AS answer")
    connection.commit()
    pid = (started.data / "postmaster.pid").read_text().split()[0]
    os.kill(int(pid), signal.SIGKILL)
    connection.close()
    postgres.start(started)
    assert query(started.owner_url, "SELECT answer FROM public.kept") == 42


def test_a_process_number_used_by_another_is_no_server(cluster: Cluster) -> None:
    """After the machine was started again, the number in postmaster.pid may be anybody's."""
    lock = cluster.data / "postmaster.pid"
    owner = cluster.data.stat()
    other = subprocess.Popen(["sleep", "600"], user=owner.st_uid, group=owner.st_gid)
    try:
        lock.write_text(f"{other.pid}\n{cluster.data}\n1700000000\n{cluster.port}\n\n127.0.0.1\n")
        os.chown(lock, owner.st_uid, owner.st_gid)
        assert not postgres.running(cluster)
        postgres.start(cluster)
        assert query(cluster.app_url, "SELECT 1") == 1
        assert other.poll() is None
    finally:
        postgres.stop(cluster)
        other.kill()
        other.wait()


def test_a_port_in_use_is_explained(cluster: Cluster) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", cluster.port))
        taken.listen()
        with pytest.raises(StoreError, match="did not start") as caught:
            postgres.start(cluster)
    assert "Address already in use" in str(caught.value)
    assert not postgres.running(cluster)


def test_a_folder_without_a_server_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no embedded PostgreSQL"):
        postgres.load(tmp_path)
    repository = Path(postgres.__file__).resolve().parent.parent
    argv = postgres.command(
        Cluster(root=tmp_path, place=tmp_path, binaries=tmp_path, port=1, passwords={}, settings={})
    )
    done = subprocess.run(argv, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "there is no embedded PostgreSQL" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_init_that_died_is_begun_anew() -> None:
    """Data without cluster.json is of no use: nobody has the passwords of that server."""
    folder = Path(tempfile.mkdtemp(prefix="l2l-embedded-"))
    folder.chmod(0o755)
    (folder / "data" / "base").mkdir(parents=True)
    (folder / "data" / "PG_VERSION").write_text("18\n")
    (folder / "initdb-password").write_text("left behind")
    made = postgres.init(folder, settings=FAST)
    assert not (folder / "initdb-password").exists()
    postgres.start(made)
    assert query(made.app_url, "SELECT 1") == 1
    remove(made)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the server to another account")
def test_data_moves_where_the_servers_account_can_reach_it() -> None:
    """A folder below /root, say: PostgreSQL runs as another account, which may not enter it."""
    closed = Path(tempfile.mkdtemp(prefix="l2l-closed-"))  # mode 0700
    made = postgres.init(closed / "postgres", settings=FAST)
    try:
        assert postgres.FALLBACK in made.place.parents
        assert postgres.load(closed / "postgres") == made
        postgres.start(made)
        assert query(made.app_url, "SELECT 1") == 1
    finally:
        remove(made)
        closed.rmdir()


def test_data_of_a_version_without_binaries_is_explained(cluster: Cluster) -> None:
    version = cluster.data / "PG_VERSION"
    original = version.read_text()
    version.write_text("12\n")
    try:
        with pytest.raises(StoreError, match=r"PostgreSQL 12, which wrote"):
            postgres.load(cluster.root)
    finally:
        version.write_text(original)
