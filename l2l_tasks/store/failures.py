"""Why evaluations fail, in a few words and with the last lines of one of them."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

MOST = 20

# Messages that differ in their numbers only (a seed, a time) are one.
_FAILURES = sa.text("""
    WITH told AS (
        SELECT e.* FROM l2l.individuals AS i
            JOIN l2l.evaluations AS e ON e.campaign_id = i.campaign_id AND e.individual = i.index
        WHERE i.campaign_id = :campaign AND i.told_generation = :generation
    ), messages AS (
        SELECT count(*) AS evaluations, sum(count(*)) OVER () AS of_all,
            min(ARRAY[individual, task_index, repeat]) AS first
        FROM told WHERE status <> 'ok' AND error_message IS NOT NULL
        GROUP BY error_kind, regexp_replace(error_message, '[0-9]+', '0', 'g')
        ORDER BY evaluations DESC, first LIMIT :most
    )
    SELECT evaluations, of_all, (SELECT count(*) FROM told WHERE status = 'ok') AS ok,
        error_kind AS kind, error_message AS message, array_to_string(first, '.') AS key, error_tail AS tail
    FROM messages JOIN told ON ARRAY[individual, task_index, repeat] = first
    ORDER BY evaluations DESC, first
""")


@dataclass(frozen=True)
class Failure:
    """What `evaluations` of `of_all` evaluations without a result ended with.

    Attributes:
        ok: evaluations of the same generation that have a result.
        kind, message, tail: of the first of these evaluations; `tail` is the end of its output.
        key: its `individual.task.repeat`.
    """

    evaluations: int
    of_all: int
    ok: int
    kind: str | None
    message: str
    key: str
    tail: str | None


def of_generation(connection: Connection, campaign_id: str, generation: int) -> list[Failure]:
    """What the unsuccessful evaluations told in a generation ended with, the MOST frequent first."""
    values = {"campaign": campaign_id, "generation": generation, "most": MOST}
    rows = connection.execute(_FAILURES, values).mappings()
    return [Failure(**{**row, "of_all": int(row["of_all"])}) for row in rows]
