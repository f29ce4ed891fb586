"""The first tables."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE l2l.code_bundles (
    sha256 TEXT NOT NULL,
    files JSON NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_code_bundles PRIMARY KEY (sha256)
);

CREATE TABLE l2l.campaigns (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    origin TEXT NOT NULL,
    spec JSONB NOT NULL,
    spec_hash TEXT NOT NULL,
    problem JSON NOT NULL,
    code_hash TEXT NOT NULL,
    site TEXT NOT NULL,
    seed BIGINT NOT NULL,
    status TEXT DEFAULT 'running' NOT NULL,
    reason TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    mlflow_run_id TEXT,
    staged BOOLEAN DEFAULT false NOT NULL,
    next_generation INTEGER DEFAULT 0 NOT NULL,
    generations_told INTEGER DEFAULT 0 NOT NULL,
    told_at TIMESTAMP WITH TIME ZONE,
    best_fitness DOUBLE PRECISION[],
    best_individual INTEGER,
    evaluations_total BIGINT DEFAULT 0 NOT NULL,
    evaluations_ok BIGINT DEFAULT 0 NOT NULL,
    evaluations_failed BIGINT DEFAULT 0 NOT NULL,
    evaluations_infeasible BIGINT DEFAULT 0 NOT NULL,
    core_seconds DOUBLE PRECISION DEFAULT 0 NOT NULL,
    CONSTRAINT pk_campaigns PRIMARY KEY (id),
    CONSTRAINT ck_campaigns_id CHECK (id ~ '^[a-z0-9][a-z0-9-]*-[0-9a-f]{8}$'),
    CONSTRAINT ck_campaigns_status CHECK (status IN ('running', 'paused', 'stopped', 'finished')),
    CONSTRAINT ck_campaigns_ended CHECK ((status IN ('stopped', 'finished')) = (ended_at IS NOT NULL)),
    CONSTRAINT ck_campaigns_best_fitness_finite CHECK (NOT best_fitness && '{NaN,Infinity,-Infinity}'
        AND array_position(best_fitness, NULL) IS NULL AND cardinality(best_fitness) > 0),
    CONSTRAINT fk_campaigns_code_hash FOREIGN KEY(code_hash) REFERENCES l2l.code_bundles (sha256),
    CONSTRAINT uq_campaigns_origin UNIQUE (origin)
);
CREATE INDEX ix_campaigns_created ON l2l.campaigns (created_at);

CREATE TABLE l2l.events (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    campaign_id TEXT,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    kind TEXT NOT NULL,
    who TEXT NOT NULL,
    detail JSONB NOT NULL,
    CONSTRAINT pk_events PRIMARY KEY (id),
    CONSTRAINT fk_events_campaign_id FOREIGN KEY(campaign_id) REFERENCES l2l.campaigns (id)
);
CREATE INDEX ix_events_campaign ON l2l.events (campaign_id, id);

CREATE TABLE l2l.generations (
    campaign_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    asked INTEGER NOT NULL,
    asked_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    submitted_at TIMESTAMP WITH TIME ZONE,
    collected_at TIMESTAMP WITH TIME ZONE,
    told_at TIMESTAMP WITH TIME ZONE,
    logged_at TIMESTAMP WITH TIME ZONE,
    told_sha256 TEXT,
    summary JSONB,
    CONSTRAINT pk_generations PRIMARY KEY (campaign_id, number),
    CONSTRAINT ck_generations_counts CHECK (number >= 0 AND asked >= 0),
    CONSTRAINT ck_generations_told CHECK ((told_at IS NULL) = (told_sha256 IS NULL)
        AND (told_at IS NULL) = (summary IS NULL)),
    CONSTRAINT fk_generations_campaign_id FOREIGN KEY(campaign_id) REFERENCES l2l.campaigns (id)
);

CREATE TABLE l2l.optimizer_states (
    campaign_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    phase TEXT NOT NULL,
    format_version INTEGER NOT NULL,
    name TEXT NOT NULL,
    data BYTEA NOT NULL,
    sha256 TEXT NOT NULL,
    serial BIGINT GENERATED ALWAYS AS IDENTITY,
    saved_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_optimizer_states PRIMARY KEY (campaign_id, generation, phase),
    CONSTRAINT ck_optimizer_states_phase CHECK (phase IN ('asked', 'told')),
    CONSTRAINT fk_optimizer_states_campaign_id FOREIGN KEY(campaign_id) REFERENCES l2l.campaigns (id)
);

CREATE TABLE l2l.outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    campaign_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    payload JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    sent_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_outbox PRIMARY KEY (id),
    CONSTRAINT fk_outbox_campaign_id FOREIGN KEY(campaign_id) REFERENCES l2l.campaigns (id)
);
CREATE INDEX ix_outbox_unsent ON l2l.outbox (campaign_id, id)
    WHERE sent_at IS NULL;
CREATE UNIQUE INDEX uq_outbox_generation ON l2l.outbox (campaign_id, generation);

CREATE TABLE l2l.result_offsets (
    campaign_id TEXT NOT NULL,
    file TEXT NOT NULL,
    "offset" BIGINT NOT NULL,
    CONSTRAINT pk_result_offsets PRIMARY KEY (campaign_id, file),
    CONSTRAINT ck_result_offsets_offset CHECK ("offset" >= 0),
    CONSTRAINT fk_result_offsets_campaign_id FOREIGN KEY(campaign_id) REFERENCES l2l.campaigns (id)
);

CREATE TABLE l2l.workers (
    campaign_id TEXT NOT NULL,
    worker TEXT NOT NULL,
    job TEXT NOT NULL,
    index INTEGER NOT NULL,
    restart INTEGER NOT NULL,
    state TEXT NOT NULL,
    raw TEXT,
    reason TEXT,
    host TEXT,
    cpus INTEGER,
    submitted_at TIMESTAMP WITH TIME ZONE,
    started_at TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    core_seconds DOUBLE PRECISION DEFAULT 0 NOT NULL,
    CONSTRAINT pk_workers PRIMARY KEY (campaign_id, worker),
    CONSTRAINT ck_workers_core_seconds CHECK (core_seconds >= 0),
    CONSTRAINT fk_workers_campaign_id FOREIGN KEY(campaign_id) REFERENCES l2l.campaigns (id)
);
CREATE INDEX ix_workers_live ON l2l.workers (campaign_id, worker)
    WHERE ended_at IS NULL;

CREATE TABLE l2l.individuals (
    campaign_id TEXT NOT NULL,
    index INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    params JSON NOT NULL,
    status TEXT DEFAULT 'pending' NOT NULL,
    fitness DOUBLE PRECISION[],
    told_generation INTEGER,
    told_position INTEGER,
    CONSTRAINT pk_individuals PRIMARY KEY (campaign_id, index),
    CONSTRAINT fk_individuals_generation FOREIGN KEY(campaign_id, generation)
        REFERENCES l2l.generations (campaign_id, number),
    CONSTRAINT fk_individuals_told_generation FOREIGN KEY(campaign_id, told_generation)
        REFERENCES l2l.generations (campaign_id, number),
    CONSTRAINT ck_individuals_index CHECK (index >= 0),
    CONSTRAINT ck_individuals_status CHECK (status IN ('pending', 'ok', 'failed', 'infeasible')),
    CONSTRAINT ck_individuals_fitness_finite CHECK (NOT fitness && '{NaN,Infinity,-Infinity}'
        AND array_position(fitness, NULL) IS NULL AND cardinality(fitness) > 0),
    CONSTRAINT ck_individuals_ok_has_fitness CHECK ((status = 'ok') = (fitness IS NOT NULL)),
    CONSTRAINT ck_individuals_told CHECK ((told_generation IS NULL) = (status = 'pending')
        AND (told_generation IS NULL) = (told_position IS NULL))
);
CREATE INDEX ix_individuals_told ON l2l.individuals (campaign_id, told_generation, told_position);
CREATE INDEX ix_individuals_untold ON l2l.individuals (campaign_id, index)
    WHERE told_generation IS NULL;

CREATE TABLE l2l.evaluations (
    campaign_id TEXT NOT NULL,
    individual INTEGER NOT NULL,
    task_index INTEGER NOT NULL,
    repeat INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    task JSON NOT NULL,
    seed BIGINT NOT NULL,
    nonce TEXT NOT NULL,
    attempt INTEGER DEFAULT 0 NOT NULL,
    status TEXT DEFAULT 'pending' NOT NULL,
    fitness DOUBLE PRECISION[],
    metrics JSONB,
    curve JSONB,
    started_at TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    cpu_seconds DOUBLE PRECISION,
    host TEXT,
    worker TEXT,
    error_kind TEXT,
    error_message TEXT,
    error_tail TEXT,
    duplicates INTEGER DEFAULT 0 NOT NULL,
    CONSTRAINT pk_evaluations PRIMARY KEY (campaign_id, individual, task_index, repeat),
    CONSTRAINT fk_evaluations_individual FOREIGN KEY(campaign_id, individual)
        REFERENCES l2l.individuals (campaign_id, index),
    CONSTRAINT fk_evaluations_generation FOREIGN KEY(campaign_id, generation)
        REFERENCES l2l.generations (campaign_id, number),
    CONSTRAINT ck_evaluations_counts CHECK (task_index >= 0 AND repeat >= 0 AND attempt >= 0),
    CONSTRAINT ck_evaluations_status CHECK (status IN ('pending', 'ok', 'failed', 'infeasible')),
    CONSTRAINT ck_evaluations_fitness_finite CHECK (NOT fitness && '{NaN,Infinity,-Infinity}'
        AND array_position(fitness, NULL) IS NULL AND cardinality(fitness) > 0),
    CONSTRAINT ck_evaluations_ok_has_fitness CHECK ((status = 'ok') = (fitness IS NOT NULL))
);
CREATE INDEX ix_evaluations_outstanding ON l2l.evaluations (campaign_id, individual, task_index, repeat)
    WHERE status = 'pending';
CREATE INDEX ix_evaluations_recent ON l2l.evaluations (campaign_id, ended_at)
    WHERE status = 'ok';
"""

# Privileges keep other roles from changing what happened; the trigger keeps the owner from it as well.
APPEND_ONLY = """
CREATE FUNCTION l2l.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'l2l.%: rows are only ever added', TG_TABLE_NAME;
END
$$;
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON l2l.events
    FOR EACH STATEMENT EXECUTE FUNCTION l2l.refuse_change();
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(APPEND_ONLY)
