"""Run by Alembic; the connection and its transaction belong to `l2l_tasks.store.upgrade`."""

from __future__ import annotations

from alembic import context

from l2l_tasks.store.schema import SCHEMA, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=SCHEMA,
)
context.run_migrations()
