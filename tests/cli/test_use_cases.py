"""Which use cases can run at a site: the table of environments, and what `l2l doctor --site` says of them."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

import optimizees
from l2l_tasks.cli import doctor
from optimizees.environments import ENVIRONMENTS
from optimizees.single_cell import SIMULATORS
from tests.support.local_site import LocalSite
from tests.support.optimizee_runner import environment_python

LISTS = Path(optimizees.__file__).parent / "environments"
DISTRIBUTION = {"arbor": "arbor", "eden": "eden-simulator", "nest": "nest-simulator", "neuron": "neuron",
                "tvb": "tvb-library"}  # fmt: skip
PINS = {
    name: re.search(rf"^{DISTRIBUTION[name]}==(.*)$", (LISTS / f"{name}.txt").read_text(), re.MULTILINE)
    for name in DISTRIBUTION
}


def pinned(name: str) -> str:
    pin = PINS[name]
    assert pin is not None
    return pin[1]


def look(site: LocalSite, **changes: Any) -> list[str]:
    """What is reported of the environments of a site whose profile has these fields besides."""
    file = Path(site.environment["L2L_SITES"]) / f"{site.name}.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes))
    printed = io.StringIO()
    with redirect_stdout(printed):
        doctor.report(f for f in doctor.examine([site.name]) if f.name.startswith(f"site {site.name}, "))
    return printed.getvalue().replace(f"site {site.name}, ", "").splitlines()


def module(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)


def test_every_environment_is_described_pinned_and_used() -> None:
    users = optimizees.by_environment()
    assert set(ENVIRONMENTS) == set(users) == {"", *DISTRIBUTION}
    assert {file.stem for file in LISTS.glob("*.txt")} == set(DISTRIBUTION)
    for name in DISTRIBUTION:
        assert tuple(map(int, pinned(name).split("."))) >= ENVIRONMENTS[name].least
    assert optimizees.BY_OPTION["single_cell"] == ("simulator", SIMULATORS)
    for name in optimizees.names():
        option, values = optimizees.BY_OPTION.get(name, ("", ()))
        for value in values:
            assert optimizees.load(name, {option: value}).environment == value
        assert any(user.split(" ")[0] == name for user in [u for listed in users.values() for u in listed])


@pytest.fixture(scope="session")
def interpreters() -> dict[str, dict[str, str]]:
    """Those of this machine, looked up before a test's site has a state folder of its own."""
    return {name: {"python": environment_python(name)} for name in DISTRIBUTION}


def test_the_environments_of_this_machine_work(
    interpreters: dict[str, dict[str, str]], local_site: LocalSite
) -> None:
    """With the versions that are pinned: the checks import what the optimizees import."""
    found = look(local_site, environments=interpreters)
    assert [line.split(": ")[0] for line in found] == [
        f"ok   {name}" for name in ["numpy", *sorted(DISTRIBUTION)]
    ]
    for name, line in zip(sorted(DISTRIBUTION), found[1:], strict=True):
        assert f"version {pinned(name)}: " in line
    assert found[5].endswith(": whole_brain")
    assert "brunel" in found[3]
    assert "single_cell (simulator: nest)" in found[3]


def test_what_is_missing_or_broken_is_told_apart(local_site: LocalSite, tmp_path: Path) -> None:
    """An environment that nobody promised may be missing; one that is there, or in the profile, must work."""
    module(tmp_path, "arbor", "__version__ = '0.9.1'")
    module(tmp_path, "nest", "print('a banner'); raise ImportError('libgsl.so.27: cannot open')")
    module(tmp_path, "neuron", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    listed = {"eden": {"python": "/no/such/python"}}
    found = look(local_site, env={"PYTHONPATH": str(tmp_path)}, environments=listed)
    assert [line.split(": ")[0] for line in found if not line.startswith("     -> ")] == [
        "ok   numpy", "FAIL arbor", "FAIL eden", "FAIL nest", "FAIL neuron", "none tvb"
    ]  # fmt: skip
    text = "\n".join(found)
    for words in (
        "version 0.9.1 is older than 0.12, so without arbor_plasticity, single_cell (simulator: arbor)",
        "/no/such/python",
        "ImportError: libgsl.so.27: cannot open",
        "ended by signal 4 (Illegal instruction)",
        "without whole_brain",
        "No module named 'tvb",
        "make env NAME=tvb",
        f"{local_site.name}.yaml: `environments: {{eden: {{python: ...}}}}`",
    ):
        assert words in text


def test_an_environment_that_is_missing_is_no_fault(local_site: LocalSite) -> None:
    found = look(local_site, environments_folder="nowhere")
    assert [line[:4] for line in found if not line.startswith("     -> ")] == ["ok  ", *["none"] * 5]


def test_a_python_without_numpy_is_a_fault(local_site: LocalSite, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError(\"No module named 'numpy'\")")
    found = look(local_site, env={"PYTHONPATH": str(tmp_path)})
    assert found[0].startswith("FAIL numpy: does not work, so without ackley, ")
    assert found[1] == f"     -> `python` of the profile {local_site.name}.yaml must be one with NumPy"


@pytest.mark.parametrize("answer", [{}, {"arbor": {}}, {"nest": {"status": 0, "output": "no version"}}])
def test_an_answer_that_says_nothing_is_no_success(local_site: LocalSite, answer: dict[str, Any]) -> None:
    from l2l_tasks.cli import use_cases
    from l2l_tasks.site import profile

    assert not any(f.ok for f in use_cases.findings(profile.load(local_site.name), answer))
