# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A set of real hosts (made by bed.sh beside this file) as an object of a test."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
BED = HERE / "bed.sh"
BED_DIR = Path(os.environ.get("BED_DIR") or HERE.parents[1] / "build" / "bed").resolve()
SSH_ARGS = "-o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"


class BedError(RuntimeError):
    """bed.sh failed; the text is what it said."""


class CommandError(AssertionError):
    """A command on a host ended otherwise than well."""


def until(what: Callable[[], Any], seconds: float = 90, why: Callable[[], object] = str) -> Any:
    """Wait for something true and return it. What cannot be asked yet, since a daemon is not up, is asked again."""
    ends = time.monotonic() + seconds
    while True:
        try:
            last = what()
            if last:
                return last
        except CommandError as error:
            last = error
        assert time.monotonic() < ends, f"not within {seconds} s: {last!r} {why()}"
        time.sleep(0.3)


def bed(*args: str, timeout: float = 300) -> str:
    """Run bed.sh with these arguments and return what it printed, without the last newline."""
    env = {**os.environ, "BED_DIR": str(BED_DIR)}
    done = subprocess.run([str(BED), *args], env=env, timeout=timeout, text=True, capture_output=True, check=False)
    if done.returncode:
        raise BedError(f"bed.sh {' '.join(args)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def why_not() -> str:
    """Say why this machine cannot hold hosts; empty where it can."""
    try:
        bed("check")
    except (BedError, OSError, subprocess.SubprocessError) as exc:
        return str(exc)
    return ""


@dataclass(frozen=True)
class Host:
    """One host: its name inside the fleet and its address."""

    name: str
    address: str
    key: str


@dataclass(frozen=True)
class Process:
    """One process as seen from outside a host, with its pid inside it."""

    pid: int
    ppid: int
    user: str
    stat: str
    args: str


class Fleet:
    """Hosts h1..hN with their own processes, network address and sshd; ends with `down()` or the `with` block."""

    def __init__(self, count: int, kind: str = "light", recipe: str = "base") -> None:
        os.environ.setdefault("BED_OWNER", str(os.getpid()))
        self.kind = kind
        self.recipe = recipe
        self._over = False
        bed("build", recipe, timeout=900)
        self.number = bed("up", str(count), kind, recipe)
        self.folder = BED_DIR / self.number
        self.key = str(BED_DIR / "id_ed25519")
        self.hosts: dict[str, Host] = {}
        for line in bed("list", self.number).splitlines():
            _bed, name, _kind, address, _pid = line.split()
            self.hosts[name] = Host(name, address, self.key)

    @property
    def names(self) -> list[str]:
        """Names of the hosts in their order."""
        return list(self.hosts)

    @property
    def inventory(self) -> str:
        """Path of a plain INI inventory of these hosts (group `bed`)."""
        return str(self.folder / "inventory.ini")

    @property
    def ssh_config(self) -> str:
        """Path of an ssh configuration that knows these hosts by name."""
        return str(self.folder / "ssh_config")

    def ssh(
        self, host: str, command: str | Sequence[str], *, user: str = "root", check: bool = True, timeout: float = 60
    ) -> str:
        """Run a command on a host over ssh and return its standard output, stripped. A list is quoted word by word."""
        text = command if isinstance(command, str) else shlex.join(command)
        argv = ["ssh", "-F", self.ssh_config, "-o", "BatchMode=yes", f"{user}@{host}", text]
        done = subprocess.run(
            argv, text=True, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False
        )
        if check and done.returncode:
            raise CommandError(f"{host}: {text!r} ended with {done.returncode}: {done.stderr.strip()} {done.stdout}")
        return done.stdout.strip()

    def run(self, host: str, *command: str, timeout: float = 60) -> str:
        """Run a command inside a host without ssh, so also while it is cut off or mute."""
        return bed("exec", self.number, host, *command, timeout=timeout)

    def ps(self, host: str) -> list[Process]:
        """Return all processes of a host, seen from outside through its namespaces, without ssh."""
        out = bed("view", self.number, host, "ps", "-ww", "-eo", "pid=,ppid=,user:32=,stat=,args=")
        found = []
        for line in out.splitlines():
            pid, ppid, user, stat, args = (line.split(None, 4) + [""])[:5]
            if not args.startswith("ps -ww -eo"):
                found.append(Process(int(pid), int(ppid), user, stat, args))
        return found

    def instances(self, host: str) -> list[dict[str, str]]:
        """Return the leaders of instances on a host: the eight words of their marker, plus `pid` as seen.

        Read from /proc/*/environ, by the words of docs/architecture.md and none of the code under test.
        """
        script = (
            r'for f in /proc/[0-9]*/environ; do m=$(tr "\0" "\n" <"$f" 2>/dev/null | sed -n "s/^SCIOPS_SITES=//p"); '
        )
        script += r'[ -z "$m" ] || { p=${f#/proc/}; echo "${p%/environ} $m"; }; done'
        words = ("site", "deployment", "host", "component", "slot", "hash", "token", "leader")
        found = []
        for line in bed("view", self.number, host, "sh", "-c", script).splitlines():
            pid, *marker = line.split(" ")
            if len(marker) == len(words) and marker[-1] == pid:
                found.append({**dict(zip(words, marker, strict=True)), "pid": pid})
        return found

    def count(self, component: str | None = None) -> int:
        """Count instances (leaders) on all hosts that are up, of one component or of all."""
        return sum(
            component in (None, instance["component"]) for name in self.names for instance in self.instances(name)
        )

    def cut(self, host: str) -> None:
        """Pull the network cable of a host."""
        bed("cut", self.number, host)

    def heal(self, host: str) -> None:
        """Put the network cable of a host in again."""
        bed("heal", self.number, host)

    def mute(self, host: str) -> None:
        """Make sshd of a host accept connections and never answer."""
        bed("mute", self.number, host)

    def unmute(self, host: str) -> None:
        """Let sshd of a host answer again."""
        bed("unmute", self.number, host)

    def kill(self, host: str) -> None:
        """Cut the power of a host: all its processes are gone at once, its files stay."""
        bed("kill", self.number, host)

    def boot(self, host: str) -> None:
        """Power a host on again; returns once its sshd answers."""
        bed("boot", self.number, host)

    def image(self, host: str, path: str, tag: str) -> str:
        """Put an apptainer image (recipe cluster) at this path of a host and return its SHA-256.

        `/etc/tag` in it holds the tag. `one` and `two` are copies of what the root file system has, so the same on all
        hosts; any other is made here, in a third of a second, and no two of those are equal.
        """
        ready = f"/opt/images/{tag}.sif"
        script = 'if [ -f "$3" ]; then cp "$3" "$1"; else /opt/images/make "$1" "$2" >&2; fi; sha256sum "$1"'
        return self.run(host, "sh", "-euc", script, "sh", path, tag, ready).split()[0]

    def site_file(
        self, folder: Path, spec: Mapping[str, Any] | str, *, site: str = "bed", hosts: Sequence[str] | None = None
    ) -> Path:
        """Write an inventory folder with one site file for these hosts and return its path.

        `spec` is a site file (mapping or YAML text) without what only the fleet knows: plugin, site, connection and
        addresses are filled in where it does not say otherwise. `hosts` of the spec adds to a host of the fleet
        (`{"h1": {"hot_limit": 2}}`); without it all hosts, or those given as `hosts`, are declared in their order.
        The deployment is the name of the folder: `test`.
        """
        document: dict[str, Any] = dict(yaml.safe_load(spec) if isinstance(spec, str) else spec)
        given = document.pop("hosts", None) or {}
        chosen = list(hosts or (given if given else self.names))
        declared: dict[str, Any] = {}
        for name in chosen:
            entry = dict(given.get(name) or {})
            if name in self.hosts:
                entry["vars"] = {"ansible_host": self.hosts[name].address, **(entry.get("vars") or {})}
            declared[name] = entry
        connection = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": self.key,
            "ansible_ssh_common_args": SSH_ARGS,
            "ansible_python_interpreter": "/usr/bin/python3",
            **(document.pop("connection", None) or {}),
        }
        head = {"plugin": "sciops.sites.site", "site": site, "connection": connection, "hosts": declared}
        inventory = folder / "inventories" / "test"
        inventory.mkdir(parents=True, exist_ok=True)
        path = inventory / f"{document.get('site', site)}.site.yml"
        path.write_text(yaml.safe_dump({**head, **document}, sort_keys=False), encoding="utf-8")
        return inventory

    def down(self) -> None:
        """End all hosts; what they wrote is gone.

        A second call does nothing: the number may be another fleet's by then.
        """
        if not self._over:
            self._over = True
            bed("down", self.number)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *exc: object) -> None:
        self.down()


SLURM_CONF = {
    "ClusterName": "bed",
    "AuthType": "auth/munge",
    "SlurmUser": "slurm",
    "StateSaveLocation": "/var/lib/slurm/slurmctld",
    "SlurmdSpoolDir": "/var/lib/slurm/slurmd",
    "SlurmctldLogFile": "/var/log/slurm/slurmctld.log",
    "SlurmdLogFile": "/var/log/slurm/slurmd.log",
    "SlurmctldPidFile": "/run/slurmctld.pid",
    "SlurmdPidFile": "/run/slurmd.pid",
    # no cgroup controllers inside hosts
    "ProctrackType": "proctrack/linuxproc",
    "TaskPlugin": "task/none",
    "JobAcctGatherType": "jobacct_gather/none",
    "SelectType": "select/cons_tres",
    "SelectTypeParameters": "CR_Core",
    # hosts have as many processors as a test says, not as the machine has
    "SlurmdParameters": "config_overrides",
    "ReturnToService": "2",
    "ScronParameters": "enable",
    "MailProg": "/bin/true",
    # a test waits for seconds, not for minutes
    "SchedulerParameters": "sched_interval=1,bf_interval=1,requeue_delay=1",
    "KillWait": "2",
    "BatchStartTimeout": "2",
    "MessageTimeout": "5",
}

# the key of munge is that of the root file system, so the same on all hosts
SLURM_START = """
printf %s "$1" > /etc/slurm/slurm.conf
major=$(slurmd -V | sed 's/[^0-9]*\\([0-9]*\\).*/\\1/')
# what it finds out by itself is the machine's, not the host's
if [ "$major" -ge 24 ]; then echo CgroupPlugin=disabled; else echo CgroupPlugin=cgroup/v1; fi > /etc/slurm/cgroup.conf
mkdir -p /var/log/slurm /var/lib/slurm/slurmctld /var/lib/slurm/slurmd
chown slurm: /var/log/slurm /var/lib/slurm /var/lib/slurm/slurmctld
[ "$2" != "$(hostname)" ] || services=slurmctld
systemctl restart munge ${services:-} slurmd
slurmd -V
"""


def slurm_pool(fleet: Fleet, *nodes: str, cpus: int = 8, timeout: float = 30, **settings: object) -> str:
    """Make hosts of a systemd fleet (recipe slurm22, slurm24 or cluster) one Slurm cluster; returns its version.

    All hosts, or those given, run slurmd; the first also slurmctld. Jobs of all users go to partition `main`. Other
    settings are those of slurm.conf (`KillWait=30`). The daemons come back when a host boots again.
    """
    names = nodes or tuple(fleet.names)
    controller, listed = names[0], ",".join(names)
    lines = [f"{name}={value}" for name, value in {**SLURM_CONF, "SlurmctldHost": controller, **settings}.items()]
    lines.append(f"NodeName={listed} CPUs={cpus} CoresPerSocket={cpus} RealMemory=4000 State=UNKNOWN")
    lines.append(f"PartitionName=main Nodes={listed} Default=YES MaxTime=INFINITE State=UP\n")
    conf = "\n".join(lines)
    with ThreadPoolExecutor(len(names)) as pool:
        said = list(pool.map(lambda name: fleet.run(name, "sh", "-euc", SLURM_START, "sh", conf, controller), names))
    wanted = sorted(f"{name} idle" for name in names)
    ends = time.monotonic() + timeout
    while True:
        seen = fleet.run(controller, "sh", "-c", "sinfo -h -N -o '%N %T' 2>&1 || :")
        if sorted(seen.splitlines()) == wanted:
            return said[0].split()[-1]
        if time.monotonic() > ends:
            logs = fleet.run(controller, "sh", "-c", "tail -n 15 /var/log/slurm/*.log")
            raise BedError(f"Slurm does not come up on {', '.join(names)}: {seen}\n{logs}")
        time.sleep(0.1)
