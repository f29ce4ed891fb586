"""Code of optimizees by content hash: a campaign keeps what it began with, whatever becomes of the files."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from l2l_tasks.errors import StoreError
from l2l_tasks.store.schema import code_bundles


def put(connection: Connection, sha256: str, files: Mapping[str, bytes]) -> None:
    """Keep the files (relative path -> content) of a bundle; one that is there stays."""
    encoded = {path: base64.b64encode(content).decode() for path, content in files.items()}
    statement = insert(code_bundles).values(sha256=sha256, files=encoded)
    connection.execute(statement.on_conflict_do_nothing(index_elements=["sha256"]))


def get(connection: Connection, sha256: str) -> dict[str, bytes]:
    """The files of a bundle; StoreError when it is not there."""
    query = sa.select(code_bundles.c.files).where(code_bundles.c.sha256 == sha256)
    files = connection.scalar(query)
    if files is None:
        raise StoreError(f"the code {sha256[:12]} of a campaign is missing: restore a backup of the database")
    return {path: base64.b64decode(content) for path, content in files.items()}
