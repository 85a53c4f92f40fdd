# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What HTCondor says, as two versions really wrote it, and every decision that is taken on its strength."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _classad, _condorq, _marks

RECORDED = Path(__file__).parent / "condor_output"
VERSIONS = ("23.9", "25.14")
IDENT = ["bed", "test", "h1"]
UNIT = "sciops-p-c-01234567@%d"


def recorded(name: str, version: str, users: set[str] | None = None) -> list[dict]:
    return _condorq.jobs((RECORDED / f"{name}-{version}.json").read_text(), users)


def rec(token: str, slot: int, *jobs: int, **more: t.Any) -> dict:
    base = {"token": token, "component": "p/c", "slot": slot, "hash": "0123456789ab", "jobs": list(jobs)}
    return base | {"unit": UNIT % slot, "launcher": "htcondor", "asked": 1000, "options": {}} | more


def made(**more: t.Any) -> dict:
    """A job of ours that runs."""
    mark = _marks.mark(IDENT, rec("1a-1", 1))
    ad = {"ClusterId": 7, "ProcId": 0, "JobStatus": 2, "Owner": "deploy", "JobBatchName": UNIT % 1}
    ad |= {"SciopsSites": mark, "QDate": 1000, "RemoteHost": "slot1_1@n1", "JobCurrentStartExecutingDate": 1010}
    return ad | more


def group(*ads: dict) -> dict:
    groups, _missing = _marks.sort_out(_condorq.jobs(json.dumps(ads)), IDENT, {})
    assert len(groups) == 1
    return next(iter(groups.values()))


# --- what condor_q says


@pytest.mark.parametrize("version", VERSIONS)
def test_two_versions_say_the_same(version: str) -> None:
    """Running with a successor, held by hand and by a node, being removed, begun over and over, and waiting."""
    jobs = recorded("condor_q", version, {"deploy"})
    groups, missing = _marks.sort_out(jobs, IDENT, {})
    assert missing == []
    assert {token: [job["word"] for job in group["jobs"]] for token, group in groups.items()} == {
        "1a-1": ["RUNNING", "IDLE"], "1a-2": ["HELD"], "1a-5": ["REMOVED"], "1a-6": ["IDLE"], "1a-7": ["IDLE"],
        "1a-8": ["HELD"],
    }  # fmt: skip
    # being removed is not being gone
    assert {group["verdict"] for group in groups.values()} == {"alive"}
    assert {token: group["slot"] for token, group in groups.items()} == {f"1a-{n}": n for n in (1, 2, 5, 6, 7, 8)}
    now = max(job["entered"] for job in jobs) + 5
    states = {token: _condorq.state(group, now) for token, group in groups.items()}
    assert states["1a-1"] == "RUNNING on slot1_1@h1"
    assert states["1a-2"] == "HELD: via condor_hold (by user deploy)"
    assert states["1a-5"].startswith("REMOVED on slot1_")
    assert states["1a-7"] == "IDLE: no match found"
    health = {token: _condorq.health(group, now) for token, group in groups.items()}
    assert {token for token, words in health.items() if not words} == {"1a-1", "1a-5", "1a-7"}
    assert health["1a-2"] == "held in the queue: via condor_hold (by user deploy)"
    assert "Failed to open '/nowhere/out' as standard output: No such file or directory" in health["1a-8"]
    age = now - groups["1a-6"]["jobs"][0]["submit"]
    assert health["1a-6"].startswith(f"a crash loop: HTCondor began it 3 times in {age} s")
    waits = groups["1a-1"]["jobs"][1]
    assert _condorq.state(dict(groups["1a-1"], jobs=[waits]), now) == (
        f"IDLE: it begins when the job before it is over, in {waits['after'] - now} s at the latest"
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_jobs_of_others_with_our_mark_are_not_ours(version: str) -> None:
    """Anybody can write any mark into a job; whose it is says the schedd."""
    everybody, mine = recorded("condor_q", version), recorded("condor_q", version, {"deploy"})
    assert {job["user"] for job in everybody} == {"deploy", "jadelta"}
    assert {job["user"] for job in mine} == {"deploy"}
    assert recorded("condor_q", version, set()) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_history_proves(version: str) -> None:
    past = {job["mark"].split(" ")[-1]: [job] for job in recorded("condor_history", version, {"deploy"})}
    assert set(past) == {"1a-3", "1a-4", "1a-9"}
    number = {token: jobs[0]["id"] for token, jobs in past.items()}
    now = past["1a-9"][0]["entered"] + 100
    found = {token: _condorq.absence(rec(token, 1, number[token]), past[token], None, now) for token in past}
    assert found["1a-3"] == ("over", f"job {number['1a-3']}: COMPLETED, ended with status 3")
    assert found["1a-4"] == ("over", f"job {number['1a-4']}: ended by signal 9")
    # -forcex: HTCondor has not heard that it ended, and says so to who did it only
    kind, words = found["1a-9"]
    assert kind == "doubt" and "forced out of the queue while it ran on slot1_" in words
    assert f"{1200 + _condorq.SLACK - 100} s" in words
    later = _condorq.absence(rec("1a-9", 9, number["1a-9"]), past["1a-9"], None, now + 1200)
    assert later == ("over", f"job {number['1a-9']}: removed: via condor_rm -forcex (by user deploy)")


def test_no_jobs_are_an_empty_answer() -> None:
    """condor_q writes nothing where there is no job, condor_history an empty list."""
    assert _condorq.jobs("") == _condorq.jobs("\n") == _condorq.jobs("[\n]\n") == []


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[\n{\n",
        "{}",
        "null",
        "-- Failed to fetch ads",
        '[{"JobStatus": 2}]',
        '[{"ClusterId": 1}]',
        '[{"ClusterId": "1", "JobStatus": 2}]',
        '[{"ClusterId": 1, "JobStatus": null}]',
        '[{"ClusterId": true, "JobStatus": 2}]',
        "[1]",
    ],
)
def test_a_torn_answer_is_no_empty_queue(text: str) -> None:
    with pytest.raises(_condorq.Garbled):
        _condorq.jobs(text)


def test_a_state_that_nobody_knows_is_unknown() -> None:
    one = group(made(JobStatus=9))
    assert one["verdict"] == "unknown" and one["jobs"][0]["word"] == "JobStatus 9"


@given(st.integers(0, 12), st.booleans())
def test_only_a_job_that_completed_is_over_in_the_queue(status: int, kept: bool) -> None:
    """Also where something keeps it there; whatever else is there has a place, or nobody knows."""
    one = group(made(JobStatus=status, LeaveJobInQueue=kept))
    assert (one["verdict"] == "over") == (status == 4)
    assert (one["verdict"] == "unknown") == (status not in range(1, 8))


def test_a_mark_that_was_taken_away() -> None:
    """The job is known by its number and unit; the number alone may be another's after a queue was lost."""
    records = {"1a-1": rec("1a-1", 1, 7)}
    bare = {key: value for key, value in made().items() if key != "SciopsSites"}
    groups, missing = _marks.sort_out(_condorq.jobs(json.dumps([bare])), IDENT, records)
    assert list(groups) == ["1a-1"] and missing == []
    bare["JobBatchName"] = "somebody else's"
    assert _marks.sort_out(_condorq.jobs(json.dumps([bare])), IDENT, records) == ({}, ["1a-1"])


def test_marks_of_other_sites_are_not_ours() -> None:
    mark = _marks.mark(IDENT, rec("1a-1", 1))
    assert _marks.named(mark, IDENT) == {"component": "p/c", "slot": 1, "hash": "0123456789ab", "token": "1a-1"}
    for other in (["bed", "test", "h2"], ["bed", "prod", "h1"], ["b", "test", "h1"]):
        assert _marks.named(mark, other) is None
    for broken in ("", "x " + mark, mark + " x", mark.replace(" 1 ", " one ")):
        assert _marks.named(broken, IDENT) is None


def test_a_completed_job_in_the_queue_explains_its_record() -> None:
    """With on_exit_remove it leaves at once; where a transform of the schedd keeps it, it is over all the same."""
    ads = [made(JobStatus=4, ExitCode=3), made(ClusterId=8, JobStatus=1)]
    groups, missing = _marks.sort_out(_condorq.jobs(json.dumps(ads)), IDENT, {"1a-1": rec("1a-1", 1, 7, 8)})
    assert missing == [] and groups["1a-1"]["verdict"] == "alive"
    assert [job["id"] for job in _marks.living(groups["1a-1"])] == [8]
    groups, missing = _marks.sort_out(_condorq.jobs(json.dumps(ads[:1])), IDENT, {"1a-1": rec("1a-1", 1, 7, 8)})
    assert missing == ["1a-1"], "its successor is not explained"


# --- what is not in the queue any more


def test_a_schedd_that_was_up_all_the_time_has_lost_nothing() -> None:
    record = rec("1a-1", 1, 7, asked=1000)
    assert _condorq.absence(record, [], 900, 1100)[0] == "over"
    kind, why = _condorq.absence(record, [], 1050, 1100)
    assert kind == "doubt" and "the schedd was started 50 s ago: that proves nothing" in why
    assert _condorq.absence(record, [], None, 10**9)[0] == "doubt"
    # whose clock is another's
    assert _condorq.absence(record, [], 990, 1100, skew=30)[0] == "doubt"
    assert _condorq.absence(record, [], 960, 1100, skew=30)[0] == "over"


@given(st.integers(20, 5000), st.integers(0, 10000), st.integers(0, 20000))
def test_a_restarted_schedd_proves_no_absence_before_the_lease_is_over(lease: int, started: int, age: int) -> None:
    record = rec("1a-1", 1, 7, asked=1000, options={"lease": lease})
    kind, _why = _condorq.absence(record, [], 1000 + started, 1000 + started + age)
    assert (kind == "over") == (age > lease + _condorq.SLACK)


def test_the_history_must_have_all_jobs_of_a_record() -> None:
    old = _condorq.jobs(json.dumps([made(JobStatus=4, RemoteHost=None)]))
    assert _condorq.absence(rec("1a-1", 1, 7), old, None, 2000)[0] == "over"
    assert _condorq.absence(rec("1a-1", 1, 7, 8), old, None, 2000)[0] == "doubt"
    # a submission whose reply was lost, and whose job is over already
    assert _condorq.absence(rec("1a-1", 1), old, None, 2000) == ("over", "job 7: COMPLETED")


def test_a_walltime_that_was_over_is_told() -> None:
    record = rec("1a-1", 1, 7, options={"time": 600})
    for entered, words in ((1599, ""), (1600, "its time is over: "), (1700, "its time is over: ")):
        ad = made(
            JobStatus=4,
            RemoteHost=None,
            JobCurrentStartExecutingDate=1000,
            EnteredCurrentStatus=entered,
            ExitBySignal=True,
            ExitSignal=15,
        )
        past = _condorq.jobs(json.dumps([ad]))
        assert _condorq.absence(record, past, None, 2000) == ("over", f"job 7: {words}ended by signal 15")


# --- in words


def test_how_it_ended() -> None:
    def how(**more: t.Any) -> str:
        return _condorq.how_it_ended(group(made(JobStatus=4, **more))["jobs"][0])

    assert how(ExitCode=0) == "COMPLETED"
    assert how(ExitCode=3) == "COMPLETED, ended with status 3"
    assert how(ExitBySignal=True, ExitSignal=15) == "ended by signal 15"
    assert how(ExitCode=73) == "COMPLETED, ended with status 73: its log cannot be written on its node"
    assert "does not see the state folder" in how(ExitCode=2)
    assert how(ExitBySignal=False, ExitSignal=9, ExitCode=0) == "COMPLETED"


def test_what_is_wrong_with_what_runs() -> None:
    assert _condorq.health(group(made()), 5000) == ""
    assert _condorq.health(group(made(JobStatus=7)), 5000) == "suspended by HTCondor or an operator"
    words = _condorq.health(group(made(JobCurrentReconnectAttempt=2, JobLeaseDuration=1200)), 5000)
    assert words == "its node does not answer; HTCondor asks it until the lease of 1200 s is over"
    assert _condorq.health(group(made(JobCurrentReconnectAttempt=None)), 5000) == ""


@given(st.integers(0, 50), st.integers(0, 10**6))
def test_a_crash_loop_is_many_starts_in_a_short_time(begun: int, age: int) -> None:
    words = _condorq.health(group(made(NumShadowStarts=begun, NumVacatesByReason={"X": begun})), 1000 + age)
    assert bool(words) == (begun >= 3 and age < begun * 600)
    assert not words or words == f"a crash loop: HTCondor began it {begun} times in {age} s (X)"


# --- walltime


OPTIONS = {"time": 600, "handover": 60}


def test_a_successor_is_asked_for_once_and_in_time() -> None:
    one = group(made())
    assert _condorq.renewal(one, OPTIONS, 1549) == ""
    assert _condorq.renewal(one, OPTIONS, 1551) == "its time is over in 59 s, and no job waits to take over"
    assert _condorq.renewal(one, {}, 1551) == ""
    # not known since when it runs: nothing can be counted from there
    assert _condorq.renewal(group(made(JobCurrentStartExecutingDate=None)), OPTIONS, 1551) == ""
    waits = made(ClusterId=8, JobStatus=1, SciopsSitesAfter=1650, QDate=1551)
    assert _condorq.renewal(group(made(), waits), OPTIONS, 1560) == ""


def test_a_successor_that_waits_for_nothing_may_begin() -> None:
    waits = group(made(JobStatus=1, SciopsSitesAfter=1650))
    assert _condorq.renewal(waits, OPTIONS, 1600) == "the job before it is over, and it may begin"
    assert _condorq.renewal(waits, OPTIONS, 1650) == ""
    assert _condorq.renewal(group(made(JobStatus=5, SciopsSitesAfter=1650)), OPTIONS, 1600) == ""


# --- what condor_submit is told


def lines(**options: t.Any) -> dict[str, str]:
    more = {key: options.pop(key) for key in ("singleton", "after") if key in options}
    text = _condorq.description(UNIT % 1, "a mark", ["/s/x.sh", "1a-1"], 2.5, options, **more)
    body, end = text.rsplit("\n", 2)[:2]
    assert end == "queue 1"
    return dict(line.split(" = ", 1) for line in body.split("\n"))


def test_the_description_of_a_job() -> None:
    told = lines(cpus=2, memory=3 << 20, disk=1, gpus=1, requirements="HasIt || true", filesystem_domain="home")
    wanted = {"arguments": '"/s/x.sh 1a-1"', "request_cpus": "2", "request_memory": "3", "request_disk": "1"}
    wanted |= {"request_gpus": "1", "requirements": "(HasIt || true)", "MY.FileSystemDomain": '"home"'}
    wanted |= {"MY.SciopsSites": '"a mark"', "output": "/dev/null", "should_transfer_files": "NO"}
    wanted |= {"job_max_vacate_time": "3", "job_lease_duration": "1200", "on_exit_remove": "true"}
    wanted |= {"periodic_remove": "false", "periodic_release": "false", "getenv": "false"}
    assert wanted.items() <= told.items()
    assert "rank" not in told


def test_what_is_not_to_run_twice() -> None:
    """A singleton, what has a successor, and what is not to be begun again: neither matched nor kept after one try."""
    for options in ({"singleton": True}, {"requeue": False}, {"time": 600, "handover": 60}):
        told = lines(**options)
        assert "((MY.NumShadowStarts ?: 0) == 0)" in told["requirements"], options
        assert "(JobStatus == 1 && (NumShadowStarts ?: 0) > 0)" in told["periodic_remove"], options
    assert "time() >= MY.SciopsSitesAfter" in told["requirements"]
    assert "requirements" not in lines()
    assert lines(time=600, handover=60, after=77)["MY.SciopsSitesAfter"] == "77"


def test_when_a_job_leaves_the_queue_by_itself() -> None:
    told = lines(singleton=True, time=600, hold_limit=50)
    assert told["periodic_remove"].count("||") == 2
    assert "JobStatus == 5 && time() - EnteredCurrentStatus > 50" in told["periodic_remove"]
    assert lines(time=0)["periodic_remove"] == "false"


@pytest.mark.parametrize(
    ("before", "words"),
    [(1, "is not to run twice"), (2, "its time is over"), (5, "longer than hold_limit"), (7, "The job attribute")],
)
def test_why_a_rule_of_ours_removed_it(before: int, words: str) -> None:
    reason = "The job attribute PeriodicRemove expression '(JobStatus == 1)' evaluated to TRUE"
    (one,) = _condorq.jobs(json.dumps([made(JobStatus=3, LastJobStatus=before, RemoveReason=reason)]))
    assert words in _condorq.how_it_ended(one)
    (one,) = _condorq.jobs(json.dumps([made(JobStatus=3, LastJobStatus=1, RemoveReason="via condor_rm")]))
    assert _condorq.how_it_ended(one) == "removed: via condor_rm"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Universe", "local", "is set by the launcher"),
        ("+SciopsSites", '"x"', "is set by the launcher"),
        ("MY.LeaveJobInQueue", "true", "is set by the launcher"),
        ("queue", "2", "is set by the launcher"),
        ("x y", "1", "must be one command"),
        ("a\n", "1", "must be one command"),
        ("concurrency_limits", "a\nqueue 3", "must be one command"),
        ("include", "/etc/passwd", ""),
        ("concurrency_limits", "tape:1", ""),
        ("+MaxRuntime", 3600, ""),
    ],
)
def test_what_a_site_may_add(name: str, value: t.Any, words: str) -> None:
    found = _condorq.faults({"submit": {name: value}})
    assert bool(found) == bool(words) and all(words in one for one in found)
    if not words:
        assert lines(submit={name: value})[name] == str(value)


def test_options_that_nobody_knows() -> None:
    assert _condorq.faults({"cpu": 1}) == ["options.htcondor.cpu: is no option of HTCondor here"]
    assert _condorq.faults(dict.fromkeys(_condorq.OPTIONS)) == []


@given(st.text(st.characters(exclude_characters="\0\\\r\n$", exclude_categories=["Cs"])))
def test_no_mark_leaves_its_line(text: str) -> None:
    """Whatever a name holds, it is one string of the ad, and adds no command."""
    told = _condorq.description(UNIT % 1, text, ["/s/x.sh", "1a-1"], 1, {})
    (line,) = [line for line in told.split("\n") if line.startswith("MY.SciopsSites = ")]
    assert _classad.unquote(line.split(" = ", 1)[1]) == text
    assert sum(line.startswith("queue") for line in told.split("\n")) == 1


def test_constraints() -> None:
    jobs = _condorq.jobs(json.dumps([made(), made(ClusterId=9, QDate=4)]))
    assert _condorq.exactly(jobs) == (
        "(ClusterId == 7 && ProcId == 0 && QDate == 1000) || (ClusterId == 9 && ProcId == 0 && QDate == 4)"
    )
    assert _condorq.any_of("Owner", []) == "(false)"
    assert _condorq.any_of("Owner", {'b"', "a"}) == '(Owner == "a" || Owner == "b\\"")'


@pytest.mark.parametrize(
    ("text", "number"),
    [("12.0 - 12.0\n", 12), ("WARNING: x\n7.0 - 7.0", 7), ("", None), ("1 job(s) submitted to cluster 3.", None)],
)
def test_the_number_of_a_submission(text: str, number: int | None) -> None:
    assert _condorq.submitted(text) == number


@pytest.mark.parametrize(
    ("text", "said", "sure"),
    [
        ("\nERROR: No such directory: /x\n", "No such directory: /x", True),
        (
            "\nERROR: Failed to connect to local queue manager\nSECMAN:2011:Connection closed during command "
            "authorization. Probably due to an unknown command.\n",
            "Failed to connect to local queue manager",
            True,
        ),
        ("ERROR: Failed to commit job submission into the queue.\n", "Failed to commit", False),
        (
            "ERROR: Failed to commit job submission into the queue.\nERROR: Submit requirement A not met.\n",
            "requirement A not met",
            True,
        ),
        ("", "no words", True),
    ],
)
def test_whether_a_refusal_is_one(text: str, said: str, sure: bool) -> None:
    words, found = _condorq.refusal(text)
    assert said in words and found is sure
