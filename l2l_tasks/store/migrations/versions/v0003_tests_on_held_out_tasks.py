"""Individuals below 0: parameters that are tested on held-out tasks."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE l2l.individuals DROP CONSTRAINT ck_individuals_index")
