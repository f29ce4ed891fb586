"""Where the address and the key of a site come from: an Airflow connection, also outside Airflow.

The same connection serves the DAGs (Airflow finds it in its own places) and `l2l run` (no Airflow at
all). The environment and the env file of the state folder are asked first, then Airflow itself.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from l2l_tasks import settings
from l2l_tasks.errors import SitePermanentError, SiteTransientError

PREFIX = "AIRFLOW_CONN_"


@dataclass(frozen=True)
class ConnectionInfo:
    """An Airflow connection, read.

    Attributes:
        id: connection id.
        host: host name, address, or alias of an OpenSSH configuration.
        port: TCP port, or None for the default of the protocol.
        login: account at the host, or None.
        password: never shown by repr; the SSH transport refuses it.
        extra: the connection's extra fields.
    """

    id: str
    host: str
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    extra: dict[str, Any] = field(default_factory=dict, repr=False)


def get(conn_id: str) -> ConnectionInfo:
    """The connection `conn_id`: from `AIRFLOW_CONN_<ID>` (JSON or URI), else as Airflow itself finds it.

    Raises:
        SitePermanentError: it is defined nowhere, or it is not readable.
        SiteTransientError: Airflow was asked and failed.
    """
    text = settings.value(PREFIX + conn_id.upper())
    if text:
        return parse(conn_id, text)
    if _inside_airflow():
        return _from_airflow(conn_id)
    raise SitePermanentError(
        f"connection {conn_id!r} is not defined: set {PREFIX}{conn_id.upper()} (JSON or URI; docs/sites.md "
        "shows one) in the environment or in the env file of the state folder"
    )


def parse(conn_id: str, text: str) -> ConnectionInfo:
    """Read Airflow's two formats: a JSON object, or `ssh://login@host:port/?key=value` (percent-encoded).

    Raises:
        SitePermanentError: it is neither. The text is not repeated: it may hold a secret.
    """
    try:
        return _from_json(conn_id, text) if text.lstrip().startswith("{") else _from_uri(conn_id, text)
    except (ValueError, TypeError) as error:
        # A JSON error quotes nothing of the text; a ValueError of urlsplit may quote the port only.
        raise SitePermanentError(
            f"connection {conn_id!r} ({PREFIX}{conn_id.upper()}) is not readable: {error}"
        ) from None


def _from_json(conn_id: str, text: str) -> ConnectionInfo:
    data = json.loads(text)
    extra = data.get("extra") or {}
    if isinstance(extra, str):  # Airflow accepts the extra as an object and as JSON text
        extra = json.loads(extra)
    if not isinstance(extra, dict):
        raise TypeError("extra must be a JSON object")
    port = data.get("port")
    return ConnectionInfo(
        id=conn_id,
        host=_host(data.get("host")),
        port=int(port) if port not in (None, "") else None,
        login=data.get("login") or None,
        password=data.get("password") or None,
        extra=extra,
    )


def _from_uri(conn_id: str, text: str) -> ConnectionInfo:
    parts = urlsplit(text)
    if not parts.scheme or "://" not in text:
        raise ValueError("neither a JSON object nor a URI like ssh://login@host:port/?key=value")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    extra = json.loads(query["__extra__"]) if "__extra__" in query else query
    if not isinstance(extra, dict):
        raise TypeError("__extra__ must be a JSON object")
    return ConnectionInfo(
        id=conn_id,
        host=_host(unquote(parts.hostname or "")),
        port=parts.port,
        login=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        extra=extra,
    )


def _host(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("it names no host")
    return value


def _inside_airflow() -> bool:
    # A component of Airflow has imported it long before a step runs; `l2l run` never does, and must
    # not pay the seconds of the import nor start an Airflow of its own.
    return "airflow" in sys.modules


def _from_airflow(conn_id: str) -> ConnectionInfo:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError

    try:
        found = Connection.get(conn_id)
        extra = found.extra_dejson
    except AirflowRuntimeError as error:
        raise SiteTransientError(f"Airflow did not answer for connection {conn_id!r}: {error}") from error
    except AirflowException as error:
        raise SitePermanentError(
            f"connection {conn_id!r} is not known to Airflow: create it under Admin > Connections, or set "
            f"{PREFIX}{conn_id.upper()} for every component ({error})"
        ) from error
    return ConnectionInfo(conn_id, _host(found.host), found.port, found.login, found.password, dict(extra))
