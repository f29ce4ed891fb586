"""`l2l doctor`: is everything there that a campaign needs, and if not, what to do."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from l2l_tasks import settings
from l2l_tasks.errors import L2LError, SitePermanentError, SiteTransientError, StoreError, UserError

if TYPE_CHECKING:
    from l2l_tasks.site.transport.base import LinkStatus

LEAST_FREE_BYTES = 2 * 2**30
ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        ok: it is as it should be; with `advice`: something is not there that need not be.
        advice: what to do about it.
    """

    name: str
    ok: bool
    text: str
    advice: str = ""


def examine(only_sites: Sequence[str] | None) -> Iterator[Finding]:
    """Look at everything, one after the other; nothing that is found stops the rest."""
    yield from _program()
    yield from _guarded("database", _database)
    yield from _guarded("airflow", _airflow)
    yield from _guarded("mlflow", _mlflow)
    for name in _sites(only_sites):
        yield from _guarded(f"site {name}", partial(_site, name, bool(only_sites)))


def report(findings: Iterable[Finding]) -> bool:
    """Print findings as they come; whether all are fine."""
    from rich.console import Console

    console, fine = Console(highlight=False), True
    for finding in findings:
        fine = fine and finding.ok
        mark, style = ("ok  ", "green") if finding.ok else ("FAIL", "red")
        if finding.ok and finding.advice:
            mark, style = "none", "yellow"
        console.print(mark, style=style, end=" ", markup=False)
        console.print(f"{finding.name}: {finding.text}", markup=False, soft_wrap=True)  # to be copied whole
        if finding.advice:
            console.print(f"     -> {finding.advice}", markup=False, soft_wrap=True)
    return fine


def _guarded(name: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except StoreError as error:  # what follows its first line asks to run this command
        yield Finding(name, False, str(error).splitlines()[0], _advice(error))
    except L2LError as error:
        yield Finding(name, False, str(error), _advice(error))


def _advice(error: L2LError) -> str:
    if isinstance(error, SiteTransientError):
        return "a passing fault or no answer: try again in some minutes"
    if isinstance(error, SitePermanentError):
        return "mend what it names (connection, key, account, Python at the site), then run this again"
    return (
        ""
        if isinstance(error, UserError)
        else "start the local stack with `make up`, or check L2L_DATABASE_URL"
    )


def _program() -> Iterator[Finding]:
    version, recent = ".".join(map(str, sys.version_info[:3])), sys.version_info >= (3, 11)
    advice = "" if recent else "Python 3.11 or later is needed"
    yield Finding("python", recent, f"{version} ({sys.executable})", advice)
    home = settings.home()
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    yield Finding(
        "disk",
        free >= LEAST_FREE_BYTES,
        f"{free / 2**30:.1f} GiB free below {existing}",
        "" if free >= LEAST_FREE_BYTES else "make room, or put the state elsewhere with L2L_HOME",
    )


def _database() -> Iterator[Finding]:
    from l2l_tasks.store.engine import connect

    url = settings.value("L2L_DATABASE_URL")
    if not url:
        yield Finding(
            "database", False, "L2L_DATABASE_URL is not set", "start the local stack with `make up`"
        )
        return
    engine = connect(url)
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SHOW server_version").scalar_one()
    place = f"{engine.url.host}:{engine.url.port}/{engine.url.database}"
    engine.dispose()
    yield Finding("database", True, f"PostgreSQL {version} at {place}, tables up to date")


def _airflow() -> Iterator[Finding]:
    url = settings.value("L2L_AIRFLOW_URL")
    if not url:
        yield _not_set("airflow", "L2L_AIRFLOW_URL")
        return
    answer = _get(f"{url}/api/v2/monitor/health")
    if isinstance(answer, str):
        yield _silent("airflow", url, answer)
        return
    states = {name: part.get("status") for name, part in answer.json().items() if isinstance(part, dict)}
    sick = [
        name
        for name in ("metadatabase", "scheduler", "triggerer", "dag_processor")
        if states.get(name) != "healthy"
    ]
    yield Finding(
        "airflow",
        not sick,
        f"{url}, {'all components healthy' if not sick else 'not healthy: ' + ', '.join(sick)}",
        "" if not sick else "see the logs in the state folder; `make up` starts what is not running",
    )


def _mlflow() -> Iterator[Finding]:
    uri = settings.value("MLFLOW_TRACKING_URI")
    if not uri:
        yield _not_set("mlflow", "MLFLOW_TRACKING_URI")
        return
    if not uri.startswith(("http://", "https://")):
        yield Finding("mlflow", True, f"{uri} (no server)")
        return
    answer = _get(f"{uri}/health")
    yield (
        _silent("mlflow", uri, answer)
        if isinstance(answer, str)
        else Finding("mlflow", True, f"{uri} answers")
    )


def _get(url: str) -> Any:
    """The answer, or in words why there is none."""
    import requests

    try:
        with requests.Session() as session:
            session.trust_env = "127.0.0.1" not in url  # a proxy has no business on loopback
            answer = session.get(url, timeout=ANSWER_SECONDS)
    except requests.RequestException as error:
        return type(error).__name__
    return answer if answer.ok else f"HTTP status {answer.status_code}"


def _not_set(name: str, setting: str) -> Finding:
    return Finding(
        name, False, f"{setting} is not set", f"start the local stack with `make up`, or set {setting}"
    )


def _silent(name: str, url: str, why: str) -> Finding:
    return Finding(
        name,
        False,
        f"{url} does not answer ({why})",
        f"`make up` starts it; its log tells why it ended ({name})",
    )


def _sites(only: Sequence[str] | None) -> Sequence[str]:
    from l2l_tasks.site import profile

    return only or profile.names()


def allow_logins(only_sites: Sequence[str] | None) -> None:
    """Forget what stopped the logins of these sites (default: of all that are set up)."""
    from l2l_tasks.site.client import open_site

    for name in _sites(only_sites):
        if only_sites or _connection_missing(name) is None:
            open_site(name).reset()


def _connection_missing(name: str) -> str | None:
    """The connection of an ssh site that this machine does not have; None when it has it or needs none."""
    from l2l_tasks.site import profile

    connection = profile.load(name).connection
    if connection is None or settings.value(f"AIRFLOW_CONN_{connection.upper()}") is not None:
        return None
    return connection


def _link(link: LinkStatus) -> str:
    """How the login stands; how to open it by hand where a second factor is asked for."""
    state = "connected" if link.connected else "not connected"
    text = f"{state}, {link.logins} of {link.budget} logins in the last hour; by hand: {link.login_command}"
    return f"{text}; last error: {link.last_error}" if link.last_error else text


def _site(name: str, asked_for: bool) -> Iterator[Finding]:
    """Log in, start the agent and let it look around: one SSH command.

    `asked_for`: the site was named; only then all environments are tried.
    """
    from l2l_tasks.cli import use_cases
    from l2l_tasks.site.client import open_site

    missing = _connection_missing(name)
    if missing is not None and not asked_for:
        yield Finding(f"site {name}", True, f"not set up here (there is no connection {missing})")
        return
    client = open_site(name)
    link = client.status()
    if link is not None:
        yield Finding(f"site {name}", True, _link(link))
    try:
        found = client.probe(environments=use_cases.checks(client.profile) if asked_for else None)
    finally:
        client.close()
    gigabytes = found["disk_free_bytes"] / 2**30
    known = {key: value for key, value in (found.get("scheduler") or {}).items() if value and key != "kind"}
    limits = ", ".join(f"{key} {value}" for key, value in known.items())
    yield Finding(
        f"site {name}",
        True,
        f"{found['user']} at {found['host']}, Python {found['python_version']}, {gigabytes:.1f} GiB free in "
        f"{client.profile.work}; {client.profile.scheduler.kind}: {limits or 'no limits known'}",
    )
    if gigabytes * 2**30 < LEAST_FREE_BYTES:
        yield Finding(
            f"site {name}", False, "the work folder is nearly full", "`l2l status`, then delete old campaigns"
        )
    for problem in found.get("problems", []):
        yield Finding(
            f"site {name}", False, str(problem), f"change the profile {name}.yaml, or ask the site's support"
        )
    if asked_for:
        yield from use_cases.findings(client.profile, found.get("environments") or {})
