"""How far each results file of a site was read."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from l2l_tasks.store.schema import result_offsets as table


def get(connection: Connection, campaign_id: str) -> dict[str, int]:
    """File -> bytes read, for the files that can still grow."""
    query = sa.select(table.c.file, table.c.offset).where(table.c.campaign_id == campaign_id)
    return {row.file: row.offset for row in connection.execute(query)}


def set(connection: Connection, campaign_id: str, offsets: Mapping[str, int]) -> None:
    """Remember how far files were read (bytes); an offset never goes back."""
    if not offsets:
        return
    new = insert(table).values(
        [
            {"campaign_id": campaign_id, "file": file, "offset": offset}
            for file, offset in sorted(offsets.items())
        ]
    )
    farther = sa.func.greatest(table.c.offset, new.excluded.offset)
    connection.execute(
        new.on_conflict_do_update(index_elements=["campaign_id", "file"], set_={"offset": farther})
    )


def forget(connection: Connection, campaign_id: str, files: Collection[str]) -> None:
    """Drop files that the site has archived, so that what is sent with every `collect` stays short."""
    if files:
        connection.execute(
            table.delete().where(
                table.c.campaign_id == campaign_id, table.c.file == sa.any_(sa.literal(list(files)))
            )
        )
