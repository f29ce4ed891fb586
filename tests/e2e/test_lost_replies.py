"""Campaigns at a real Slurm over real SSH that lose replies, jobs, nodes and workers: they end all the same.

Each test breaks the small lab in one way while a campaign is under way, and then asks for the same three
things: no evaluation is lost, none is told twice, and what was told is what an undisturbed run tells.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from sqlalchemy import Engine, text

from l2l_tasks import runner, steps
from l2l_tasks.context import Context
from l2l_tasks.errors import SiteUnknown
from l2l_tasks.site.transport.ssh import SshTransport
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.store import campaigns, generations
from tests.support.local_site import LocalSite
from tests.support.slurm import SlurmLab, wait_until

SITE, BATCH, WORKERS, GENERATIONS = "faultlab", 4, 2, 2
# The agent's interpreter of the site profile puts this sbatch before Slurm's own: it waits while `hold` is
# there, so that a fault can come in the very middle of a submission. A mere check of the options passes.
SBATCH = """#!/bin/sh
case "$*" in *--test-only*) exec {sbatch} "$@" ;; esac
if [ -e {gate}/hold ]; then touch {gate}/held; fi
while [ -e {gate}/hold ]; do sleep 0.05; done
exec {sbatch} "$@"
"""
PYTHON = """#!/bin/sh
PATH={gate}:$PATH exec python3 "$@"
"""


def campaign_spec(site: str, run_time: float = 0.0) -> CampaignSpec:
    """A small campaign whose evaluations have one attempt: whatever uses one up is told as a failure."""
    spec: dict[str, Any] = {
        "name": "lost",
        "optimizee": {"name": "sphere", "options": {"dimension": 2, "run_time": run_time}},
        "optimizer": {"name": "cmaes"},
        "budget": {"generations": GENERATIONS},
        "site": site,
        "resources": {"time": "10m", "memory": "300M"},
        "execution": {"batch": BATCH, "workers": WORKERS, "linger": 120, "timeout": 60, "attempts": 1},
        "seed": 7,
    }
    return CampaignSpec.model_validate(spec)


@dataclass
class Bench:
    """One campaign at a time at a lab that may be broken."""

    lab: SlurmLab
    ctx: Context
    gate: Path
    base_dir: Path
    campaign: str = ""

    def begin(self, run_time: float = 0.0) -> None:
        """Another campaign; nothing is sent yet."""
        spec = campaign_spec(SITE, run_time)
        self.campaign = steps.begin(self.ctx, f"test:{uuid.uuid4()}", spec, self.base_dir, "test")

    @property
    def job_name(self) -> str:
        return f"l2l-{self.campaign}"

    @property
    def folder(self) -> Path:
        return self.lab.work / "campaigns" / self.campaign

    def submit(self) -> dict[str, Any]:
        """Submit the first generation; the pool's status."""
        status = steps.submit(self.ctx, self.campaign, 0)
        assert status is not None
        return dict(status)

    def poll(self) -> dict[str, Any]:
        """Reconcile once; the pool's status."""
        asked = {"campaign": self.campaign, "workers": WORKERS, "target": 0}
        return self.ctx.site(SITE).poll([asked], wait=0)[self.campaign]

    @contextlib.contextmanager
    def held_submission(self) -> Iterator[Future[dict[str, Any]]]:
        """Inside, the agent of a running `submit` is at its sbatch, which waits until `let_go`."""
        (self.gate / "hold").touch()
        with ThreadPoolExecutor(1) as pool:
            submitting = pool.submit(self.submit)
            try:
                wait_until(lambda: submitting.done() or self.is_held(), what="an sbatch of the agent")
                assert self.is_held(), submitting.result()
                yield submitting
            finally:
                self.let_go()

    def is_held(self) -> bool:
        return (self.gate / "held").exists()

    def let_go(self) -> None:
        (self.gate / "held").unlink(missing_ok=True)
        (self.gate / "hold").unlink(missing_ok=True)

    def queue(self) -> dict[str, str]:
        """The campaign's workers as Slurm shows them, ended ones too: `job_index` -> state."""
        options = f"-h -r -t all -n {self.job_name} -o '%F_%K %T'"
        ran = self.lab.as_user(f"squeue {options}")
        assert ran.returncode == 0, ran.stderr
        return {line.split()[0]: line.split()[1] for line in ran.stdout.splitlines()}

    def arrays(self) -> set[str]:
        """The ids of all submissions of the campaign."""
        return {worker.split("_")[0] for worker in self.queue()}

    def busy(self) -> set[str]:
        """The workers that hold a bundle, by the site's files."""
        return {path.parent.name for path in self.folder.glob("pool/running/*/g*")}

    def waiting(self) -> list[dict[str, Any]]:
        """The evaluations of the bundles that wait, by the site's files."""
        bundles = [json.loads(path.read_text()) for path in self.folder.glob("pool/todo/g*")]
        return [evaluation for bundle in bundles for evaluation in bundle["evaluations"]]

    def processes(self, command: str) -> list[psutil.Process]:
        """The account's processes that run a command (`call`, `worker`, `evaluate`) of the agent."""
        found = psutil.process_iter(["name", "cmdline", "username"])
        mine = [one for one in found if one.info["username"] == self.lab.login]
        agents = [one for one in mine if one.info["name"].startswith("python")]
        return [one for one in agents if command in (one.info["cmdline"] or [])]

    def wait_at_work(self) -> None:
        """Until every worker has begun with an evaluation."""
        wait_until(lambda: len(self.processes("evaluate")) == WORKERS, what="all workers to be at work")

    def set_node(self, state: str) -> None:
        """Make the lab's only node `down`, or `drain` it; `lab.up()` makes it usable again."""
        self.lab.scontrol("update", "nodename=node1", f"state={state}", "reason=test")

    def cut_power(self) -> None:
        """Kill the node's daemon and all that runs there at once: nobody hands back or signs off."""
        workers = self.processes("worker")
        daemon = psutil.Process(int((self.lab.root / "run" / "slurmd-node1.pid").read_text()))
        shepherds = [psutil.Process(worker.ppid()) for worker in workers]
        assert {one.name() for one in shepherds} == {"slurmstepd"}
        for process in [daemon, *shepherds, *workers, *self.processes("evaluate")]:
            with contextlib.suppress(psutil.NoSuchProcess):  # without its worker an evaluator leaves
                process.kill()

    def finish(self, undisturbed: list[str]) -> None:
        """Carry the campaign to its end, and compare it with the undisturbed one."""
        runner.proceed(self.ctx, self.campaign)
        with self.ctx.engine.begin() as connection:
            query = """select count(*), count(*) filter (where status = 'ok'), max(attempt)
                from l2l.evaluations where campaign_id = :campaign"""
            counted = tuple(connection.execute(text(query), {"campaign": self.campaign}).one())
            assert counted == (BATCH * GENERATIONS, BATCH * GENERATIONS, 0)
            assert campaigns.get(connection, self.campaign).status == "finished"
        assert told(self.ctx, self.campaign) == undisturbed


def told(ctx: Context, campaign: str) -> list[str]:
    with ctx.engine.begin() as connection:
        return [sha for _, sha in generations.told_sequence(connection, campaign)]


@pytest.fixture
def bench(
    slurm_lab: SlurmLab,
    slurm_fault_lab: SlurmLab,
    engine: Engine,
    local_site: LocalSite,  # noqa: ARG001 - the profile is written beside its own
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bench]:
    """A bench; afterwards the lab is mended and as empty as before."""
    lab, gate = slurm_fault_lab, slurm_fault_lab.work / f"gate-{uuid.uuid4().hex[:8]}"
    gate.mkdir()
    for name, script in (("sbatch", SBATCH), ("python", PYTHON)):
        (gate / name).write_text(script.format(gate=gate, sbatch=shutil.which("sbatch")))
        (gate / name).chmod(0o755)
    os.chown(gate, pwd.getpwnam(lab.login).pw_uid, -1)
    profile = {
        "name": SITE,
        "transport": "ssh",
        "connection": SITE,
        "scheduler": {"kind": "slurm", "partition": "batch"},
        "agent_python": str(gate / "python"),
        "python": str(slurm_lab.python),
        "work": "~/l2l",
        "poll_interval": 1,
        "logins_per_hour": 60,
    }
    (tmp_path / "sites" / f"{SITE}.yaml").write_text(yaml.safe_dump(profile))
    monkeypatch.setenv(f"AIRFLOW_CONN_{SITE.upper()}", json.dumps(lab.connection))
    made = Bench(lab, Context(engine), gate, tmp_path)
    yield made
    made.let_go()
    lab.up()
    lab.as_user("scancel --user=$USER")
    wait_until(lambda: lab.as_user("squeue -h").stdout == "", what="the lab to be empty")
    for client in made.ctx._sites.values():
        if isinstance(client.transport, SshTransport):
            client.transport.disconnect()
    shutil.rmtree(lab.work / "campaigns", ignore_errors=True)
    shutil.rmtree(gate)


UNDISTURBED: list[str] = []


@pytest.fixture
def undisturbed(bench: Bench, local_site: LocalSite) -> list[str]:
    """What the campaign tells when nothing happens; the same everywhere, so it is run once."""
    if not UNDISTURBED:
        campaign = runner.run(bench.ctx, campaign_spec(local_site.name), bench.base_dir)
        UNDISTURBED.extend(told(bench.ctx, campaign))
    return UNDISTURBED


def test_a_submission_that_a_frozen_controller_did_not_confirm_is_found_by_name(
    bench: Bench, undisturbed: list[str]
) -> None:
    """sbatch says that it failed, and the array exists: submitting again would double it."""
    bench.begin()
    with bench.held_submission() as submitting, bench.lab.frozen():
        bench.let_go()
        status = submitting.result()
        assert (status["known"], status["submitted"], status["uncertain"]) == (True, 0, WORKERS)
        status = bench.poll()
        assert (status["known"], status["submitted"], status["uncertain"]) == (False, 0, WORKERS)
    wait_until(lambda: len(bench.queue()) == WORKERS, what="the array to turn up")
    status = bench.poll()
    assert (status["known"], status["submitted"], status["uncertain"]) == (True, 0, 0)
    bench.finish(undisturbed)
    assert len(bench.arrays()) == 1


def ssh_session() -> psutil.Process:
    """The ssh client of this process that runs a command at the site (its master is nobody's child)."""
    (found,) = [one for one in psutil.Process().children() if one.name() == "ssh"]
    return found


def test_a_submission_whose_ssh_client_is_killed_is_not_doubled_by_the_next(
    bench: Bench, undisturbed: list[str]
) -> None:
    """The remote command goes on alone; the repetition comes while it is still at its sbatch."""
    bench.begin()
    with bench.held_submission() as submitting, ThreadPoolExecutor(1) as pool:
        ssh_session().kill()
        with pytest.raises(SiteUnknown):
            submitting.result()
        again = pool.submit(bench.submit)
        wait_until(lambda: len(bench.processes("call")) == 2, what="the repetition to arrive")
        assert bench.queue() == {}
        bench.let_go()
        status = again.result()
    assert (status["submitted"], status["uncertain"], len(status["workers"])) == (0, 0, WORKERS)
    bench.finish(undisturbed)
    assert len(bench.arrays()) == 1


def forgotten(bench: Bench, begun: bool) -> str:
    """Begin a campaign whose array the controller forgets, waiting or (`begun`) at work; the array's id."""
    state = bench.lab.root / "state" / "job_state"

    def saved_at() -> int:
        return state.stat().st_mtime_ns if state.exists() else 0

    if not begun:
        bench.set_node("drain")
    bench.begin(run_time=2.0)
    with bench.held_submission() as submitting:
        before = saved_at()
        bench.lab.as_user("sbatch --job-name=before --output=/dev/null --wrap 'exit 0'")
        wait_until(lambda: saved_at() > before, what="the controller to save its jobs")
        saved = state.read_bytes()
        bench.let_go()
        status = submitting.result()
    assert status["submitted"] == WORKERS
    if begun:
        bench.wait_at_work()
    bench.lab.signal_daemon("slurmctld", signal.SIGKILL)
    if begun:
        bench.cut_power()
    # It saves its jobs again 5 s after the last time; here that was too early for it in any case.
    state.write_bytes(saved)
    bench.lab.up()
    assert bench.queue() == {}
    return str(status["workers"][0]["job"])


def test_an_array_that_the_controller_forgot_is_submitted_again_under_its_own_id(
    bench: Bench, undisturbed: list[str]
) -> None:
    """A controller killed right after sbatch has lost the array, and gives its id away once more."""
    job = forgotten(bench, begun=False)
    assert bench.poll()["submitted"] == WORKERS, "what the controller never started needs no grace"
    bench.finish(undisturbed)
    (again,) = bench.arrays()
    assert int(again) <= int(job)


def test_workers_that_the_controller_forgot_are_replaced_although_their_id_is_somebody_elses(
    bench: Bench, undisturbed: list[str]
) -> None:
    """The next array with the id, of the same account, is neither taken for the workers nor cancelled."""
    job = forgotten(bench, begun=True)
    held = bench.busy()
    assert held == {f"{job}_{index}_0" for index in range(WORKERS)}
    other = f"sbatch --hold --parsable --array=0-{WORKERS - 1} --job-name=other --output=/dev/null"
    ids: list[str] = []
    while job not in ids:  # it may have forgotten what came before the workers as well
        ids.append(bench.lab.as_user(f"{other} --wrap 'sleep 900'").stdout.strip())
        assert int(ids[-1]) <= int(job), f"{ids} have gone past {job}"
    bench.lab.as_user(f"scontrol release {job}")
    wait_until(lambda: states(bench.lab, job) == ["RUNNING"] * WORKERS, what="the other array to run")
    status = bench.poll()
    assert (status["known"], status["submitted"], status["workers"]) == (True, 0, [])
    assert bench.busy() == held, "to be absent from one answer is not death"
    bench.finish(undisturbed)
    assert len(bench.arrays() - {job}) == 1
    assert states(bench.lab, job) == ["RUNNING"] * WORKERS


def states(lab: SlurmLab, job: str) -> list[str]:
    """The states of an array's tasks."""
    return lab.as_user(f"squeue -h -r -j {job} -o %T").stdout.split()


def test_a_failed_node_costs_no_attempt(bench: Bench, undisturbed: list[str]) -> None:
    """The bundles of its workers go back as they were, and wait until a node is there."""
    bench.begin(run_time=2.0)
    bench.submit()
    bench.wait_at_work()
    (first,) = bench.arrays()
    held = bench.busy()
    assert len(held) == WORKERS
    bench.cut_power()
    bench.set_node("down")
    wait_until(lambda: set(bench.queue().values()) == {"NODE_FAIL"}, what="the workers to be lost")
    assert bench.busy() == held, "nobody was left to hand anything back"
    status = bench.poll()
    assert (status["known"], status["running"], status["rejected"]) == (True, 0, None)
    assert status["todo"] >= WORKERS
    assert [evaluation["attempt"] for evaluation in bench.waiting()] == [0] * status["todo"]
    bench.lab.up()
    bench.finish(undisturbed)
    assert len(bench.arrays() - {first}) == 1


def test_a_cancelled_worker_is_replaced(bench: Bench, undisturbed: list[str]) -> None:
    """A person cancels one of the workers in the middle of an evaluation."""
    bench.begin(run_time=2.0)
    bench.submit()
    bench.wait_at_work()
    (first,) = bench.arrays()
    bench.lab.as_user(f"scancel {first}_0")
    wait_until(lambda: bench.queue()[f"{first}_0"] == "CANCELLED", what="the worker to be cancelled")
    bench.finish(undisturbed)
    assert len([worker for worker in bench.queue() if not worker.startswith(f"{first}_")]) == 1
