# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A set of real hosts (made by bed.sh beside this file) as an object of a test."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
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

    def __init__(self, count: int, kind: str = "light") -> None:
        os.environ.setdefault("BED_OWNER", str(os.getpid()))
        self.kind = kind
        self._over = False
        self.number = bed("up", str(count), kind)
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
            raise AssertionError(f"{host}: {text!r} ended with {done.returncode}: {done.stderr.strip()} {done.stdout}")
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
