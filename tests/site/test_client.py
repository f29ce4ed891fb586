"""The client with the real agent, over local processes and a real sshd: a campaign, and lost replies."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import optimizees
from l2l_tasks.agent import results
from l2l_tasks.errors import SiteNotOpen, SitePermanentError, SiteTransientError, SiteUnknown, UserError
from l2l_tasks.site.client import CALL, SiteClient
from l2l_tasks.site.profile import SiteProfile
from l2l_tasks.site.transport.base import PUT, Transport
from l2l_tasks.site.transport.local import LocalTransport
from tests.site.sshd import SshServer
from tests.site.wrappers import LosesReplies, Records, Slow

CAMPAIGN = "sphere-0123abcd"
LIMITS = {"line_bytes": 262144, "depth": 8}
CODE = optimizees.code_bundle("sphere")


def make_profile(kind: str, work: str, **changes: Any) -> SiteProfile:
    values: dict[str, Any] = {
        "name": "testsite",
        "transport": kind,
        "connection": "test",
        "scheduler": {"kind": "local", "max_workers": 2},
        "python": sys.executable,
        "work": work,
    }
    return SiteProfile.model_validate({**values, **changes})


class Site(SiteClient):
    """A client whose site's work folder, `~/l2l work` there, is `folder` for the test."""

    def __init__(self, kind: str, transport: Transport, home: Path) -> None:
        super().__init__(make_profile(kind, "~/l2l work"), transport)
        self.folder = home / "l2l work"


@pytest.fixture
def local_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    """A local site on which nothing is yet: for what does not depend on the transport."""
    home = tmp_path / "sitehome"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    made = Site("local", LocalTransport(), home)
    yield made
    if (made.folder / "campaigns" / CAMPAIGN).is_dir():
        made.stop(CAMPAIGN)


@pytest.fixture
def ssh_client(sshd: SshServer) -> Iterator[Site]:
    """A site behind a real sshd whose logins print noise; nothing is there yet."""
    (sshd.home / ".bashrc").write_text("echo Welcome; printf '<<<L2L '\n")
    transport = sshd.transport()
    made = Site("ssh", transport, sshd.home)
    yield made
    if (made.folder / "campaigns" / CAMPAIGN).is_dir():
        made.stop(CAMPAIGN)
    transport.disconnect()


@pytest.fixture(params=["local", "ssh"])
def client(request: pytest.FixtureRequest) -> Site:
    """One of each."""
    found: Site = request.getfixturevalue(f"{request.param}_client")
    return found


def config(client: Site) -> dict[str, Any]:
    return {
        "campaign": CAMPAIGN,
        "job_name": f"l2l-{CAMPAIGN}",
        "entry": CODE.entry,
        "options": {"dimension": 2},
        "code": CODE.sha256,
        "objectives": 1,
        "attempts": 2,
        "slots": 1,
        "linger": 0,
        "python": client.profile.python,
        "env": {},
        "limits": LIMITS,
        "scheduler": client.profile.scheduler_config({"cpus": 1, "partition": None}),
        "walltime": 600,
        "margin": 10,
    }


def bundles(number: int) -> list[dict[str, Any]]:
    return [
        {
            "bundle": f"g00000-{i:05d}",
            "generation": 0,
            "timeout": 60.0,
            "evaluations": [
                {
                    "key": f"{i}.0.0",
                    "nonce": f"{i:016x}",
                    "attempt": 0,
                    "params": {"x": [float(i), 2.0]},
                    "task": {"split": "train", "index": 0, "seed": 1},
                    "seed": i,
                }
            ],
        }
        for i in range(number)
    ]


def prepare(client: Site) -> None:
    client.stage_code(CODE.sha256, CODE.files)
    client.open(CAMPAIGN, config(client))


def gather(client: Site, number: int) -> dict[str, tuple[float, ...]]:
    """Wait and collect until `number` evaluations are final; fitness by key. A key may be final only once."""
    found: dict[str, tuple[float, ...]] = {}
    offsets: dict[str, int] = {}
    deadline = time.monotonic() + 60
    while len(found) < number:
        assert time.monotonic() < deadline, f"only {sorted(found)} came"
        request = {"campaign": CAMPAIGN, "workers": 2, "target": 0}
        status = client.poll([request], wait=5)[CAMPAIGN]
        assert status["known"] is True
        reply = client.collect(CAMPAIGN, offsets)
        for file in reply["files"]:
            offsets[file["file"]] = file["next"]
            for text in file["data"].splitlines():
                line = results.parse_line(text.encode(), LIMITS)
                if isinstance(line, results.ResultLine):
                    assert line.status == "ok", line
                    assert line.key not in found
                    found[line.key] = tuple(line.fitness or ())
    return found


def test_a_campaign_from_an_empty_site_to_a_clean_one(client: Site) -> None:
    """Everything that a campaign needs of a site, the agent's own arrival included, one command each."""
    assert client.check(config(client)) == []
    assert client.commands == 3, "probe, which found no agent; the agent; probe again"
    assert [p.name for p in (client.folder / "agent").iterdir()] == [client.agent_path.rsplit("/", 1)[1]]
    client.stage_code(CODE.sha256, CODE.files)
    client.open(CAMPAIGN, config(client))
    status = client.submit(CAMPAIGN, bundles(5), workers=2, forget_before=0)
    assert client.commands == 6
    assert status["known"] is True
    assert status["submitted"] >= 1
    found = gather(client, 5)
    assert {key: value[0] for key, value in found.items()} == {
        f"{i}.0.0": pytest.approx(i * i + 4.0) for i in range(5)
    }
    assert client.stop(CAMPAIGN) is True
    client.resume(CAMPAIGN)
    client.stop(CAMPAIGN)
    _clean(client)
    assert not (client.folder / "campaigns" / CAMPAIGN).exists()
    client.clean(CAMPAIGN)


def _clean(client: Site) -> None:
    """Clean, once the stopped workers have gone."""
    for _ in range(50):
        try:
            client.clean(CAMPAIGN)
        except UserError:
            time.sleep(0.2)
        else:
            return
    client.clean(CAMPAIGN)


def test_every_command_repeated_has_the_same_effect(client: Site) -> None:
    """What a step does after SiteUnknown: the same call again, for each of them."""
    for _ in range(2):
        prepare(client)
    for _ in range(3):
        client.submit(CAMPAIGN, bundles(4), workers=2, forget_before=0)
    assert sorted(gather(client, 4)) == [f"{i}.0.0" for i in range(4)]
    status = client.submit(CAMPAIGN, bundles(4), workers=2, forget_before=0)
    assert (status["todo"], status["running"]) == (0, 0), "what is done is not put again"
    for _ in range(2):
        assert client.stop(CAMPAIGN) is True


@pytest.mark.parametrize("keep", [0.0, 0.95])
def test_submit_after_a_lost_reply_doubles_nothing(client: Site, keep: float) -> None:
    """The reply is cut on its way: the work was submitted, the caller may not conclude anything."""
    prepare(client)
    lossy = SiteClient(client.profile, LosesReplies(client.transport, keep))
    with pytest.raises(SiteUnknown, match="no reply to submit"):
        lossy.submit(CAMPAIGN, bundles(3), workers=1, forget_before=0)
    status = client.submit(CAMPAIGN, bundles(3), workers=1, forget_before=0)
    assert status["submitted"] <= 1, "the first submit's worker is known"
    assert sorted(gather(client, 3)) == ["0.0.0", "1.0.0", "2.0.0"]


CONTROLLER = """
import json, sys
from l2l_tasks.connections import ConnectionInfo
from l2l_tasks.site.client import CALL, SiteClient
from l2l_tasks.site.profile import SiteProfile
from l2l_tasks.site.transport.local import LocalTransport
from l2l_tasks.site.transport.ssh import SshTransport
from tests.site.sshd import FAST
from tests.site.test_client import CAMPAIGN, bundles
told = json.load(sys.stdin)
if told["connection"] is None:
    transport = LocalTransport()
else:
    transport = SshTransport(ConnectionInfo(**told["connection"]), site="t", logins_per_hour=9, timing=FAST)
client = SiteClient(SiteProfile.model_validate(told["profile"]), transport)
print("go", flush=True)
client.submit(CAMPAIGN, bundles(4), workers=2, forget_before=0)
"""


@pytest.mark.parametrize("seconds", [0.05, 0.25])
def test_a_controller_killed_during_submit_doubles_nothing(
    client: Site, request: pytest.FixtureRequest, seconds: float
) -> None:
    """kill -9 of the whole controller at some moment of a submit; the next one completes it."""
    prepare(client)
    told: dict[str, Any] = {"profile": client.profile.model_dump(mode="json"), "connection": None}
    if not isinstance(client.transport, LocalTransport):
        info = request.getfixturevalue("sshd").connection()
        told["connection"] = {
            "id": info.id, "host": info.host, "port": info.port, "login": info.login, "extra": info.extra
        }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(told))
    process.stdin.close()
    assert process.stdout.readline() == "go\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    client.submit(CAMPAIGN, bundles(4), workers=2, forget_before=0)
    assert sorted(gather(client, 4)) == [f"{i}.0.0" for i in range(4)]


def test_poll_of_many_campaigns_is_one_command(client: Site) -> None:
    """One command for all campaigns of a site, also for one that the site does not know (any more)."""
    prepare(client)
    before = client.commands
    asked = [{"campaign": name, "workers": 1, "target": 0} for name in (CAMPAIGN, "other-00000000")]
    found = client.poll(asked, wait=0)
    assert client.commands == before + 1
    assert (found[CAMPAIGN]["known"], found["other-00000000"]["known"]) == (True, False)


def test_poll_that_takes_longer_than_its_timeout_is_unknown(client: Site) -> None:
    prepare(client)
    slow = SiteClient(client.profile, Slow(client.transport))
    with pytest.raises(SiteUnknown, match=r"no reply to poll \(no end within 1 s\)"):
        slow.call("poll", {"campaigns": [], "wait": 0}, timeout=1)


def test_agent_that_was_deleted_comes_back(local_client: Site) -> None:
    """Scratch file systems delete what was not touched for weeks."""
    local_client.probe()
    for path in (local_client.folder / "agent").iterdir():
        path.unlink()
    before = local_client.commands
    assert local_client.probe()["writable"] is True
    assert local_client.commands == before + 3


def test_big_code_is_not_sent_twice(local_client: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code above the threshold is asked for first: a campaign of the same code costs a question."""
    monkeypatch.setattr("l2l_tasks.site.client.SEND_UNASKED_BYTES", 100)
    local_client.probe()
    counts = []
    for _ in range(2):
        before = local_client.commands
        local_client.stage_code(CODE.sha256, CODE.files)
        counts.append(local_client.commands - before)
    assert counts == [2, 1]
    folder = local_client.folder / "code" / CODE.sha256
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == set(CODE.files)


def test_code_that_does_not_match_its_fingerprint_is_not_staged(local_client: Site) -> None:
    damaged = {**CODE.files, "optimizees/base.py": b"raise SystemExit"}
    with pytest.raises(SiteTransientError, match="fingerprint"):
        local_client.stage_code(CODE.sha256, damaged)
    assert not (local_client.folder / "code" / CODE.sha256).exists()


def test_python_that_is_missing_or_too_old_is_permanent(local_client: Site, tmp_path: Path) -> None:
    """The message says which Python, and where to name another."""
    old = tmp_path / "python2"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for path, what in (("/nonexistent/python3", "is not there"), (str(old), "is older than 3.8")):
        profile = local_client.profile.model_copy(update={"agent_python": path})
        with pytest.raises(SitePermanentError, match=rf"3.8 or later; '{path}' {what}.*agent_python"):
            SiteClient(profile, local_client.transport).probe()


def test_workers_python_that_does_not_work_is_a_problem(local_client: Site) -> None:
    problems = local_client.check({**config(local_client), "python": "/nonexistent/python"})
    assert any("/nonexistent/python" in problem for problem in problems)


def test_work_folder_that_cannot_be_written_is_permanent(local_client: Site) -> None:
    profile = local_client.profile.model_copy(update={"work": "/dev/null/l2l"})
    with pytest.raises(SitePermanentError, match="cannot write /dev/null/l2l/agent/"):
        SiteClient(profile, local_client.transport).probe()


def test_unknown_campaign_and_wrong_options_are_told_apart(local_client: Site) -> None:
    local_client.probe()
    with pytest.raises(SiteNotOpen, match="not open at this site"):
        local_client.submit("nobody-00000000", [], workers=1, forget_before=0)
    wrong = {**config(local_client), "scheduler": {"kind": "local", "max_workers": "many"}}
    with pytest.raises(UserError, match="max_workers"):
        local_client.open(CAMPAIGN, wrong)


def test_parameters_are_in_no_command_line(client: Site) -> None:
    """Neither the request nor paths: the remote command is one fixed text for all sites and commands."""
    prepare(client)
    recorder = Records(client.transport)
    other = SiteClient(client.profile, recorder)
    other.submit(CAMPAIGN, bundles(1), workers=1, forget_before=0)
    other.probe()
    assert len(set(recorder.commands)) == 1
    text = " ".join(recorder.commands[0])
    words = (CAMPAIGN, "params", "submit", "probe", client.profile.work, client.agent_path, sys.executable)
    for word in words:
        assert word not in text


DISPATCHER = """#!/bin/sh
for text in {folder}/allowed/*; do
  [ "$SSH_ORIGINAL_COMMAND" = "$(cat "$text")" ] && eval "exec $SSH_ORIGINAL_COMMAND"
done
echo refused >&2; exit 77
"""


def test_a_key_that_allows_two_commands_only_is_enough(ssh_client: Site, sshd: SshServer) -> None:
    """As the documentation tells administrators: from=, restrict, a forced command for two fixed texts."""
    (sshd.folder / "allowed").mkdir()
    for number, text in enumerate((CALL, PUT)):
        (sshd.folder / "allowed" / str(number)).write_text(shlex.join(["/bin/sh", "-c", text]))
    dispatcher = sshd.folder / "dispatcher"
    dispatcher.write_text(DISPATCHER.format(folder=sshd.folder))
    dispatcher.chmod(0o755)
    sshd.allow(f'from="127.0.0.1",restrict,command="{dispatcher}"')
    prepare(ssh_client)
    ssh_client.submit(CAMPAIGN, bundles(1), workers=1, forget_before=0)
    assert list(gather(ssh_client, 1)) == ["0.0.0"]
    assert ssh_client.transport.run(["id"]).exit_status == 77
