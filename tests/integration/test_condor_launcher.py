# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher htcondor on a real pool: what the conformance suite does not show."""

from __future__ import annotations

import ctypes
import json
import os
import re
import secrets
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.condor import condor_pool
from bed.fleet import Fleet, until
from bed.fleet import bed as run_bed

from ansible_collections.sciops.sites.plugins.plugin_utils import _wire

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("condor launcher")]

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {p.stem: p.read_text() for p in (ROOT / "plugins" / "module_utils").glob("_*.py")}
# expressions of jobs are looked at often, and what was killed comes back soon
CONFIG = """
SCHEDD_NAME = ap@
# a machine runs a job as its owner
TRUST_UID_DOMAIN = true
PERIODIC_EXPR_INTERVAL = 2
MASTER_BACKOFF_CONSTANT = 4
MASTER_BACKOFF_CEILING = 4
"""
# the shortest that condor_submit takes
LEASE = {"lease": 20}


class Pool:
    """A pool of one host, which is also where jobs are submitted, and a controller of a site there."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.host, self.sources = fleet, "h1", SOURCES
        self.fresh()

    def fresh(self) -> None:
        """Begin a case: a site of its own."""
        self.site, self.number, self.settings = f"s{secrets.token_hex(3)}", 1, {"timeout": 12}
        self.boot = ""

    def ssh(self, text: str, user: str = "deploy", check: bool = True) -> str:
        return self.fleet.ssh(self.host, text, user=user, check=check)

    def root(self, text: str) -> str:
        return self.ssh(text, "root")

    def ask(self, mode: str = "observe", user: str = "deploy", **more: Any) -> dict:
        fence = {"number": self.number, "holder": "test"}
        request = {"v": 1, "nonce": secrets.token_hex(8), "mode": mode, "site": self.site, "deployment": "bed"}
        request |= {"host": self.host, "fence": fence, "timeout": 40, "components": {}}
        request |= {"launchers": {"htcondor": self.settings}} | more
        argv = ["ssh", "-F", self.fleet.ssh_config, "-o", "BatchMode=yes", "-o", "ControlMaster=auto"]
        argv += ["-o", f"ControlPath={self.fleet.folder}/cm-%r", "-o", "ControlPersist=60"]
        argv += [f"{user}@{self.host}", _wire.command("/usr/bin/python3")]
        sent = _wire.payload(request, self.sources)
        done = subprocess.run(argv, input=sent, capture_output=True, timeout=90, check=False)
        return _wire.parse(done.stdout, request["nonce"])

    def apply(self, *actions: dict, user: str = "deploy", **more: Any) -> list[dict]:
        self.boot = self.boot or self.ask(user=user)["boot_id"]
        self.last = self.ask("apply", user, actions=list(actions), expect={"boot_id": self.boot}, **more)
        assert "results" in self.last, self.last
        return self.last["results"]

    def action(self, *argv: str, slot: int = 1, **more: Any) -> dict:
        base = {"kind": "start", "host": self.host, "component": "p/c", "slot": slot, "hash": "0123456789ab"}
        base |= {"token": f"{self.number:x}-{secrets.token_hex(3)}", "argv": list(argv), "environment": {}}
        base |= {"secrets": {}, "cwd": None, "user": None, "log": {"path": None}, "settle": 1, "grace": 2, "reason": ""}
        base |= {"launcher": "htcondor", "manager": self.settings, "options": {}, "container": None, "singleton": False}
        return base | more

    def other(self, kind: str, token: str, **more: Any) -> dict:
        base = {"kind": kind, "host": self.host, "component": "p/c", "slot": 1, "token": token, "launcher": "htcondor"}
        return base | {"grace": 2, "reason": ""} | more

    def start(self, *argv: str, **more: Any) -> dict:
        """One start that must come up, and is waited for until it runs."""
        action = self.action(*argv, **more)
        (result,) = self.apply(action)
        assert result["outcome"] == "started", str(result)
        self.until(lambda: self.pids(action["token"]))
        return action | {"result": result, "job": result["pid"]}

    def stop(self, token: str, **more: Any) -> dict:
        return self.apply(self.other("stop", token), **more)[0]

    def rows(self, **more: Any) -> list[dict]:
        self.seen = self.ask(**more)
        assert self.seen["answered"], self.seen
        return self.seen["instances"]

    def pids(self, token: str) -> list[int]:
        """The leaders with this token, seen from outside."""
        return [one["pid"] for one in self.fleet.instances(self.host) if one["token"] == token]

    def jobs(self) -> list[list[str]]:
        """Jobs in the queue that are of the case's site, as anybody sees them: number and state."""
        words = f"condor_q -allusers -af ClusterId JobStatus -constraint 'regexp(\" {self.site} \", SciopsSites)'"
        return [line.split() for line in self.root(words).splitlines()]

    def kill_starter(self, job: int) -> None:
        """What a node does that dies: the starter is gone, and its job with it."""
        slot = self.until(lambda: re.match(r"slot\w+", self.root(f"condor_q -allusers {job} -af RemoteHost")))[0]
        found = f"pgrep -f '[c]ondor_starter .*-a {slot} '"
        self.root(f"for pid in $({found}); do kill -9 $pid; done")

    def until(self, what: Callable[[], Any], seconds: float = 90) -> Any:
        return until(what, seconds)


@pytest.fixture(scope="module")
def one(bed: Path) -> Iterator[Pool]:
    run_bed("build", "cluster", timeout=900)
    with Fleet(1, "systemd", "cluster") as fleet:
        assert condor_pool(fleet, config=CONFIG).startswith("25.")
        yield Pool(fleet)


@pytest.fixture
def pool(one: Pool) -> Iterator[Pool]:
    one.fresh()
    yield one
    one.sources = SOURCES
    one.ssh(f"condor_rm -allusers -constraint 'regexp(\" {one.site} \", SciopsSites)' || :", "root", check=False)


def test_start_once_and_stop(pool: Pool) -> None:
    """One job, one process with the marker; what anybody sees of it has no secret; a stop leaves nothing behind."""
    script = "echo password=$PASSWORD; umask; pwd; exec sleep 6801"
    more = {"secrets": {"PASSWORD": {"value": "h0t s%uce"}}, "cwd": "/tmp", "log": {"path": "out $(x)/50% 'q'.log"}}
    started = pool.start("sh", "-c", script, **more)
    (row,) = pool.rows()
    assert (row["slot"], row["token"], row["launcher"], row["job"]) == (
        1, started["token"], "htcondor", started["job"],
    )  # fmt: skip
    assert re.fullmatch(r"RUNNING on slot\w+@h1", row["state"]) and row["health"] == ""
    assert row["log"] == "/tmp/out $(x)/50% 'q'.log"
    assert pool.ssh(f"cat {shlex.quote(row['log'])}") == "password=h0t s%uce\n0022\n/tmp"
    assert "h0t" not in pool.root(f"condor_q -allusers -long {started['job']}; ps -ef")
    state = f"~/.local/state/sciops.sites/{pool.site}.bed/h1"
    assert set(pool.ssh(f"find {state}/managed -type f -printf '%m\n'").split()) == {"600"}
    assert pool.stop(started["token"])["outcome"] == "stopped"
    assert pool.jobs() == [] and pool.pids(started["token"]) == [] and pool.rows() == []
    assert pool.ssh(f"find {state}/managed {state}/instances -name '*.json' -o -name '*.sh'") == ""
    assert pool.stop(started["token"])["outcome"] == "gone"


def test_root_submits_for_another_user(pool: Pool) -> None:
    action = pool.action("sh", "-c", "id -un; exec sleep 6802", user="jadelta")
    (started, none) = pool.apply(action, pool.action("sleep", "1", component="p/d"), user="root")
    assert started["outcome"] == "started", started
    assert none["outcome"] == "refused" and "HTCondor runs no job of root" in none["message"]
    pool.until(lambda: pool.pids(action["token"]))
    (row,) = pool.rows(user="root")
    assert row["log"].startswith(f"/home/jadelta/.local/state/sciops.sites/{pool.site}.bed/h1/log/")
    assert pool.root(f"cat {row['log']}") == "jadelta"
    # somebody else's jobs are none of ours, whatever mark they carry
    assert pool.rows(user="deploy") == []
    assert pool.stop(action["token"], user="root")["outcome"] == "stopped"
    assert pool.root(f"find /home/jadelta/.local/state/sciops.sites/{pool.site}.bed -name '*.json'") == ""


def test_a_submission_whose_reply_was_lost(pool: Pool) -> None:
    """The job is found by its mark: unknown at first, then an instance; never a second one."""
    lossy = '#!/bin/sh\n/usr/bin/condor_submit "$@" >/dev/null\nexec sleep 60\n'
    pool.root(f"printf %s {shlex.quote(lossy)} > /usr/local/bin/condor_submit; chmod 755 /usr/local/bin/condor_submit")
    pool.settings = {"timeout": 3}
    action = pool.action("sleep", "6803")
    try:
        (result,) = pool.apply(action)
    finally:
        pool.root("rm /usr/local/bin/condor_submit")
    assert result["outcome"] == "unknown" and "condor_submit had no answer" in result["message"], str(result)
    (row,) = pool.rows()
    assert row["token"] == action["token"] and row["state"].split()[0].strip(":") in ("RUNNING", "IDLE")
    assert pool.apply(pool.action("sleep", "6803"))[0]["outcome"] == "already"
    # also without its record
    pool.ssh(f"rm ~/.local/state/sciops.sites/{pool.site}.bed/h1/instances/*.json")
    assert [row["token"] for row in pool.rows()] == [action["token"]]
    assert pool.apply(pool.action("sleep", "6803"))[0]["outcome"] == "already"
    assert len(pool.jobs()) == 1
    assert pool.stop(action["token"])["outcome"] == "stopped"


def test_a_held_job_is_seen_and_never_doubled(pool: Pool) -> None:
    started = pool.start("sleep", "6804")
    pool.ssh(f"condor_hold -reason 'no more of this' {started['job']}")
    (row,) = pool.until(lambda: [row for row in pool.rows() if row["state"].startswith("HELD")])
    assert "no more of this" in row["state"] and row["health"].startswith("held in the queue: ")
    assert any("p/c slot 1: job" in words and "no more of this" in words for words in pool.seen["problems"])
    (again,) = pool.apply(pool.action("sleep", "6804"))
    assert again["outcome"] == "already" and "no more of this" in again["message"]
    assert len(pool.jobs()) == 1 and pool.pids(started["token"]) == []
    pool.ssh(f"condor_release {started['job']}")
    pool.until(lambda: len(pool.pids(started["token"])) == 1)
    (row,) = pool.rows()
    assert (row["token"], row["health"], row["restarts"]) == (started["token"], "", 1)
    pool.ssh(f"condor_hold {started['job']}")
    assert pool.stop(started["token"])["outcome"] == "stopped" and pool.jobs() == []


def test_a_job_that_stays_held_leaves_the_queue_where_that_is_wished(pool: Pool) -> None:
    started = pool.start("sleep", "6805", options={"hold_limit": 1})
    pool.ssh(f"condor_hold {started['job']}")
    pool.until(lambda: pool.rows() == [])
    assert "it was on hold for longer than hold_limit" in str(pool.seen["problems"])


def test_a_node_that_cannot_run_it_fails_the_start(pool: Pool) -> None:
    """A job that a node refuses is held by HTCondor: the start has failed, with its reason, and nothing is left."""
    # its shell is what every job begins with; this host logs in with another
    pool.root("mv /bin/dash /bin/away")
    try:
        (result,) = pool.apply(pool.action("/bin/sleep", "1", settle=12))
    finally:
        pool.root("mv /bin/away /bin/dash")
    assert result["outcome"] == "failed" and "was held: " in result["message"], str(result)
    assert pool.jobs() == [] and pool.rows() == []


def test_a_crash_loop_is_seen(pool: Pool) -> None:
    """A job that HTCondor begins over and over is one instance that is not well."""
    started = pool.start("sleep", "6806", options=LEASE)
    for _time in range(2):
        pids = pool.pids(started["token"])
        pool.kill_starter(started["job"])
        pool.until(lambda pids=pids: (new := pool.pids(started["token"])) and new != pids)
        assert len(pool.pids(started["token"])) == 1
    (row,) = pool.until(lambda: [row for row in pool.rows() if row["health"]])
    assert re.match(r"a crash loop: HTCondor began it 3 times in \d+ s", row["health"])
    assert row["token"] == started["token"] and row["restarts"] == 2
    assert any("a crash loop" in words for words in pool.seen["problems"])
    assert pool.stop(started["token"])["outcome"] == "stopped"


def test_a_singleton_is_not_begun_again_by_itself(pool: Pool) -> None:
    started = pool.start("sleep", "6807", singleton=True, options=LEASE)
    pool.kill_starter(started["job"])
    pool.until(lambda: pool.rows() == [])
    assert "it was taken off its node and is not to run twice" in str(pool.seen["problems"])
    assert pool.pids(started["token"]) == [] and pool.jobs() == []
    again = pool.start("sleep", "6807", singleton=True)
    assert pool.stop(again["token"])["outcome"] == "stopped"


def test_what_somebody_else_removed(pool: Pool) -> None:
    """It is over when it has left the queue, and says who it was; the next one starts."""
    script = "trap '' TERM; while :; do sleep 0.1; done"
    started = pool.start("sh", "-c", script, grace=4)
    pool.root(f"condor_rm {started['job']}")
    (row,) = pool.rows()
    assert row["state"].startswith("REMOVED on slot")
    (again,) = pool.apply(pool.action("sleep", "6808"))
    assert again["outcome"] == "already" and "REMOVED" in again["message"], again
    assert len(pool.jobs()) == 1
    pool.until(lambda: pool.rows() == [])
    assert re.search(r"removed: via condor_rm \(by user (root|condor)\)", str(pool.seen["problems"]))
    assert pool.pids(started["token"]) == []
    # forced out of the queue nobody has heard that it ended
    forced = pool.start("sh", "-c", script, grace=30, options=LEASE)
    pool.root(f"condor_rm {forced['job']}; condor_rm -forcex {forced['job']}")
    pool.until(lambda: pool.pids(forced["token"]) == [])
    seen = pool.ask()
    assert seen["instances"] == []
    assert "forced out of the queue while it ran on slot" in seen["possible"][0]["why"]
    (refused,) = pool.apply(pool.action("sleep", "6808"))
    assert refused["outcome"] == "refused" and "may still run" in refused["message"]


def test_walltime_hand_over_of_a_singleton(pool: Pool) -> None:
    """The node ends it in time, its successor takes over with the same token, and there are never two."""
    options = {"time": 14, "handover": 13, "margin": 1}
    script = "trap 'echo term; exit 0' TERM; echo go; while :; do sleep 0.1; done"
    started = pool.start("sh", "-c", script, singleton=True, options=options, grace=1)
    token, first = started["token"], started["job"]
    row = pool.until(lambda: next((row for row in pool.rows() if "renew" in row), None))
    assert re.fullmatch(r"its time is over in \d+ s, and no job waits to take over", row["renew"])
    renewed, again = (pool.apply(pool.other("renew", token))[0] for _twice in range(2))
    assert renewed["outcome"] == "renewed" and f"it begins when job {first} has had its time" in renewed["message"]
    second = renewed["pid"]
    assert (again["outcome"], again["pid"]) == ("already", second)
    assert len(pool.jobs()) == 2
    (row,) = pool.rows()
    assert row["job"] == first and "renew" not in row
    old = pool.pids(token)
    seen: set[int] = set()
    most = 0

    def handed() -> bool:
        nonlocal most
        now = pool.pids(token)
        seen.update(now)
        most = max(most, len(now))
        return bool(now) and now != old

    pool.until(handed, 60)
    assert most == 1 and len(seen) == 2, "one at a time, two in all"
    rows = pool.until(lambda: [row for row in pool.rows() if row["job"] == second])
    assert rows[0]["token"] == token and len(pool.jobs()) == 1
    log = pool.ssh(f"cat {rows[0]['log']}").splitlines()
    assert log == ["go", "term", "go"], "it had time to end by itself, and its log was appended to"
    assert pool.stop(token)["outcome"] == "stopped" and pool.jobs() == []


def test_a_successor_begins_early_where_the_other_is_over(pool: Pool) -> None:
    options = {"time": 3600, "handover": 3599}
    started = pool.start("sh", "-c", "echo go; exec sleep 6809", options=options)
    token = started["token"]
    pool.until(lambda: [row for row in pool.rows() if "renew" in row])
    renewed = pool.apply(pool.other("renew", token))[0]
    pool.root(f"kill -9 {pool.pids(token)[0]}")
    (row,) = pool.until(lambda: [row for row in pool.rows() if row["job"] == renewed["pid"]])
    assert row["renew"] == "the job before it is over, and it may begin"
    assert row["state"].startswith("IDLE: it begins when the job before it is over")
    (result,) = pool.apply(pool.other("renew", token))
    assert result["outcome"] == "renewed", result
    pool.until(lambda: len(pool.pids(token)) == 1)
    assert pool.stop(token)["outcome"] == "stopped" and pool.jobs() == []


def test_a_schedd_that_was_killed(pool: Pool) -> None:
    """While it is away nothing is known; when it is back its queue is, and the job has lived on."""
    started = pool.start("sleep", "6810")
    pids = pool.pids(started["token"])
    pool.root("pkill -9 -x condor_schedd")
    seen = pool.ask()
    assert "htcondor" in seen["silent"], seen
    assert [one["state"] for one in seen["instances"]] == ["unknown"]
    results = pool.apply(pool.action("sleep", "6810", slot=2), pool.other("stop", started["token"]))
    assert {one["outcome"] for one in results} == {"refused"}, results
    pool.until(lambda: "silent" not in pool.ask())
    (row,) = pool.rows()
    assert row["state"].startswith("RUNNING on slot") and pool.pids(started["token"]) == pids
    assert "restarts" not in row
    assert pool.stop(started["token"])["outcome"] == "stopped"


def test_a_schedd_that_lost_its_queue_proves_no_absence(pool: Pool) -> None:
    """A job that it does not know is possible until the lease is over, by which its node has ended it."""
    # clocks of this test agree
    pool.sources = SOURCES | {"_condorq": SOURCES["_condorq"].replace("SLACK = 30", "SLACK = 3")}
    started = pool.start("sleep", "6811", options=LEASE)
    token = started["token"]
    pool.root("pkill -9 -x condor_schedd; rm -f /var/spool/condor/job_queue.log* /var/spool/condor/history*")
    pool.until(lambda: "silent" not in pool.ask())
    assert pool.jobs() == []
    # it lives, on this very host; elsewhere it would be possible
    assert len(pool.pids(token)) == 1
    assert pool.apply(pool.action("sleep", "6811"))[0]["outcome"] in ("already", "refused")
    pool.root(f"kill -9 {pool.pids(token)[0]}")
    seen = pool.until(lambda: (seen := pool.ask()).get("possible") and seen)
    assert "neither in the queue nor in the history, and the schedd was started" in seen["possible"][0]["why"]
    (refused,) = pool.apply(pool.action("sleep", "6811"))
    assert refused["outcome"] == "refused" and "may still run" in refused["message"]
    assert pool.stop(token)["outcome"] == "unknown"
    pool.until(lambda: "possible" not in pool.ask(), 60)
    again = pool.start("sleep", "6811")
    assert pool.stop(again["token"])["outcome"] == "stopped"


def test_a_schedd_that_is_named(pool: Pool) -> None:
    """All programs ask the schedd of the settings, its history from afar too, and the collector for its age."""
    # clocks of this test agree
    pool.sources = SOURCES | {"_condorq": SOURCES["_condorq"].replace("SLACK = 30", "SLACK = 1")}
    pool.settings = {"timeout": 12, "schedd": "ap@", "pool": "h1"}
    started = pool.start("sleep", "6814")
    pool.root(f"kill -9 {pool.pids(started['token'])[0]}")
    pool.until(lambda: pool.rows() == [])
    assert "ended by signal 9" in str(pool.seen["problems"])
    again = pool.start("sleep", "6814")
    # without a history the age of the schedd is what proves it, by the collector
    pool.root(f"mv /var/spool/condor/history /var/spool/condor/away; kill -9 {pool.pids(again['token'])[0]}")
    try:
        pool.until(lambda: pool.jobs() == [])
        # the history is written anew; where it has the job that is proof too, and not what is asked here
        pool.root("rm -f /var/spool/condor/history")
        # how it ended is told once
        seen = pool.until(lambda: (seen := pool.ask()) and "possible" not in seen and seen)
        assert "its job is not in the queue any more" in str(seen["problems"]), seen
    finally:
        pool.root("cat /var/spool/condor/history >> /var/spool/condor/away 2>/dev/null || :")
        pool.root("mv /var/spool/condor/away /var/spool/condor/history; chown condor: /var/spool/condor/history")
    pool.settings["schedd"] = "nowhere@h1"
    assert "htcondor" in pool.ask()["silent"]


def test_a_boot_of_the_host(pool: Pool) -> None:
    """Schedd and node were off: what may be begun again comes back with its token, a singleton does not."""
    both = pool.action("sleep", "6812", options=LEASE), pool.action("sleep", "6813", slot=2, options=LEASE)
    plain, single = both[0], both[1] | {"singleton": True, "component": "p/s"}
    assert [one["outcome"] for one in pool.apply(plain, single)] == ["started", "started"]
    pool.until(lambda: pool.pids(plain["token"]) and pool.pids(single["token"]))
    pool.fleet.kill(pool.host)
    pool.fleet.boot(pool.host)
    pool.boot = ""
    pool.until(lambda: pool.pids(plain["token"]), 90)
    rows = pool.until(lambda: (rows := pool.rows()) and [row["component"] for row in rows] == ["p/c"] and rows, 60)
    assert rows[0]["token"] == plain["token"] and len(pool.pids(plain["token"])) == 1
    assert pool.pids(single["token"]) == []
    assert json.dumps(pool.seen["problems"]).count("is not to run twice") == 1
    assert pool.stop(plain["token"])["outcome"] == "stopped"


# --- where jobs run elsewhere than they are submitted


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


def test_jobs_on_another_machine(bed: Path, tmp_path: Path) -> None:
    """Seen by the queue alone, also when their machine dies: then it is asked until the lease is over."""
    with Fleet(2, "systemd", "cluster") as fleet:
        # deploy's state is on a file system that both see, jadelta's is not
        for host in fleet.names:
            fleet.ssh(host, "mkdir .local", user="deploy")
        os.chown(tmp_path, *[int(fleet.ssh("h1", f"id -{one}", user="deploy")) for one in "ug"])
        share(fleet, tmp_path, "/home/deploy/.local")
        condor_pool(fleet, "h1", "h2", config=CONFIG)
        pool = Pool(fleet)
        elsewhere = LEASE | {"filesystem_domain": "h2"}
        (waits,) = pool.apply(pool.action("sleep", "6820", options=LEASE, settle=0.3))
        assert "is queued" in waits["message"], "no machine has the files of this host"
        assert pool.stop(waits["token"])["outcome"] == "stopped"
        unseen = pool.action("sleep", "6820", options=elsewhere, settle=20)
        pool.fresh()
        (result,) = pool.apply(unseen, user="jadelta")
        pool.fresh()
        assert result["outcome"] == "failed" and "does not see the state folder" in result["message"], str(result)
        script = "hostname; while :; do echo tick; sleep 0.2; done"
        action = pool.action("sh", "-c", script, options=elsewhere)
        (started,) = pool.apply(action)
        assert started["outcome"] == "started", started
        token, number = action["token"], started["pid"]
        assert [one["token"] for one in pool.until(lambda: fleet.instances("h2"))] == [token]
        assert fleet.instances("h1") == []
        (row,) = pool.until(lambda: [row for row in pool.rows() if row["state"].startswith("RUNNING") and row["age"]])
        wanted = {"token": token, "slot": 1, "pid": number, "job": number, "processes": 0, "health": ""}
        assert wanted.items() <= row.items() and re.fullmatch(r"RUNNING on slot\w+@h2", row["state"])
        pool.until(lambda: pool.rows()[0]["log_size"] > 20)
        (rotated,) = pool.apply(pool.other("rotate", token, log=row["log"]))
        assert rotated["outcome"] == "rotated", rotated
        assert pool.until(lambda: pool.ssh(f"head -n 1 {row['log']}")) == "tick", "no hole where it was cut"
        assert pool.ssh(f"head -n 1 {row['log']}.1") == "h2"
        fleet.kill("h2")
        words = pool.until(lambda: next((row["health"] for row in pool.rows() if row["health"]), ""), 90)
        assert words == "its node does not answer; HTCondor asks it until the lease of 20 s is over"
        assert pool.apply(pool.action("sleep", "6821", options=elsewhere))[0]["outcome"] == "already"
        (row,) = pool.until(lambda: [row for row in pool.rows() if row["state"].startswith("IDLE")], 90)
        assert row["token"] == token
        assert pool.stop(token)["outcome"] == "stopped"
