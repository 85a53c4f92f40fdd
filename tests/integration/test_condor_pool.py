# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""condor_config, condor_pool_info and the inventory plugin on real pools of HTCondor 23.9 and 25.14."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bed.condor import condor_pool
from bed.fleet import Fleet, until

pytestmark = pytest.mark.hosts

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
RECIPES = {"23.9": "slurm24", "25.14": "cluster"}
FILE = "/etc/condor/config.d/60-sciops-sites"
HOOKS = "/usr/local/libexec/hmdc"
# the master lets a daemon wait before it starts again, a job's ad hears of its memory each quarter of an hour, which is
# measured without the cgroups that hosts of tests lack; slots say what they are entitled to
POOL = """\
BASE_CGROUP =
SHADOW_QUEUE_UPDATE_INTERVAL = 2
MASTER_BACKOFF_CONSTANT = 1
MASTER_BACKOFF_CEILING = 2
Entitlements = "kennedy, edlabs"
STARTD_ATTRS = $(STARTD_ATTRS) Entitlements
"""
#: section 2.6 of the old system, as it stands there
KNOBS = {
    "PIP_BINDIR": HOOKS,
    "STARTER_JOB_HOOK_KEYWORD": "HMDC",
    "HMDC_HOOK_PREPARE_JOB": "$(PIP_BINDIR)/HMDC_interactive_prepare_job.py",
    "HMDC_HOOK_UPDATE_JOB_INFO": "$(PIP_BINDIR)/HMDC_periodic_job_is_idle.py",
    "HMDC_HOOK_JOB_EXIT": "$(PIP_BINDIR)/HMDC_clean_up.py",
    "USER_JOB_WRAPPER": f"{HOOKS}/switch.sh",
    "BETA_JOB_WRAPPER": f"{HOOKS}/beta.sh",
    "STABLE_JOB_WRAPPER": f"{HOOKS}/stable.sh",
    "IDLE_WARNING_TRIGGER": "2 * 24 * 3600",
    "STARTD_CRON_JOBLIST": "idlejobs",
    "STARTD_CRON_IDLEJOBS_AUTOPUBLISH": "If_Changed",
    "STARTD_CRON_IDLEJOBS_EXECUTABLE": "/usr/bin/HMDC_startd_cron_idle.sh",
    "STARTD_CRON_IDLEJOBS_MODE": "Periodic",
    "STARTD_CRON_IDLEJOBS_PERIOD": "10s",
    "JobCpuIsIdle": "(LoadAvg < 0.01)",
    "STARTD_ATTRS": "$(STARTD_ATTRS) JobCpuIsIdle",
    "STARTD_JOB_ATTRS": "JobId",
}
FILES = [*(path.replace("$(PIP_BINDIR)", HOOKS) for name, path in KNOBS.items() if "HOOK_" in name and "/" in path)]
FILES += [KNOBS[name] for name in ("USER_JOB_WRAPPER", "BETA_JOB_WRAPPER", "STABLE_JOB_WRAPPER")]


class Pool:
    """A pool of one host, and what is run on it."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet, self.folder = fleet, folder
        self.printed = ""
        self.address = fleet.hosts["h1"].address

    def ssh(self, text: str, user: str = "root", check: bool = True) -> str:
        return self.fleet.ssh("h1", text, user=user, check=check)

    def play(self, *tasks: dict) -> list[dict]:
        """Run tasks as a playbook would; the result of each."""
        head = {"hosts": "h1", "gather_facts": False, "vars": {"ansible_user": "root"}}
        (self.folder / "play.yml").write_text(json.dumps([head | {"tasks": list(tasks)}]))
        argv = [str(BIN / "ansible-playbook"), "-v", "-i", self.fleet.inventory, str(self.folder / "play.yml")]
        env = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, cwd=ROOT, timeout=240, check=False)
        found = [
            json.JSONDecoder().raw_decode(done.stdout, match.end())[0]
            for match in re.finditer(r"^(?:ok|changed|fatal): \[h1\](?:: FAILED!)? => ", done.stdout, re.M)
        ]
        self.printed = done.stdout + done.stderr
        assert len(found) == len(tasks), done.stdout + done.stderr
        return found

    def inventory(self, *more: str, **options: Any) -> subprocess.CompletedProcess:
        path = self.folder / "condor.yml"
        path.write_text(json.dumps({"plugin": "sciops.sites.condor", **options}))
        env = os.environ | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "_CONDOR_SEC_CLIENT_AUTHENTICATION": "OPTIONAL",
        }
        argv = [str(BIN / "ansible-inventory"), "-i", str(path), "--list", "--export", *more]
        return subprocess.run(argv, env=env, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)

    def stat(self, path: str = FILE) -> str:
        return self.ssh(f"stat -c '%i %Y.%y %s %a %U' {path} 2>&1; sha256sum {path} 2>&1", check=False)


@pytest.fixture(scope="module", params=list(RECIPES))
def pool(request: pytest.FixtureRequest, bed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with Fleet(1, "systemd", RECIPES[request.param]) as fleet:
        assert condor_pool(fleet, config=POOL).startswith(request.param)
        yield Pool(fleet, tmp_path_factory.mktemp("pool"))


#: what HTCondor's version makes no difference for is shown on the newer one
newest = pytest.mark.parametrize("pool", ["25.14"], indirect=True)


def task(**options: Any) -> dict:
    return {"sciops.sites.condor_config": options}


def tried(**options: Any) -> dict:
    return task(**options) | {"ignore_errors": True}


def job(pool: Pool) -> tuple[str, str]:
    """(number of a job that runs and holds 100 MB, pid of a program of it)."""
    text = (
        "executable = /bin/sh\n"
        "arguments = \"-c '(head -c 100m /dev/zero; sleep 4711) | tail -c 100m'\"\n"
        "request_cpus = 2\nrequest_memory = 512\nqueue\n"
    )
    pool.fleet.run("h1", "sh", "-c", 'printf %s "$1" > /home/deploy/job', "sh", text)
    number = pool.ssh("condor_submit -terse job", user="deploy").split(".")[0]
    asked = f"condor_q -allusers {number} -af JobStatus"
    assert until(lambda: pool.ssh(asked) == "2")
    return number, until(lambda: pool.ssh("pgrep -n -f '^sleep 4711'", check=False))


def test_every_knob_of_the_old_system(pool: Pool) -> None:
    """R14: checked, written, read by the daemons without a restart, the same at the second run, taken away again."""
    number, pid = job(pool)
    daemons = "pgrep -x condor_master; pgrep -x condor_startd; pgrep -x condor_schedd"
    before = pool.ssh(daemons)
    assert pid
    made = f"mkdir -p {HOOKS}; for f in {' '.join(FILES)}; do printf '#!/bin/sh\\nexit 0\\n' > $f; chmod 755 $f; done"
    cron = KNOBS["STARTD_CRON_IDLEJOBS_EXECUTABLE"]
    made += f"; printf '#!/bin/sh\\nexec \"$@\"\\n' > {HOOKS}/switch.sh"
    made += f"; printf '#!/bin/sh\\necho HMDCIdleJobs = \\\\\"110.0,3702664\\\\\"\\n' > {cron}; chmod 755 {cron}"
    missing, _made, dry, _seen, first, again, still = pool.play(
        task(knobs=KNOBS) | {"check_mode": True},
        {"ansible.builtin.shell": made},
        task(knobs=KNOBS) | {"check_mode": True, "diff": True},
        {"ansible.builtin.command": f"test ! -e {FILE}"},
        task(knobs=KNOBS),
        task(knobs=KNOBS),
        task(knobs=KNOBS) | {"check_mode": True},
    )
    assert missing["changed"] and len(missing["programs_missing"]) == 7 and missing["programs"] == {}
    assert (dry["changed"], dry["reconfigured"], dry["restart_needed"]) == (True, True, [])
    assert f"before: {FILE} (not there)" in pool.printed and "\n+STARTER_JOB_HOOK_KEYWORD = HMDC\n" in pool.printed
    assert dry["knobs"]["HMDC_HOOK_JOB_EXIT"]["value"] == f"{HOOKS}/HMDC_clean_up.py"
    assert [(one["changed"], one["reconfigured"]) for one in (first, again, still)] == [
        *((True, True), (False, False), (False, False))
    ]
    assert first["path"] == FILE and len(first["programs"]) == 7
    written = pool.stat()
    assert " 644 root" in written
    # HTCondor's own word for each, and from which file
    says = pool.ssh(f"for n in {' '.join(KNOBS)}; do condor_config_val -verbose $n; done")
    found = {
        name.upper(): (value, file) for name, value, file in re.findall(r"^(\w+) = (.*)\n # at: (.*), line", says, re.M)
    }
    for name, value in KNOBS.items():
        assert found[name.upper()][1] == FILE
        if name != "STARTD_ATTRS":
            assert found[name.upper()][0] == value.replace("$(PIP_BINDIR)", HOOKS)
    assert found["STARTD_ATTRS"][0].split()[-2:] == ["Entitlements", "JobCpuIsIdle"]
    assert len(pool.ssh("condor_config_val FILESYSTEM_DOMAIN CONDOR_HOST EXECUTE DAEMON_LIST").splitlines()) == 4
    # the daemons have it, and neither they nor the job were ended for it
    assert until(lambda: pool.ssh("condor_config_val -startd STARTER_JOB_HOOK_KEYWORD", check=False) == "HMDC")
    assert until(lambda: pool.ssh("condor_status -af HMDCIdleJobs").startswith("110.0,3702664"))
    assert pool.ssh(daemons) == before
    assert pool.ssh(f"condor_q -allusers {number} -af JobStatus NumShadowStarts") == "2 1"
    assert pool.ssh(f"ps -o pid= -p {pid}").strip() == pid
    # and away
    dry, gone, over = pool.play(task(state="absent") | {"check_mode": True}, task(state="absent"), task(state="absent"))
    assert (dry["changed"], gone["changed"], gone["reconfigured"], over["changed"]) == (True, True, True, False)
    assert "No such file" in pool.stat()
    assert until(lambda: pool.ssh("condor_config_val -startd STARTER_JOB_HOOK_KEYWORD", check=False) != "HMDC")
    assert pool.ssh(daemons) == before and pool.ssh(f"ps -o pid= -p {pid}").strip() == pid
    # the next tests restart daemons, and begin with a pool where nothing runs
    pool.ssh("condor_rm -all")
    assert until(lambda: pool.ssh("condor_status -af State | sort -u") == "Unclaimed")


@newest
def test_what_is_refused_changes_nothing(pool: Pool) -> None:
    """A broken candidate, with HTCondor's words and the line; a knob that a later file says; programs of others."""
    pool.ssh(f"mkdir -p {HOOKS}; cd {HOOKS}; printf '#!/bin/sh\\n' > own.sh; chmod 755 own.sh; chown deploy own.sh")
    pool.ssh(
        "install -d -o deploy /opt/loose; install -m 755 /bin/true /opt/loose/hook;"
        "echo 'LATER = 2' > /etc/condor/config.d/70-more"
    )
    look = {"ansible.builtin.shell": f"ls -lai --time-style=full-iso /etc/condor/config.d; sha256sum {FILE}"}
    knobs = {"EARLY": 2}
    good, before, broken, template, later, name, place, own, loose, secret, unreadable, odd, after, _more, found = (
        pool.play(
            task(knobs={"EARLY": 1, "MORE": "$(EARLY) x"}),
            look,
            tried(knobs=knobs, lines=["if foo", "X = 1", "endif"]),
            tried(knobs=knobs, use=["ROLE:Nonsense"]),
            tried(knobs={"LATER": 1}),
            tried(knobs=knobs, name="60-x.sh"),
            tried(knobs=knobs, path="/etc/60-x"),
            tried(knobs={"USER_JOB_WRAPPER": f"{HOOKS}/own.sh"}),
            tried(knobs={"SITE_HOOK_PREPARE_JOB": "/opt/loose/hook"}),
            tried(knobs={"SITE_PASSWORD": "hush"}),
            tried(knobs={"SITE_PASSWORD": "hush"}, mode="0600"),
            tried(knobs={"A B": "hush"}),
            look,
            # what somebody says elsewhere later is found, though this file is as declared
            {"ansible.builtin.shell": "echo 'EARLY = 3' >> /etc/condor/config.d/70-more"},
            tried(knobs={"EARLY": 1, "MORE": "$(EARLY) x"}),
        )
    )
    assert good["changed"] and good["knobs"]["MORE"]["value"] == "1 x"
    assert "nothing was changed: Configuration Error Line 3 while reading config source " + FILE in broken["msg"]
    assert "foo is not a valid if condition" in broken["msg"]
    assert "does not recognise Nonsense" in template["msg"] and FILE in template["msg"]
    assert "LATER: /etc/condor/config.d/70-more, line 1 says it again and wins, with '2'" in later["msg"]
    assert "60-x.sh: HTCondor does not read a file of this name" in name["msg"]
    assert "/etc/60-x: HTCondor does not read files there; LOCAL_CONFIG_DIR is " in place["msg"]
    assert f"USER_JOB_WRAPPER: {HOOKS}/own.sh: belongs to user " in own["msg"]
    assert "SITE_HOOK_PREPARE_JOB: /opt/loose: belongs to user " in loose["msg"]
    assert "SITE_PASSWORD: looks secret, and mode 0644 lets everybody read it" in secret["msg"]
    assert "its daemons run as condor, who could not read it" in unreadable["msg"]
    assert "is no name of a knob" in odd["msg"] and "hush" not in json.dumps([secret, unreadable, odd])
    assert before["stdout"] == after["stdout"] and FILE in before["stdout"]
    assert pool.ssh("ls -d /tmp/sciops.condor.* 2>/dev/null || echo none") == "none"
    assert "70-more, line 2 says it again" in found["msg"]
    pool.ssh("rm /etc/condor/config.d/70-more")
    # a live file that somebody broke is put right; a secret one is masked; what was there is kept
    pool.ssh(f"echo 'if foo' >> {FILE}")
    mended, secret, plain = pool.play(
        task(knobs={"EARLY": 1}, backup=True),
        task(knobs={"SITE_PASSWORD": "hush"}, mode="0640", group="condor") | {"diff": True},
        task(state="absent") | {"diff": True},
    )
    assert (mended["changed"], mended["before"]) == (True, {})
    assert pool.ssh("grep -c foo /etc/condor/config.d/60-sciops-sites.*~") == "1"
    assert (
        secret["reconfigured"]
        and plain["changed"]
        and "hush" not in pool.printed
        and "SITE_PASSWORD = ***" in pool.printed
    )
    assert "hush" not in pool.ssh("journalctl --no-pager | grep -i condor_config || true")
    pool.ssh("rm /etc/condor/config.d/*~")


@newest
def test_a_knob_that_needs_a_restart(pool: Pool) -> None:
    """NUM_CPUS is told at every run until the startd has it, and only a task that may restarts it."""
    knobs = {"NUM_CPUS": 6}
    startd = pool.ssh("pgrep -x condor_startd; pgrep -x condor_schedd")
    pids = {"ansible.builtin.command": "pgrep -x condor_startd|condor_schedd"}
    dry, first, again, before, dryer, done, over, after = pool.play(
        task(knobs=knobs) | {"check_mode": True},
        task(knobs=knobs),
        task(knobs=knobs),
        pids,
        task(knobs=knobs, restart="needed") | {"check_mode": True},
        task(knobs=knobs, restart="needed"),
        task(knobs=knobs, restart="needed"),
        pids,
    )
    assert [one["restart_needed"] for one in (dry, first, again, dryer)] == [["NUM_CPUS"]] * 4
    assert [one["changed"] for one in (dry, first, again)] == [True, True, False]
    assert set(before["stdout"].split()) == set(startd.split())
    assert [one["restarted"] for one in (dryer, done, over)] == [["startd"], ["startd"], []]
    assert [one["changed"] for one in (dryer, done, over)] == [True, True, False]
    assert (done["restart_needed"], over["restart_needed"]) == ([], [])
    assert startd.split()[0] not in after["stdout"].split() and startd.split()[1] in after["stdout"].split()
    assert until(lambda: pool.ssh("condor_status -constraint PartitionableSlot -af TotalSlotCpus") in ("6", "6.0"))
    # the other way round without a restart: back to what the startd began with is nothing to restart for
    other, back = pool.play(task(knobs={"NUM_CPUS": 5}), task(knobs=knobs))
    assert (other["restart_needed"], back["restart_needed"]) == (["NUM_CPUS"], [])


@newest
def test_daemons_that_do_not_run_and_a_reconfig_that_is_due(pool: Pool) -> None:
    """Written and told; what a run left undone the next one does."""
    one, two = {"SITE_A": 1, "NUM_CPUS": 6}, {"SITE_A": 2, "NUM_CPUS": 8}
    late, due, done, over, _off, off, again, says, _on, on, gone = pool.play(
        task(knobs=one, reconfig=False),
        task(knobs=one) | {"check_mode": True},
        task(knobs=one),
        task(knobs=one),
        {"ansible.builtin.command": "systemctl stop condor"},
        task(knobs=two),
        task(knobs=two),
        {"ansible.builtin.command": "condor_config_val SITE_A"},
        {"ansible.builtin.command": "systemctl start condor"},
        task(knobs=two),
        task(state="absent"),
    )
    assert [(told["changed"], told["reconfigured"]) for told in (late, due, done, over)] == [
        *((True, False), (True, True), (True, True), (False, False))
    ]
    assert [
        (told["changed"], told["reconfigured"], told["running"], told["restart_needed"]) for told in (off, again)
    ] == [*((True, False, False, []), (False, False, False, []))]
    assert says["stdout"] == "2"
    assert (on["changed"], on["running"], on["restart_needed"]) == (False, True, [])
    assert gone["changed"] and until(
        lambda: pool.ssh("condor_status -constraint PartitionableSlot -af TotalSlotCpus") in ("8", "8.0")
    )


def test_values_of_all_kinds_arrive(pool: Pool) -> None:
    """What the module lets through is what HTCondor reads; 150 values made by chance, the seed in the message."""
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    letters = "ab0 \t$()=@#%&|<>?:;,.'\"\\/[]}*+-é"
    knobs = {}
    for i in range(150):
        lines = chance.choice((1, 1, 1, 2, 3))
        value = "\n".join("".join(chance.choices(letters, k=chance.randrange(1, 25))) for _line in range(lines))
        value = value.replace("$(", "$ (").replace("$$", "$ ")
        value = "\n".join(line.strip().lstrip("#").rstrip("\\").strip() or "x" for line in value.split("\n"))
        knobs[f"SITE_{i}"] = "\n".join(line.lstrip("#").strip() or "x" for line in value.split("\n"))
    first, again = pool.play(task(knobs=knobs), task(knobs=knobs))
    assert (first["changed"], again["changed"]) == (True, False), f"seed {seed}: {first.get('msg')}"
    for name, value in knobs.items():
        assert first["knobs"][name]["raw"] == value, f"seed {seed}: {name}"
    pool.play(task(state="absent"))


def test_the_pool_is_shown(pool: Pool) -> None:
    """R13 on a real pool: what is free, who uses it, and machines as hosts, by ssh and by the bindings."""
    number, pid = job(pool)
    # more than 90,000 KB
    assert pid and until(lambda: pool.ssh(f"condor_q {number} -allusers -af 'ResidentSetSize_RAW > 90000'") == "true")
    assert until(lambda: pool.ssh("condor_q -allusers -constraint 'JobStatus != 2' -af ClusterId") == "")
    jobs = int(pool.ssh("condor_q -allusers -constraint 'JobStatus == 2' -af ClusterId | wc -l"))
    assert until(lambda: pool.ssh("condor_status -af State | grep -c Claimed", check=False) == str(jobs))
    told, bindings = pool.play(
        {"sciops.sites.condor_pool_info": {"way": "commands"}}, {"sciops.sites.condor_pool_info": {"way": "bindings"}}
    )
    left = int(pool.ssh("condor_status -constraint 'PartitionableSlot' -af Cpus"))
    assert left == 8 - 2 * jobs
    assert told["available_table"][1].split() == [str(left), told["available_table"][1].split()[1], "h1"]
    (mine,) = told["used"]
    assert mine["unmeasured"] < jobs and 0.05 < mine["used_gb"] < 0.5 * jobs and mine["unused_gb"] > 0.2
    assert (mine["user"], mine["jobs"], mine["cpus"], mine["requested_gb"]) == ("deploy", jobs, 2 * jobs, jobs / 2)
    assert told["complete"] and told["schedds"] == ["h1"]
    assert [bindings[key] for key in ("available", "schedds")] == [told[key] for key in ("available", "schedds")]
    # the host's own schedd, which its commands do not find by this name
    assert "unknown host" in pool.ssh("condor_q -name h1 2>&1", check=False)
    listed, sessions = pool.play(
        {"sciops.sites.condor_job_info": {"way": "commands", "all_schedds": True, "constraint": "JobStatus == 2"}},
        {"sciops.sites.condor_session_info": {"way": "commands"}},
    )
    assert (listed["total"], listed["schedds"], sessions["silent"]) == (jobs, ["h1"], []), (listed, sessions)
    # machines as hosts
    ssh = ["ssh", "-F", pool.fleet.ssh_config, "-oBatchMode=yes", "deploy@h1"]
    by_ssh = pool.inventory(command=ssh, attributes=["HMDCIdleJobs"], compose={"ansible_host": "condor_address"})
    assert by_ssh.returncode == 0, by_ssh.stderr
    seen = json.loads(by_ssh.stdout)["_meta"]["hostvars"]["h1"]
    assert seen["condor_cpus"] == {"total": 8, "used": 2 * jobs, "free": left}
    assert (seen["condor_entitlements"], seen["ansible_host"]) == (["edlabs", "kennedy"], pool.address)
    assert seen["condor_owners"] and [one["type"] for one in seen["condor_slots"]] == [
        *("partitionable", *["dynamic"] * jobs)
    ]
    groups = json.loads(by_ssh.stdout)
    assert groups["condor_entitlement_kennedy"]["hosts"] == groups["condor_free"]["hosts"] == ["h1"]
    by_net = pool.inventory(
        way="bindings", pool=pool.address, daemons=["startd", "schedd", "negotiator"], config=config(pool)
    )
    assert by_net.returncode == 0, by_net.stderr
    again = json.loads(by_net.stdout)["_meta"]["hostvars"]["h1"]
    assert again["condor_daemons"] == ["negotiator", "schedd", "startd"]
    assert {key: again[key] for key in ("condor_cpus", "condor_version", "condor_entitlements")} == {
        key: seen[key] for key in ("condor_cpus", "condor_version", "condor_entitlements")
    }
    # a collector that is gone, and one that just started and knows nobody, are no empty pool
    pool.ssh("systemctl stop condor")
    for options in ({"command": ssh}, {"way": "bindings", "pool": pool.address, "config": config(pool), "timeout": 5}):
        gone = pool.inventory(**options)
        assert gone.returncode and "gave no answer" in " ".join(gone.stderr.split()), gone.stderr
    (silent,) = pool.play({"sciops.sites.condor_pool_info": {"timeout": 10}, "ignore_errors": True})
    assert silent["msg"].startswith("condor_pool_info: ") and "used" not in silent
    pool.ssh("systemctl start condor")


def config(pool: Pool) -> str:
    """Write a configuration of HTCondor for who only asks; its path."""
    path = pool.folder / "condor_config"
    path.write_text("SEC_CLIENT_AUTHENTICATION = OPTIONAL\n")
    return str(path)
