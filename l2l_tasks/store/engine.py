"""Connections to the store, and the check that its tables are those this program knows."""

from __future__ import annotations

import os
from functools import partial

import psycopg2
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.engine.interfaces import ExceptionContext

from l2l_tasks.errors import StoreError, StoreUnreachable
from l2l_tasks.store.schema import REVISION
from l2l_tasks.store.values import json_text

_SERVER_STOPS = "57P"  # SQLSTATEs of a server that stops, crashed or starts
_CONNECT = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    # A program that hangs must not keep a campaign's row locked for the others.
    "options": "-c timezone=UTC -c lock_timeout=60s -c idle_in_transaction_session_timeout=300s",
}


def connect(url: str) -> Engine:
    """An engine for the store, after a look at its revision.

    Errors of PostgreSQL under this engine are raised as StoreError.

    Raises:
        StoreError: unreachable, not migrated, or migrated by a newer program.
    """
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            check_revision(connection)
    except BaseException:
        engine.dispose()
        raise
    return engine


def open_engine(url: str) -> Engine:
    """An engine without the look at the revision (migrations, tests); it connects on first use."""
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError:
        raise StoreError(
            "the database URL cannot be read; it looks like postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise StoreError(f"the store needs PostgreSQL, the database URL names {parsed.get_backend_name()!r}")
    engine = sa.create_engine(
        parsed.set(drivername="postgresql+psycopg2"),
        pool_pre_ping=True,
        json_serializer=json_text,
        connect_args={**_CONNECT, "application_name": f"l2l-{os.getpid()}"},
    )
    event.listen(engine, "handle_error", partial(_translate, parsed))
    return engine


def _translate(url: URL, context: ExceptionContext) -> None:
    """Turn what psycopg2 raises into a StoreError that says where and what next."""
    original = context.original_exception
    if isinstance(original, StoreError):  # from json_text; SQLAlchemy would wrap it
        raise original
    if context.is_pre_ping or not isinstance(original, psycopg2.Error):
        return
    raise store_error(original, f"{url.host}:{url.port or 5432}/{url.database}") from original


def store_error(error: psycopg2.Error, where: str) -> StoreError:
    """The StoreError of an error of PostgreSQL; its text is cut, since it may quote a whole row."""
    message = str(error).strip()[:800] or type(error).__name__
    lost = isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError))
    if lost and (error.pgcode is None or error.pgcode.startswith(_SERVER_STOPS)):
        advice = "Is the server up (`l2l doctor`), and is L2L_DATABASE_URL right?"
        return StoreUnreachable(f"PostgreSQL at {where}: {message}\n{advice}")
    return StoreError(f"PostgreSQL at {where}: {message}")


def check_revision(connection: Connection) -> None:
    """StoreError unless the tables are exactly those of this program."""
    found = current_revision(connection)
    if found is None:
        raise StoreError(
            f"the database {_name(connection)} has no tables of this project yet: run `l2l db upgrade`"
        )
    if found < REVISION:
        raise StoreError(
            f"the database {_name(connection)} is at revision {found}, this program needs {REVISION}: "
            "run `l2l db upgrade`"
        )
    if found > REVISION:
        raise StoreError(
            f"the database {_name(connection)} is at revision {found}, this older program knows {REVISION}: "
            "update the program"
        )


def current_revision(connection: Connection) -> str | None:
    """The revision of the tables; None in a database without them."""
    if connection.scalar(sa.text("SELECT to_regclass('l2l.alembic_version')")) is None:
        return None
    revision: str | None = connection.scalar(sa.text("SELECT version_num FROM l2l.alembic_version"))
    return revision


def _name(connection: Connection) -> str:
    url = connection.engine.url
    return f"{url.host}:{url.port or 5432}/{url.database}"
