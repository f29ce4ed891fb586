"""Passwords and keys of the local stack: generated once, kept in one private file."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import asdict, dataclass, field, fields

from infra.stack.layout import Layout, write_private


def _password() -> str:
    return secrets.token_urlsafe(18)


def _key() -> str:
    return secrets.token_hex(32)


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True)
class Credentials:
    """What protects Airflow and MLflow. PostgreSQL's passwords are kept by infra.postgres.

    Attributes:
        airflow_password: of the Airflow account `admin`.
        mlflow_password: of the MLflow account `admin`.
        fernet_key: encrypts connections in Airflow's database.
        api_secret_key: signs the sessions of Airflow's user interface.
        jwt_secret: signs the tokens of Airflow's API, also those of its tasks.
        mlflow_secret_key: signs the forms of MLflow's user interface.
    """

    airflow_password: str = field(default_factory=_password, repr=False)
    mlflow_password: str = field(default_factory=_password, repr=False)
    fernet_key: str = field(default_factory=_fernet_key, repr=False)
    api_secret_key: str = field(default_factory=_key, repr=False)
    jwt_secret: str = field(default_factory=_key, repr=False)
    mlflow_secret_key: str = field(default_factory=_key, repr=False)

    def values(self) -> list[str]:
        """All secrets, e.g. to look for them where they must not be."""
        return [str(value) for value in asdict(self).values()]


def load_or_make(layout: Layout) -> Credentials:
    """The credentials of this stack; missing ones are generated and written (mode 0600)."""
    known: dict[str, str] = {}
    if layout.credentials.exists():
        known = json.loads(layout.credentials.read_text())
    names = {item.name for item in fields(Credentials)}
    credentials = Credentials(**{name: value for name, value in known.items() if name in names})
    if set(known) != names:
        write_private(layout.credentials, json.dumps(asdict(credentials), indent=1))
    return credentials
