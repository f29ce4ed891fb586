"""Individuals carry what the optimizer said about them; specifications of running campaigns have versions."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CHANGES = """
ALTER TABLE l2l.individuals
    ADD COLUMN origin INTEGER,
    ADD COLUMN parent INTEGER,
    ADD COLUMN first_task INTEGER,
    ADD COLUMN n_tasks INTEGER,
    ADD COLUMN violation DOUBLE PRECISION,
    ADD CONSTRAINT fk_individuals_origin FOREIGN KEY(campaign_id, origin)
        REFERENCES l2l.individuals (campaign_id, index),
    ADD CONSTRAINT fk_individuals_parent FOREIGN KEY(campaign_id, parent)
        REFERENCES l2l.individuals (campaign_id, index),
    ADD CONSTRAINT ck_individuals_slice CHECK ((first_task IS NULL) = (n_tasks IS NULL)
        AND first_task >= 0 AND n_tasks >= 1),
    ADD CONSTRAINT ck_individuals_violation CHECK (violation IS NULL
        OR (status = 'infeasible' AND violation > 0 AND violation < 'Infinity'));

ALTER TABLE l2l.campaigns ADD COLUMN spec_version INTEGER DEFAULT 1 NOT NULL;

CREATE TABLE l2l.spec_versions (
    campaign_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    from_generation INTEGER NOT NULL,
    spec JSONB NOT NULL,
    spec_hash TEXT NOT NULL,
    problem JSON NOT NULL,
    who TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_spec_versions PRIMARY KEY (campaign_id, version),
    CONSTRAINT ck_spec_versions_counts CHECK (version >= 1 AND from_generation >= 0),
    CONSTRAINT fk_spec_versions_campaign_id FOREIGN KEY(campaign_id) REFERENCES l2l.campaigns (id)
);

INSERT INTO l2l.spec_versions
        (campaign_id, version, from_generation, spec, spec_hash, problem, who, created_at)
    SELECT id, 1, 0, spec, spec_hash, problem, origin, created_at FROM l2l.campaigns;
"""


def upgrade() -> None:
    op.execute(CHANGES)
