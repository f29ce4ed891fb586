"""Where the project finds its settings: the environment first, then the env file of the state folder."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def home() -> Path:
    """The one folder that holds local state (`$L2L_HOME`, else `.l2l` in the repository)."""
    return Path(os.environ.get("L2L_HOME") or REPOSITORY / ".l2l")


def env_file() -> dict[str, str]:
    """The settings that the local stack generated (`KEY=VALUE` lines, mode 0600), or none."""
    try:
        text = (home() / "env").read_text()
    except FileNotFoundError:
        return {}
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}


def value(name: str, default: str | None = None) -> str | None:
    """The setting `name`: from the environment, else from the env file, else `default`."""
    found = os.environ.get(name)
    return found if found is not None else env_file().get(name, default)
