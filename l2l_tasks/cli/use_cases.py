"""Which built-in optimizees can run at a site: is the environment there that they need, and does it work?"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import optimizees
from l2l_tasks.cli.doctor import Finding
from l2l_tasks.site.profile import SiteProfile
from optimizees.environments import ENVIRONMENTS

MARK = "l2l-version:"
LONGEST_TEXT = 500
ABSENT = 127  # exit status of a shell for a program that is not there
CHECK = """
import sys
try:
    exec(%r)
except Exception as error:
    sys.exit("%%s: %%s" %% (type(error).__name__, error))
print("\\n" + %r + version)
"""


def checks(site: SiteProfile) -> dict[str, dict[str, Any]]:
    """What the agent shall try at the site, by the name of the environment."""
    found = {}
    for name, environment in ENVIRONMENTS.items():
        run_with = site.environment(name).model_dump()
        found[name] = {**run_with, "check": CHECK % (environment.check, MARK)}
    return found


def findings(site: SiteProfile, tried: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Say of each environment whether it works, and which optimizees can run or what to do.

    Args:
        site: its profile.
        tried: the agent's answers to `checks`.
    """
    for name, users in sorted(optimizees.by_environment().items()):
        yield _finding(site, name, tried.get(name) or {}, ", ".join(users))


def _finding(site: SiteProfile, name: str, answer: Mapping[str, Any], users: str) -> Finding:
    title = f"site {site.name}, {name or 'numpy'}"
    status, output = answer.get("status"), str(answer.get("output", "no answer"))
    if status == 0 and (found := re.search(rf"^{MARK}(.*)$", output, re.MULTILINE)):
        version, least = found[1].strip(), ENVIRONMENTS[name].least
        if _parts(version) >= least or not _parts(version):
            return Finding(title, True, f"version {version}: {users}")
        text = f"version {version} is older than {'.'.join(map(str, least))}, so without {users}"
        return Finding(title, False, text, _advice(site, name))
    absent = status == ABSENT or "ModuleNotFoundError" in output
    text = f"{site.environment(name).python}: {_said(status, output)}"
    if absent and name and name not in site.environments:
        return Finding(title, True, f"not there, so without {users} ({text})", _advice(site, name))
    return Finding(title, False, f"does not work, so without {users}: {text}", _advice(site, name))


def _parts(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with; none for a version that is only a name."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _said(status: int | None, output: str) -> str:
    """How a check ended, on one line."""
    said = " ".join(output.split())[-LONGEST_TEXT:]
    if status is not None and status < 0:  # a processor that lacks instructions, or a limit of memory
        return f"ended by signal {-status} ({signal.strsignal(-status)}) {said}".strip()
    return said or f"exit status {status}"


def _advice(site: SiteProfile, name: str) -> str:
    if not name:
        return f"`python` of the profile {site.name}.yaml must be one with NumPy"
    if site.transport == "local" and name not in site.environments:
        return f"`make env NAME={name}` on this machine"
    return (
        f"make a Python there with what optimizees/environments/{name}.txt lists, and name it in "
        f"{site.name}.yaml: `environments: {{{name}: {{python: ...}}}}` (docs/sites.md says how)"
    )
