# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generated fleets for the property tests: what was seen once, what broke since, and what is declared now."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field
from typing import Any

from faults.simulator import HASH, Controller, World, component, declaration
from hypothesis import strategies as st

FAULTS = ["", "", "", "", "mute", "garbled", "down"]
OLD = "0" * 12


@dataclass
class Scene:
    """A world, a controller that has observed it, and the declaration to plan for."""

    world: World = field(repr=False)
    controller: Controller = field(repr=False)
    declared: dict[str, Any] = field(repr=False)
    known: set[str]  # hosts that were observed at least once, before or now

    def answered(self) -> set[str]:
        """Hosts that answered the last observation."""
        return {host for host, seen in self.controller.observations.items() if seen["answered"]}


def components(chance: random.Random, number: int, limits: bool = True) -> dict[str, dict[str, Any]]:
    """Make components with every setting that placement looks at."""
    pick = chance.choice
    found = {}
    for at in range(number):
        low = pick(range(6))
        spec = component(at, (low, low + pick(range(3))))
        spec["load"] = pick([0.0, 0.5, 1.0, 1.0, 2.0])
        spec["priority"] = pick(range(3))
        spec["state"] = pick(["on", "on", "on", "on", "off", "absent"])
        spec["adopt"] = pick([True, False])
        spec["update"] = {"max_unavailable": pick([1, 1, 2, 9]), "revert": pick([True, True, False])}
        if limits:
            spec["launcher"] = pick(["process", "process", "systemd", {"default": "process", "a": "systemd"}])
            spec["memory"] = pick([0, 0, 100])
            spec["max_per_host"] = pick([None, None, 1, 2])
            spec["uses"] = pick([{}, {}, {"tape": 1}, {"tape": 2}])
            spec["classes"] = pick([[], [], [], ["a"], ["a", "b"]])
            spec["avoid"] = pick([[], [], [], ["b"]])
        if pick(range(5)) == 0:
            spec.update(singleton=True, count={"min": 1, "max": 1})
        found[f"p/c{at}"] = spec
    return found


def hosts(chance: random.Random, number: int, limits: bool = True) -> dict[str, dict[str, Any]]:
    """Make hosts with their limits."""
    pick = chance.choice
    found = {}
    for at in range(number):
        host: dict[str, Any] = {"hot_limit": pick([None, 0, 1, 2, 3, 5])}
        if limits:
            host["memory"] = pick([None, 100, 300])
            host["max_instances"] = pick([None, None, 0, 2, 4])
            host["max_load"] = pick([None, None, 1.5, 4.0])
            host["classes"] = pick([[], ["a"], ["b"], ["a", "b"]])
            host["state"] = pick(["on", "on", "on", "on", "drain"])
        found[f"h{at}"] = host
    return found


def _scene(seed: int, sizes: tuple[int, int], quorum: float | None, unseen: bool) -> Scene:
    chance = random.Random(seed)
    pick = chance.choice
    declared = declaration(
        hosts(chance, sizes[0]),
        components(chance, sizes[1]),
        {"tape": pick(range(7))},
        quorum=pick([0, 0.5]) if quorum is None else quorum,
        start_budget=pick([1, 3, 100]),
        stop_budget=pick([1, 3, 10]),
        placement=pick(["spread", "pack"]),
        stop_guard=pick([0.5, 1.0]),
    )
    world = World(list(declared["hosts"]))
    names = [*declared["components"], "p/gone"]
    slots: dict[str, int] = {}
    for host, machine in world.machines.items():
        machine.loadavg = pick([0.0, 0.0, 1.0, 5.0])
        for _index in range(pick(range(4))):
            name = pick(names)
            if declared["components"].get(name, {}).get("singleton") and world.running(name):
                continue
            slots[name] = slots.get(name, 0) + 1
            owned = pick(range(4)) > 0
            more: dict[str, Any] = {"age": pick([1.0, 30.0, 5000.0]), "slot": slots[name], "owned": owned}
            if owned:
                more["hash"] = pick([HASH, HASH, OLD])
                more["launcher"] = pick(["process", "process", "systemd"])
                more["hidden"] = more["launcher"] == "systemd" and pick([True, False])
                more["health"] = pick(["", "", "", "log is 2 h old"])
            world.add(host, name, **more)
    for name, spec in declared["components"].items():
        if not spec["singleton"] and pick(range(3)) == 0:
            # what is complete may be updated
            running = world.running(name)
            spec["count"] = {"min": running, "max": running + pick(range(2))}
    controller = Controller(world)
    if unseen:
        for machine in world.machines.values():
            machine.fault = pick(FAULTS)
    controller.observe(declared)
    known = {host for host, machine in world.machines.items() if not machine.fault}
    world.tick(300)
    for host, machine in world.machines.items():
        machine.fault = pick(FAULTS)
        machine.silent = pick([{}, {}, {}, {"systemd": "no answer within 10 s"}])
        change = pick(range(10))
        if change == 0:
            world.reboot(host)
        elif change == 1 and machine.processes:
            machine.processes.pop()
    controller.observe(declared)
    known |= {host for host, machine in world.machines.items() if not machine.fault}
    return Scene(world, controller, declared, known)


def scenes(quorum: float | None = None, unseen: bool = False) -> st.SearchStrategy[Scene]:
    """Fleets that were observed well, then broke in places, and were observed again.

    With `unseen` some hosts never answered before either. One number seeds all but the sizes: drawing each choice by
    itself would take ten times as long as planning.
    """
    sizes = st.tuples(st.integers(1, 6), st.integers(1, 4))
    return st.builds(lambda seed, size: _scene(seed, size, quorum, unseen), st.integers(0, 2**32), sizes)


def kinds(plan: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [one for one in plan["actions"] if one["kind"] == kind]


def fleet(hosts: int, components: dict[str, Any], **policy: Any) -> tuple[World, Controller, dict[str, Any]]:
    names = [f"c9-{at + 1}" for at in range(hosts)]
    world = World(names)
    return world, Controller(world), declaration({name: {} for name in names}, components, **policy)


# -- a fleet that is to be updated ------------------------------------------------------------------------------

V1, V2, V3 = ("0123456789ab", "9876543210fe", "333333333333")


def running_fleet(
    count: int = 3, hosts: int = 3, *, settled: bool = True, policy: dict[str, Any] | None = None, **more: Any
) -> tuple[World, Controller, dict[str, Any]]:
    """Return a fleet that runs version 1, proven, in full count."""
    world, controller, declared = fleet(hosts, {"p/a": component(0, count, **more)}, **(policy or {}))
    controller.run(declared)
    if settled:
        world.tick(300)
        controller.run(declared)
        world.tick(300)
    world.fewest.clear()
    return world, controller, declared


def declare(declared: dict[str, Any], version: str = V2, **more: Any) -> dict[str, Any]:
    """Return the declaration with another version of its component."""
    changed = copy.deepcopy(declared)
    changed["components"]["p/a"].update(hash=version, command=["/bin/" + version], **more)
    return changed


def versions(world: World, name: str = "p/a") -> list[str]:
    return sorted(one.hash for machine in world.machines.values() for one in machine.processes if one.component == name)


def row(plan: dict[str, Any] | None, name: str = "p/a") -> dict[str, Any]:
    assert plan is not None
    found: dict[str, Any] = plan["components"][name]
    return found
