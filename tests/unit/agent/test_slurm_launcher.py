# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher slurm over a stub: what is submitted, signalled, seen and left, and what nobody can know."""

from __future__ import annotations

import ast
import contextlib
import copy
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.simulator import component, declaration

from ansible_collections.sciops.sites.plugins.module_utils import (
    _logs,
    _queued,
    _slurm,
    _slurmctl,
    _work,
)
from ansible_collections.sciops.sites.plugins.plugin_utils import _wire

from . import queue_bed
from .conftest import SOURCES

IDENT = ["bed", "test", "h1"]


class Bed(queue_bed.Bed):
    """A cluster of one file, and one host of a site that submits there."""

    launcher = "slurm"
    stub = "slurm_stub.py"
    programs = ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "sacct")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.set(age=100000, nodes=["idle"])


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bed:
    made = Bed(tmp_path)
    monkeypatch.setattr(_slurmctl, "PATHS", str(made.bin))
    monkeypatch.setattr(_queued, "POLL", 0.1)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SBATCH_PARTITION", "wrong")
    return made


def test_w9_one_job_one_sbatch(bed: Bed) -> None:
    """W9: no job: one sbatch; a job that runs, or waits: none."""
    token = bed.start()
    row = bed.observe()["rows"][0]
    assert (row["component"], row["slot"], row["token"], row["pid"]) == ("p/c", 1, token, 41)
    assert row["state"] == "RUNNING on n1" and row["health"] == ""
    again = bed.work(bed.action())[0]
    assert (again["outcome"], again["token"], again["pid"]) == ("already", token, 41)
    state = bed.state()
    state["jobs"][0]["state"] = ["PENDING"]
    bed.set(**state)
    again = bed.work(bed.action())[0]
    assert again["outcome"] == "already" and "PENDING: Priority" in again["message"]
    assert len(bed.calls("sbatch")) == 1
    assert bed.observe()["rows"][0]["age"] == 0


def test_one_call_tells_all(bed: Bed) -> None:
    assert {one["outcome"] for one in bed.work(*(bed.action(slot=slot) for slot in (1, 2, 3)))} == {"started"}
    (bed.bin / "calls.jsonl").unlink()
    assert [row["slot"] for row in bed.observe()["rows"]] == [1, 2, 3]
    assert len(bed.calls("squeue")) == 1
    assert not any(bed.calls(name) for name in ("scontrol", "sinfo", "sacct"))


def test_nothing_secret_and_nothing_of_the_caller_reaches_sbatch(bed: Bed) -> None:
    token = bed.start(secrets={"PASSWORD": {"value": "h0t sauce"}}, environment={"PLAIN": "visible"})
    ((words, env, script),) = bed.calls("sbatch")
    for text in (json.dumps(words), json.dumps(env), script, json.dumps(bed.record(token))):
        assert "h0t sauce" not in text
    assert not [name for name in env if name.startswith(("SLURM_", "SBATCH_"))]
    (spec,) = (bed.folder / "managed/slurm").glob("*.json")
    assert "h0t sauce" in spec.read_text()
    assert spec.stat().st_mode & 0o777 == 0o600
    assert spec.parent.stat().st_mode & 0o777 == 0o700
    assert str(spec) in script and token in script
    record = bed.record(token)
    assert (record["boot_id"], record["jobs"], record["launcher"]) == (None, [41], "slurm")


def test_describe_says_what_start_writes_but_for_secrets(bed: Bed) -> None:
    action = bed.action(secrets={"PASSWORD": {"value": "h0t sauce"}})
    work = _work.Work(bed.request([action]), str(bed.folder), time.monotonic() + 5)
    shown = _slurm.describe(work, [0])
    assert bed.files() == []
    assert "h0t sauce" not in json.dumps(shown)
    bed.work(action)
    path = next(path for path in shown if path.endswith(".json"))
    written = json.loads(Path(path).read_text())
    written["secrets"] = dict.fromkeys(written["secrets"], "********")
    told = json.loads(shown[path]["after"])
    assert {k: v for k, v in told.items() if k != "manager"} == {
        k: v for k, v in written.items() if k not in ("manager", "token")
    }
    job = next(texts["after"] for path, texts in shown.items() if not path.endswith(".json"))
    assert bed.calls("sbatch")[0][2] == job.replace("TOKEN", action["token"])


def test_w9_reservations(bed: Bed) -> None:
    now = int(time.time())
    options = {"reservation_words": ["login", "workflow"], "time": 90 * 86400}
    bed.set(reservations=[["other", now + 900], ["workflow_a", now + 90000], ["login_b", now + 36000]])
    action = bed.action(options=options)
    assert bed.work(action)[0]["outcome"] == "started"
    assert "--time-min=480" in bed.calls("sbatch")[0][0]
    bed.set(reservations=[["login_b", now + 3600]], begin=["PENDING"])
    result = bed.work(bed.action(slot=2, options=options))[0]
    assert result["outcome"] == "started"
    assert "is queued: Priority; it waits for the end of reservation login_b" in result["message"]
    assert not [word for word in bed.calls("sbatch")[1][0] if word.startswith("--time-min")]
    row = next(row for row in bed.observe()["rows"] if row["slot"] == 2)
    assert row["state"] == "PENDING: Priority; it waits for the end of reservation login_b"


@pytest.mark.parametrize("how", [{"down": True}, {"hang": True}, {"noise": "{}"}, {"noise": "no JSON"}])
def test_a_controller_that_does_not_answer_proves_nothing(bed: Bed, how: dict) -> None:
    token = bed.start()
    bed.timeout = 0.4
    bed.set(**how)
    began = time.monotonic()
    seen = bed.observe()
    assert seen["rows"] == []
    assert [(one["component"], one["slot"], one["token"]) for one in seen["possible"]] == [("p/c", 1, token)]
    assert seen["silent"]
    assert seen["possible"][0]["why"] == seen["silent"]
    results = bed.work(bed.action(slot=2), bed.other("stop", token), bed.other("renew", token))
    assert [one["outcome"] for one in results] == ["refused"] * 3
    assert len(bed.calls("sbatch")) == 1 and not bed.calls("scancel")
    assert time.monotonic() - began < 8
    bed.set(**dict.fromkeys(how))
    assert [row["token"] for row in bed.observe()["rows"]] == [token]


def test_a_controller_that_hangs_takes_no_more_than_the_time_of_the_request(bed: Bed) -> None:
    token = bed.start()
    bed.timeout = 30
    bed.set(hang=True)
    began = time.monotonic()
    assert [one["token"] for one in bed.observe(seconds=1)["possible"]] == [token]
    assert bed.work(bed.other("stop", token), seconds=1.5)[0]["outcome"] == "refused"
    assert time.monotonic() - began < 5


def test_a_host_without_slurm_says_so(bed: Bed) -> None:
    token = bed.start()
    for name in ("squeue", "sbatch"):
        (bed.bin / name).unlink()
    seen = bed.observe()
    assert "there is no program squeue on this host" in seen["silent"]
    assert [one["token"] for one in seen["possible"]] == [token]
    assert _slurm.prerequisites({}, str(bed.folder))[0].startswith("slurm: there is no program sbatch, squeue")


def test_words_that_are_not_known(bed: Bed) -> None:
    token = bed.start()
    state = bed.state()
    state["jobs"][0]["state"] = ["QUANTUM"]
    bed.set(**state)
    seen = bed.observe()
    assert seen["rows"] == [] and [one["token"] for one in seen["possible"]] == [token]
    assert "QUANTUM" in seen["possible"][0]["why"] and "QUANTUM" in seen["problems"][0]
    result = bed.work(bed.action())[0]
    assert result["outcome"] == "refused" and "may still run" in result["message"]
    assert len(bed.calls("sbatch")) == 1


def test_a_job_that_is_over_is_gone_and_can_be_started_again(bed: Bed) -> None:
    token = bed.start()
    state = bed.state()
    state["jobs"][0] |= {"state": ["TIMEOUT"], "exit": 0}
    bed.set(**state)
    seen = bed.observe()
    assert (seen["rows"], seen["possible"]) == ([], [])
    assert seen["over"] == {token: "job 41: TIMEOUT"}
    # a look changes nothing
    assert bed.record(token)
    old = bed.action() | {"token": token}
    assert bed.work(old)[0]["outcome"] == "failed", "a token starts once"
    new = bed.start()
    assert bed.files() == [f"instances/{new}.json", f"managed/slurm/{bed.record(new)['unit']}.json"]


def test_what_ended_by_itself_is_forgotten_by_a_pass_that_may_change_the_host(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = bed.start(secrets={"PASSWORD": {"value": "h0t sauce"}})
    assert "over" not in bed.look("slurm", number=7)
    bed.job(state=["TIMEOUT"])
    files = bed.files()
    for number in (0, 6):
        # in check mode, and where another controller was here since
        bed.look("slurm", number=number)
        assert bed.files() == files
    with monkeypatch.context() as broken:
        broken.setattr(_queued, "erase", lambda *_: Path("/proc/nothing").unlink())
        assert "p/c slot 1: its record cannot be removed" in str(bed.look("slurm", number=8)["problems"])
    seen = bed.look("slurm", number=9)
    assert seen["over"] == {token: "job 41: TIMEOUT"}
    assert "p/c slot 1: job 41: TIMEOUT" in seen["problems"]
    assert bed.files() == ["fence.json"]
    assert "p/c" not in str(bed.look("slurm", number=10)["problems"])


def test_what_ended_by_itself_keeps_no_site_from_being_as_declared(bed: Bed) -> None:
    """Nothing of the launcher is declared on the host any more, so nothing is started that tidies up."""
    bed.start()
    bed.job(state=["TIMEOUT"])
    declared = declaration({"h1": {}}, {"p/c": component(0, 1, launcher="slurm", state="off")})
    assert bed.passes(declared, 4) == [False, True, True, True]
    assert bed.files() == ["fence.json"]


def test_a_restarted_controller_that_lost_its_jobs(bed: Bed) -> None:
    """Absent only once slurmctld is up long enough and every node has told of its jobs, or the accounting says so."""
    token = bed.start()
    bed.set(jobs=[], age=5)
    why = bed.observe()["possible"][0]["why"]
    assert "slurmctld was started 5 s ago" in why
    assert bed.work(bed.action())[0]["outcome"] == "refused"
    assert bed.work(bed.other("stop", token))[0]["outcome"] == "unknown"
    bed.set(accounted=[f"41|COMPLETED|{bed.record(token)['unit']}"])
    assert bed.observe()["possible"] == []
    bed.set(accounted=["41|COMPLETED|somebody-elses"])
    assert bed.observe()["possible"]
    bed.set(age=400, nodes=["idle", "unknown"])
    assert "not all nodes" in bed.observe()["possible"][0]["why"]
    bed.set(nodes=["idle"])
    seen = bed.observe()
    assert (seen["possible"], seen["over"]) == ([], {token: "its job is not in the queue any more"})
    # slurmctld has forgotten how it ended, and the accounting has not
    bed.set(accounted=[f"41|CANCELLED by 0|{bed.record(token)['unit']}"])
    assert bed.observe()["over"] == {token: "job 41: CANCELLED, says sacct"}
    assert len(bed.calls("sbatch")) == 1
    bed.start()


def test_an_answer_of_sbatch_that_was_lost(bed: Bed) -> None:
    """It was submitted: known by its comment. It was not: in doubt for a while, and then free."""
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
    assert bed.observe()["rows"] == []
    assert bed.files() == []


def test_sbatch_refuses(bed: Bed) -> None:
    bed.set(refuse="Batch job submission failed: Invalid qos specification")
    results = bed.work(bed.action(), bed.action(slot=2))
    assert [one["outcome"] for one in results] == ["failed", "refused"]
    assert "Invalid qos specification" in results[0]["message"]
    assert bed.files() == []
    bed.set(refuse=None)
    wrong = bed.work(bed.action(options={"queue": "x"}), bed.action(component="p/d", log={"path": "/a\\b"}))
    assert [one["outcome"] for one in wrong] == ["refused", "refused"]
    assert len(bed.calls("sbatch")) == 1


def test_a_job_that_ends_at_once(bed: Bed) -> None:
    bed.set(begin=["FAILED"], more={"exit": 3})
    log = bed.folder / "log.txt"
    result = bed.work(bed.action(log={"path": str(log)}))[0]
    assert (result["outcome"], result["exit"]) == ("failed", 3)
    assert result["message"] == "job 41: FAILED, ended with status 3"
    assert bed.files() == []


def test_renew_queues_one_successor(bed: Bed) -> None:
    token = bed.start(options={"time": 3600, "handover": 7200})
    row = bed.observe()["rows"][0]
    assert row["renew"].startswith("its time is over in 3")
    result = bed.work(bed.other("renew", token))[0]
    assert (result["outcome"], result["pid"]) == ("renewed", 42)
    first, second = (call[0] for call in bed.calls("sbatch"))
    assert first == second
    rows = bed.observe()["rows"]
    assert len(rows) == 1 and rows[0]["pid"] == 41 and "renew" not in rows[0]
    assert bed.work(bed.other("renew", token))[0]["outcome"] == "already"
    # the hand-over
    state = bed.state()
    state["jobs"][0]["state"], state["jobs"][1]["state"] = ["TIMEOUT"], ["RUNNING"]
    bed.set(**state)
    rows = bed.observe()["rows"]
    assert [(row["token"], row["pid"]) for row in rows] == [(token, 42)]
    assert bed.work(bed.other("renew", "1a-99"))[0]["outcome"] == "gone"
    assert len(bed.calls("sbatch")) == 2


def test_w9_stop_takes_the_successor_first(bed: Bed) -> None:
    token = bed.start(options={"time": 3600, "handover": 7200})
    bed.work(bed.other("renew", token))
    result = bed.work(bed.other("stop", token))[0]
    assert result["outcome"] == "stopped", result
    words = [call[0] for call in bed.calls("scancel")]
    assert words == [["42"], ["--signal=TERM", "--full", "41"]]
    assert bed.files() == []
    assert bed.work(bed.other("stop", token))[0]["outcome"] == "gone"


def test_what_does_not_hear_term_is_cancelled_after_its_grace(bed: Bed) -> None:
    token = bed.start()
    bed.set(deaf=True)
    result = bed.work(bed.other("stop", token, grace=0.4))[0]
    assert result["outcome"] == "stopped", result
    assert [call[0] for call in bed.calls("scancel")] == [["--signal=TERM", "--full", "41"], ["41"]]


def test_what_stays_is_unstoppable(bed: Bed) -> None:
    token = bed.start()
    bed.set(stubborn=True)
    result = bed.work(bed.other("stop", token), seconds=1.8)[0]
    assert result["outcome"] == "unstoppable" and "job 41 is still RUNNING" in result["message"]
    assert [row["token"] for row in bed.observe()["rows"]] == [token]
    assert bed.record(token)


def test_jobs_of_others_are_never_touched(bed: Bed) -> None:
    token = bed.start()
    mine = bed.state()["jobs"][0]
    foreign = [copy.deepcopy(mine) | {"id": 900 + i} for i in range(3)]
    foreign[0]["comment"] = foreign[0]["comment"].replace(" h1 ", " h2 ")
    foreign[1]["comment"] = ""
    foreign[2]["user"] = "somebody"
    bed.set(jobs=[mine, *foreign])
    assert [row["pid"] for row in bed.observe()["rows"]] == [41]
    bed.work(bed.other("stop", token))
    assert {word for call in bed.calls("scancel") for word in call[0] if word.isdigit()} == {"41"}


def test_rotate(bed: Bed) -> None:
    token = bed.start(log={"path": str(bed.folder / "out.log")})
    log = bed.folder / "out.log"
    log.write_text("one\n")
    other = bed.work(bed.other("rotate", token, log=str(bed.folder / "instances")))[0]
    assert other["outcome"] == "refused"
    result = bed.work(bed.other("rotate", token, log=str(log), keep=2))[0]
    assert result["outcome"] == "rotated", result
    assert (bed.folder / "out.log.1").read_text() == "one\n" and log.read_text() == ""
    assert bed.work(bed.other("rotate", "1a-77", log=str(log)))[0]["outcome"] == "gone"


def test_what_a_job_runs(tmp_path: Path) -> None:
    """The program of the job script: clean environment, secrets, marker with its own pid, working directory."""
    (tmp_path / "secret").write_text("from a file\n")
    script = "import os, json; print(json.dumps([dict(os.environ), os.getcwd(), os.getpid()]))"
    spec = {"ident": IDENT, "component": "p/c", "slot": 2, "hash": "00ff", "token": "1a-1", "user": None}
    spec |= {"argv": [sys.executable, "-c", script], "environment": {"A": "b c"}, "cwd": str(tmp_path)}
    spec |= {"secrets": {"ONE": {"value": "o n e"}, "TWO": {"file": str(tmp_path / "secret")}}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    (tmp_path / "shim.py").write_text(_slurm.program())
    env = os.environ | {"SLURM_JOB_ID": "7", "SLURM_EXPORT_ENV": "NIL", "JUNK": "x"}
    words = [sys.executable, "-ISB", str(tmp_path / "shim.py"), str(tmp_path / "spec.json")]
    done = subprocess.run([*words, "1a-1"], env=env, capture_output=True, text=True, timeout=30, check=True)
    seen, cwd, pid = json.loads(done.stdout)
    assert (seen["A"], seen["ONE"], seen["TWO"], seen["SLURM_JOB_ID"]) == ("b c", "o n e", "from a file", "7")
    assert "JUNK" not in seen and "SLURM_EXPORT_ENV" not in seen
    assert seen["SCIOPS_SITES"] == f"bed test h1 p/c 2 00ff 1a-1 {pid}"
    assert cwd == str(tmp_path)
    late = subprocess.run([*words, "1a-2"], env=env, capture_output=True, text=True, timeout=30, check=False)
    assert late.returncode == 75 and "of another start" in late.stderr
    (tmp_path / "secret").unlink()
    lost = subprocess.run([*words, "1a-1"], env=env, capture_output=True, text=True, timeout=30, check=False)
    assert lost.returncode == 1 and "secret TWO" in lost.stderr


def test_another_user_is_refused_without_root(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    who = _logs.account("nobody")
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    work = _work.Work(bed.request([bed.action(user=who.pw_name)]), str(bed.folder), time.monotonic() + 5)
    with pytest.raises(_slurm.Failed, match="cannot become another"):
        _slurm.QUEUE.plan(work, work.actions[0])


@pytest.mark.parametrize("name", _wire.LAUNCHERS["slurm"])
def test_what_travels_is_python_36(name: str) -> None:
    for text in (SOURCES[name], _wire.minify(SOURCES[name])):
        tree = ast.parse(text, feature_version=(3, 6))
        assert not any(isinstance(node, ast.JoinedStr) for node in ast.walk(tree))
    with contextlib.suppress(FileNotFoundError):
        vermin = Path(sys.prefix) / "bin" / "vermin"
        done = subprocess.run(
            [vermin, "-t=3.6-", "--no-tips", f"{_slurm.__file__.rpartition('/')[0]}/{name}.py"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
