"""Bring a database to the tables of this program (`l2l db upgrade`)."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection

from l2l_tasks.errors import StoreError
from l2l_tasks.store.engine import current_revision, open_engine
from l2l_tasks.store.schema import SCHEMA, events, metadata

_LOCK = 0x6C326C  # any number, the same in every program: one upgrade at a time


def upgrade(owner_url: str, app_role: str = "l2l_app", reader_role: str = "l2l_reader") -> str:
    """Create or migrate the tables, in one transaction, and give the roles what they may do.

    Safe to call again and at the same time from several programs.

    Args:
        owner_url: URL of the role that owns the tables (DDL).
        app_role: may read and write; on `events` only read and add.
        reader_role: may read.
    Returns:
        the revision reached.
    Raises:
        StoreError: unreachable, not the owner, or a role does not exist.
    """
    engine = open_engine(owner_url)
    try:
        with engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            _check_roles(connection, app_role, reader_role)
            connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            config = alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            _grant(connection, app_role, reader_role)
            return current_revision(connection) or ""
    finally:
        engine.dispose()


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _check_roles(connection: Connection, *roles: str) -> None:
    known = set(connection.scalars(sa.text("SELECT rolname FROM pg_roles")))
    if missing := [role for role in roles if role not in known]:
        statements = " ".join(f"CREATE ROLE {role} LOGIN PASSWORD '...';" for role in missing)
        raise StoreError(
            f"roles missing in PostgreSQL: {', '.join(missing)}. Its administrator creates them: {statements}"
        )


def _grant(connection: Connection, app: str, reader: str) -> None:
    """Privileges are set anew after every upgrade, so that no migration can forget them."""
    quote = connection.dialect.identifier_preparer.quote
    app, reader = quote(app), quote(reader)
    writable = ", ".join(str(table) for table in metadata.sorted_tables if table is not events)
    for statement in (
        f"REVOKE ALL ON SCHEMA {SCHEMA} FROM PUBLIC, {app}, {reader}",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {SCHEMA} FROM PUBLIC, {app}, {reader}",
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {app}, {reader}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMA} TO {app}, {reader}",
        f"GRANT INSERT, UPDATE, DELETE ON {writable} TO {app}",
        f"GRANT INSERT ON {events} TO {app}",
    ):
        connection.execute(sa.text(statement))
