"""All errors of the project, in one tree, split by who can act on them.

    L2LError
    ├── UserError              the person who wrote the campaign or the optimizee
    │   └── SpecError          a campaign file; carries every problem found, not only the first
    ├── SiteError              the supercomputer
    │   ├── SiteTransientError back off and ask again; nobody has to act
    │   │   └── SiteUnknown    no answer came: it says nothing about what happened at the site
    │   ├── SitePermanentError a person has to act (key, account, partition): the campaign is paused
    │   └── SiteNotOpen        the campaign's folder is not there (purged): it is opened again
    ├── StoreError             whoever runs PostgreSQL
    │   └── StoreUnreachable   no connection, or it was lost: the same again, when the server is back
    ├── AirflowError           whoever runs Airflow
    └── TrackingError          whoever runs MLflow; never stops a campaign

A message says what happened, where, and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence


class L2LError(Exception):
    """Base of every error that this project raises on purpose."""


class UserError(L2LError):
    """Something the author of the campaign or of the optimizee can mend."""


class SpecError(UserError):
    """A campaign specification with mistakes.

    Attributes:
        problems: one line each, `file:line: field: what is wrong, what is allowed`.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class SiteError(L2LError):
    """Something at the supercomputer."""


class SiteTransientError(SiteError):
    """A passing fault of the site: asking again later is right."""


class SiteUnknown(SiteTransientError):
    """No answer came. Whether the command ran is unknown, so nothing may be concluded from it."""


class SitePermanentError(SiteError):
    """A refusal that will not go away by itself."""


class SiteNotOpen(SiteError):
    """The site does not have the campaign's folder: never opened, or purged."""


class StoreError(L2LError):
    """PostgreSQL is unreachable, not migrated, or holds something that must not be there."""


class StoreUnreachable(StoreError):
    """PostgreSQL does not answer, or ended the connection because it stops."""


class AirflowError(L2LError):
    """Airflow's REST API refused a request, or does not answer.

    Attributes:
        status: the HTTP status; None when there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class TrackingError(L2LError):
    """MLflow is unreachable or refused; the outbox keeps what could not be sent."""
