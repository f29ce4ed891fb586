"""What every step is handed: the database engine and the clients of the sites, opened once per process."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Engine

from l2l_tasks import settings
from l2l_tasks.errors import StoreError
from l2l_tasks.site import profile
from l2l_tasks.site.client import SiteClient, open_site
from l2l_tasks.store.engine import connect


@dataclass
class Context:
    """Open connections of one process.

    Attributes:
        engine: PostgreSQL, as the application role.
        tracking_uri: MLflow server, or None when nothing is to be tracked.
    """

    engine: Engine
    tracking_uri: str | None = None
    _sites: dict[str, SiteClient] = field(default_factory=dict)

    def site(self, name: str) -> SiteClient:
        """The client of a site, opened at first use.

        Raises:
            UserError: there is no profile of that name.
        """
        if name not in self._sites:
            self._sites[name] = open_site(name)
        return self._sites[name]

    def profile(self, name: str) -> profile.SiteProfile:
        """The profile of a site."""
        return self.site(name).profile

    def close(self) -> None:
        """Close what was opened (a shared SSH connection stays open for other processes)."""
        for client in self._sites.values():
            client.close()
        self._sites.clear()
        self.engine.dispose()


def open_context() -> Context:
    """A context from the settings of this process.

    Raises:
        StoreError: no database is configured.
    """
    url = settings.value("L2L_DATABASE_URL")
    if not url:
        raise StoreError(
            "no database is configured: start the local stack with `make up`, or set L2L_DATABASE_URL "
            "(postgresql://user:password@host:port/database)"
        )
    return Context(connect(url), settings.value("MLFLOW_TRACKING_URI"))
