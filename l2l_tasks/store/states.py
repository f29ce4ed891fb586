"""States of optimizers: versioned bytes with a checksum, saved together with what was asked or told."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from l2l_tasks.errors import StoreError
from l2l_tasks.store.schema import optimizer_states as table

KEPT = 3  # states per campaign: the current one, and two to look at when something is wrong


@dataclass(frozen=True)
class OptimizerState:
    """What an optimizer needs to go on.

    Attributes:
        generation, phase: taken after this generation was "asked" or "told".
        format_version, name: of the optimizer that wrote it.
        data: as from `Optimizer.state()`.
    """

    generation: int
    phase: str
    format_version: int
    name: str
    data: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def save(connection: Connection, campaign_id: str, state: OptimizerState) -> None:
    """Save the state and forget all but the last KEPT; part of ask_generation and tell_generation."""
    row = {
        "campaign_id": campaign_id,
        "generation": state.generation,
        "phase": state.phase,
        "format_version": state.format_version,
        "name": state.name,
        "data": state.data,
        "sha256": state.sha256,
    }
    connection.execute(table.insert().values(row))
    mine = table.c.campaign_id == campaign_id
    newest = sa.select(table.c.serial).where(mine).order_by(table.c.serial.desc()).limit(KEPT)
    connection.execute(table.delete().where(mine, table.c.serial.not_in(newest)))


def load_latest(connection: Connection, campaign_id: str) -> OptimizerState | None:
    """The state saved last; None before the first.

    Raises:
        StoreError: the bytes are not those that were saved.
    """
    query = (
        sa.select(table).where(table.c.campaign_id == campaign_id).order_by(table.c.serial.desc()).limit(1)
    )
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    state = OptimizerState(
        row["generation"], row["phase"], row["format_version"], row["name"], bytes(row["data"])
    )
    if state.sha256 != row["sha256"]:
        raise StoreError(
            f"the optimizer state of {campaign_id} ({state.phase} generation {state.generation}) is damaged: "
            f"its SHA-256 is {state.sha256}, {row['sha256']} was saved. Restore the database from a backup"
        )
    return state
