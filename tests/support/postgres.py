"""A real PostgreSQL server for the session, and a fresh migrated database for whoever asks."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url

from infra import postgres as embedded
from l2l_tasks.store.engine import connect
from l2l_tasks.store.upgrade import upgrade

# What is lost when the machine dies does not matter here.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_numbers = itertools.count()


@dataclass(frozen=True)
class Database:
    """One database, with a URL for each role."""

    name: str
    owner_url: str
    app_url: str
    reader_url: str


class Server:
    """The session's server; makes databases."""

    def __init__(self, cluster: embedded.Cluster) -> None:
        self.cluster = cluster
        self.admin_url = cluster.admin_url
        self.owner_url = cluster.owner_url
        self._migrated = False

    def empty(self) -> Database:
        """A new database without tables, owned by the store's owner role."""
        return self._create("template0")

    def migrated(self) -> Database:
        """A new database with the store's tables: a copy of one that was migrated once."""
        if not self._migrated:
            upgrade(self.cluster.owner_url)
            self._migrated = True
        return self._create("l2l")

    def drop(self, database: Database) -> None:
        self._admin(f'DROP DATABASE "{database.name}" WITH (FORCE)')

    def _create(self, template: str) -> Database:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self._admin(f'CREATE DATABASE "{name}" TEMPLATE {template} OWNER l2l_owner')
        self._admin(f'GRANT CONNECT, TEMPORARY ON DATABASE "{name}" TO l2l_app, l2l_reader')
        url = self.cluster.url
        return Database(name, url("l2l_owner", name), url("l2l_app", name), url("l2l_reader", name))

    def _admin(self, statement: str) -> None:
        url = make_url(self.admin_url)
        connection = psycopg2.connect(
            host=url.host, port=url.port, user=url.username, password=url.password, dbname=url.database
        )
        try:
            connection.autocommit = True
            connection.cursor().execute(statement)
        finally:
            connection.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A running server of its own, gone after the session."""
    folder = Path(tempfile.mkdtemp(prefix="l2l-postgres-"))
    folder.chmod(0o755)  # the server runs under another account when the tests run as root
    cluster = embedded.init(folder, settings=FAST)
    embedded.start(cluster)
    yield Server(cluster)
    embedded.stop(cluster)
    shutil.rmtree(folder)
    if cluster.place != folder.resolve():
        shutil.rmtree(cluster.place)


@pytest.fixture
def database(postgres_server: Server) -> Iterator[Database]:
    """A fresh migrated database."""
    made = postgres_server.migrated()
    yield made
    postgres_server.drop(made)


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    """An engine of the app role on `database`."""
    made = connect(database.app_url)
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def shared_engine(postgres_server: Server) -> Iterator[Engine]:
    """An engine of the app role on a database that stays empty: its users roll back."""
    database = postgres_server.migrated()
    made = connect(database.app_url)
    yield made
    made.dispose()
    postgres_server.drop(database)


@pytest.fixture
def connection(shared_engine: Engine) -> Iterator[Connection]:
    """A connection to an empty store, in a transaction that is rolled back after the test."""
    with shared_engine.connect() as made:
        transaction = made.begin()
        yield made
        transaction.rollback()


def table_count(connection: Connection, table: str) -> int:
    """How many rows `l2l.<table>` has."""
    found: int = connection.scalar(sa.text(f"SELECT count(*) FROM l2l.{table}")) or 0
    return found
