"""The pool and the settling of deaths as one state machine: no evaluation is ever lost or finished twice."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle as Names
from hypothesis.stateful import RuleBasedStateMachine, consumes, invariant, precondition, rule

from l2l_tasks.agent import files, results
from l2l_tasks.agent.files import LineWriter
from l2l_tasks.agent.pool import BadBundle, Bundle, Pool
from l2l_tasks.agent.reconcile import Death
from l2l_tasks.agent.results import ResultLine, StartedLine, make_error
from l2l_tasks.agent.settle import MAX_LOST, settle
from tests.agent import lab

ATTEMPTS = 3
CAMPAIGN = {"attempts": ATTEMPTS, "limits": dict(results.DEFAULT_LIMITS)}
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Killed(BaseException):
    """The process ended in the middle of something."""


class DyingPool(Pool):
    """Ends the process that settles a death right before or after it gives a bundle back or finishes it."""

    def __init__(self, folder: Path, before: bool) -> None:
        super().__init__(folder)
        self.before = before

    def _die(self, before: bool) -> None:
        if self.before == before:
            raise Killed

    def give_back(self, worker: str, bundle: Bundle) -> bool:
        files.write_atomic(self.running / worker / bundle.name, bundle.to_bytes())
        self._die(True)
        moved = super().give_back(worker, bundle)
        self._die(False)
        return moved

    def finish(self, worker: str, name: str) -> bool:
        self._die(True)
        moved = super().finish(worker, name)
        self._die(False)
        return moved


class SimulatedWorker:
    """Does with the pool what worker.py does, one step at a time."""

    def __init__(self, folder: Path, pool: Pool, name: str) -> None:
        self.pool, self.name = pool, name
        assert pool.register(name)
        self.writer = LineWriter(folder / "results" / f"{name}.ndjson")
        self.bundle: Bundle | None = None
        self.running: set[str] = set()
        self.left: list[dict[str, Any]] = []

    def claim(self) -> None:
        self.bundle = self.pool.claim(self.name)
        self.left = [dict(e) for e in self.bundle.evaluations] if self.bundle else []

    def start(self) -> None:
        assert self.bundle is not None
        first = self.left[0]
        self.running = {first["key"]}
        line = StartedLine(first["key"], first["attempt"], self.bundle.name, 1.0)
        self.writer.append(results.build_line(line), durable=False)

    def end(self, ok: bool) -> None:
        assert self.bundle is not None
        first = self.left[0]
        self.running = set()
        final = ok or first["attempt"] + 1 >= ATTEMPTS
        error = None if ok else make_error("crash", "m")
        line = ResultLine(
            first["key"], first["nonce"], first["attempt"], self.name, self.bundle.name,
            "ok" if ok else "failed", final, [1.0] if ok else None, {}, [], 1.0, 2.0, 1.0, "h", error,
        )  # fmt: skip
        self.writer.append(results.build_line(line), durable=False)
        if final:
            del self.left[0]
        else:
            first["attempt"] += 1

    def close_bundle(self) -> None:
        assert self.bundle is not None
        if self.left:
            old = self.bundle
            assert self.pool.give_back(self.name, Bundle(old.name, old.generation, old.timeout, self.left))
        else:
            assert self.pool.finish(self.name, self.bundle.name)
        self.bundle, self.left, self.running = None, [], set()

    def torn_line(self) -> None:
        self.writer._write(b'{"sum":"0123456789abcdef","v":1,"type":"resu')


class PoolMachine(RuleBasedStateMachine):
    """Controllers put, workers work and die, reconciliation settles and dies as well."""

    workers = Names("workers")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY))
        (self.folder / "results").mkdir()
        self.pool = Pool(self.folder)
        self.pool.create()
        self.all_bundles: list[Bundle] = []
        self.all_keys: set[str] = set()
        self.number = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=2))
    def put_new(self, sizes: list[int]) -> None:
        for size in sizes:
            first = len(self.all_keys)
            made = [lab.evaluation(first + n, {}) for n in range(size)]
            self.all_keys |= {e["key"] for e in made}
            self.all_bundles.append(Bundle.parse(lab.bundle(len(self.all_bundles), made)))
        assert self.pool.put(self.all_bundles[-len(sizes) :]) == [
            b.name for b in self.all_bundles[-len(sizes) :]
        ]

    @precondition(lambda self: self.all_bundles)
    @rule(data=st.data())
    def put_again(self, data: st.DataObject) -> None:
        """A repeated submit adds nothing, wherever the bundle is by now."""
        assert self.pool.put([data.draw(st.sampled_from(self.all_bundles))]) == []

    @rule(target=workers)
    def new_worker(self) -> SimulatedWorker:
        self.number += 1
        return SimulatedWorker(self.folder, self.pool, f"{self.number}_0_0")

    @rule(
        worker=workers,
        steps=st.lists(st.sampled_from(["start", "ok", "failed"]), max_size=6),
        close=st.booleans(),
    )
    def work(self, worker: SimulatedWorker, steps: list[str], close: bool) -> None:
        if worker.bundle is None:
            worker.claim()
        for step in steps:
            if worker.bundle is None or not worker.left:
                break
            if step == "start":
                worker.start()
            else:
                worker.end(step == "ok")
        if close and worker.bundle is not None:
            worker.close_bundle()

    @rule(worker=consumes(workers), own_fault=st.booleans(), torn=st.booleans(), before=st.booleans())
    def die(self, worker: SimulatedWorker, own_fault: bool, torn: bool, before: bool) -> None:
        """SIGKILL of a worker, a settling that is killed, and one that runs to its end."""
        if torn:
            worker.torn_line()
        death = Death("test", own_fault)
        expected = {**self.attempts(), **{e["key"]: e["attempt"] for e in worker.left}}
        victims = worker.running if own_fault else set()
        try:
            settle(self.folder, DyingPool(self.folder, before), worker.name, death, CAMPAIGN)
        except Killed:
            self.each_evaluation_is_in_one_place()
        settle(self.folder, self.pool, worker.name, death, CAMPAIGN)
        settle(self.folder, self.pool, worker.name, death, CAMPAIGN)
        assert worker.name not in self.pool.workers()
        now = self.attempts()
        assert all(now[key] == expected[key] + (key in victims) for key in now)

    def attempts(self) -> dict[str, int]:
        folders = [self.pool.todo, *(self.pool.running / w for w in self.pool.workers())]
        paths = [path for folder in folders for path in folder.iterdir() if path.name.startswith("g")]
        found = [e for path in paths for e in Bundle.parse(files.read_json(path)).evaluations]
        return {e["key"]: e["attempt"] for e in found}

    def final(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for path in (self.folder / "results").iterdir():
            for data in results.split_lines(path.read_bytes())[0]:
                try:
                    line = results.parse_line(data)
                except results.Rejected:
                    continue
                if isinstance(line, ResultLine) and line.final:
                    found[line.key] += 1
        return found

    @invariant()
    def each_evaluation_is_in_one_place(self) -> None:
        names = [
            path.name for folder in self.pool.todo.parent.rglob("g*") for path in [folder] if path.is_file()
        ]
        assert sorted(names) == sorted(b.name for b in self.all_bundles)
        waiting, final = self.attempts(), self.final()
        assert set(waiting) | set(final) == self.all_keys
        assert set(final.values()) <= {1}
        assert all(attempt < ATTEMPTS for attempt in waiting.values())

    @invariant()
    def counts_agree(self) -> None:
        counts = self.pool.counts()
        assert counts.todo + counts.running == len(self.attempts())
        assert self.pool.names() == {b.name for b in self.all_bundles}


PoolMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestPool = PoolMachine.TestCase


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    (tmp_path / "results").mkdir()
    made = Pool(tmp_path)
    made.create()
    return made


def settle_one(
    pool: Pool, own_fault: bool, started: bool, evaluation: dict[str, Any]
) -> list[dict[str, Any]]:
    """A worker dies with one evaluation; what is back in todo."""
    folder = pool.todo.parent.parent
    pool.put([Bundle.parse(lab.bundle(0, [evaluation]))])
    worker = SimulatedWorker(folder, pool, "1_0_0")
    worker.claim()
    if started:
        worker.start()
    with pytest.raises(Killed):
        settle(folder, DyingPool(folder, True), "1_0_0", Death("OUT_OF_MEMORY", own_fault), CAMPAIGN)
    settle(folder, pool, "1_0_0", Death("OUT_OF_MEMORY", own_fault), CAMPAIGN)
    return [dict(e) for path in pool.todo.iterdir() for e in Bundle.parse(files.read_json(path)).evaluations]


@pytest.mark.parametrize(
    ("own_fault", "started", "attempt"),
    [(True, True, 1), (True, False, 0), (False, True, 0), (False, False, 0)],
)
def test_who_pays_for_a_death(pool: Pool, own_fault: bool, started: bool, attempt: int) -> None:
    """Only the evaluation that ran loses an attempt, and only when the death was no accident of the site."""
    (back,) = settle_one(pool, own_fault, started, lab.evaluation(0, {}))
    assert back["attempt"] == attempt
    assert back["lost"] >= int(started)


@pytest.mark.parametrize(
    ("own_fault", "more", "attempt"),
    [(True, {"attempt": ATTEMPTS - 1}, ATTEMPTS - 1), (False, {"lost": MAX_LOST - 1}, 0)],
)
def test_the_end_of_attempts(pool: Pool, own_fault: bool, more: dict[str, int], attempt: int) -> None:
    """No attempt left, or too many dead workers: a final line that no worker could write."""
    assert settle_one(pool, own_fault, True, lab.evaluation(0, {}, **more)) == []
    data = (pool.todo.parent.parent / "results" / "reconcile.ndjson").read_bytes()
    line = results.parse_line(data.rstrip())
    assert isinstance(line, ResultLine)
    assert line.error is not None
    assert (line.key, line.attempt, line.final, line.error["kind"]) == ("0.0.0", attempt, True, "worker_lost")
    assert "OUT_OF_MEMORY" in line.error["message"]


def test_a_bundle_that_is_handed_back_meanwhile_is_not_put_again(pool: Pool) -> None:
    """It left todo/ before we looked there and running/ before we looked there."""

    class HandsBack(Pool):
        def workers(self) -> list[str]:
            if (self.running / "w" / "g00000-00000").exists():
                os.rename(self.running / "w" / "g00000-00000", self.todo / "g00000-00000")
            return super().workers()

    made = Bundle.parse(lab.bundle(0, [lab.evaluation(0, {})]))
    pool.put([made])
    pool.register("w")
    pool.claim("w")
    assert HandsBack(pool.todo.parent.parent).put([made]) == []


def test_forget(pool: Pool) -> None:
    """Only what is done, and only of earlier generations."""
    bundles = [lab.bundle(0, [lab.evaluation(g, {})], generation=g) for g in range(4)]
    pool.put([Bundle.parse(b) for b in bundles])
    pool.register("w")
    for name in ("g00000-00000", "g00002-00000"):
        os.rename(pool.todo / name, pool.running / "w" / name)
        assert pool.finish("w", name)
    pool.forget(2)
    assert pool.names() == {"g00001-00000", "g00002-00000", "g00003-00000"}


@pytest.mark.parametrize(
    "changes",
    [
        {"bundle": "../x"},
        {"bundle": None},
        {"generation": -1},
        {"generation": True},
        {"timeout": 0},
        {"timeout": "1"},
        {"evaluations": []},
        {"evaluations": [1]},
        {"evaluations": [lab.evaluation(0, {}), lab.evaluation(0, {})]},
        {"evaluations": [{**lab.evaluation(0, {}), "key": "x"}]},
        {"evaluations": [{**lab.evaluation(0, {}), "nonce": "x"}]},
        {"evaluations": [{**lab.evaluation(0, {}), "attempt": -1}]},
        {"evaluations": [{**lab.evaluation(0, {}), "params": []}]},
        {"evaluations": [{**lab.evaluation(0, {}), "seed": 1.5}]},
    ],
    ids=str,
)
def test_bad_bundles(changes: dict[str, Any]) -> None:
    """Refused when they arrive, not when a worker stumbles over them."""
    with pytest.raises(BadBundle):
        Bundle.parse({**lab.bundle(0, [lab.evaluation(0, {})]), **changes})
