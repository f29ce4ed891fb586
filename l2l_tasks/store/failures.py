"""Why evaluations fail, in a word."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

# Messages that differ in their numbers only (a seed, a time) are one.
_MOST_FREQUENT = sa.text("""
    SELECT count(*) AS evaluations, sum(count(*)) OVER () AS of_all,
        error_kind AS kind, min(error_message) AS message
    FROM l2l.individuals AS i
        JOIN l2l.evaluations AS e ON e.campaign_id = i.campaign_id AND e.individual = i.index
    WHERE i.campaign_id = :campaign AND i.told_generation = :generation
        AND e.status <> 'ok' AND e.error_message IS NOT NULL
    GROUP BY error_kind, regexp_replace(error_message, '[0-9]+', '0', 'g')
    ORDER BY evaluations DESC, message
    LIMIT 1
""")


@dataclass(frozen=True)
class Failure:
    """What `evaluations` of `of_all` evaluations without a result ended with; the numbers are of one."""

    evaluations: int
    of_all: int
    kind: str | None
    message: str


def most_frequent(connection: Connection, campaign_id: str, generation: int) -> Failure | None:
    """What most of the unsuccessful evaluations told in a generation ended with; None without any."""
    values = {"campaign": campaign_id, "generation": generation}
    row = connection.execute(_MOST_FREQUENT, values).mappings().one_or_none()
    if row is None:
        return None
    return Failure(row["evaluations"], int(row["of_all"]), row["kind"], row["message"])
