# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launchers that the suite holds to one contract: on which real host each runs, as whom, and what is its own.

Whoever adds a launcher adds one line to KINDS; no case of the suite asks which one it is, beyond what is said here.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bed.condor import condor_pool
from bed.fleet import Fleet, slurm_pool

from ansible_collections.sciops.sites.plugins.plugin_utils import _wire

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {p.stem: p.read_text() for p in (ROOT / "plugins" / "module_utils").glob("_*.py")}


@dataclass(frozen=True)
class Kind:
    """One launcher in one setting.

    `manager` is a pattern of its manager's command line, "" where it cannot end before its host does.
    """

    launcher: str
    recipe: str = "base"
    user: str = "jadelta"
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    container: dict[str, Any] | None = None
    manager: str = ""
    #: What the manager does by itself: start again what was killed; start again what ran when the host was booted.
    restarts: bool = False
    reboots: bool = False
    #: Whether instances live through the end of their manager by SIGKILL.
    survives: bool = True
    #: Processes of ours that stay beside the program.
    keeper: int = 0
    #: What an operator does as root after the manager was killed, where the launcher may not do it itself.
    revive: str = ""
    #: A shell line that ends, as root, once the manager has written down what runs, and knows it after a kill -9.
    saved: str = ":"
    #: Whose process the manager is, where it is not the user's.
    owner: str = ""
    #: Settle time of a start, in seconds, after which a program that fails at once surely has.
    sure: float = 0.5
    prepare: Callable[[Fleet, str], None] = lambda _fleet, _host: None
    #: Whether a power cut of the host is one for its manager too: a test host has the uptime of the machine, by which
    #: Slurm takes a node that was booted for one that was not.
    boots: bool = True
    #: A shell line that says, as root, what the manager thinks and wrote: printed where a wait was in vain.
    tell: str = ":"


def pool(fleet: Fleet, host: str) -> None:
    """Make the host a cluster of itself."""
    slurm_pool(fleet, host)


def condor(fleet: Fleet, host: str) -> None:
    """Make the host an HTCondor pool of itself."""
    condor_pool(fleet, host)


# what programs of the cases need of the host
BINDS = ["/usr:/usr:ro", "/lib:/lib:ro", "/lib64:/lib64:ro", "/bin:/bin:ro"]
# Slurm writes its jobs down seconds after a change, later where disks are busy; what was changed last is then there
SAVED_BY_SLURM = """
for job in $(squeue -h -o %A); do
  scontrol update "JobId=$job" "AdminComment=kept-$job."
  until grep -aq "kept-$job\\." /var/lib/slurm/slurmctld/job_state; do sleep 0.2; done
done
"""
SLURM = Kind(
    "slurm",
    manager="slurmctld",
    owner="slurm",
    revive="systemctl restart slurmctld",
    prepare=pool,
    sure=4.0,
    saved=SAVED_BY_SLURM,
    boots=False,
    tell="squeue; sinfo; tail -n 40 /var/log/slurm/*.log",
)
HTCONDOR = Kind(
    "htcondor",
    manager="condor_schedd",
    owner="condor",
    # its master begins a schedd again by itself, ten seconds after it was killed; all that is to be done is to wait
    revive="until condor_q -allusers >/dev/null 2>&1; do sleep 0.2; done",
    prepare=condor,
    sure=4.0,
    # what starts again after a boot, and when, is shown by tests/integration/test_condor_launcher.py
    boots=False,
)
KINDS: dict[str, Kind] = {
    "process": Kind("process"),
    "supervisord": Kind(
        "supervisord", settings={"timeout": 3}, manager="supervisord -c .*/sciops.sites/", restarts=True
    ),
    "systemd, system": Kind("systemd", user="root", restarts=True, reboots=True),
    "systemd, user": Kind(
        "systemd",
        user="deploy",
        manager="systemd --user",
        restarts=True,
        reboots=True,
        survives=False,
        revive="systemctl restart user@$(id -u deploy)",
    ),
    "apptainer": Kind(
        "apptainer", recipe="cluster", container={"image": "/opt/images/one.sif", "binds": BINDS}, keeper=1
    ),
    "systemd, apptainer instance": Kind(
        "systemd",
        recipe="cluster",
        user="root",
        container={"image": "/opt/images/one.sif", "method": "instance", "binds": BINDS},
        keeper=1,
        restarts=True,
        reboots=True,
    ),
    "slurm 24.11": replace(SLURM, recipe="slurm24"),
    "slurm 26.05": replace(SLURM, recipe="cluster"),
    "htcondor 23.9": replace(HTCONDOR, recipe="slurm24"),
    "htcondor 25.14": replace(HTCONDOR, recipe="cluster"),
}


class Host:
    """What a controller does on one host through one launcher, and what anybody can see there."""

    def __init__(self, fleet: Fleet, name: str, kind: Kind, label: str) -> None:
        self.fleet, self.name, self.kind, self.label = fleet, name, kind, label
        self.user = kind.user
        self.number = 1
        self.fresh()

    def fresh(self) -> None:
        """Begin a case: a site of its own."""
        self.site = f"s{secrets.token_hex(3)}"
        self.deployment = "bed"
        self.number = 1

    @property
    def home(self) -> str:
        return "/root" if self.user == "root" else f"/home/{self.user}"

    @property
    def state(self) -> str:
        base = "/var/lib" if self.user == "root" else f"{self.home}/.local/state"
        return f"{base}/sciops.sites/{self.site}.{self.deployment}/{self.name}"

    # --- the wire

    def begin(self, mode: str, **more: Any) -> tuple[dict, subprocess.Popen]:
        user = more.pop("ssh_user", self.user)
        request = {
            "v": 1,
            "nonce": secrets.token_hex(8),
            "mode": mode,
            "site": self.site,
            "deployment": self.deployment,
        }
        request |= {"host": self.name, "fence": {"number": self.number, "holder": "test"}, "components": {}}
        request |= {"timeout": 40}
        if self.kind.launcher != "process":
            request["launchers"] = {self.kind.launcher: self.kind.settings}
        if self.kind.container:
            request["launchers"]["apptainer"] = {}
        request |= more
        argv = ["ssh", "-F", self.fleet.ssh_config, "-o", "BatchMode=yes", "-o", "ControlMaster=auto"]
        argv += ["-o", f"ControlPath={self.fleet.folder}/cm-%r-%h", "-o", "ControlPersist=60"]
        argv += ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3"]
        argv += [f"{user}@{self.name}", _wire.command("/usr/bin/python3")]
        pipe = subprocess.PIPE
        child = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)
        assert child.stdin
        child.stdin.write(_wire.payload(request, SOURCES))
        child.stdin.flush()
        return request, child

    def ask(self, mode: str = "observe", **more: Any) -> dict:
        request, child = self.begin(mode, **more)
        out, err = child.communicate(timeout=90)
        try:
            return _wire.parse(out, request["nonce"])
        except _wire.Garbled as error:
            raise AssertionError(f"{error}: {err.decode()}") from error

    def apply(self, *actions: dict, **more: Any) -> list[dict]:
        """Take the fence, do these actions; their results."""
        boot = self.ask()["boot_id"]
        self.last = self.ask("apply", actions=list(actions), expect={"boot_id": boot}, **more)
        assert "results" in self.last, self.last
        begun = {one["token"] for one in self.last["results"] if one["outcome"] == "started"}
        if begun and self.kind.launcher in ("slurm", "htcondor"):
            # a start is done when its job is in the queue
            self.until(lambda: begun <= {row["token"] for row in self.ask()["instances"] if row["processes"]}, 20)
        return self.last["results"]

    def action(self, *argv: str, slot: int = 1, **more: Any) -> dict:
        base = {"kind": "start", "host": self.name, "component": "p/c", "slot": slot, "hash": "0123456789ab"}
        base |= {"token": f"{self.number:x}-{secrets.token_hex(3)}", "argv": list(argv), "environment": {}}
        base |= {"secrets": {}, "cwd": None, "user": None, "settle": 0.5, "grace": 3, "reason": ""}
        base |= {"log": {"path": None, "max_bytes": 1000000, "keep": 2}}
        if self.kind.launcher != "process":
            base |= {"launcher": self.kind.launcher, "manager": self.kind.settings, "options": self.kind.options}
        if self.kind.container:
            base["container"] = self.kind.container
        return base | more

    def start(self, *argv: str, **more: Any) -> dict:
        """One start that must come up; its row."""
        action = self.action(*argv, **more)
        (result,) = self.apply(action)
        assert result["outcome"] == "started", result
        return next(row for row in self.rows() if row["token"] == action["token"])

    def rows(self, component: str = "p/c") -> list[dict]:
        """All instances that the host tells of, by slot."""
        self.seen = self.ask()
        assert self.seen["answered"], self.seen
        found = [row for row in self.seen["instances"] if row["component"] == component]
        return sorted(found, key=lambda row: row["slot"])

    def log(self, row: dict) -> str:
        """What the program wrote, once it has written something."""
        return str(self.until(lambda: self.root(f"cat {shlex.quote(row['log'])}")))

    def stop(self, *rows: dict, **more: Any) -> list[dict]:
        keys = ("component", "slot", "token", "pid", "start")
        launcher = {"launcher": self.kind.launcher} if self.kind.launcher != "process" else {}
        stops = [
            {"kind": "stop", "reason": "", "grace": 3} | {k: row[k] for k in keys} | launcher | more for row in rows
        ]
        return self.apply(*stops)

    def clean(self) -> None:
        """End what a case left."""
        for _try in range(3):
            rows = self.ask()["instances"]
            if not rows:
                return
            self.number += 1
            self.stop(*rows, grace=0)
        raise AssertionError(f"could not be ended: {rows}")

    # --- what anybody can see

    def sh(self, text: str, user: str | None = None, check: bool = True) -> str:
        """Run a shell line on the host as its user, without ssh's login of ours."""
        return self.fleet.ssh(self.name, text, user=user or self.user, check=check)

    def root(self, text: str) -> str:
        return self.fleet.run(self.name, "/bin/sh", "-c", text)

    def pids(self, pattern: str) -> list[int]:
        """Processes whose command line holds this text, seen from outside."""
        other = ("ssh", "instance start")
        ours = [one for one in self.fleet.ps(self.name) if pattern in one.args]
        return [one.pid for one in ours if not any(word in one.args for word in other)]

    def file(self, name: str, text: str, mode: str = "755") -> str:
        """A file of the user on the host; its path."""
        path = f"{self.home}/{name}"
        done = subprocess.run(
            [
                "ssh",
                "-F",
                self.fleet.ssh_config,
                "-o",
                "BatchMode=yes",
                f"{self.user}@{self.name}",
                f"cat > {shlex.quote(path)} && chmod {mode} {shlex.quote(path)}",
            ],
            input=text.encode(),
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert not done.returncode, done.stderr
        return path

    def manager(self) -> list[int]:
        """The manager's processes of this user, or nothing where the launcher has none."""
        if not self.kind.manager:
            return []
        return [
            one.pid
            for one in self.fleet.ps(self.name)
            if re.search(self.kind.manager, one.args) and one.user == (self.kind.owner or self.user)
        ]

    def until(self, what: Callable[[], Any], seconds: float = 60) -> Any:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            value = what()
            if value:
                return value
            time.sleep(0.1)
        raise AssertionError(f"it did not come true in time; {self.root(f'( {self.kind.tell} ) 2>&1 || :')}")


#: Counted, not drawn: two draws that happened to be equal once made an old command and its successor the same.
NUMBERS = itertools.count(90000)


def unique() -> str:
    """A number of seconds to sleep that nothing else in this suite sleeps, and no other such number begins with."""
    return f"{next(NUMBERS)}.{os.getpid() % 100:02}"
