"""The tables of the store, as SQLAlchemy Core sees them. `migrations/` makes them; a test keeps both equal.

Everything lives in the PostgreSQL schema `l2l`. Rules:
- Statuses are words guarded by CHECK constraints; a fitness array holds no NaN, infinity or NULL.
- What must come back exactly (params, task, problem) is JSON text: JSONB turns 1e16 into an integer and -0.0
  into 0.0.
- What is asked often is bounded: open evaluations, untold individuals, live workers and unsent outbox rows
  have partial indexes, and totals of a campaign are kept in its row: no such answer grows with the history.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

SCHEMA = "l2l"
REVISION = "0003"  # the migration that makes what is written below

CAMPAIGN_STATUSES = ("running", "paused", "stopped", "finished")
STATUSES = ("pending", "ok", "failed", "infeasible")  # of individuals and evaluations
PHASES = ("asked", "told")

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    },
)


def _time(name: str, *, now: bool = False) -> Column[object]:
    default = text("now()") if now else None
    return Column(name, DateTime(timezone=True), nullable=not now, server_default=default)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _campaign(*, nullable: bool = False) -> Column[str]:
    return Column("campaign_id", Text, ForeignKey("l2l.campaigns.id"), nullable=nullable)


def _refers(source: str, column: str, table: str, key: str) -> ForeignKeyConstraint:
    """(campaign_id, column) names a row of `table`; that row names the campaign."""
    there = [f"l2l.{table}.campaign_id", f"l2l.{table}.{key}"]
    return ForeignKeyConstraint(["campaign_id", column], there, name=f"fk_{source}_{column}")


def _one_of(column: str, words: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _finite(column: str) -> CheckConstraint:
    infinite = f"NOT {column} && '{{NaN,Infinity,-Infinity}}'"
    incomplete = f"array_position({column}, NULL) IS NULL AND cardinality({column}) > 0"
    return CheckConstraint(f"{infinite} AND {incomplete}", name=f"{column}_finite")  # NULL: true


def _ok_has_fitness() -> CheckConstraint:
    return CheckConstraint("(status = 'ok') = (fitness IS NOT NULL)", name="ok_has_fitness")


code_bundles = Table(
    "code_bundles",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("files", JSON, nullable=False),
    _time("created_at", now=True),
)

campaigns = Table(
    "campaigns",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("origin", Text, nullable=False, unique=True),
    Column("spec", JSONB, nullable=False),
    Column("spec_hash", Text, nullable=False),
    Column("spec_version", Integer, nullable=False, server_default=text("1")),
    Column("problem", JSON, nullable=False),
    Column("code_hash", Text, ForeignKey("l2l.code_bundles.sha256"), nullable=False),
    Column("site", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'running'")),
    Column("reason", Text),
    _time("created_at", now=True),
    _time("ended_at"),
    Column("mlflow_run_id", Text),
    Column("staged", Boolean, nullable=False, server_default=text("false")),
    # Kept by the functions that change what they sum up.
    Column("next_generation", Integer, nullable=False, server_default=text("0")),
    Column("generations_told", Integer, nullable=False, server_default=text("0")),
    _time("told_at"),
    Column("best_fitness", ARRAY(Double)),
    Column("best_individual", Integer),
    _count("evaluations_total"),
    _count("evaluations_ok"),
    _count("evaluations_failed"),
    _count("evaluations_infeasible"),
    Column("core_seconds", Double, nullable=False, server_default=text("0")),
    CheckConstraint("id ~ '^[a-z0-9][a-z0-9-]*-[0-9a-f]{8}$'", name="id"),
    _one_of("status", CAMPAIGN_STATUSES),
    CheckConstraint("(status IN ('stopped', 'finished')) = (ended_at IS NOT NULL)", name="ended"),
    _finite("best_fitness"),
    Index("ix_campaigns_created", "created_at"),
)

# A campaign's row holds the version in force; a newer one comes into force when `from_generation` is asked.
spec_versions = Table(
    "spec_versions",
    metadata,
    _campaign(),
    Column("version", Integer, nullable=False),
    Column("from_generation", Integer, nullable=False),
    Column("spec", JSONB, nullable=False),
    Column("spec_hash", Text, nullable=False),
    Column("problem", JSON, nullable=False),
    Column("who", Text, nullable=False),
    _time("created_at", now=True),
    PrimaryKeyConstraint("campaign_id", "version"),
    CheckConstraint("version >= 1 AND from_generation >= 0", name="counts"),
)

generations = Table(
    "generations",
    metadata,
    _campaign(),
    Column("number", Integer, nullable=False),
    Column("asked", Integer, nullable=False),
    _time("asked_at", now=True),
    _time("submitted_at"),
    _time("collected_at"),
    _time("told_at"),
    _time("logged_at"),
    Column("told_sha256", Text),
    Column("summary", JSONB),
    PrimaryKeyConstraint("campaign_id", "number"),
    CheckConstraint("number >= 0 AND asked >= 0", name="counts"),
    CheckConstraint(
        "(told_at IS NULL) = (told_sha256 IS NULL) AND (told_at IS NULL) = (summary IS NULL)", name="told"
    ),
)

# Indices below 0 are tests: parameters that are evaluated on held-out tasks. No optimizer asked for them.
individuals = Table(
    "individuals",
    metadata,
    Column("campaign_id", Text, nullable=False),
    Column("index", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("params", JSON, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("fitness", ARRAY(Double)),
    Column("told_generation", Integer),
    Column("told_position", Integer),
    # What the optimizer said when it asked (optimizers.individuals.Suggestion). No tasks: all there are.
    Column("origin", Integer),
    Column("parent", Integer),
    Column("first_task", Integer),
    Column("n_tasks", Integer),
    Column("violation", Double),
    PrimaryKeyConstraint("campaign_id", "index"),
    _refers("individuals", "generation", "generations", "number"),
    _refers("individuals", "told_generation", "generations", "number"),
    _refers("individuals", "origin", "individuals", "index"),
    _refers("individuals", "parent", "individuals", "index"),
    _one_of("status", STATUSES),
    _finite("fitness"),
    _ok_has_fitness(),
    CheckConstraint(
        "(told_generation IS NULL) = (status = 'pending')"
        " AND (told_generation IS NULL) = (told_position IS NULL)",
        name="told",
    ),
    CheckConstraint(
        "(first_task IS NULL) = (n_tasks IS NULL) AND first_task >= 0 AND n_tasks >= 1", name="slice"
    ),
    CheckConstraint(
        "violation IS NULL OR (status = 'infeasible' AND violation > 0 AND violation < 'Infinity')",
        name="violation",
    ),
    Index("ix_individuals_untold", "campaign_id", "index", postgresql_where=text("told_generation IS NULL")),
    Index("ix_individuals_told", "campaign_id", "told_generation", "told_position"),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("campaign_id", Text, nullable=False),
    Column("individual", Integer, nullable=False),
    Column("task_index", Integer, nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("task", JSON, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("fitness", ARRAY(Double)),
    Column("metrics", JSONB),
    Column("curve", JSONB),
    _time("started_at"),
    _time("ended_at"),
    Column("cpu_seconds", Double),
    Column("host", Text),
    Column("worker", Text),
    Column("error_kind", Text),
    Column("error_message", Text),
    Column("error_tail", Text),
    Column("duplicates", Integer, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("campaign_id", "individual", "task_index", "repeat"),
    _refers("evaluations", "individual", "individuals", "index"),
    _refers("evaluations", "generation", "generations", "number"),
    CheckConstraint("task_index >= 0 AND repeat >= 0 AND attempt >= 0", name="counts"),
    _one_of("status", STATUSES),
    _finite("fitness"),
    _ok_has_fitness(),
    Index(
        "ix_evaluations_outstanding",
        "campaign_id",
        "individual",
        "task_index",
        "repeat",
        postgresql_where=text("status = 'pending'"),
    ),
    Index("ix_evaluations_recent", "campaign_id", "ended_at", postgresql_where=text("status = 'ok'")),
)

workers = Table(
    "workers",
    metadata,
    _campaign(),
    Column("worker", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("index", Integer, nullable=False),
    Column("restart", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("raw", Text),
    Column("reason", Text),
    Column("host", Text),
    Column("cpus", Integer),
    _time("submitted_at"),
    _time("started_at"),
    _time("ended_at"),
    _time("seen_at", now=True),
    Column("core_seconds", Double, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("campaign_id", "worker"),
    CheckConstraint("core_seconds >= 0", name="core_seconds"),
    Index("ix_workers_live", "campaign_id", "worker", postgresql_where=text("ended_at IS NULL")),
)

optimizer_states = Table(
    "optimizer_states",
    metadata,
    _campaign(),
    Column("generation", Integer, nullable=False),
    Column("phase", Text, nullable=False),
    Column("format_version", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("serial", BigInteger, Identity(always=True), nullable=False),
    _time("saved_at", now=True),
    PrimaryKeyConstraint("campaign_id", "generation", "phase"),
    _one_of("phase", PHASES),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _campaign(nullable=True),
    _time("at", now=True),
    Column("kind", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("detail", JSONB, nullable=False),
    Index("ix_events_campaign", "campaign_id", "id"),
)

result_offsets = Table(
    "result_offsets",
    metadata,
    _campaign(),
    Column("file", Text, nullable=False),
    Column("offset", BigInteger, nullable=False),
    PrimaryKeyConstraint("campaign_id", "file"),
    CheckConstraint('"offset" >= 0', name="offset"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _campaign(),
    Column("generation", Integer, nullable=False),
    Column("payload", JSONB, nullable=False),
    _time("created_at", now=True),
    _time("sent_at"),
    Index("uq_outbox_generation", "campaign_id", "generation", unique=True),
    Index("ix_outbox_unsent", "campaign_id", "id", postgresql_where=text("sent_at IS NULL")),
)
