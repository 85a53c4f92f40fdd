# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher htcondor over a stub: what no real schedd does on demand. The rest is in tests/integration."""

from __future__ import annotations

import ast
import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.sciops.sites.plugins.module_utils import _htcondor, _jobqueue, _probe, _queued
from ansible_collections.sciops.sites.plugins.plugin_utils import _wire

from . import queue_bed
from .conftest import SOURCES


class Bed(queue_bed.Bed):
    """A schedd of one file, and one host of a site that submits there."""

    launcher = "htcondor"
    stub = "condor_stub.py"
    programs = ("condor_submit", "condor_q", "condor_rm", "condor_history", "condor_qedit", "condor_config_val")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.up(100000)
        self.set(past=[])

    def up(self, seconds: float) -> None:
        """The schedd was started so many seconds ago."""
        (self.bin / "schedd_address").touch()
        os.utime(self.bin / "schedd_address", (time.time() - seconds,) * 2)


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bed:
    made = Bed(tmp_path)
    monkeypatch.setattr(_jobqueue, "PATHS", str(made.bin))
    monkeypatch.setattr(_queued, "POLL", 0.1)
    # HTCondor runs no job of root, and the machine of a test may be root's
    monkeypatch.setattr(_htcondor, "ROOT", -1)
    monkeypatch.setenv("_CONDOR_SCHEDD_HOST", "wrong")
    return made


def test_one_job_one_submission_and_one_query(bed: Bed) -> None:
    assert {one["outcome"] for one in bed.work(*(bed.action(slot=slot) for slot in (1, 2, 3)))} == {"started"}
    (bed.bin / "calls.jsonl").unlink()
    rows = bed.observe()["rows"]
    assert [(row["slot"], row["pid"], row["state"], row["health"]) for row in rows] == [
        (n, 40 + n, "RUNNING on slot1_1@n1", "") for n in (1, 2, 3)
    ]
    assert len(bed.calls("condor_q")) == 1 and not bed.calls("condor_history")
    bed.job(JobStatus=1)
    again = bed.work(bed.action())[0]
    assert (again["outcome"], again["pid"]) == ("already", 41) and "IDLE" in again["message"]
    assert not bed.calls("condor_submit")
    assert bed.observe()["rows"][0]["age"] == 0


def test_nothing_secret_and_nothing_of_the_caller_reaches_condor(bed: Bed) -> None:
    token = bed.start(secrets={"PASSWORD": {"value": "h0t sauce"}}, environment={"PLAIN": "visible"})
    ((words, env, text),) = bed.calls("condor_submit")
    (script,) = (bed.folder / "managed/htcondor").glob("*.sh")
    for one in (json.dumps(words), json.dumps(env), text, script.read_text(), json.dumps(bed.record(token))):
        assert "h0t sauce" not in one and "visible" not in one
    assert not [name for name in env if name.startswith("_CONDOR_")]
    (spec,) = (bed.folder / "managed/htcondor").glob("*.json")
    assert "h0t sauce" in spec.read_text()
    assert spec.stat().st_mode & 0o777 == 0o600 and spec.parent.stat().st_mode & 0o777 == 0o700


def test_describe_says_what_start_writes_but_for_secrets(bed: Bed) -> None:
    action = bed.action(secrets={"PASSWORD": {"value": "h0t sauce"}}, options={"time": 600, "handover": 60})
    shown = _htcondor.describe(bed.made(action), [0])
    assert bed.files() == [] and "h0t sauce" not in json.dumps(shown)
    bed.work(action)
    for path, texts in shown.items():
        if path.endswith(".sh"):
            assert Path(path).read_text() == texts["after"]
        elif not path.endswith(".json"):
            told = texts["after"].replace(" TOKEN", " " + action["token"]).replace("TOKEN", action["token"])
            assert bed.calls("condor_submit")[0][2] == told
    assert len(shown) == 3


@pytest.mark.parametrize("how", [{"down": True}, {"hang": True}, {"noise": "{}"}, {"noise": "[{"}])
def test_a_schedd_that_does_not_answer_proves_nothing(bed: Bed, how: dict) -> None:
    token = bed.start()
    bed.timeout = 0.4
    bed.set(**how)
    began = time.monotonic()
    seen = bed.observe()
    assert seen["rows"] == [] and seen["silent"]
    assert [(one["component"], one["slot"], one["token"]) for one in seen["possible"]] == [("p/c", 1, token)]
    results = bed.work(bed.action(slot=2), bed.other("stop", token), bed.other("renew", token))
    assert [one["outcome"] for one in results] == ["refused"] * 3
    assert len(bed.calls("condor_submit")) == 1 and not bed.calls("condor_rm")
    assert time.monotonic() - began < 8
    bed.set(**dict.fromkeys(how))
    assert [row["token"] for row in bed.observe()["rows"]] == [token]


def test_a_host_without_htcondor_says_so(bed: Bed) -> None:
    token = bed.start()
    (bed.bin / "condor_q").unlink()
    if shutil.which("condor_q"):
        pytest.skip("this machine has one")
    seen = bed.observe()
    assert "there is no program condor_q on this host" in seen["silent"]
    assert [one["token"] for one in seen["possible"]] == [token]
    assert "condor_q" in _htcondor.prerequisites({}, str(bed.folder))[0]


def test_a_state_that_nobody_knows(bed: Bed) -> None:
    token = bed.start()
    bed.job(JobStatus=12)
    seen = bed.observe()
    assert seen["rows"] == [] and [one["token"] for one in seen["possible"]] == [token]
    assert "JobStatus 12" in seen["possible"][0]["why"]
    assert bed.work(bed.action())[0]["outcome"] == "refused"


def test_a_job_that_is_over_is_gone_and_can_be_started_again(bed: Bed) -> None:
    token = bed.start()
    (ad,) = bed.state()["jobs"]
    bed.set(jobs=[], past=[ad | {"JobStatus": 4, "ExitCode": 3, "RemoteHost": None}])
    bed.up(1)
    seen = bed.observe()
    assert (seen["rows"], seen["possible"]) == ([], [])
    assert seen["over"] == {token: "job 41: COMPLETED, ended with status 3"}
    # a look changes nothing
    assert bed.record(token)
    assert bed.work(bed.action() | {"token": token})[0]["outcome"] == "failed", "a token starts once"
    new = bed.start()
    unit = bed.record(new)["unit"]
    assert bed.files() == [f"instances/{new}.json", f"managed/htcondor/{unit}.json", f"managed/htcondor/{unit}.sh"]


def test_what_ended_by_itself_is_forgotten_by_the_next_pass(bed: Bed) -> None:
    bed.start(secrets={"PASSWORD": {"value": "h0t sauce"}})
    bed.set(jobs=[])
    bed.look("htcondor")
    assert len(bed.files()) == 3
    assert "p/c slot 1: its job is not in the queue any more" in bed.look("htcondor", number=1)["problems"]
    assert bed.files() == ["fence.json"]


@pytest.mark.parametrize("history", [{}, {"no_history": True}])
def test_a_restarted_schedd_that_lost_its_queue(bed: Bed, history: dict) -> None:
    """Absent only once it is up for longer than the lease; or where the history has the job; or it was up all along."""
    token = bed.start(options={"lease": 600})
    bed.set(jobs=[], **history)
    assert bed.observe()["possible"] == [], "a schedd that was up all the time lost nothing"
    # started after the submission, which was an hour ago
    bed.edit(token, asked=time.time() - 3600)
    bed.up(5)
    why = bed.observe()["possible"][0]["why"]
    # seconds go by while it is asked
    assert re.search(
        r"the schedd was started \d+ s ago: that proves nothing until the job.s lease is over, 630 s after", why
    )
    assert bed.work(bed.action())[0]["outcome"] == "refused"
    assert bed.work(bed.other("stop", token))[0]["outcome"] == "unknown"
    assert bed.record(token)
    bed.up(640)
    assert bed.observe()["possible"] == []
    bed.up(5)
    (bed.bin / "schedd_address").unlink()
    assert "nothing says since when" in bed.observe()["possible"][0]["why"]
    assert len(bed.calls("condor_submit")) == 1


def test_jobs_of_another_schedd_than_the_one_that_is_asked(bed: Bed) -> None:
    """The settings name another one by now: what the first has may run, and nobody here can tell."""
    token = bed.start(manager={"schedd": "one.example.org"})
    bed.set(jobs=[])
    bed.up(100000)
    why = bed.observe()["possible"][0]["why"]
    assert why.startswith("its job was given to schedd one.example.org, which the settings name no more")
    assert bed.work(bed.action())[0]["outcome"] == "refused"
    assert bed.work(bed.other("stop", token))[0]["outcome"] == "unknown" and bed.record(token)


def test_a_reply_of_condor_submit_that_was_lost(bed: Bed) -> None:
    """It was submitted: known by its mark. It was not: in doubt for a while, and then free."""
    bed.timeout = 0.6
    bed.set(lose=True)
    action = bed.action()
    result = bed.work(action)[0]
    assert result["outcome"] == "unknown", result
    assert bed.record(action["token"])["jobs"] == []
    assert [row["token"] for row in bed.observe()["rows"]] == [action["token"]]
    assert bed.work(bed.action())[0]["outcome"] == "already"
    bed.set(jobs=[], lose=False)
    assert "not heard to its end" in bed.observe()["possible"][0]["why"]
    assert bed.work(bed.action())[0]["outcome"] == "refused"
    bed.edit(action["token"], asked=time.time() - 1000)
    assert bed.observe()["possible"] == []
    bed.start()


def test_a_record_that_was_lost(bed: Bed) -> None:
    token = bed.start()
    (bed.folder / "instances" / f"{token}.json").unlink()
    assert [row["token"] for row in bed.observe()["rows"]] == [token]
    assert bed.work(bed.action())[0]["outcome"] == "already"
    assert bed.work(bed.other("renew", token))[0]["outcome"] == "refused"
    assert bed.work(bed.other("stop", token))[0]["outcome"] == "stopped"
    assert bed.observe()["rows"] == [] and bed.files() == []


def test_condor_submit_refuses(bed: Bed) -> None:
    bed.set(refuse="Failed to commit job submission into the queue.\nERROR: Submit requirement A not met.")
    results = bed.work(bed.action(), bed.action(slot=2))
    assert [one["outcome"] for one in results] == ["failed", "refused"]
    assert "Submit requirement A not met" in results[0]["message"]
    assert bed.files() == []
    bed.set(refuse=None)
    wrong = bed.work(bed.action(options={"queue": "x"}), bed.action(component="p/d", options={"submit": {"log": "x"}}))
    assert [one["outcome"] for one in wrong] == ["refused", "refused"]
    assert len(bed.calls("condor_submit")) == 1


def test_a_start_that_is_held_is_taken_away_again(bed: Bed) -> None:
    bed.set(more={"JobStatus": 5, "HoldReason": "Error from slot1_1@n1: no such file"})
    result = bed.work(bed.action())[0]
    assert (result["outcome"], result["message"]) == (
        "failed", "job 41: was held: Error from slot1_1@n1: no such file",
    )  # fmt: skip
    assert bed.files() == [] and bed.state()["jobs"] == []


def test_a_held_job_is_an_instance(bed: Bed) -> None:
    """It exists: no second one is submitted; the problem is told with its reason; a stop removes it."""
    token = bed.start()
    bed.job(JobStatus=5, HoldReason="via condor_hold (by user root)")
    seen = bed.observe()
    assert seen["rows"][0]["state"] == "HELD: via condor_hold (by user root)"
    assert seen["rows"][0]["health"] == "held in the queue: via condor_hold (by user root)"
    assert seen["problems"] == ["p/c slot 1: job 41: held in the queue: via condor_hold (by user root)"]
    again = bed.work(bed.action())[0]
    assert again["outcome"] == "already" and "HELD" in again["message"]
    assert bed.work(bed.other("stop", token))[0]["outcome"] == "stopped"


def test_a_job_that_is_being_removed_is_not_gone(bed: Bed) -> None:
    token = bed.start()
    bed.set(stubborn=True)
    result = bed.work(bed.other("stop", token), seconds=1.8)[0]
    assert result["outcome"] == "unknown" and "job 41 is still REMOVED" in result["message"]
    assert [row["state"] for row in bed.observe()["rows"]] == ["REMOVED on slot1_1@n1"]
    assert bed.work(bed.action())[0]["outcome"] == "already"
    assert len(bed.calls("condor_rm")) == 1, "it is told once"
    assert bed.record(token)


def test_a_job_that_ends_at_once(bed: Bed) -> None:
    bed.set(more={"JobStatus": 4, "ExitCode": 3, "RemoteHost": None})
    result = bed.work(bed.action(log={"path": str(bed.folder / "log.txt")}))[0]
    assert (result["outcome"], result["exit"]) == ("failed", 3)
    assert result["message"] == "job 41: COMPLETED, ended with status 3"
    assert bed.files() == []


def test_renew_queues_one_successor_that_waits_for_the_end_of_the_other(bed: Bed) -> None:
    token = bed.start(options={"time": 3600, "handover": 7200, "margin": 20}, grace=4)
    row = bed.observe()["rows"][0]
    assert row["renew"].startswith("its time is over in 3")
    result = bed.work(bed.other("renew", token))[0]
    assert (result["outcome"], result["pid"]) == ("renewed", 42), result
    first, second = bed.state()["jobs"]
    assert second["SciopsSitesAfter"] == first["JobCurrentStartExecutingDate"] + 3600 + 4 + 20
    assert second["SciopsSites"] == first["SciopsSites"]
    rows = bed.observe()["rows"]
    assert len(rows) == 1 and rows[0]["pid"] == 41 and "renew" not in rows[0]
    assert bed.work(bed.other("renew", token))[0]["outcome"] == "already"
    # the other was forced out of the queue, and nobody heard its node: it runs until its lease is over
    forced = first | {"JobStatus": 3, "EnteredCurrentStatus": int(time.time()), "RemoteHost": "slot1@n1"}
    bed.set(jobs=[second], past=[forced])
    result = bed.work(bed.other("renew", token))[0]
    assert result["outcome"] == "already" and "was forced out of the queue" in result["message"], result
    assert bed.state()["jobs"][0]["SciopsSitesAfter"] > time.time()
    # the other is over before its time: nothing is left to wait for
    bed.set(jobs=[second], past=[first | {"JobStatus": 4, "RemoteHost": None}])
    (row,) = bed.observe()["rows"]
    assert (row["token"], row["pid"], row["renew"]) == (token, 42, "the job before it is over, and it may begin")
    result = bed.work(bed.other("renew", token))[0]
    assert (result["outcome"], result["message"]) == ("renewed", "job 42 may begin: the one before it is over")
    assert bed.state()["jobs"][0]["SciopsSitesAfter"] == 0
    assert "renew" not in bed.observe()["rows"][0]
    assert bed.work(bed.other("renew", token))[0]["outcome"] == "already"
    assert bed.work(bed.other("renew", "1a-99"))[0]["outcome"] == "gone"
    assert len(bed.calls("condor_submit")) == 2


def test_a_stop_takes_the_successor_first(bed: Bed) -> None:
    token = bed.start(options={"time": 3600, "handover": 7200})
    bed.work(bed.other("renew", token))
    result = bed.work(bed.other("stop", token))[0]
    assert result["outcome"] == "stopped", result
    assert [[n for n in (41, 42) if f"ClusterId == {n} " in " ".join(call[0])] for call in bed.calls("condor_rm")] == [
        [42],
        [41],
    ]
    assert bed.files() == []
    assert bed.work(bed.other("stop", token))[0]["outcome"] == "gone"


def test_jobs_of_others_are_never_touched(bed: Bed) -> None:
    token = bed.start()
    (mine,) = bed.state()["jobs"]
    foreign = [copy.deepcopy(mine) | {"ClusterId": 900 + i} for i in range(3)]
    foreign[0]["SciopsSites"] = foreign[0]["SciopsSites"].replace(" h1 ", " h2 ")
    foreign[1]["SciopsSites"] = None
    foreign[2]["Owner"] = "somebody"
    bed.set(jobs=[mine, *foreign])
    assert [row["pid"] for row in bed.observe()["rows"]] == [41]
    assert bed.work(bed.other("stop", token))[0]["outcome"] == "stopped"
    assert {ad["ClusterId"] for ad in bed.state()["jobs"]} == {900, 901, 902}


def test_rotate(bed: Bed) -> None:
    log = bed.folder / "out.log"
    token = bed.start(log={"path": str(log)})
    log.write_text("one\n")
    assert bed.work(bed.other("rotate", token, log=str(bed.folder / "instances")))[0]["outcome"] == "refused"
    result = bed.work(bed.other("rotate", token, log=str(log), keep=2))[0]
    assert result["outcome"] == "rotated", result
    assert (bed.folder / "out.log.1").read_text() == "one\n" and log.read_text() == ""
    assert bed.work(bed.other("rotate", "1a-77", log=str(log)))[0]["outcome"] == "gone"


def test_root_runs_no_job(tmp_path: Path) -> None:
    bed = Bed(tmp_path)
    work = bed.made(bed.action(user="root"))
    with pytest.raises(_htcondor.Failed, match="HTCondor runs no job of root"):
        _htcondor.QUEUE.plan(work, work.actions[0])


# --- what a job runs


def node(folder: Path, *argv: str, **more: t.Any) -> list[str]:
    """The command line of a job with this spec, as HTCondor runs it."""
    spec = {"ident": ["bed", "test", "h1"], "component": "p/c", "slot": 2, "hash": "00ff", "token": "1a-1"}
    spec |= {"user": None, "argv": list(argv), "environment": {"A": "b c"}, "cwd": str(folder), "secrets": {}} | more
    (folder / "spec.json").write_text(json.dumps(spec))
    (folder / "shim.py").write_text(_htcondor.program())
    (folder / "spec.sh").write_text(_htcondor.script(str(folder / "spec.json"), str(folder / "it's 100%.log")))
    return ["/bin/sh", str(folder / "spec.sh"), "1a-1"]


def test_what_a_job_runs(tmp_path: Path) -> None:
    """Clean environment, secrets, marker with its own pid, working directory; and its log is appended to."""
    script = "import os, json; print(json.dumps([dict(os.environ), os.getcwd(), os.getpid()]))"
    words = node(tmp_path, sys.executable, "-c", script, secrets={"ONE": {"value": "o n e"}})
    log = tmp_path / "it's 100%.log"
    log.write_text("what was there\n")
    env = os.environ | {"_CONDOR_SLOT": "slot1_1", "JUNK": "x"}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    first, second = log.read_text().splitlines()
    seen, cwd, pid = json.loads(second)
    assert first == "what was there"
    assert (seen["A"], seen["ONE"], seen["_CONDOR_SLOT"]) == ("b c", "o n e", "slot1_1") and "JUNK" not in seen
    assert seen["SCIOPS_SITES"] == f"bed test h1 p/c 2 00ff 1a-1 {pid}" and cwd == str(tmp_path)
    late = subprocess.run([*words[:-1], "1a-2"], env=env, capture_output=True, timeout=30, check=False)
    assert late.returncode == 75 and "of another start" in log.read_text()
    log.unlink()
    log.mkdir()
    assert subprocess.run(words, env=env, capture_output=True, timeout=30, check=False).returncode == 73


@pytest.mark.parametrize(("trap", "number"), [("echo term; exit 4", 4), ("", -signal.SIGKILL)])
def test_the_node_ends_a_job_whose_time_is_over(tmp_path: Path, trap: str, number: int) -> None:
    """TERM, and KILL after the grace; by a process that is none of the program's children, and ends with it."""
    script = f"trap '{trap}' TERM; echo go; while :; do sleep 0.05; done"
    words = node(tmp_path, "/bin/sh", "-c", script, options={"time": 1}, grace=0.5)
    child = subprocess.Popen(words)
    try:
        time.sleep(0.5)
        assert child.poll() is None
        assert child.wait(20) == number
    finally:
        child.kill()
    lines = (tmp_path / "it's 100%.log").read_text().splitlines()
    assert lines == (["go", "term"] if trap else ["go"])
    # what watched it is gone too
    ends = time.monotonic() + 10
    while watchers(tmp_path) and time.monotonic() < ends:
        time.sleep(0.1)
    assert watchers(tmp_path) == []


def watchers(folder: Path) -> list[int]:
    return [pid for pid in _probe.scan() if any(str(folder) in word for word in _probe.argv(pid) or [])]


@pytest.mark.parametrize("name", _wire.LAUNCHERS["htcondor"])
def test_what_travels_is_python_36(name: str) -> None:
    for text in (SOURCES[name], _wire.minify(SOURCES[name])):
        tree = ast.parse(text, feature_version=(3, 6))
        assert not any(isinstance(one, ast.JoinedStr) for one in ast.walk(tree))
    vermin = Path(sys.prefix) / "bin" / "vermin"
    if vermin.exists():
        path = f"{_htcondor.__file__.rpartition('/')[0]}/{name}.py"
        done = subprocess.run([vermin, "-t=3.6-", "--no-tips", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
