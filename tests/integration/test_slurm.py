# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher slurm on real pools: Slurm 22.05, 24.11 and 26.05."""

from __future__ import annotations

import copy
import ctypes
import os
import re
import secrets
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bed.fleet import Fleet, slurm_pool
from bed.fleet import bed as run_bed

from ansible_collections.sciops.sites.plugins.plugin_utils import _wire

pytestmark = pytest.mark.hosts

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {p.stem: p.read_text() for p in (ROOT / "plugins" / "module_utils").glob("_*.py")}
#: version -> root file system that has it
RECIPES = {"22.05": "slurm22", "24.11": "slurm24", "26.05": "cluster"}


def versions(*names: str) -> pytest.MarkDecorator:
    """Run a test on the pools of these versions, each pool in a worker of its own."""
    params = [pytest.param(name, marks=pytest.mark.xdist_group(f"slurm {name}")) for name in names]
    return pytest.mark.parametrize("pool", params, indirect=True)


class Pool:
    """A cluster of one node, which is also where jobs are submitted, and a controller of a site there."""

    def __init__(self, fleet: Fleet, version: str) -> None:
        self.fleet, self.version, self.host = fleet, version, "h1"
        self.number, self.settings = 1, {"timeout": 12}
        self.site = ""
        self.walltime: Future[None] | None = None
        self.boots: dict[tuple[str, str], str] = {}
        self.fresh()

    def fresh(self) -> None:
        """Begin a case: a site of its own."""
        self.site = f"s{secrets.token_hex(3)}"

    def ssh(self, text: str, user: str = "deploy", check: bool = True) -> str:
        return self.fleet.ssh(self.host, text, user=user, check=check)

    def root(self, text: str) -> str:
        return self.ssh(text, "root")

    def ask(self, mode: str = "observe", user: str = "deploy", **more: Any) -> dict:
        fence = {"number": self.number, "holder": "test"}
        request = {"v": 1, "nonce": secrets.token_hex(8), "mode": mode, "site": self.site, "deployment": "bed"}
        request |= {"host": self.host, "fence": fence, "timeout": 30, "components": {}}
        request |= {"launchers": {"slurm": self.settings}} | more
        argv = ["ssh", "-F", self.fleet.ssh_config, "-o", "BatchMode=yes", "-o", "ControlMaster=auto"]
        argv += ["-o", f"ControlPath={self.fleet.folder}/cm-%r", "-o", "ControlPersist=60"]
        argv += [f"{user}@{self.host}", _wire.command("/usr/bin/python3")]
        done = subprocess.run(argv, input=_wire.payload(request, SOURCES), capture_output=True, timeout=90, check=False)
        return _wire.parse(done.stdout, request["nonce"])

    def apply(self, *actions: dict, user: str = "deploy", **more: Any) -> list[dict]:
        if (self.site, user) not in self.boots:
            self.boots[self.site, user] = self.ask(user=user)["boot_id"]
        expect = {"boot_id": self.boots[self.site, user]}
        self.last = self.ask("apply", user, actions=list(actions), expect=expect, **more)
        assert "results" in self.last, self.last
        return self.last["results"]

    def action(self, *argv: str, slot: int = 1, **more: Any) -> dict:
        base = {"kind": "start", "host": self.host, "component": "p/c", "slot": slot, "hash": "0123456789ab"}
        base |= {"token": f"{self.number:x}-{secrets.token_hex(3)}", "argv": list(argv), "environment": {}}
        base |= {"secrets": {}, "cwd": None, "user": None, "log": {"path": None}, "settle": 1, "grace": 3, "reason": ""}
        base |= {"launcher": "slurm", "manager": self.settings, "options": {}, "container": None, "singleton": False}
        return base | more

    def other(self, kind: str, token: str, **more: Any) -> dict:
        base = {"kind": kind, "host": self.host, "component": "p/c", "slot": 1, "token": token, "launcher": "slurm"}
        return base | {"grace": 3, "reason": ""} | more

    def start(self, *argv: str, **more: Any) -> dict:
        action = self.action(*argv, **more)
        (result,) = self.apply(action)
        assert result["outcome"] == "started", result
        return action | {"result": result}

    def rows(self, **more: Any) -> list[dict]:
        self.seen = self.ask(**more)
        assert self.seen["answered"], self.seen
        return self.seen["instances"]

    def jobs(self) -> list[str]:
        """Names of the jobs in the queue that are of the case's site, as anybody sees them."""
        lines = self.root("squeue -h -a -o '%j %k'").splitlines()
        return [line.split(" ")[0] for line in lines if f" {self.site} " in line]

    def job(self, number: int) -> dict[str, str]:
        text = self.root(f"scontrol show job -o {number}")
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def pids(self, text: str) -> list[int]:
        return [one.pid for one in self.fleet.ps(self.host) if one.args.endswith(text)]

    def until(self, what: Callable[[], Any], seconds: float = 60) -> Any:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            value = what()
            if value:
                return value
            time.sleep(0.2)
        told = self.root("squeue -a --format='%i %j %T %r %l %M'; sinfo -N; tail -n 20 /var/log/slurm/slurmctld.log")
        raise AssertionError(f"it did not come true within {seconds} s: {value}\n{told}")


POOLS: dict[str, Pool] = {}
WATCH = ThreadPoolExecutor(1)


@pytest.fixture(scope="module", autouse=True)
def pools(bed: Path) -> Iterator[None]:
    yield
    for pool in POOLS.values():
        pool.fleet.down()
    POOLS.clear()


@pytest.fixture
def pool(request: pytest.FixtureRequest, bed: Path) -> Iterator[Pool]:
    """The pool of a version, made once; what a case leaves is ended."""
    version = request.param
    if version not in POOLS:
        fleet = Fleet(1, "systemd", RECIPES[version])
        POOLS[version] = Pool(fleet, version)
        assert slurm_pool(fleet).startswith(version)
        # an instance whose time is over after a minute lives beside all the others
        if version == "24.11":
            begin_walltime(POOLS[version])
    made = POOLS[version]
    made.fresh()
    yield made
    names = ",".join(sorted(set(made.jobs())))
    if names:
        made.root(f"scancel --name={shlex.quote(names)}")


def begin_walltime(pool: Pool) -> None:
    """Start an instance for one minute, and queue its successor."""
    script = "trap 'echo term; exit 0' TERM; echo go $SLURM_JOB_ID; while :; do sleep 0.1; done"
    token = pool.start("sh", "-c", script, options={"time": 60, "handover": 59})["token"]
    row = pool.until(lambda: next((row for row in pool.rows() if "renew" in row), None))
    renewed, again = (pool.apply(pool.other("renew", token))[0] for _twice in range(2))
    assert re.fullmatch(r"its time is over in \d+ s, and no job waits to take over", row["renew"])
    assert renewed["outcome"] == "renewed", renewed
    assert (again["outcome"], again["pid"]) == ("already", renewed["pid"])
    # slurmctld looks at the time of jobs every half minute from its start on: now, that is right after the minute
    pool.root("systemctl restart slurmctld")
    pool.until(lambda: "silent" not in pool.ask())
    # however long the other cases take, it is watched from now on, under the site that it has
    with_site = copy.copy(pool)
    pool.walltime = WATCH.submit(hand_over, with_site, token, row["job"], renewed["pid"])


def hand_over(pool: Pool, token: str, first: int, second: int) -> None:
    """Watch the time of a job end and its successor take over; then stop that. AssertionError for what is not so."""
    seen = []

    def handed() -> bool:
        rows = pool.rows()
        assert len(rows) <= 1, rows
        assert len([one for one in pool.fleet.instances("h1") if one["token"] == token]) <= 1
        seen.extend(row["job"] for row in rows if row["state"].startswith("RUNNING") and "job" in row)
        return bool(rows) and rows[0].get("job") == second and rows[0]["state"] == "RUNNING on h1"

    pool.until(handed, 240)
    assert set(seen) <= {first, second}
    assert pool.rows()[0]["token"] == token
    assert pool.job(first)["JobState"] in ("TIMEOUT", "COMPLETED")
    log = pool.ssh(f"cat {pool.rows()[0]['log']}").splitlines()
    assert [line for line in log if line.startswith("go ")] == [f"go {first}", f"go {second}"]
    assert "term" in log, "it had time to end by itself"
    (stopped,) = pool.apply(pool.other("stop", token))
    assert stopped["outcome"] == "stopped" and pool.jobs() == []


# --- the launcher


@versions("22.05", "24.11", "26.05")
def test_start_once_and_stop(pool: Pool) -> None:
    """One job, one process with the marker; a second start is already done; a stop leaves nothing behind."""
    script = "echo password=$PASSWORD; umask; pwd; exec sleep 4801"
    more = {"secrets": {"PASSWORD": {"value": "h0t s%uce"}}, "cwd": "/tmp", "log": {"path": "out %j/50%.log"}}
    started = pool.start("sh", "-c", script, **more)
    number = started["result"]["pid"]
    assert re.fullmatch(rf"job {number} (runs|is queued(: \w+)?)", started["result"]["message"])
    pool.until(lambda: pool.pids("sleep 4801"))
    marker = next(one for one in pool.fleet.instances("h1") if one["site"] == pool.site)
    assert [marker[key] for key in ("component", "slot", "hash", "token")] == [
        "p/c",
        "1",
        "0123456789ab",
        started["token"],
    ]
    assert len(pool.pids("sleep 4801")) == 1
    (row,) = pool.rows()
    assert (row["slot"], row["token"], row["launcher"], row["job"]) == (1, started["token"], "slurm", number)
    assert row["state"] == "RUNNING on h1" and row["health"] == ""
    assert row["log"] == "/tmp/out %j/50%.log"
    assert pool.ssh("cat '/tmp/out %j/50%.log'") == "password=h0t s%uce\n0022\n/tmp"
    (again,) = pool.apply(pool.action("sleep", "4801"))
    assert (again["outcome"], again["pid"]) == ("already", number)
    assert len(pool.jobs()) == 1 and len(pool.pids("sleep 4801")) == 1
    # what anybody can see of a job holds no secret, and its spec is for its user alone
    seen = pool.root(f"scontrol show job {number}; scontrol write batch_script {number} -; ps -ef")
    assert "h0t" not in seen
    assert "Requeue=0" in seen and "Dependency=" in seen
    state = f"~/.local/state/sciops.sites/{pool.site}.bed/h1"
    assert set(pool.ssh(f"find {state}/managed -type f -printf '%m\n'").split()) == {"600"}
    (stopped,) = pool.apply(pool.other("stop", started["token"]))
    assert stopped["outcome"] == "stopped", stopped
    assert pool.jobs() == [] and pool.pids("sleep 4801") == [] and pool.rows() == []
    assert pool.ssh(f"find {state}/managed {state}/instances -name '*.json'") == ""
    (gone,) = pool.apply(pool.other("stop", started["token"]))
    assert gone["outcome"] == "gone"


@versions("22.05", "24.11", "26.05")
def test_what_ends_at_once_failed(pool: Pool) -> None:
    results = pool.apply(
        pool.action("sh", "-c", "echo it is $WORD; exit 3", secrets={"WORD": {"value": "hidden"}}, settle=8),
        pool.action("/nowhere/at/all", component="p/d", settle=8),
        pool.action("true", component="p/e", options={"partition": "nowhere"}),
    )
    assert [one["outcome"] for one in results] == ["failed"] * 3
    assert "ended with status 3" in results[0]["message"]
    assert (results[0]["exit"], results[0]["log_tail"]) == (3, ["it is ****"])
    assert "command: /nowhere/at/all: No such file or directory" in results[1]["log_tail"][-1]
    assert "Invalid partition name specified" in results[2]["message"]
    assert pool.rows() == [] and pool.jobs() == []
    assert pool.ssh(f"find ~/.local/state/sciops.sites/{pool.site}.bed/h1/managed -name '*.json'") == ""


@versions("24.11")
def test_what_waits_counts(pool: Pool) -> None:
    """A job in the queue is an instance: no second one; held, it says so; a stop takes it out of the queue."""
    started = pool.start("sleep", "4802", options={"arguments": ["--begin=now+1hour"]})
    number = started["result"]["pid"]
    assert started["result"]["message"] == f"job {number} is queued: BeginTime"
    (row,) = pool.rows()
    assert (row["pid"], row["state"], row["health"], row["age"]) == (number, "PENDING: BeginTime", "", 0)
    (again,) = pool.apply(pool.action("sleep", "4802"))
    assert again["outcome"] == "already" and len(pool.jobs()) == 1
    pool.ssh(f"scontrol hold {number}")
    assert pool.rows()[0]["health"] == "held in the queue: JobHeldUser"
    (stopped,) = pool.apply(pool.other("stop", started["token"]))
    assert stopped["outcome"] == "stopped" and pool.jobs() == [] and pool.rows() == []


@versions("24.11")
def test_w9_reservations(pool: Pool) -> None:
    """W9: a reservation in 10 h: 480 minutes at least; in 1 h: the job waits for its end, and that is said."""
    make = "scontrol create reservation ReservationName={} StartTime=now+{} Duration=60 Users=root Nodes=ALL"
    options = {"time": 90 * 86400, "reservation_words": ["login", "workflow"]}
    pool.root(make.format("login_10h", "10hours") + " >/dev/null; " + make.format("other", "20hours"))
    try:
        started = pool.start("sleep", "4803", options=options)
        assert pool.job(started["result"]["pid"])["TimeMin"] == "08:00:00"
        assert pool.until(lambda: pool.pids("sleep 4803")), "and so it runs before it"
        pool.apply(pool.other("stop", started["token"]))
        pool.root(make.format("workflow_1h", "1hour"))
        waits = pool.start("sleep", "4803", options=options)
        assert "is queued: " in waits["result"]["message"]
        assert "it waits for the end of reservation workflow_1h" in waits["result"]["message"]
        assert pool.job(waits["result"]["pid"])["TimeMin"] == "N/A"
        assert "it waits for the end of reservation workflow_1h" in pool.rows()[0]["state"]
    finally:
        for name in ("login_10h", "other", "workflow_1h"):
            pool.ssh(f"scontrol delete reservation={name}", "root", check=False)


@versions("26.05")
def test_what_does_not_hear_term_is_cancelled(pool: Pool) -> None:
    script = "trap 'echo term' TERM; echo go; while :; do sleep 0.1; done"
    started = pool.start("sh", "-c", script, log={"path": "/tmp/deaf.log"})
    pool.until(lambda: pool.ssh("cat /tmp/deaf.log") == "go")
    (stopped,) = pool.apply(pool.other("stop", started["token"], grace=1))
    assert stopped["outcome"] == "stopped" and "was cancelled" in stopped["message"], stopped
    assert "term" in pool.ssh("cat /tmp/deaf.log")
    assert pool.jobs() == [] and pool.rows() == []


@versions("24.11")
def test_root_submits_for_another_user(pool: Pool) -> None:
    action = pool.action("sh", "-c", "id -un; exec sleep 4804", user="deploy")
    (started,) = pool.apply(action, user="root")
    assert started["outcome"] == "started", started
    assert {one.user for one in pool.fleet.ps("h1") if one.args == "sleep 4804"} == {"deploy"}
    (row,) = pool.rows(user="root")
    # root's own folder is none that a job of somebody else can read or write
    assert row["log"].startswith(f"/home/deploy/.local/state/sciops.sites/{pool.site}.bed/h1/log/")
    assert pool.root(f"cat {row['log']}") == "deploy"
    (again,) = pool.apply(pool.action("sleep", "4804", user="deploy"), user="root")
    assert again["outcome"] == "already", again
    (stopped,) = pool.apply(pool.other("stop", action["token"]), user="root")
    assert stopped["outcome"] == "stopped" and pool.pids("sleep 4804") == []
    assert pool.root(f"find /home/deploy/.local/state/sciops.sites/{pool.site}.bed -name '*.json'") == ""


@versions("22.05")
def test_an_error_that_looks_like_an_empty_queue(pool: Pool) -> None:
    """22.05 without slurmctld: squeue ends with status 0 and an empty list, and says so beside it."""
    started = pool.start("sleep", "4809")
    pool.until(lambda: pool.pids("sleep 4809"))
    pool.root("systemctl stop slurmctld")
    try:
        seen = pool.ask()
        assert "Failed while looking for jobs" in seen["silent"]["slurm"], seen
        # its process is on this very host, so that it is still seen; elsewhere it would be possible
        assert [one["state"] for one in seen["instances"]] == ["unknown"]
    finally:
        pool.root("systemctl start slurmctld")
    pool.until(lambda: [row["state"] for row in pool.rows()] == ["RUNNING on h1"])
    assert pool.apply(pool.other("stop", started["token"]))[0]["outcome"] == "stopped"


@versions("26.05")
def test_a_controller_that_is_down_or_hangs_proves_nothing(pool: Pool) -> None:
    """What it had is possible, nothing is started or stopped, the job lives; nothing hangs."""
    started = pool.start("sleep", "4805")
    pool.until(lambda: pool.pids("sleep 4805"))
    pool.settings = {"timeout": 1}
    for do, undo in (
        ("systemctl stop slurmctld", "systemctl start slurmctld"),
        ("kill -STOP $(pidof slurmctld)", "kill -CONT $(pidof slurmctld)"),
    ):
        pool.root(do)
        try:
            began = time.monotonic()
            results = pool.apply(pool.action("sleep", "4805", slot=2), pool.other("stop", started["token"]))
            assert {one["outcome"] for one in results} == {"refused"}, results
            assert "slurm" in pool.last["silent"], pool.last
            assert [one["state"] for one in pool.last["instances"]] == ["unknown"]
            assert time.monotonic() - began < 12
        finally:
            pool.root(undo)
        pool.until(lambda: [row["state"] for row in pool.rows()] == ["RUNNING on h1"])
    pool.settings = {"timeout": 12}
    assert len(pool.pids("sleep 4805")) == 1
    assert pool.apply(pool.other("stop", started["token"]))[0]["outcome"] == "stopped"


@versions("26.05")
def test_a_controller_that_lost_its_state_proves_no_absence(pool: Pool) -> None:
    """A recorded job is possible until slurmctld is up for SlurmdTimeout and 10 s and all nodes told of theirs."""
    started = pool.start("sleep", "4806")
    pool.until(lambda: pool.pids("sleep 4806"))
    pool.root("systemctl stop slurmctld slurmd; rm -rf /var/lib/slurm/slurmctld/*")
    pool.root("echo SlurmdTimeout=4 >> /etc/slurm/slurm.conf; systemctl start slurmctld")
    pool.until(lambda: "silent" not in pool.ask())
    # without slurmd the job lives on, and nobody tells slurmctld of it
    assert len(pool.pids("sleep 4806")) == 1
    began = time.monotonic()
    (seen,) = pool.rows()
    assert seen["token"] == started["token"]
    pool.root("systemctl start slurmd; pkill -x sleep || true")
    seen = pool.ask()
    assert seen["instances"] == []
    assert [one["token"] for one in seen["possible"]] == [started["token"]]
    assert "slurmctld was started" in seen["possible"][0]["why"] or "not all nodes" in seen["possible"][0]["why"]
    (refused,) = pool.apply(pool.action("sleep", "4806"))
    assert refused["outcome"] == "refused" and "may still run" in refused["message"]
    pool.until(lambda: "possible" not in pool.ask(), 90)
    assert time.monotonic() - began > 8
    again = pool.start("sleep", "4806")
    assert pool.apply(pool.other("stop", again["token"]))[0]["outcome"] == "stopped"
    pool.root("sed -i /^SlurmdTimeout/d /etc/slurm/slurm.conf; scontrol reconfigure")


def share(fleet: Fleet, folder: Path, target: str) -> None:
    """Mount a folder of this machine at the same place of all hosts, as a file server would."""
    libc = ctypes.CDLL(None, use_errno=True)
    clone, empty_path, here = 0x80001, 4, -100
    for line in run_bed("list", fleet.number).splitlines():
        tree = libc.syscall(428, here, str(folder).encode(), clone)
        assert tree >= 0, os.strerror(ctypes.get_errno())
        namespace = os.open(f"/proc/{line.split()[-1]}/ns/mnt", os.O_RDONLY)
        child = os.fork()
        if not child:
            good = libc.setns(namespace, 0) == 0 and not libc.syscall(429, tree, b"", here, target.encode(), empty_path)
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0, line
        os.close(tree)
        os.close(namespace)


@pytest.mark.xdist_group("slurm 24.11")
def test_jobs_on_another_node(bed: Path, tmp_path: Path) -> None:
    """Where jobs run elsewhere than they are submitted: seen by the queue alone, also when their node dies."""
    with Fleet(2, "systemd", RECIPES["24.11"]) as fleet:
        slurm_pool(fleet, SlurmdTimeout=8)
        pool = Pool(fleet, "24.11")
        pool.root("scontrol update node=h1 state=drain reason=login")
        for host in fleet.names:
            fleet.ssh(host, "mkdir .local", user="deploy")
        uid = int(pool.ssh("id -u"))
        os.chown(tmp_path, uid, uid)
        share(fleet, tmp_path, "/home/deploy/.local")
        script = "hostname; while :; do echo tick; sleep 0.2; done"
        started = pool.start("sh", "-c", script, options={"time": 600}, settle=0.3)
        number, token = started["result"]["pid"], started["token"]
        assert [one["token"] for one in pool.until(lambda: fleet.instances("h2"))] == [token]
        assert fleet.instances("h1") == []
        (row,) = pool.rows()
        wanted = {"token": token, "slot": 1, "pid": number, "job": number, "state": "RUNNING on h2", "processes": 0}
        assert wanted.items() <= row.items() and row["health"] == "" and row["start"] > 1_700_000_000
        log = row["log"]
        pool.until(lambda: pool.rows()[0]["log_size"] > 20)
        assert 0 < pool.rows()[0]["age"] < 60
        (rotated,) = pool.apply(pool.other("rotate", token, log=log))
        assert rotated["outcome"] == "rotated", rotated
        assert pool.until(lambda: pool.ssh(f"head -n 1 {log}")) == "tick", "no hole where it was cut"
        assert pool.ssh(f"head -n 1 {log}.1") == "h2"
        pool.root("systemctl stop slurmctld")
        pool.settings = {"timeout": 1}
        seen = pool.ask()
        assert seen["instances"] == []
        assert [(one["slot"], one["token"], one["launcher"]) for one in seen["possible"]] == [(1, token, "slurm")]
        pool.settings = {"timeout": 12}
        pool.root("systemctl start slurmctld")
        pool.until(lambda: [row["state"] for row in pool.rows()] == ["RUNNING on h2"])
        fleet.kill("h2")
        pool.until(lambda: pool.rows() == [], 60)
        assert f"p/c slot 1: job {number}: NODE_FAIL" in pool.seen["problems"][0]
        again = pool.start("sleep", "4810", settle=0.3)
        assert "is queued" in again["result"]["message"]
        assert pool.apply(pool.other("stop", again["token"]))[0]["outcome"] == "stopped"


# --- last, since it waits for a minute that began first


@versions("24.11")
def test_walltime_hand_over(pool: Pool) -> None:
    """The time of a job ends: its successor waits behind it, takes over with the same token, and is never a second."""
    assert pool.walltime
    pool.walltime.result(timeout=400)


@versions("24.11")
def test_w9_a_stop_cancels_the_workers_that_the_service_left(pool: Pool) -> None:
    """Jobs of these names and of this account, and no other."""
    for name in ("acme_worker_small", "acme_worker_large", "acme_other"):
        pool.ssh(f"sbatch -J {name} -o /dev/null --wrap 'sleep 600'")
    action = pool.start("/bin/sleep", "601", options={"cancels": ["acme_worker_small", "acme_worker_large"]})
    workers = "squeue -h -o %j | grep acme_ | sort"
    assert len(pool.root(workers).splitlines()) == 3
    (result,) = pool.apply(pool.other("stop", action["token"]))
    assert result["outcome"] == "stopped", result
    pool.until(lambda: pool.root(workers) == "acme_other")
    pool.ssh("scancel -n acme_other")
