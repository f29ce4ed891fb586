"""Parsers and builders for Slurm, without Slurm: all states, all forms of arrays, and any garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2l_tasks.agent.scheduler import STATES, SchedulerError
from l2l_tasks.agent.scheduler import slurm_commands as commands
from l2l_tasks.agent.scheduler import slurm_parsers as parsers
from l2l_tasks.agent.scheduler.runner import Ran

# --- states -------------------------------------------------------------------------------------------

EXPECTED = {
    "PENDING": "PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD RESV_DEL_HOLD SPECIAL_EXIT",
    "RUNNING": "RUNNING COMPLETING RESIZING SIGNALING STAGE_OUT STOPPED SUSPENDED",
    "COMPLETED": "COMPLETED",
    "FAILED": "FAILED",
    "OUT_OF_MEMORY": "OUT_OF_MEMORY",
    "TIMEOUT": "TIMEOUT DEADLINE",
    "NODE_FAIL": "NODE_FAIL BOOT_FAIL",
    "PREEMPTED": "PREEMPTED",
    "CANCELLED": "CANCELLED REVOKED",
}


def test_every_state_of_the_manual_has_its_place() -> None:
    for normal, words in EXPECTED.items():
        for word in words.split():
            assert parsers.normalise(word) == normal, word
    assert parsers.normalise("CANCELLED by 1001") == "CANCELLED"
    assert parsers.normalise("CANCELLED+") == "CANCELLED"


@given(st.text())
def test_a_new_word_is_unknown_never_an_end(text: str) -> None:
    known = {word for words in EXPECTED.values() for word in words.split()} | {"POWER_UP_NODE", "UPDATE_DB"}
    first = text.split()[0].rstrip("+").upper() if text.split() else ""
    state = parsers.normalise(text)
    assert state in STATES
    if first not in known:
        assert state == "UNKNOWN"


@pytest.mark.parametrize(
    ("raw", "reason", "stuck"),
    [
        ("PENDING", "Resources", False),
        ("PENDING", "Priority", False),
        ("PENDING", "JobArrayTaskLimit", False),
        ("PENDING", "QOSMaxJobsPerUserLimit", False),
        ("PENDING", "ReqNodeNotAvail, UnavailableNodes:n1", False),
        ("PENDING", "PartitionTimeLimit", True),
        ("PENDING", "PartitionNodeLimit", True),
        ("PENDING", "PartitionConfig", True),
        ("PENDING", "DependencyNeverSatisfied", True),
        ("PENDING", "JobHeldUser", True),
        ("PENDING", "JobHeldAdmin", True),
        ("PENDING", "BadConstraints", True),
        ("PENDING", "AssocGrpCPUMinutesLimit", True),
        ("PENDING", "QOSMaxWallDurationPerJobLimit", True),
        ("PENDING", "launch failed requeued held", True),
        ("REQUEUE_HOLD", "None", True),
        ("SPECIAL_EXIT", "None", True),
        ("RUNNING", "JobHeldUser", False),
        ("COMPLETED", "None", False),
    ],
)
def test_what_needs_a_person_is_told_from_plain_waiting(raw: str, reason: str, stuck: bool) -> None:
    assert parsers.is_stuck(raw, reason) is stuck


# --- arrays -------------------------------------------------------------------------------------------


def compact(indices: list[int]) -> str:
    """Array indices as Slurm writes them: `0-3,7`."""
    parts: list[str] = []
    for index in indices:
        first, _, last = parts[-1].partition("-") if parts else ("", "", "")
        if parts and int(last or first) == index - 1:
            parts[-1] = f"{first}-{index}"
        else:
            parts.append(str(index))
    return ",".join(parts)


index_lists = st.sets(st.integers(0, 3000), min_size=1, max_size=60).map(sorted)


@given(index_lists, st.integers(0, 9), st.booleans())
def test_index_lists_are_expanded_in_full(wanted: list[int], throttle: int, brackets: bool) -> None:
    text = compact(wanted) + (f"%{throttle}" if throttle else "")
    assert parsers.indices(f"[{text}]" if brackets else text) == wanted


def test_index_steps() -> None:
    assert parsers.indices("[0,3,7-11:2%4]") == [0, 3, 7, 9, 11]


@pytest.mark.parametrize(
    "text", ["", "1,", "a", "1-", "-1", "3-1", "0-4:0", "0,2,5...", "1 2", "0-99999999999", "٣"]
)
def test_broken_index_lists_are_not_understood(text: str) -> None:
    with pytest.raises(parsers.NotUnderstood):
        parsers.indices(text)


# --- squeue -------------------------------------------------------------------------------------------

names = st.from_regex(r"l2l-[a-z0-9-]{1,20}", fullmatch=True)
raw_states = st.sampled_from([word for words in EXPECTED.values() for word in words.split()] + ["NEW_STATE"])
lines = st.tuples(
    st.integers(1, 10**8),
    index_lists,
    st.integers(0, 9),
    raw_states,
    st.sampled_from(["None", "Resources"]),
    names,
)


@given(st.lists(lines, max_size=8, unique_by=lambda line: line[0]), names)
def test_an_answer_of_squeue_is_read_in_full(
    entries: list[tuple[int, list[int], int, str, str, str]], asked: str
) -> None:
    """Every task of every array of the names asked, nothing of other names, an entry for each name."""
    text = "".join(
        f"{job}|{compact(found)}|{restarts}|{raw}|{reason}|{name}|\n"
        for job, found, restarts, raw, reason, name in entries
    )
    wanted = {asked, *(entry[-1] for entry in entries[::2])}
    answer = parsers.queue(text, sorted(wanted))
    assert set(answer) == wanted
    got = {(w.job, w.index, w.restart, w.raw, name) for name, workers in answer.items() for w in workers}
    assert got == {
        (str(job), index, restarts, raw, name)
        for job, found, restarts, raw, _, name in entries
        if name in wanted
        for index in found
    }


@given(st.text(alphabet="0123456789|-%,N/ARUNIG l2.\n", max_size=80))
def test_garbage_from_squeue_is_an_answer_or_not_understood(text: str) -> None:
    try:
        answer = parsers.queue(text, ["l2l-a"])
    except parsers.NotUnderstood:
        return
    assert set(answer) == {"l2l-a"}


@pytest.mark.parametrize(
    "line",
    [
        "slurm_load_jobs error: Unable to contact slurm controller",
        "12|0|0|RUNNING|None",
        "12|0|0|RUNNING|None|l2l-a",  # cut off in the middle of a line: the name may go on
        "12|0,2,4...|0|PENDING|None|l2l-a|",
        "x|0|0|RUNNING|None|l2l-a|",
        "12|0||RUNNING|None|l2l-a|",
    ],
)
def test_half_an_answer_is_no_answer(line: str) -> None:
    """A line that is dropped would make a live worker look dead."""
    with pytest.raises(parsers.NotUnderstood):
        parsers.queue(f"11|0|0|RUNNING|None|l2l-a|\n{line}\n", ["l2l-a"])


def test_the_rest_of_a_cancelled_array_does_not_hide_its_first_task() -> None:
    """As seen on 22.05: what never started is one line without index, at the top."""
    text = (
        "1|N/A|0|CANCELLED|JobArrayTaskLimit|l2l-a|\n1|0|0|RUNNING|None|l2l-a|\n1|6|0|CANCELLED|None|l2l-a|\n"
    )
    found = parsers.queue(text, ["l2l-a"])["l2l-a"]
    assert [(w.index, w.state) for w in found] == [(0, "RUNNING"), (6, "CANCELLED")]


# --- sacct --------------------------------------------------------------------------------------------


def test_accounting_gives_ended_workers_only_with_their_attempts() -> None:
    text = (
        "7_0|l2l-a|COMPLETED|0:0|2026-01-01T10:00:00\n"
        "7_1|l2l-a|RUNNING|0:0|2026-01-01T10:00:00\n"
        "7_2|l2l-a|FAILED|3:0|2026-01-01T12:00:00\n"
        "7_2|l2l-a|REQUEUED|0:0|2026-01-01T11:00:00\n"
        "7_[2-4%2]|l2l-a|CANCELLED by 1001|0:0|None\n"
        "7_0|somebody|FAILED|1:0|2017-01-01T10:00:00\n"
        "8_0|l2l-a|FAILED|1:0|2026-01-01T10:00:00\n"
        "sacct: something else\n"
    )
    found = parsers.accounting(text, "l2l-a", ["7"])
    assert sorted((w.job, w.index, w.restart, w.state) for w in found) == [
        ("7", 0, 0, "COMPLETED"),
        ("7", 2, 0, "PREEMPTED"),
        ("7", 2, 1, "FAILED"),
        ("7", 3, 0, "CANCELLED"),
        ("7", 4, 0, "CANCELLED"),
    ]


def test_a_list_that_sacct_cut_off_counts_as_far_as_it_is_sure() -> None:
    found = parsers.accounting("7_[0,2,41...]|l2l-a|CANCELLED by 0|0:0|None\n", "l2l-a", ["7"])
    assert [w.index for w in found] == [0, 2]


@given(st.text(alphabet="0123456789_[]|-%,N/ARUNIG l2.:\n", max_size=120))
def test_garbage_from_sacct_ends_nobody(text: str) -> None:
    assert parsers.accounting(text, "l2l-a", ["7"]) == []


# --- sbatch -------------------------------------------------------------------------------------------


@given(
    st.integers(1, 10**9),
    st.sampled_from(["", ";cluster"]),
    st.sampled_from(["", "Welcome\n", "info: 3 things\n"]),
)
def test_an_id_with_status_zero_is_submitted(job: int, cluster: str, noise: str) -> None:
    result = parsers.submission(Ran(0, f"{noise}{job}{cluster}\n", "sbatch: a warning"), 5)
    assert (result.verdict, result.job, result.count) == ("SUBMITTED", str(job), 5)


REFUSED = "sbatch: error: Batch job submission failed: "


@pytest.mark.parametrize(
    ("err", "verdict", "temporary"),
    [
        (REFUSED + "Invalid partition name specified", "REJECTED", False),
        (REFUSED + "Invalid qos specification", "REJECTED", False),
        ("sbatch: unrecognized option '--partitoin=x'", "REJECTED", False),
        (
            "sbatch: error: QOSMaxSubmitJobPerUserLimit\n" + REFUSED + "Job violates accounting/QOS policy",
            "REJECTED",
            True,
        ),
        (
            "sbatch: error: AssocGrpSubmitJobsLimit\n" + REFUSED + "Job violates accounting/QOS policy",
            "REJECTED",
            True,
        ),
        (REFUSED + "Job violates accounting/QOS policy (job submit limit, ...)", "REJECTED", True),
        (
            "sbatch: error: QOSMaxWallDurationPerJobLimit\n" + REFUSED + "Job violates accounting/QOS policy",
            "REJECTED",
            False,
        ),
        (REFUSED + "Socket timed out on send/recv operation", "UNCERTAIN", False),
        (REFUSED + "Unable to contact slurm controller (connect failure)", "UNCERTAIN", False),
        (REFUSED + "Zero Bytes were transmitted or received", "UNCERTAIN", False),
        (REFUSED + "Resource temporarily unavailable", "UNCERTAIN", False),
        (REFUSED + "Unspecified error", "UNCERTAIN", False),
        ("", "UNCERTAIN", False),
    ],
)
def test_only_a_known_refusal_is_a_refusal(err: str, verdict: str, temporary: bool) -> None:
    result = parsers.submission(Ran(1, "", err), 1)
    assert (result.verdict, result.temporary) == (verdict, temporary)
    assert result.message


@given(st.sampled_from([None, 0, 1, 255]), st.text(alphabet="abc :\n", max_size=40), st.text(max_size=40))
def test_anything_else_is_uncertain(status: int | None, out: str, err: str) -> None:
    result = parsers.submission(Ran(status, out, err), 1)
    assert (result.verdict, result.job) == ("UNCERTAIN", None)


def test_no_answer_is_uncertain_whatever_was_printed() -> None:
    assert (
        parsers.submission(Ran(None, "12\n", REFUSED + "Invalid qos specification"), 1).verdict == "UNCERTAIN"
    )


# --- limits -------------------------------------------------------------------------------------------


@given(st.integers(0, 10**7))
def test_times_survive_slurms_notation(seconds: int) -> None:
    assert parsers.duration(commands.clock(seconds)) == seconds


@pytest.mark.parametrize("text", ["UNLIMITED", "", "12", "1-2", "NONE"])
def test_other_times_are_no_limit(text: str) -> None:
    assert parsers.duration(text) is None


def test_the_smallest_limit_on_submissions_counts() -> None:
    associations = "budget1||50\nbudget2||\nbudget3||7\n"
    assert parsers.max_submit(associations, "", None) == 7
    assert parsers.max_submit(associations, "tiny|20\n", "budget1") == 20
    assert parsers.max_submit(associations, "normal|\n", "budget2") is None


# --- builders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"extra": {"--constraint": "a\n#SBATCH --partition=b"}},
        {"extra": {"--constraint": 'a"b'}},
        {"extra": {"-C": "a"}},
        {"extra": {"--job-name": "x"}},
        {"extra": {"--clusters": "x"}},
        {"extra": ["--constraint=x"]},
        {"partition": "a\rb"},
        {"nodes": 0},
        {"time": "1h"},
        {"cpus": True},
    ],
)
def test_options_that_cannot_be_honoured_are_refused(config: dict[str, object]) -> None:
    with pytest.raises(SchedulerError, match="scheduler option"):
        commands.header(config, 60)


def test_every_option_gets_its_line() -> None:
    config = {"partition": "batch", "account": "b1", "qos": "q", "nodes": 2, "tasks": 4, "cpus": 8, "gpus": 1}
    more = {
        "memory": "4G",
        "time": 90061,
        "extra": {"--exclusive": None, "--constraint": "a&b", "--comment": "x y"},
    }
    lines = commands.header({**config, **more}, 120)
    assert all(line.startswith("#SBATCH --") for line in lines)
    assert [line.removeprefix("#SBATCH --") for line in lines] == [
        *("partition=batch", "account=b1", "qos=q", "nodes=2", "ntasks=4", "cpus-per-task=8"),
        *("gres=gpu:1", "mem=4G", "time=1-01:01:01", "signal=B:USR1@120"),
        *("no-requeue", "open-mode=append", "export=NONE"),
        *("exclusive", "constraint=a&b", 'comment="x y"'),
    ]


def test_the_accounts_own_settings_do_not_filter_the_answers() -> None:
    own = {
        "PATH": "/bin",
        "SLURM_CONF": "/x",
        "SQUEUE_PARTITION": "devel",
        "SBATCH_ARRAY_INX": "3",
        "SBATCH_ACCOUNT": "b1",
        "SBATCH_QOS": "q",
        "SLURM_BITSTR_LEN": "10",
    }
    env = commands.environment(own, {"qos": "mine"})
    assert env == {
        **{"PATH": "/bin", "SLURM_CONF": "/x", "SBATCH_ACCOUNT": "b1"},
        **{"SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard", "LC_ALL": "C"},
    }


@pytest.mark.parametrize(
    ("state", "takes"), [("UP", True), ("DOWN", True), ("DRAIN", False), ("INACTIVE", False)]
)
def test_a_partition_in_maintenance_still_takes_jobs(state: str, takes: bool) -> None:
    """DOWN queues jobs and starts none: a campaign waits for its end instead of being paused."""
    found = parsers.partitions(f"PartitionName=batch Default=YES State={state} TotalNodes=4\n")
    assert found["batch"]["takes_jobs"] is takes


@pytest.mark.parametrize(
    ("states", "out"),
    [("idle\nmixed\n", False), ("idle\ndown*\n", True), ("drained\n", True), ("alloc*\n", True), ("", False)],
)
def test_a_node_that_is_out_is_seen(states: str, out: bool) -> None:
    """Then Slurm's test of a job says "not available" of what it would queue."""
    assert parsers.any_node_out(states) is out
