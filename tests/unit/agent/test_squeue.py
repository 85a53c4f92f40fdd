# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Slurm says, as three versions really wrote it, and every decision that is taken on its strength."""

from __future__ import annotations

import time
import typing as t
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _marks, _squeue

RECORDED = Path(__file__).parent / "slurm_output"
VERSIONS = ("22.05", "24.11", "26.05")
IDENT = ["bed", "test", "h1"]
UNIT = "sciops-p-c-01234567@%d"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


def rec(token: str, slot: int, *jobs: int, **more: t.Any) -> dict:
    base = {"token": token, "component": "p/c", "slot": slot, "hash": "0123456789ab", "jobs": list(jobs)}
    return base | {"unit": UNIT % slot, "launcher": "slurm", "pid": 0, "start": 0, "boot_id": None} | more


# --- what squeue says


@pytest.mark.parametrize("version", VERSIONS)
def test_three_versions_say_the_same(version: str) -> None:
    """Running with a successor, held, ended in four ways, cancelled, completing, without a limit, never set up."""
    jobs, said = _squeue.queue(recorded(f"squeue-{version}.json"), {"deploy"})
    assert f"{said[0]}.{said[1]:02}" == version
    groups, missing = _marks.sort_out(jobs, IDENT, {}, _squeue.KEYS)
    assert missing == []
    assert {token: (group["slot"], group["verdict"]) for token, group in groups.items()} == {
        "1a-1": (1, "alive"), "1a-2": (2, "alive"), "1a-3": (3, "over"), "1a-4": (4, "over"), "1a-5": (5, "over"),
        "1a-6": (6, "alive"), "1a-7": (7, "alive"), "1a-8": (8, "over"),
    }  # fmt: skip
    first = {token: group["jobs"][0] for token, group in groups.items()}
    node = first["1a-1"]["nodes"]
    assert [job["word"] for job in groups["1a-1"]["jobs"]] == ["RUNNING", "PENDING"]
    assert _squeue.state(groups["1a-1"]) == f"RUNNING on {node}"
    assert _squeue.health(groups["1a-1"]) == ""
    assert first["1a-1"]["end"] - first["1a-1"]["start"] == 600 == 60 * first["1a-1"]["limit"]
    assert _squeue.state(groups["1a-2"]) == "PENDING: JobHeldUser"
    assert _squeue.health(groups["1a-2"]) == "held in the queue: JobHeldUser"
    assert _squeue.how_it_ended(first["1a-3"]) == "FAILED, ended with status 3"
    assert _squeue.how_it_ended(first["1a-4"]) == "FAILED, ended by signal 9"
    assert _squeue.how_it_ended(first["1a-5"]) == "CANCELLED, ended by signal 15"
    assert _squeue.state(groups["1a-6"]) == f"COMPLETING on {node}"
    assert first["1a-7"]["limit"] is None
    assert "Slurm could not set it up" in _squeue.how_it_ended(first["1a-8"])
    # of another site, deployment or host: nothing is ours
    for other in (["bed", "test", "h2"], ["bed", "prod", "h1"], ["x", "test", "h1"]):
        assert _marks.sort_out(jobs, other, {}, _squeue.KEYS) == ({}, [])
    # 22.05 writes the jobs of everybody
    assert _squeue.queue(recorded(f"squeue-{version}.json"), {"somebody"})[0] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (recorded("squeue-22.05-down.json"), "Failed while looking for jobs"),
        ("", "no JSON"),
        ("slurm_load_jobs error", "no JSON"),
        ("[]", "without jobs"),
        ('{"jobs": {}}', "without jobs"),
        ('{"jobs": [{"job_id": 1}]}', "not understood"),
        ('{"jobs": [{"job_id": "1", "name": "x", "job_state": ["RUNNING"]}]}', "not understood"),
        ('{"jobs": [{"job_id": 1, "name": "x", "job_state": 7}]}', "not understood"),
        ('{"jobs": [{"job_id": 1, "name": "x", "job_state": [7]}]}', "not understood"),
        ('{"jobs": [3]}', "not understood"),
        ('{"jobs": [], "errors": [{"error": "Protocol authentication error"}]}', "authentication"),
    ],
)
def test_what_is_no_queue_is_never_an_empty_one(text: str, words: str) -> None:
    with pytest.raises(_squeue.Garbled, match=words):
        _squeue.queue(text)


@given(st.integers(0, 2**31), st.booleans())
def test_numbers_of_all_versions(value: int, infinite: bool) -> None:
    assert _squeue.number(value) == value
    assert _squeue.number({"set": True, "infinite": False, "number": value}) == value
    assert _squeue.number({"set": False, "infinite": infinite, "number": value}) is None
    assert _squeue.number({"set": True, "infinite": True, "number": value}) is None
    for none in (None, "7", True, [], {"set": True}, 0xFFFFFFFE, 0xFFFFFFFF):
        assert _squeue.number(none) is None


WORDS = st.sampled_from(sorted(_squeue.ALIVE | _squeue.OVER) + ["QUANTUM", "", "running"])


@given(st.lists(WORDS, max_size=4))
def test_a_word_that_is_not_in_the_table_never_means_over(words: list[str]) -> None:
    told = _squeue.verdict(words)
    assert (told == "alive") == bool(set(words) & _squeue.ALIVE)
    assert (told == "over") == (bool(words) and set(words) <= _squeue.OVER)
    assert not _squeue.ALIVE & _squeue.OVER


NAMES = st.text("abcXYZ019._-/ü", min_size=1, max_size=12)


@given(st.lists(NAMES, min_size=3, max_size=3), NAMES, st.integers(0, 9999), NAMES)
def test_a_comment_says_whose_a_job_is(ident: list[str], component: str, slot: int, token: str) -> None:
    text = _marks.mark(ident, {"component": component, "slot": slot, "hash": "00ff", "token": token})
    assert _marks.named(text, ident) == {"component": component, "slot": slot, "hash": "00ff", "token": token}
    assert _marks.named(text, [*ident[:2], ident[2] + "x"]) is None
    assert _marks.named("x" + text, ident) is None
    assert _marks.named(text + " y", ident) is None


JOBS = st.lists(
    st.builds(
        dict,
        job_id=st.integers(1, 6),
        name=st.sampled_from([UNIT % 1, UNIT % 2, "other"]),
        job_state=st.lists(WORDS, min_size=1, max_size=2),
        comment=st.sampled_from(["", "what ever", *(_marks.mark(IDENT, rec(f"1a-{n}", n)) for n in (1, 2))]),
    ),
    max_size=6,
    unique_by=lambda job: job["job_id"],
)
RECORDS = st.dictionaries(st.sampled_from([1, 2]), st.lists(st.integers(1, 6), max_size=2, unique=True))


@given(JOBS, RECORDS)
def test_nothing_that_is_recorded_is_lost(raw: list[dict], numbers: dict) -> None:
    """Every record is explained by a job with its words or its number and name, or missing; never both, never none."""
    records = {f"1a-{n}": rec(f"1a-{n}", n, *jobs) for n, jobs in numbers.items()}
    jobs = [_squeue.job(one) for one in raw]
    groups, missing = _marks.sort_out(jobs, IDENT, records, _squeue.KEYS)
    for token, record in records.items():
        group = groups.get(token)
        if token in missing:
            assert group is None or group["verdict"] == "over"
        else:
            assert group is not None
            known = record["jobs"]
            assert group["verdict"] != "over" or not known or known[-1] in [job["id"] for job in group["jobs"]]
    for token, group in groups.items():
        assert group["jobs"]
        for job in group["jobs"]:
            said = _marks.named(job["comment"], IDENT)
            named = said and said["token"] == token
            assert named or (job["id"] in records[token]["jobs"] and job["name"] == records[token]["unit"])
        alive = [job for job in group["jobs"] if job["verdict"] == "alive"]
        assert (group["verdict"] == "alive") == bool(alive)
        if alive:
            assert group["jobs"][0] in alive
            # what runs comes before what waits
            assert group["jobs"][0]["waits"] == all(job["waits"] for job in alive)


def test_the_number_of_a_job_is_no_proof_without_its_name() -> None:
    """A slurmctld that lost its state counts from 1 again: another's job 7 is not ours."""
    raw = {"job_id": 7, "name": "other", "job_state": ["RUNNING"], "comment": ""}
    groups, missing = _marks.sort_out([_squeue.job(raw)], IDENT, {"1a-1": rec("1a-1", 1, 7)}, _squeue.KEYS)
    assert groups == {} and missing == ["1a-1"]


def group(*jobs: dict) -> dict:
    base = {"job_id": 1, "name": "x", "comment": "", "nodes": "n1"}
    made = [_squeue.job(base | job) for job in jobs]
    return {"jobs": made, "verdict": "alive"}


def test_health_speaks_only_where_something_is_wrong() -> None:
    for words, reason, health in (
        (["PENDING"], "Priority", ""),
        (["PENDING"], "Resources", ""),
        (["PENDING"], "JobHeldAdmin", "held in the queue: JobHeldAdmin"),
        (["PENDING"], "launch failed requeued held", "held in the queue: launch failed requeued held"),
        (["PENDING"], "PartitionTimeLimit", "cannot run as it was asked for: PartitionTimeLimit"),
        (["RUNNING"], "None", ""),
        (["SUSPENDED"], "None", "suspended by Slurm or an operator"),
        (["RUNNING", "CONFIGURING"], "None", ""),
    ):
        assert _squeue.health(group({"job_state": words, "state_reason": reason})) == health


def test_renewal() -> None:
    runs = {"job_state": ["RUNNING"], "start_time": 1000, "end_time": 4600, "time_limit": 60}
    assert _squeue.renewal(group(runs), 600, 3900) == ""
    assert _squeue.renewal(group(runs), 600, 4100) == "its time is over in 500 s, and no job waits to take over"
    assert _squeue.renewal(group(runs), 0, 4100) == ""
    assert _squeue.renewal(group(runs, {"job_id": 2, "job_state": ["PENDING"]}), 600, 4100) == ""
    assert _squeue.renewal(group(runs | {"time_limit": {"set": False, "infinite": True}}), 600, 4100) == ""
    assert _squeue.renewal(group(runs | {"job_state": ["PENDING"]}), 600, 4100) == ""
    assert _squeue.renewal(group(runs | {"job_state": ["TIMEOUT", "COMPLETING"]}), 600, 4100) == ""


# --- reservations


@pytest.mark.parametrize("version", VERSIONS)
def test_reservations_as_three_versions_write_them(version: str) -> None:
    text = recorded(f"reservations-{version}.txt")
    found = _squeue.reservations(text, ["login", "workflow"])
    assert [name for _start, _end, name in found] == ["now_workflow", "login_fix"]
    now = found[0][0] + 1
    # the next one counts, and not the first that is listed, nor the one that is under way
    assert _squeue.before(found, now, limit=10**7) == (480, "waits for the end of reservation now_workflow")
    assert _squeue.before(_squeue.reservations(text, ["nothing"]), now) == (None, "")
    assert _squeue.reservations("No reservations in the system\n", ["login"]) == []


def test_words_are_those_of_name_and_flags_not_of_who_may_use_it() -> None:
    line = "ReservationName={} StartTime=1 EndTime=9 Nodes=login[1-2] PartitionName=login Flags={} {} State=LOGIN\n"
    others = line.format("training", "SPEC_NODES", "Users=workflow_admin Accounts=login_course")
    text = others + line.format("login_fix", "", "Users=root") + line.format("outage", "MAINT,FLEX", "Users=root")

    def found(*words: str) -> list[str]:
        return sorted(name for _start, _end, name in _squeue.reservations(text, words))

    assert found("login", "workflow", "Reservation", "Users") == ["login_fix"]
    assert found("MAINT") == ["outage"]
    assert found("") == ["login_fix", "outage", "training"]
    assert found() == []


def test_reservations_in_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        local = _squeue.reservations(recorded("reservations-26.05-iso.txt"), [""])
        assert local == _squeue.reservations(recorded("reservations-26.05.txt"), [""])
        assert len(local) == 3
    finally:
        monkeypatch.undo()
        time.tzset()


def test_w9_time_before_a_reservation() -> None:
    """W9: in 10 h: 480 minutes; in 1 h: none, and the job waits."""
    for late in (0, 1, 20):
        assert _squeue.before([(36000, 40000, "login")], late, limit=90 * 86400) == (480, "")
        # without a walltime there is nothing to cut
        assert _squeue.before([(36000, 40000, "login")], late) == (None, "")
    assert _squeue.before([(3600, 7200, "login")], 0) == (None, "waits for the end of reservation login")
    # one that is over by then does not wait
    assert _squeue.before([(3600, 7200, "login")], 0, limit=1800) == (None, "")
    assert _squeue.before([(36000, 40000, "login")], 0, margin=0, limit=90 * 86400) == (600, "")
    assert _squeue.before([(3600, 7200, "login")], 5000) == (None, "waits for the end of reservation login")
    assert _squeue.before([], 0) == (None, "")


@given(
    st.lists(st.tuples(st.integers(-(10**6), 10**6), st.integers(0, 10**5)), max_size=5),
    st.integers(0, 90000),
    st.none() | st.integers(60, 10**7),
)
def test_what_fits_before_a_reservation_ends_before_it(spans: list, margin: int, limit: int | None) -> None:
    found = sorted((start, start + length, f"r{start}") for start, length in spans)
    minutes, _waits = _squeue.before(found, 0, margin, limit)
    ahead = [start for start, _end, _name in found if start > 0]
    if minutes is not None:
        assert minutes > 0
        # half a minute is what rounding gives and takes
        assert minutes * 60 <= min(ahead) - margin + 30
        assert limit is not None and minutes * 60 < limit


# --- sbatch


def test_the_command_line_of_sbatch() -> None:
    options = {"partition": "cron", "account": None, "qos": "workflow", "cpus": 16, "memory": 3 * 1048576 + 1}
    options |= {"time": 90 * 86400, "handover": 600, "arguments": ["--gres=gpu:1"]}
    words = _squeue.submit_words("unit@1", "the comment", "/logs/50%j.log", options, 480, (24, 11))
    assert words == [
        "sbatch", "--parsable", "--job-name=unit@1", "--comment=the comment", "--dependency=singleton", "--no-requeue",
        "--export=NIL", "--open-mode=append", "--output=/logs/50%%j.log", "--chdir=/", "--nodes=1", "--ntasks=1",
        "--partition=cron", "--qos=workflow", "--cpus-per-task=16", "--mem=4M", "--time=129600", "--time-min=480",
        "--gres=gpu:1",
    ]  # fmt: skip
    # what 22.05 does not know would make it run a login shell on the node
    assert "--export=ALL" in _squeue.submit_words("u", "c", "/l", {}, None, (22, 5))
    assert _squeue.faults(options) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"queue": "x"}, "options.slurm.queue: is no option of Slurm here"),
        ({"arguments": ["script.sh"]}, "must be one option of sbatch in one word"),
        ({"arguments": ["--gres", "gpu"]}, "'gpu': must be one option"),
        ({"arguments": ["--job-name=x"]}, "--job-name is set by the launcher"),
        ({"arguments": ["-Jx"]}, "-J is set by the launcher"),
        ({"arguments": ["--wrap=true"]}, "--wrap is set by the launcher"),
        ({"arguments": ["--nice=1\n--wrap=x"]}, "must be one option"),
    ],
)
def test_options_that_are_refused(options: dict, words: str) -> None:
    assert words in "; ".join(_squeue.faults(options))


def test_answers_of_sbatch() -> None:
    assert _squeue.submitted("4711\n") == 4711
    assert _squeue.submitted("4711;cluster\n") == 4711
    assert _squeue.submitted("a word of the site\n12\n") == 12
    assert _squeue.submitted("") is _squeue.submitted("Submitted batch job 5\n") is None
    bad = (
        "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: Invalid partition\n"
    )
    said = "invalid partition specified: x Batch job submission failed: Invalid partition"
    assert _squeue.refusal(bad) == (said, True)
    lost = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"
    assert _squeue.refusal(lost)[1] is False


# --- what a slurmctld may have forgotten


@pytest.mark.parametrize("version", VERSIONS)
def test_a_slurmctld_that_was_just_started_proves_no_absence(version: str) -> None:
    said = _squeue.controller(recorded(f"config-{version}.txt"))
    assert said["slurmd_timeout"] == 300
    assert 0 < said["as_of"] - said["boot"] < 100
    assert said["accounting"] is (version == "24.11")
    assert "was started" in _squeue.forgetful(said, "idle\n")
    old = dict(said, boot=said["as_of"] - 310)
    assert _squeue.forgetful(old, "idle\nmixed\ndown*\n") == ""
    assert "not all nodes" in _squeue.forgetful(old, "idle\nunknown*\n")
    assert "no node" in _squeue.forgetful(old, "")
    assert "does not say" in _squeue.forgetful(_squeue.controller(""), "idle\n")


def test_what_the_accounting_knows() -> None:
    text = recorded("sacct-24.11.txt")
    numbers = [int(line.split("|")[0]) for line in text.splitlines()]
    units = {number: UNIT % (i + 1) for i, number in enumerate(numbers)}
    names = {int(line.split("|")[0]): line.split("|")[2] for line in text.splitlines()}
    assert _squeue.accounted(text, names)[numbers[1]] == "FAILED"
    assert set(_squeue.accounted(text, names)) == set(numbers)
    assert set(_squeue.accounted(text, units)) < set(numbers), "another job of that number says nothing"
    assert _squeue.accounted("1|CANCELLED by 1000|x\n2|RUNNING|x\n", {1: "x", 2: "x"}) == {1: "CANCELLED"}
