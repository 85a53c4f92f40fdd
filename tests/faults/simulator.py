# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated fleet: hosts with processes and faults, fences as the agent keeps them, and controllers that run passes.

It exists so that thousands of fleets with faults can be tried in seconds; nothing of the planner is imitated here. What
is true of the real agent is true here: an apply is refused unless fence number, holder and boot id are those of the
observation, a start that is told to fail leaves nothing, and a lost reply leaves whatever was done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils import _memory, _planner, _updates
from ansible_collections.sciops.sites.plugins.plugin_utils._launcher import PROCESS, launcher_for

ROUNDS = 4
HASH = "0123456789ab"
BASE_POLICY: dict[str, Any] = {
    "quorum": 0.5,
    "start_budget": 100,
    "stop_budget": 10,
    "stop_guard": 0.5,
    "cliff": 0.5,
    "cliff_floor": 6,
    "lost_after": 3600,
    "placement": "spread",
    "host_timeout": 15,
    "pass_timeout": 240,
    "fanout": 64,
    "backoff_min": 10,
    "backoff_max": 3600,
    "undeclared": "stop",
}


def component(order: int = 0, count: int | tuple[int, int] = 1, **more: Any) -> dict[str, Any]:
    """Return one compiled component with the collection's defaults."""
    low, high = count if isinstance(count, tuple) else (count, count)
    spec: dict[str, Any] = {
        "pipe": "p",
        "name": f"c{order}",
        "order": order,
        "state": "on",
        "count": {"min": low, "max": high},
        "load": 0.0,
        "memory": 0,
        "uses": {},
        "max_per_host": None,
        "classes": [],
        "avoid": [],
        "priority": 0,
        "singleton": False,
        "launcher": "process",
        "options": {},
        "container": None,
        "update": {"max_unavailable": 1, "revert": True},
        "command": ["/bin/true"],
        "log": {"path": None, "max_bytes": 104857600, "keep": 5},
        "grace": 10,
        "settle": 2,
        "healthy_after": 60,
        "match": [],
        "adopt": True,
        "gates": [],
        "hash": HASH,
    }
    return {**spec, **more}


def declaration(
    hosts: dict[str, dict[str, Any]], components: dict[str, dict[str, Any]], shared: dict[str, float] | None = None,
    **policy: Any,
) -> dict[str, Any]:  # fmt: skip
    """Return a compiled declaration; hosts and components may leave out what has a default."""
    empty: dict[str, Any] = {"hot_limit": None, "memory": None, "max_instances": None, "max_load": None, "classes": []}
    return {
        "site": "test",
        "deployment": "dev",
        "file": "test.site.yml",
        "policy": {**BASE_POLICY, **policy},
        "hosts": {name: {**empty, "state": "on", "order": at, **one} for at, (name, one) in enumerate(hosts.items())},
        "shared_limits": shared or {},
        "gates": {},
        "holds": [],
        "components": components,
        "set_aside": {},
    }


@dataclass
class Process:
    """One running instance; `ends` is the time at which it ends by itself.

    Of a `hidden` one only its manager knows: no process of it is on the host.
    """

    component: str
    slot: int | None
    token: str | None
    pid: int
    born: float
    owned: bool = True
    ends: float | None = None
    health: str = ""
    hash: str = HASH
    launcher: str = PROCESS
    hidden: bool = False
    state: str = ""


@dataclass
class Machine:
    """One host; `fault` is "", "mute", "garbled" or "down"; `silent` are managers that do not answer, and why."""

    name: str
    boot: int = 1
    fault: str = ""
    lose_reply: bool = False
    processes: list[Process] = field(default_factory=list)
    fence: tuple[int, str] | None = None
    memory: float | None = 1e12
    loadavg: float = 0.0
    silent: dict[str, str] = field(default_factory=dict)

    def seen(self, one: Process) -> bool:
        """Whether an instance is certainly there for who looks now."""
        return not (one.hidden and one.launcher in self.silent)


class World:
    """All hosts, the time, and what is wrong with starting things."""

    def __init__(self, names: list[str]) -> None:
        self.now = 1000.0
        self.machines = {name: Machine(name) for name in names}
        self.broken: set[tuple[str, str]] = set()  # (component, version, launcher or "*", host or "*"): ends at once
        self.healthy_after = 60.0
        self.lives: dict[str, float] = {}  # component or hash -> seconds until each new instance ends
        self.peak: dict[str, int] = {}
        self.fewest: dict[str, int] = {}  # component -> fewest healthy instances right after a stop
        self.starts = 0
        self._pid = 100

    def add(
        self, host: str, name: str, *, age: float = 1000.0, slot: int | None = None, owned: bool = True, **more: Any
    ) -> Process:
        """Put a running instance on a host, as if it had been there before."""
        self._pid += 1
        token = f"t{self._pid}" if owned else None
        process = Process(name, slot, token, self._pid, self.now - age, owned, **more)
        self.machines[host].processes.append(process)
        self._count(name)
        return process

    def _count(self, name: str) -> None:
        self.peak[name] = max(self.peak.get(name, 0), self.running(name))

    def running(self, name: str) -> int:
        """Count what truly runs, on all hosts, reachable or not."""
        return sum(1 for machine in self.machines.values() for one in machine.processes if one.component == name)

    def healthy(self, name: str, after: float) -> int:
        """Count what runs well for so many seconds."""
        ones = [one for machine in self.machines.values() for one in machine.processes if one.component == name]
        return sum(1 for one in ones if not one.health and self.now - one.born >= after)

    def pids(self) -> set[int]:
        """Return the pids of all instances."""
        return {one.pid for machine in self.machines.values() for one in machine.processes}

    def tick(self, seconds: float) -> None:
        """Let time pass; what has a limited life ends."""
        self.now += seconds
        for machine in self.machines.values():
            machine.processes = [one for one in machine.processes if one.ends is None or one.ends > self.now]

    def reboot(self, name: str) -> None:
        """Restart a host: its processes are gone, its boot id is new."""
        self.machines[name].boot += 1
        self.machines[name].processes = []

    def heal(self) -> None:
        """End all faults."""
        for machine in self.machines.values():
            machine.fault, machine.lose_reply, machine.silent = "", False, {}
        self.broken, self.lives = set(), {}

    def _observation(self, machine: Machine) -> dict[str, Any]:
        return {
            "answered": True,
            "boot_id": f"boot-{machine.name}-{machine.boot}",
            "cores": 8,
            "memory": {"total": machine.memory, "available": machine.memory},
            "loadavg": [machine.loadavg, 0.0, 0.0],
            "fence": {"number": machine.fence[0], "holder": machine.fence[1], "age": 0} if machine.fence else None,
            "superseded": False,
            "instances": [
                {
                    "component": one.component,
                    "slot": one.slot,
                    "token": one.token,
                    "hash": one.hash if one.owned else None,
                    "owned": one.owned,
                    "pid": one.pid,
                    "start": int(one.born * 100),
                    "age": self.now - one.born,
                    "cpu": 0.0,
                    "rss": 0,
                    "processes": 1,
                    "leader": True,
                    "log": None,
                    "log_size": None,
                    "health": one.health,
                    **({} if one.launcher == PROCESS else {"launcher": one.launcher, "state": one.state}),
                }
                for one in machine.processes
                if machine.seen(one)
            ],
            "possible": [
                {
                    "component": one.component,
                    "slot": one.slot,
                    "token": one.token,
                    "launcher": one.launcher,
                    "why": machine.silent[one.launcher],
                }
                for one in machine.processes
                if not machine.seen(one)
            ],
            "silent": machine.silent,
            "problems": [],
        }

    def _silent(self, machine: Machine) -> dict[str, Any] | None:
        kinds = {"mute": ("timeout", "no answer within 15 s"), "garbled": ("garbled", "answer was cut"),
                 "down": ("unreachable", "connection refused")}  # fmt: skip
        if not machine.fault:
            return None
        kind, reason = kinds[machine.fault]
        return {"answered": False, "kind": kind, "reason": reason}

    def observe(self, host: str, number: int, holder: str) -> dict[str, Any]:
        """Answer as the agent does: look, and store the fence unless a later pass has been here."""
        machine = self.machines[host]
        silent = self._silent(machine)
        if silent:
            return silent
        seen = self._observation(machine)
        if machine.fence and (number < machine.fence[0] or (number == machine.fence[0] and holder != machine.fence[1])):
            seen["superseded"] = True
        else:
            machine.fence = (number, holder)
        return seen

    def apply(
        self, host: str, fence: tuple[int, str], boot: str, actions: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Carry out actions as the agent does; return the observation after them, and the results."""
        machine = self.machines[host]
        silent = self._silent(machine)
        if silent:
            return silent, [{**one, "outcome": "unknown", "message": "no answer"} for one in actions]
        if machine.fence != fence or boot != f"boot-{host}-{machine.boot}":
            refused = {"answered": False, "kind": "refused", "reason": "another pass has been here"}
            return refused, [{**one, "outcome": "refused", "message": "fence"} for one in actions]
        results: list[dict[str, Any]] = []
        for one in actions:
            over = any(had["component"] == one["component"] and had["outcome"] == "failed" for had in results)
            # as the agent does: a failure ends the batch of its component on this host
            results.append({**one, "outcome": "refused", "message": "batch"} if over else self._act(machine, one))
        if machine.lose_reply:
            lost = {"answered": False, "kind": "garbled", "reason": "the reply was lost"}
            return lost, [{**one, "outcome": "unknown", "message": "the reply was lost"} for one in actions]
        return self._observation(machine), results

    def _act(self, machine: Machine, action: dict[str, Any]) -> dict[str, Any]:
        name = action["component"]
        assert action.get("launcher", PROCESS) not in machine.silent, "nothing is done through a manager that is silent"
        if action["kind"] == "stop":
            before = len(machine.processes)
            machine.processes = [one for one in machine.processes if one.pid != action["pid"]]
            left = self.healthy(name, self.healthy_after)
            self.fewest[name] = min(left, self.fewest.get(name, left))
            return {**action, "outcome": "stopped" if len(machine.processes) < before else "gone", "message": ""}
        self.starts += 1
        version, launcher = action.get("hash", HASH), action.get("launcher", PROCESS)
        if self.broken & {(name, machine.name), ("*", machine.name), (name, "*"), (version, "*"), (launcher, "*")}:
            tail = [f"line {at}" for at in range(30)]
            return {**action, "outcome": "failed", "message": "exit status 1", "exit": 1, "log_tail": tail}
        self._pid += 1
        lives = self.lives.get(name, self.lives.get(version))
        ends = None if lives is None else self.now + lives
        new = Process(name, action["slot"], action["token"], self._pid, self.now, True, ends, "", version, launcher)
        machine.processes.append(new)
        self._count(name)
        return {**action, "outcome": "started", "message": "", "pid": self._pid, "start": int(self.now * 100)}


class Controller:
    """Runs passes over a world as the pass of the collection does: observe, learn, plan, intend, apply, conclude."""

    def __init__(self, world: World, name: str = "one") -> None:
        self.world = world
        self.name = name
        self.memory: dict[str, Any] = {}
        self.number = 0
        self.observations: dict[str, dict[str, Any]] = {}
        self.first: dict[str, Any] = {}
        self.spent = {"starts": 0, "stops": 0}
        self.results: list[dict[str, Any]] = []

    def observe(self, declared: dict[str, Any]) -> bool:
        """Look at all hosts; False when a later pass of another controller has been at one of them."""
        self.number += 1
        self.memory = {**_memory.view(self.memory), "number": self.number}
        self.observations = {host: self.world.observe(host, self.number, self.name) for host in declared["hosts"]}
        over = [one["fence"]["number"] for one in self.observations.values() if one.get("superseded")]
        if over:
            self.number = max(self.number, *over)
            return False
        now = self.world.now
        self.memory = _memory.learn(self.memory, self.active(declared), self.observations, now, self.name)
        self.spent, self.results = {"starts": 0, "stops": 0}, []
        return True

    def active(self, declared: dict[str, Any]) -> dict[str, Any]:
        """Return what the pass works with: proven versions in the place of rejected ones."""
        return _updates.effective(declared, self.memory)

    def plan(self, declared: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Plan from what is known now."""
        return _planner.plan(
            self.active(declared),
            self.observations,
            self.memory,
            self.world.now,
            spent=dict(self.spent),
            options=options,
        )

    def act(self, declared: dict[str, Any], rounds: int = ROUNDS, **options: Any) -> dict[str, Any]:
        """Plan and apply in rounds; return the first plan."""
        self.first = plan = self.plan(declared, **options)
        rolled = False
        for number in range(1000):
            rolled = rolled or any(one.get("roll") for one in plan["actions"])
            if plan["verdict"] != "ok" or not plan["actions"] or (number >= rounds and not rolled):
                break
            self.apply(declared, plan["actions"])
            plan = self.plan(declared, **options)
        else:
            raise AssertionError("the rounds of a pass have no end")
        self.memory = _memory.note_good(self.memory, plan, self.world.now)
        return self.first

    def apply(self, declared: dict[str, Any], actions: list[dict[str, Any]]) -> None:
        """Send each host its actions, hosts in the plan's order; a failed start ends the batch of its component."""
        world = self.world
        hosts: dict[str, list[dict[str, Any]]] = {}
        for action in actions:
            token = f"{self.number:x}-{world.starts + len(hosts)}-{len(hosts.get(action['host'], ()))}-{self.name}"
            one = {**action, "token": token, **self._version(declared, action)} if action["kind"] == "start" else action
            hosts.setdefault(action["host"], []).append(one)
        failed: set[str] = set()
        for host, everything in hosts.items():
            mine = [one for one in everything if one["kind"] != "start" or one["component"] not in failed]
            if not mine:
                continue
            boot = self.observations[host]["boot_id"]
            self.memory = _memory.intend(self.memory, mine, world.now)
            seen, results = world.apply(host, (self.number, self.name), boot, mine)
            self.observations[host] = seen
            self.memory = _memory.conclude(self.memory, self.active(declared), results, {host: seen}, world.now)
            self.results += results
            for one in results:
                if one["outcome"] == "failed":
                    failed.add(one["component"])
                if one["outcome"] != "refused":
                    self.spent["starts" if one["kind"] == "start" else "stops"] += 1

    def _version(self, declared: dict[str, Any], action: dict[str, Any]) -> dict[str, Any]:
        active = self.active(declared)
        spec = active["components"][action["component"]]
        launcher = launcher_for(spec, active["hosts"][action["host"]])
        return {"hash": spec["hash"], **({} if launcher == PROCESS else {"launcher": launcher})}

    def run(self, declared: dict[str, Any], rounds: int = ROUNDS, **options: Any) -> dict[str, Any] | None:
        """Run one whole pass; return its first plan, None where another controller was ahead."""
        if not self.observe(declared):
            return None
        return self.act(declared, rounds, **options)
