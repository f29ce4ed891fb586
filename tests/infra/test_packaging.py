"""The wheel of this repository: what is no Python file must be named in pyproject.toml, or it is left out."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch

from l2l_tasks.settings import REPOSITORY


def test_files_beside_the_python_files_are_package_data() -> None:
    """Images, lists of packages, site profiles, scripts: else an installed copy lacks them."""
    tool = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns: dict[str, list[str]] = tool["package-data"]
    everywhere = patterns.pop("*")
    named = {
        file
        for package, listed in patterns.items()
        for pattern in listed
        for file in (REPOSITORY / package.replace(".", "/")).glob(pattern)
    }
    files = [
        file
        for top in tool["packages"]["find"]["include"]
        for file in (REPOSITORY / top.rstrip("*")).rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
    ]
    assert {"images.npz", "arbor.txt", "local.yaml", "up.sh", "slurm.conf"} <= {file.name for file in files}
    left_out = [f for f in files if f not in named and not any(fnmatch(f.name, p) for p in everywhere)]
    assert left_out == []
