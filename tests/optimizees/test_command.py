"""Programs as inner loops: files, exit statuses, wrong results, and that nothing stays running."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import optimizees
from optimizees.base import Context, Infeasible, Optimizee, OptimizeeError, OptionsError, Result
from optimizees.command import MAX_RESULT_BYTES
from optimizees.program import GRACE, TAIL_BYTES, run
from tests.support.optimizee_runner import Runner

SPACE = {"x": {"type": "float", "low": -1, "high": 1}, "n": {"type": "int", "low": 1, "high": 9}}
PARAMS = {"n": 3, "x": 0.25}
ONE = """echo '{"fitness": 1}' > result.json; """
PATIENCE = 10.0


def shell(script: str, **options: Any) -> Optimizee:
    """A command that runs a shell script."""
    return optimizees.load("command", {"command": ["sh", "-c", script], "parameters": SPACE, **options})


def evaluate(optimizee: Optimizee, scratch: Path, **context: Any) -> Result:
    given = Context(context.pop("seed", 7), scratch, **context)
    task = optimizee.family().task("train", 0, 1)
    return optimizee.evaluate(dict(PARAMS), task, np.random.default_rng(0), given)


def writing(text: str | bytes, tmp_path: Path) -> Optimizee:
    """A program that leaves this result.json."""
    source = tmp_path / "source"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    return shell(f"cp {source} result.json")


def gone(pid: int) -> bool:
    """Whether a process has ended (or waits only for being reaped)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for(condition: Callable[[], bool]) -> bool:
    limit = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < limit:
        time.sleep(0.01)
    return condition()


# --- files, placeholders, variables -------------------------------------------------------------------------


def test_a_python_program_gets_parameters_and_task_and_gives_all_of_a_result(tmp_path: Path) -> None:
    program = tmp_path / "model.py"
    program.write_text(
        "import json, sys\n"
        "params, task = (json.load(open(name)) for name in sys.argv[1:3])\n"
        "loss = (params['x'] - task['goal']) ** 2\n"
        "json.dump({'fitness': [loss, params['n']], 'metrics': {'x': params['x'], 'row': [1, 2]},\n"
        "           'curve': [3, 2.5]}, open(sys.argv[3], 'w'))\n"
    )
    optimizee = optimizees.load(
        "command",
        {
            "command": [sys.executable, str(program), "{params}", "{task}", "{result}"],
            "parameters": SPACE,
            "objectives": [{"name": "loss"}, {"name": "size", "direction": "maximize"}],
            "tasks": [{"goal": 0.75}],
        },
    )
    result = evaluate(optimizee, tmp_path)
    assert result == Result([0.25, 3.0], {"x": 0.25, "row": [1.0, 2.0]}, [3.0, 2.5])
    assert json.loads((tmp_path / "params.json").read_text()) == PARAMS
    assert [o.direction for o in optimizee.objectives] == ["minimize", "maximize"]


def test_placeholders_stand_for_paths_and_values_and_other_braces_stay(tmp_path: Path) -> None:
    words = [
        "{seed}",
        "at={scratch}",
        "{checkpoint}|{inherited}",
        "{print}",
        "{params}{task}{result}",
        "{artifacts}",
        "",
    ]
    script = ONE + 'printf "%s\\n" "$@" > words'
    optimizee = optimizees.load(
        "command", {"command": ["sh", "-c", script, "sh", *words], "parameters": SPACE}
    )
    folder = tmp_path / "checkpoint"
    evaluate(
        optimizee, tmp_path, seed=2**53, checkpoint=folder, inherited=Path("/parent"), artifacts=Path("/kept")
    )
    files = "".join(f"{tmp_path}/{name}.json" for name in ("params", "task", "result"))
    expected = [str(2**53), f"at={tmp_path}", f"{folder}|/parent", "{print}", files, "/kept", ""]
    assert (tmp_path / "words").read_text().split("\n")[:-1] == expected
    evaluate(optimizee, tmp_path, checkpoint=folder)
    assert f"{folder}|\n" in (tmp_path / "words").read_text()


def test_parameters_cannot_become_words_or_shell_code(tmp_path: Path) -> None:
    """A text of the space with a placeholder and shell characters arrives as it is, in the file only."""
    nasty = "{seed} $(touch owned); 'x"
    space = {"text": {"type": "categorical", "choices": [nasty]}}
    optimizee = optimizees.load(
        "command", {"command": ["sh", "-c", ONE + 'echo "$@" > words', "sh", "{params}"], "parameters": space}
    )
    optimizee.evaluate({"text": nasty}, {}, np.random.default_rng(0), Context(1, tmp_path))
    assert json.loads((tmp_path / "params.json").read_text()) == {"text": nasty}
    assert (tmp_path / "words").read_text() == f"{tmp_path}/params.json\n"
    assert not (tmp_path / "owned").exists()


def test_variables_and_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("L2L_DEADLINE", "of somebody else")
    script = ONE + 'echo "$OMP_NUM_THREADS $HOME ${L2L_DEADLINE-none}" > variables'
    optimizee = shell(script, environ={"OMP_NUM_THREADS": "3"})
    evaluate(optimizee, tmp_path, deadline=2000.75)
    assert (tmp_path / "variables").read_text() == f"3 {os.environ['HOME']} 2000\n"
    evaluate(optimizee, tmp_path)
    assert (tmp_path / "variables").read_text().endswith(" none\n")


def test_launch_is_put_before_the_command(tmp_path: Path) -> None:
    optimizee = shell(ONE + 'echo "$RANK" > rank', launch=["env", "RANK={seed}"])
    evaluate(optimizee, tmp_path, seed=5)
    assert (tmp_path / "rank").read_text() == "5\n"


def test_the_result_of_an_earlier_evaluation_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"fitness": 0}')
    with pytest.raises(ValueError, match=r"did not write result\.json"):
        evaluate(shell("true"), tmp_path)


# --- exit statuses ------------------------------------------------------------------------------------------


def test_status_65_is_infeasible_for_the_reason_printed_last(tmp_path: Path) -> None:
    with pytest.raises(Infeasible, match=r"^the network blew up$"):
        evaluate(shell(ONE + "echo begun; echo the network blew up >&2; echo; exit 65"), tmp_path)
    with pytest.raises(Infeasible, match="exit status 65 without a word"):
        evaluate(shell("exit 65"), tmp_path)
    with pytest.raises(Infeasible, match=r"^too stiff$"):
        evaluate(shell("echo too stiff; echo 'srun: error: n1: task 0: Exited'; exit 65"), tmp_path)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo licence server is away; exit 75", r"status 75 \(a passing failure\): licence server is away"),
        ("exit 3", "ended with exit status 3: it printed nothing"),
        ("seq 30; exit 1", r"status 1: 21\n22\n[\d\n]+30$"),
        ("printf 'bad \\377 byte'; exit 1", "status 1: bad \ufffd byte"),
        ("kill -s SEGV $$", "ended by SIGSEGV: it"),
        ("kill -s KILL $$", "ended by SIGKILL, probably out of memory"),
        ("sh -c 'kill -s ABRT $$'; exit $?", r"status 134 \(a shell's word for SIGABRT\)"),
    ],
)
def test_other_statuses_are_failures_with_the_last_lines(script: str, words: str, tmp_path: Path) -> None:
    """Even though a sound result.json is there."""
    with pytest.raises(RuntimeError, match=words):
        evaluate(shell(ONE + script), tmp_path)


@pytest.mark.parametrize("name", ["no-such-program-anywhere", "/etc", "{scratch}/none"])
def test_a_program_that_cannot_be_started_is_named(name: str, tmp_path: Path) -> None:
    optimizee = optimizees.load("command", {"command": [name], "parameters": SPACE})
    with pytest.raises(RuntimeError, match=r"cannot start '[^{]+'"):
        evaluate(optimizee, tmp_path)


# --- results ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("fitness=1", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        ("3.5", "must hold an object"),
        ("{}", "holds no fitness"),
        ('{"loss": 1}', r"may hold fitness, metrics and curve, not \['loss'\]"),
        ('{"fitness": [1, 2]}', r"must be 1 number\(s\), got 2"),
        ('{"fitness": []}', "got 0"),
        ('{"fitness": "1.0"}', "fitness in result.json must be a number or several, got '1.0'"),
        ('{"fitness": true}', "got True"),
        ('{"fitness": null}', "got None"),
        ('{"fitness": NaN}', "must be finite.*exit status 65"),
        ('{"fitness": 1e999}', "must be finite"),
        ('{"fitness": 1' + "0" * 6000 + "}", "must be finite"),
        ('{"fitness": [[1]]}', "must be a number or several"),
        ('{"fitness": 1, "metrics": [1]}', "metrics in result.json must be an object"),
        ('{"fitness": 1, "metrics": {"a": {"b": 1}}}', r"metrics\['a'\] .* got \{'b': 1.0\}"),
        ('{"fitness": 1, "curve": 2}', "curve in result.json must be a list"),
        ('{"fitness": 1, "curve": [[1]]}', "curve in result.json"),
        ('{"fitness": ' + "[" * 200000 + "]" * 200000 + "}", "nested too deep"),
        (" " * (MAX_RESULT_BYTES + 1), f"larger than {MAX_RESULT_BYTES} bytes"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_wrong_result_is_explained(text: str | bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        evaluate(writing(text, tmp_path), tmp_path)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("made", ["mkdir result.json", "mkfifo result.json", "ln -s /nowhere result.json"])
def test_a_result_that_is_no_file_does_not_block(made: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"did not write result\.json"):
        evaluate(shell(made), tmp_path)


def test_metrics_and_curve_may_diverge(tmp_path: Path) -> None:
    """The worker leaves out what is not finite; the fitness is sound."""
    text = '{"fitness": 1, "metrics": {"a": NaN}, "curve": [1, Infinity]}'
    result = evaluate(writing(text, tmp_path), tmp_path)
    assert result.fitness == [1.0]
    assert math.isnan(result.metrics["a"])


# --- output -------------------------------------------------------------------------------------------------


def test_output_is_passed_on_while_the_program_runs(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    evaluate(shell(ONE + "printf one; printf 'two\\377' >&2"), tmp_path)
    assert capfdbinary.readouterr().out == b"onetwo\xff"


def test_much_output_neither_blocks_nor_fills_the_memory(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = run(["sh", "-c", "seq 300000; exit 4"], tmp_path, os.environ)
    assert ended.status == 4
    assert len(ended.output) == TAIL_BYTES
    assert ended.lines()[-1] == "300000"
    assert len(capfd.readouterr().out.splitlines()) == 300000


def test_a_program_may_close_its_output_and_go_on(tmp_path: Path) -> None:
    assert run(["sh", "-c", "exec >&- 2>&-; sleep 0.2; exit 6"], tmp_path, os.environ).status == 6


# --- processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["exit 0", "exit 9", "kill -s SEGV $$"])
def test_children_end_with_the_program(end: str, tmp_path: Path) -> None:
    """One that still holds the output open, and one that defies everything but SIGKILL."""
    script = f"""
        sleep 100 & echo $! > one
        sh -c 'trap "" TERM HUP INT; echo $$ > two; sleep 100 & sleep 100' &
        until [ -s two ]; do sleep 0.01; done
        {end}
    """
    begun = time.monotonic()
    run(["sh", "-c", script], tmp_path, os.environ)
    assert time.monotonic() - begun < PATIENCE
    for name in ("one", "two"):
        assert wait_for(lambda name=name: gone(int((tmp_path / name).read_text())))  # type: ignore[misc]


def test_all_ends_when_the_evaluation_is_killed(tmp_path: Path) -> None:
    """As the worker does it at the deadline: SIGKILL for the evaluator's group, of which the program is none.

    The program is asked first (srun then ends its step) and may print, a deaf child is killed.
    """
    script = """
        sh -c 'trap "" TERM; echo $$ > deaf; exec sleep 100' &
        trap 'echo I end; echo asked > asked; exit' TERM
        until [ -s deaf ]; do sleep 0.01; done
        echo $$ > pid; while :; do sleep 0.05; done
    """
    options = {"command": ["sh", "-c", script], "parameters": SPACE}
    with Runner.start("command", options, tmp_path) as runner:
        request = {"params": PARAMS, "task": {"split": "train", "index": 0, "seed": 1}, "seed": 1}
        assert runner.process.stdin is not None
        runner.process.stdin.write(json.dumps({**request, "scratch": str(runner.scratch)}) + "\n")
        runner.process.stdin.flush()
        pids = [runner.scratch / "deaf", runner.scratch / "pid"]
        assert wait_for(lambda: all(file.exists() and file.read_text() for file in pids))
        os.kill(runner.process.pid, signal.SIGKILL)
        begun = time.monotonic()
        assert wait_for(lambda: all(gone(int(file.read_text())) for file in pids))
        assert time.monotonic() - begun < GRACE + 3
        assert (runner.scratch / "asked").exists()


def test_guards_and_programs_leave_no_zombies(tmp_path: Path) -> None:
    """Those that other tests of this process left do not count."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = set(children.read_text().split())
    for _ in range(3):
        run(["true"], tmp_path, os.environ)
    with pytest.raises(RuntimeError):
        run(["no-such-program-anywhere"], tmp_path, os.environ)
    assert set(children.read_text().split()) - before == set()


# --- as staged, space, tasks --------------------------------------------------------------------------------


def test_runs_from_its_bundle_with_status_and_reason(tmp_path: Path) -> None:
    """Fitness depends on parameter, task and seed; the reply is what the worker gets."""
    script = (
        'read -r seed goal < "$2"; grep -q 0.25 "$1" || { echo only 0.25; exit 65; }; '
        'echo "{\\"fitness\\": $(tr -cd 0-9 < "$2")$3}" > result.json'
    )
    options = {
        "command": ["sh", "-c", script, "sh", "{params}", "{task}", "{seed}"],
        "parameters": SPACE,
        "tasks": [{"goal": 4}, {"goal": 5}],
    }
    with Runner.start("command", options, tmp_path) as runner:
        replies = [runner.ask(PARAMS, seed, index=index)["reply"] for seed, index in ((1, 0), (1, 1), (2, 2))]
        assert [reply["fitness"] for reply in replies] == [[41.0], [51.0], [42.0]]
        assert runner.ask({**PARAMS, "x": 0.5}, 1)["reply"] == {"status": "infeasible", "reason": "only 0.25"}
        assert "no held-out" in runner.ask(PARAMS, 1, split="test")["error"]
    assert "optimizees/program.py" in optimizees.code_bundle("command").files


def test_every_type_of_parameter_in_the_order_of_names() -> None:
    """A campaign in the database does not keep the order of the file: the search must not depend on it."""
    parameters: dict[str, Mapping[str, Any]] = {
        "w": {"type": "float", "low": 0.01, "high": 1, "log": True, "shape": [2], "default": 0.1},
        "k": {"type": "int", "low": 1, "high": 4},
        "c": {"type": "categorical", "choices": ["a", "b"]},
        "o": {"type": "ordinal", "values": [8, 16]},
        "f": {"type": "fixed", "value": {"any": [1]}},
    }
    given = optimizees.load("command", {"command": ["true"], "parameters": parameters}).space()
    again = dict(reversed(parameters.items()))
    assert optimizees.load("command", {"command": ["true"], "parameters": again}).space().names == given.names
    assert list(given.names) == sorted(parameters)
    assert given.default() == {"w": [0.1, 0.1], "k": 3, "c": "a", "o": 8, "f": {"any": [1]}}
    assert given.dimension == 5


def test_listed_tasks_are_finite_families() -> None:
    family = shell("true", tasks=[{"a": 1}, {"a": 2}], test_tasks=[{"a": 3}]).family()
    assert family.size == 2
    assert [family.task("train", i, 9) for i in range(3)] == [{"a": 1}, {"a": 2}, {"a": 1}]
    assert [family.task("test", i, 9) for i in range(2)] == [{"a": 3}, {"a": 3}]
    assert shell("true").family().task("train", 0, 1) == {}
    with pytest.raises(OptimizeeError, match="test_tasks"):
        shell("true", tasks=[{}]).family().task("test", 0, 1)


def test_the_example_of_the_page_does_what_the_page_says(tmp_path: Path) -> None:
    page = (Path(optimizees.__file__).parent.parent / "docs/use-cases/command.md").read_text()
    (tmp_path / "valley.sh").write_text(page.partition("```sh\n")[2].partition("```")[0])
    campaign = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    options = campaign["optimizee"]["options"]
    options["command"] = [word.replace("/home/me", str(tmp_path)) for word in options["command"]]
    with Runner.start("command", options, tmp_path) as runner:
        replies = [runner.ask({"x": -2.5, "y": 1e-05}, 1, index=index)["reply"] for index in (0, 1)]
        assert [reply["fitness"][0] for reply in replies] == pytest.approx([18.50005, 22.25005])
        assert [reply["metrics"] for reply in replies] == [{"distance": -3.5}, {"distance": -4.0}]
        refused = runner.ask({"x": 4.5, "y": 4.5}, 1)["reply"]
        assert refused == {"status": "infeasible", "reason": "x + y is above 8"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"command": None}, "'command' and 'parameters' are needed"),
        ({"parameters": None}, "'command' and 'parameters' are needed"),
        ({"command": "sh -c true"}, "list of words"),
        ({"command": ["sleep", 1]}, "numbers in quotation marks"),
        ({"command": [""]}, "must begin with a program"),
        ({"command": ["./model"]}, "must be an absolute path at the site"),
        ({"command": ["~/model"]}, "must be an absolute path at the site"),
        ({"launch": ["bin/launch"]}, "option 'launch'.*absolute path"),
        ({"parameters": {"x": 1}}, r"x must be such as \{type"),
        ({"parameters": {"x": {"low": 0, "high": 1}}}, "x needs a type"),
        ({"parameters": {"x": {"type": "real"}}}, "x: unknown type 'real'"),
        ({"parameters": {"x": {"type": "float", "low": 1, "high": 0}}}, "x: low 1.0 must be less"),
        ({"parameters": {"x": {"type": "float", "low": 0, "upper": 1}}}, "x: .*upper"),
        ({"objectives": []}, "must be a list such as"),
        ({"objectives": ["loss"]}, "expected"),
        ({"objectives": [{"name": "a", "direction": "up"}]}, "direction must be"),
        ({"objectives": [{"name": "a", "weight": "1"}]}, "unknown weight of 'a'"),
        ({"tasks": [{"a": 1}, {"a": 1}]}, "listed twice"),
        ({"tasks": [{"a": 1}], "test_tasks": [{"a": 1}]}, "listed twice"),
        ({"test_tasks": [{"a": 1}]}, "needs tasks to learn from"),
        ({"environment": "../../bin"}, "name of one"),
        ({"environ": {"N": 1}}, "texts"),
        ({"environ": {"A=B": "1"}}, "names of variables"),
        ({"environ": {"L2L_TOKEN": "1"}}, "not yours"),
    ],
    ids=str,
)
def test_wrong_options_are_explained(options: dict[str, Any], words: str) -> None:
    given = {"command": ["true"], "parameters": SPACE, **options}
    with pytest.raises(OptionsError, match=words):
        optimizees.load("command", {name: value for name, value in given.items() if value is not None})


def test_the_environment_is_the_one_that_the_campaign_names() -> None:
    assert shell("true", environment="my-model_2.1").environment == "my-model_2.1"
    assert shell("true").environment == ""
