"""The database itself: migrations, revisions, privileges, and errors that say what to do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from infra.postgres import free_port
from l2l_tasks.errors import StoreError
from l2l_tasks.store import campaigns, events, individuals, versions
from l2l_tasks.store.engine import connect, open_engine
from l2l_tasks.store.schema import REVISION, metadata
from l2l_tasks.store.upgrade import alembic_config, upgrade
from tests.store import build
from tests.support.postgres import Database, Server

CATALOG = {
    "columns": """
        SELECT table_name, column_name, data_type, udt_name, is_nullable, column_default, is_identity
        FROM information_schema.columns WHERE table_schema = 'l2l'""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'l2l'::regnamespace""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'l2l'",
}


def catalog(connection: Connection) -> dict[str, set[tuple[Any, ...]]]:
    """What PostgreSQL knows about the schema l2l, without Alembic's own table."""
    found = {}
    for name, query in CATALOG.items():
        rows = {tuple(row) for row in connection.execute(sa.text(query))}
        found[name] = {row for row in rows if "alembic_version" not in str(row[0])}
    return found


def test_migrations_make_exactly_the_tables_of_the_code(postgres_server: Server) -> None:
    """Columns, constraints (with their conditions) and indexes (with their predicates)."""
    migrated, built = postgres_server.migrated(), postgres_server.empty()
    engines = [open_engine(one.owner_url) for one in (migrated, built)]
    with engines[1].begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA l2l"))
        metadata.create_all(connection)
    seen = []
    for engine in engines:
        with engine.begin() as connection:
            seen.append(catalog(connection))
    assert seen[0] == seen[1]
    assert len(seen[0]["columns"]) > 80
    with engines[0].begin() as connection:
        options = {"include_schemas": True, "version_table_schema": "l2l", "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    for engine, database in zip(engines, (migrated, built), strict=True):
        engine.dispose()
        postgres_server.drop(database)


def test_the_revision_of_the_code_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [REVISION]


OF_0001 = """
    INSERT INTO l2l.code_bundles (sha256, files) VALUES ('c', '{}');
    INSERT INTO l2l.campaigns (id, name, origin, spec, spec_hash, problem, code_hash, site, seed)
        VALUES ('old-00000000', 'old', 'test/old', '{"name": "old"}', 'h', '{"batch": 4}', 'c', 'local', 7);
    INSERT INTO l2l.generations (campaign_id, number, asked) VALUES ('old-00000000', 0, 1);
    INSERT INTO l2l.individuals (campaign_id, index, generation, params)
        VALUES ('old-00000000', 0, 0, '{"x": 1e16}');
"""


def test_a_database_of_the_first_release_is_upgraded_in_place(postgres_server: Server) -> None:
    """A campaign that runs keeps its individuals, and what it began with becomes version 1."""
    database = postgres_server.empty()
    owner = open_engine(database.owner_url)
    with owner.begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA l2l"))
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(sa.text(OF_0001.replace(":", "\\:")))
    owner.dispose()
    assert upgrade(database.owner_url) == REVISION
    engine = connect(database.app_url)
    with engine.begin() as connection:
        row = campaigns.get(connection, "old-00000000")
        (version,) = versions.listing(connection, row.id)
        individual = individuals.get(connection, row.id, 0)
    assert individual is not None
    assert (individual.params, individual.origin, individual.n_tasks) == ({"x": 1e16}, None, None)
    assert (row.spec_version, version.version, version.from_generation) == (1, 1, 0)
    assert (version.spec, version.problem, version.who) == (row.spec, row.problem, "test/old")
    assert version.created_at == row.created_at
    engine.dispose()
    postgres_server.drop(database)


def test_upgrades_repeat_and_collide_without_harm(postgres_server: Server) -> None:
    database = postgres_server.empty()
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: upgrade(database.owner_url), range(3))) == [REVISION] * 3
    assert upgrade(database.owner_url) == REVISION
    connect(database.app_url).dispose()
    postgres_server.drop(database)


def test_a_database_without_tables_names_the_command(postgres_server: Server) -> None:
    database = postgres_server.empty()
    with pytest.raises(StoreError, match="l2l db upgrade"):
        connect(database.app_url)
    postgres_server.drop(database)


@pytest.mark.parametrize(("revision", "advice"), [("0000", "l2l db upgrade"), ("9999", "update the program")])
def test_another_revision_is_not_used(database: Database, revision: str, advice: str) -> None:
    owner = open_engine(database.owner_url)
    with owner.begin() as connection:
        connection.execute(sa.text("UPDATE l2l.alembic_version SET version_num = :r"), {"r": revision})
    owner.dispose()
    with pytest.raises(StoreError, match=advice):
        connect(database.app_url)


def test_an_unreachable_server_is_a_store_error() -> None:
    port = free_port()
    with pytest.raises(StoreError, match="refused") as caught:
        connect(f"postgresql://someone:geheim@127.0.0.1:{port}/l2l")
    assert f"127.0.0.1:{port}/l2l" in str(caught.value)
    assert "L2L_DATABASE_URL" in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_a_wrong_password_is_a_store_error(database: Database) -> None:
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        connect(database.app_url.replace("l2l_app:", "l2l_app:wrong"))
    assert database.app_url.split(":")[2].split("@")[0] not in str(caught.value)


@pytest.mark.parametrize("url", ["nonsense", "", "sqlite:///x.db"])
def test_a_url_that_is_none_of_ours_is_a_store_error(url: str) -> None:
    with pytest.raises(StoreError, match=r"postgresql|PostgreSQL"):
        connect(url)


def test_any_postgresql_url_works(database: Database) -> None:
    """Users and other programs write it without the driver."""
    connect(database.app_url.replace("postgresql+psycopg2", "postgresql")).dispose()
    connect(database.app_url.replace("postgresql+psycopg2", "postgres")).dispose()


def test_a_missing_role_is_named(postgres_server: Server) -> None:
    database = postgres_server.empty()
    with pytest.raises(StoreError, match=r"nobody_here.*CREATE ROLE nobody_here"):
        upgrade(database.owner_url, app_role="nobody_here")
    postgres_server.drop(database)


def test_a_broken_connection_is_replaced(postgres_server: Server, database: Database) -> None:
    """A restart of PostgreSQL costs the transactions that were open, not the program."""
    engine = connect(database.app_url)
    with engine.connect() as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    admin = open_engine(postgres_server.admin_url)
    with admin.begin() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    admin.dispose()
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT pg_backend_pid()")) != pid
    engine.dispose()


TABLES = sorted(table.name for table in metadata.sorted_tables)
APP_MAY = [
    *((table, verb) for table in TABLES for verb in ("SELECT", "INSERT")),
    *((table, verb) for table in TABLES for verb in ("UPDATE", "DELETE") if table != "events"),
]


def test_privileges_are_exactly_these(database: Database) -> None:
    owner = open_engine(database.owner_url)
    query = sa.text("""
        SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants
        WHERE table_schema = 'l2l' AND grantee <> 'l2l_owner'
    """)
    with owner.begin() as connection:
        found = {tuple(row) for row in connection.execute(query)}
    owner.dispose()
    expected = {("l2l_app", *pair) for pair in APP_MAY}
    expected |= {("l2l_reader", table, "SELECT") for table in TABLES}
    expected |= {(role, "alembic_version", "SELECT") for role in ("l2l_app", "l2l_reader")}
    assert found == expected


def refused(url: str, *statements: str, match: str = "permission denied") -> None:
    engine = open_engine(url)
    for statement in statements:
        with pytest.raises(StoreError, match=match), engine.begin() as connection:
            connection.execute(sa.text(statement))
    engine.dispose()


CHANGES = ("UPDATE l2l.events SET kind = 'x'", "DELETE FROM l2l.events", "TRUNCATE l2l.events")


def test_the_app_can_neither_change_history_nor_tables(database: Database) -> None:
    refused(database.app_url, *CHANGES, "CREATE TABLE l2l.more (x int)", "TRUNCATE l2l.outbox")
    owners = (
        "ALTER TABLE l2l.outbox ADD x int",
        "DROP TABLE l2l.outbox",
        "DROP TRIGGER events_append_only ON l2l.events",
    )
    refused(database.app_url, *owners, match="must be owner")


def test_the_owner_cannot_change_history_either(database: Database) -> None:
    """Also without a row: the trigger is there once per statement."""
    refused(database.owner_url, *CHANGES, match="only ever added")


def test_the_reader_reads_and_nothing_else(database: Database) -> None:
    engine = connect(database.app_url)
    with engine.begin() as connection:
        made = build.campaign(connection)
    engine.dispose()
    reader = connect(database.reader_url)
    with reader.begin() as connection:
        assert [one.id for one in campaigns.listing(connection)] == [made.id]
        assert len(events.recent(connection, made.id, 5)) == 1
    with pytest.raises(StoreError, match="permission denied"), reader.begin() as connection:
        build.campaign(connection)
    reader.dispose()
    refused(
        database.reader_url, "DELETE FROM l2l.outbox", "CREATE TABLE l2l.more (x int)", "TRUNCATE l2l.outbox"
    )
