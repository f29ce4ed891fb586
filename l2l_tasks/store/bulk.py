"""Many rows in one statement: PostgreSQL's COPY, through the psycopg2 connection below SQLAlchemy's."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg2
import sqlalchemy as sa
from psycopg2 import sql
from sqlalchemy.engine import Connection

from l2l_tasks.errors import StoreError
from l2l_tasks.store.engine import store_error
from l2l_tasks.store.values import clean

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copy(
    connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Add `rows` to `table` within the transaction of `connection`, which must have run a statement already.

    Args:
        table: name, `schema.table` for one in a schema.
        rows: values in the order of `columns`: None, bool, int, float, str (JSON columns: `json_text`), and
            sequences of floats for arrays.
    Raises:
        StoreError: refused by a constraint; the transaction has to be rolled back.
    """
    buffer = io.StringIO()
    buffer.writelines("\t".join(map(_field, row)) + "\n" for row in rows)
    buffer.seek(0)
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    cursor: Any = connection.connection.cursor()
    try:
        cursor.copy_expert(statement, buffer)
    except psycopg2.Error as error:
        raise store_error(error, f"{connection.engine.url.database}, table {table}") from error
    finally:
        cursor.close()


def stage(
    connection: Connection, table: str, columns: dict[str, str], rows: Iterable[Sequence[object]]
) -> None:
    """Put `rows` into a temporary table (column -> type), for one statement that works on all of them.

    The table belongs to the connection and is kept for its next use, empty; PostgreSQL's catalogue is not
    written at each call.
    """
    defined = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    connection.execute(
        sa.text(f"CREATE TEMPORARY TABLE IF NOT EXISTS {table} ({defined}) ON COMMIT DELETE ROWS")
    )
    connection.execute(sa.text(f"DELETE FROM pg_temp.{table}"))
    copy(connection, f"pg_temp.{table}", list(columns), rows)
    analyze(connection, table)


def analyze(connection: Connection, table: str) -> None:
    """Tell the planner what is in a temporary table: it overrates a small one, and then reads a history."""
    connection.execute(sa.text(f"ANALYZE pg_temp.{table}"))


def _field(value: object) -> str:
    """One value in COPY's text format."""
    if value is None:
        return "\\N"
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, str):
        return clean(value).translate(_ESCAPES)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "{" + ",".join(_number(item) for item in value) + "}"
    raise StoreError(f"COPY cannot write a {type(value).__name__}")


def _number(value: object) -> str:
    if isinstance(value, int | float):
        return repr(float(value))
    raise StoreError(f"a fitness must be a number, found {str(value)[:80]!r} ({type(value).__name__})")
