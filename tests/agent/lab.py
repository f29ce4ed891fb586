"""A real site folder with the real agent, and an optimizee that misbehaves on demand."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from l2l_tasks.agent import build, frame, results
from l2l_tasks.agent.pool import Pool
from l2l_tasks.agent.results import Line, ResultLine, WorkerLine
from l2l_tasks.agent.staging import fingerprint
from l2l_tasks.site import archive

CAMPAIGN = "lab-0123abcd"
TOKEN = "00112233aabbccdd"

ZOO = '''
import ctypes, os, signal, subprocess, sys, time

LOADED = time.time()


class Zoo:
    """Does what params["do"] says; x squared by default."""

    def __init__(self, **options):
        self.calls = 0
        if "load" in options:
            eval(options["load"])

    def evaluate_json(self, request):
        self.calls += 1
        params = request["params"]
        do = getattr(self, params.get("do", "square"))
        return do(params, request)

    def square(self, params, request):
        return {"status": "ok", "fitness": [params["x"] ** 2.0]}

    def reply(self, params, request):
        return eval(params["value"], {"nan": float("nan"), "inf": float("inf"), "object": object()})

    def identity(self, params, request):
        return {"status": "ok", "fitness": [1.0], "metrics": {"calls": self.calls, "pid": os.getpid()}}

    def request(self, params, request):
        here = os.path.isdir(request["scratch"])
        left = request["deadline"] - time.time() if request["deadline"] else -1.0
        metrics = {"seed": request["seed"], "task": request["task"]["t"], "here": float(here), "left": left}
        open(os.path.join(request["scratch"], "file"), "w").close()
        return {"status": "ok", "fitness": [0.0], "metrics": metrics}

    def sleep(self, params, request):
        time.sleep(params["s"])
        return {"status": "ok", "fitness": [params["s"]]}

    def fail(self, params, request):
        print("what was printed before")
        raise ValueError("this went wrong")

    def once(self, params, request):
        """Fails until the file exists, which it makes."""
        if os.path.exists(params["file"]):
            return {"status": "ok", "fitness": [7.0]}
        open(params["file"], "w").close()
        raise RuntimeError("only the first time")

    def exit(self, params, request):
        os._exit(3)

    def system_exit(self, params, request):
        sys.exit(0)

    def segfault(self, params, request):
        ctypes.string_at(0)

    def kill(self, params, request):
        os.kill(os.getpid(), signal.SIGKILL)

    def litter(self, params, request):
        """Writes beside itself and stays in a folder that will be gone."""
        here = os.getcwd()
        for name in ("STOP", "campaign.json", "junk"):
            open(name, "w").close()
        os.makedirs("deeper")
        os.chdir("deeper")
        own = os.path.samefile(here, request["scratch"])
        return {"status": "ok", "fitness": [float(own)], "metrics": {"pid": os.getpid()}}

    def shout(self, params, request):
        raise ValueError("sch\u00f6n \u65e5")

    def raise_this(self, params, request):
        class Mute(Exception):
            def __str__(self):
                os._exit(3)

        raise eval(params["error"], {"Mute": Mute})

    def recurse(self, params, request):
        self.recurse(params, request)

    def garbage(self, params, request):
        """Binary, megabytes, what looks like a reply, and half a line."""
        reply = b'{"type":"reply","id":1,"cpu":0}\\n{"status":"ok","fitness":[0.0]}'
        for _ in range(20):
            os.write(1, bytes(range(256)) * 400 + reply)
        os.write(1, b"half a line")
        raise ValueError("after it")

    def spoil(self, params, request):
        eval(params["how"])
        return {"status": "ok", "fitness": [1.0]}

    def speak(self, params, request):
        open("file", "w").close()
        print("printed")
        print("written to stderr", file=sys.stderr)
        subprocess.run(["echo", "by a program"], check=True)
        raise ValueError("after speaking")

    def kill_worker(self, params, request):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)

    def fork(self, params, request):
        os.fork()
        return {"status": "ok", "fitness": [float(self.calls)]}

    def child(self, params, request):
        subprocess.Popen(["sleep", "60"])
        open(params["file"], "w").write(str(os.getpgid(0)))
        time.sleep(60)

    def prints(self, params, request):
        for i in range(20000):
            print("line %d of many" % i)
        sys.stderr.write("and to stderr\\n")
        return {"status": "ok", "fitness": [1.0]}

    def prints_for_ever(self, params, request):
        while True:
            os.write(1, b"x" * 65536)

    def close_all(self, params, request):
        os.closerange(3, 256)
        return {"status": "ok", "fitness": [1.0]}

    def write_to_pipes(self, params, request):
        for descriptor in range(3, 30):
            try:
                os.write(descriptor, b"\\x7f\\xff\\xff\\xffgarbage")
            except OSError:
                pass
        return {"status": "ok", "fitness": [1.0]}

    def deep(self, params, request):
        value = []
        for _ in range(params["depth"]):
            value = [value]
        return {"status": "ok", "fitness": [1.0], "curve": value}
'''

BAD_IMPORT = "import a_module_that_does_not_exist\n"


def evaluation(number: int, params: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """One evaluation of individual `number`."""
    made = {"key": f"{number}.0.0", "nonce": f"{number:016x}", "attempt": 0, "params": dict(params)}
    return {**made, "task": {"t": 5}, "seed": number, **more}


def bundle(
    sequence: int, evaluations: Sequence[Mapping[str, Any]], timeout: float | None = 30.0, generation: int = 0
) -> dict[str, Any]:
    """A bundle as the controller sends it."""
    return {
        "bundle": f"g{generation:05d}-{sequence:05d}",
        "generation": generation,
        "timeout": timeout,
        "evaluations": list(evaluations),
    }


def singles(params: Sequence[Mapping[str, Any]], timeout: float | None = 30.0) -> list[dict[str, Any]]:
    """One bundle for each."""
    return [bundle(i, [evaluation(i, p)], timeout) for i, p in enumerate(params)]


class Site:
    """A site's work folder with one campaign.

    Workers always run from the real zipapp; the controller's commands only with `processes`.
    """

    def __init__(self, work: Path, python: str = sys.executable, processes: bool = False) -> None:
        self.work, self.python, self.processes = work, python, processes
        content = build.build()
        self.program = work / "agent" / build.name(content)
        self.program.parent.mkdir(parents=True)
        self.program.write_bytes(content)
        self.folder = work / "campaigns" / CAMPAIGN
        self.pool = Pool(self.folder)

    def ask(self, command: str, **request: Any) -> dict[str, Any]:
        """The reply to a command, through the frame; in a process of its own if `processes`."""
        body = {"token": TOKEN, "work": str(self.work), "command": command, **request}
        stdin = json.dumps(body).encode()
        if self.processes:
            argv = [self.python, str(self.program), "call"]
            stdout = subprocess.run(argv, input=stdin, capture_output=True, timeout=120, check=True).stdout
        else:
            stream = io.BytesIO()
            assert frame.call(io.BytesIO(stdin), stream) == 0
            stdout = stream.getvalue()
        begin, end = f"\n<<<L2L {TOKEN}\n".encode(), f"\n{TOKEN} L2L>>>\n".encode()
        reply: dict[str, Any] = json.loads(stdout.split(begin)[1].split(end)[0])
        return reply

    def call(self, command: str, **request: Any) -> dict[str, Any]:
        """The reply to a command that must succeed."""
        reply = self.ask(command, **request)
        assert reply["ok"] is True, reply
        return reply

    def stage(self, source: str = ZOO) -> str:
        """Stage a module `zoo`; its fingerprint."""
        code = {"zoo.py": source.encode()}
        sha = fingerprint(code)
        self.call("stage", code=sha, archive=base64.b64encode(archive.pack(code)).decode())
        return sha

    def config(self, source: str = ZOO, **changes: Any) -> dict[str, Any]:
        """campaign.json with `changes`."""
        made: dict[str, Any] = {
            "campaign": CAMPAIGN,
            "job_name": f"l2l-{CAMPAIGN}",
            "entry": "zoo:Zoo",
            "options": {},
            "code": self.stage(source),
            "objectives": 1,
            "attempts": 2,
            "slots": 1,
            "linger": 0.0,
            "python": self.python,
            "agent": str(self.program),
            "env": {"LAB": "1"},
            "limits": {"line_bytes": 262144, "depth": 8},
            "scheduler": {"kind": "local", "max_workers": 4},
            "walltime": 600,
            "margin": 1.0,
        }
        return {**made, **changes}

    def open(self, source: str = ZOO, **changes: Any) -> None:
        self.call("open", campaign=CAMPAIGN, config=self.config(source, **changes))

    def put(self, bundles: Sequence[Mapping[str, Any]]) -> None:
        """Into the pool, without any worker being submitted."""
        self.call("submit", campaign=CAMPAIGN, bundles=list(bundles), workers=0, forget_before=0)

    def start_worker(self, job: str = "P1", index: int = 0, **environment: str) -> subprocess.Popen[bytes]:
        """A worker that no scheduler knows."""
        return subprocess.Popen(
            [self.python, str(self.program), "worker", str(self.folder)],
            env={**os.environ, "L2L_JOB": job, "L2L_INDEX": str(index), **environment},
        )

    def work_off(self, bundles: Sequence[Mapping[str, Any]]) -> list[ResultLine]:
        """Let one worker do these bundles; the results."""
        self.put(bundles)
        worker = self.start_worker()
        try:
            assert worker.wait(60) == 0
        finally:
            stop(worker)
        return self.results()

    def lines(self) -> list[Line]:
        """All lines in all results files, strictly parsed."""
        found: list[Line] = []
        for path in sorted((self.folder / "results").rglob("*.ndjson")):
            found += [results.parse_line(line) for line in results.split_lines(path.read_bytes())[0]]
        return found

    def results(self) -> list[ResultLine]:
        return [line for line in self.lines() if isinstance(line, ResultLine)]

    def final(self) -> dict[str, ResultLine]:
        """The final result of each evaluation; fails when there are two."""
        found: dict[str, ResultLine] = {}
        for line in self.results():
            if line.final:
                assert line.key not in found, f"{line.key} has two final results"
                found[line.key] = line
        return found

    def ends(self) -> list[str | None]:
        """Why workers left."""
        return [line.reason for line in self.lines() if isinstance(line, WorkerLine) and line.event == "end"]

    def counts(self) -> tuple[int, int]:
        counts = self.pool.counts()
        return counts.todo, counts.running


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a worker that we started, whatever it does."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
        process.wait()


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a condition; fails when it never comes."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "this never happened"
        time.sleep(0.01)


def running_processes(group: int) -> list[int]:
    """Live processes of a process group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(entry.name))
    return found
