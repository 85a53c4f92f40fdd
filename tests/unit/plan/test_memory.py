# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory between passes: what is kept, what is forgotten, what is refused; and the planner's cost in steps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from faults.simulator import Controller, World, component, declaration

from ansible_collections.sciops.sites.plugins.plugin_utils import _fleet, _memory, _placement, _planner


def _start(host: str = "h0", outcome: str = "unknown", **more: Any) -> dict[str, Any]:
    return {"kind": "start", "host": host, "component": "p/a", "slot": 1, "token": "1-0", "outcome": outcome, **more}


DECLARED = declaration({"h0": {}, "h1": {}}, {"p/a": component(0, 1)})


@pytest.mark.parametrize("memory", [None, {}, {"version": 1}, {"hosts": {}, "failures": None}])
def test_missing_parts_mean_a_first_pass(memory: Any) -> None:
    assert _memory.normalise(memory) == _memory.empty()
    assert _planner.plan(DECLARED, {}, memory, 0.0)["verdict"] == "unsafe"


def test_another_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(_memory.UnknownMemoryError, match="version: 2: this release reads version 1"):
        _memory.learn({"version": 2}, DECLARED, {}, 0.0)


def test_nothing_given_is_ever_changed() -> None:
    world = World(["h0", "h1"])
    controller = Controller(world)
    controller.run(DECLARED)
    before = copy.deepcopy(controller.memory)
    _memory.learn(controller.memory, DECLARED, {"h0": world.observe("h0", 99, "x")}, 5.0, "x")
    _memory.intend(controller.memory, [_start()], 5.0)
    _memory.conclude(controller.memory, DECLARED, [_start(outcome="failed", message="no")], {}, 5.0)
    _memory.note_good(controller.memory, {"verdict": "ok"}, 5.0)
    assert controller.memory == before


def test_an_unknown_start_stays_pending_until_its_host_answers() -> None:
    memory = _memory.intend(None, [_start()], 10.0)
    assert memory["pending"] == [{"host": "h0", "component": "p/a", "slot": 1, "token": "1-0", "at": 10.0}]
    memory = _memory.conclude(memory, DECLARED, [_start()], {"h0": {"answered": False, "reason": "cut"}}, 11.0)
    assert len(memory["pending"]) == 1
    memory = _memory.learn(memory, DECLARED, {"h1": World(["h1"]).observe("h1", 1, "x")}, 12.0)
    assert len(memory["pending"]) == 1
    memory = _memory.learn(memory, DECLARED, {"h0": World(["h0"]).observe("h0", 1, "x")}, 13.0)
    assert memory["pending"] == []


def test_an_observation_from_before_an_unknown_start_is_not_believed() -> None:
    world = World(["h0", "h1"])
    seen = {name: world.observe(name, 1, "x") for name in world.machines}
    memory = _memory.intend(_memory.learn(None, DECLARED, seen, 1.0), [_start()], 2.0)
    memory = _memory.conclude(memory, DECLARED, [_start()], seen, 3.0)
    assert len(memory["pending"]) == 1
    plan = _planner.plan(DECLARED, seen, memory, 3.0)
    assert plan["hosts"]["h0"]["state"] == "unknown"
    assert not [one for one in plan["actions"] if one["host"] == "h0"]


def test_delays_grow_from_backoff_min_to_backoff_max() -> None:
    memory: dict[str, Any] = {}
    waits = []
    for at in range(9):
        now = at * 10000.0
        memory = _memory.conclude(
            {**_memory.view(memory), "number": at}, DECLARED, [_start(outcome="failed", exit=1)], {}, now
        )
        if at < 7:
            waits.append(memory["failures"]["p/a"]["until"] - now)
            memory["failures"]["p/a"]["at"] = now + 10000.0
    assert waits == [10, 30, 90, 270, 810, 2430, 3600]
    assert memory["failures"]["p/a"]["last"] == "exit status 1"


def test_refused_actions_leave_no_trace() -> None:
    memory = _memory.intend(None, [_start()], 1.0)
    memory = _memory.conclude(memory, DECLARED, [_start(outcome="refused")], {}, 2.0)
    assert memory["pending"] == []
    assert memory["failures"] == {}


def test_a_host_that_is_no_longer_declared_is_noted_then_forgotten() -> None:
    world = World(["h0", "h1"])
    controller = Controller(world)
    controller.run(DECLARED)
    host = next(name for name, machine in world.machines.items() if machine.processes)
    fewer = declaration({name: {} for name in world.machines if name != host}, DECLARED["components"])
    world.tick(300)
    plan = controller.run(fewer)
    assert plan is not None
    assert plan["actions"] == []
    assert any(f"{host} is no longer declared and had 1 instance" in note for note in plan["notes"])
    world.tick(4000)
    controller.run(fewer)
    assert host not in controller.memory["hosts"]


def test_placing_costs_steps_by_instance_not_by_hosts_times_components() -> None:
    """Doubling everything doubles the heap steps: counted, not timed."""
    steps = []
    for hosts in (100, 200, 400):
        parts = {f"p/c{at}": component(at, 20, load=1.0) for at in range(hosts // 5)}
        declared = declaration({f"h{at:04}": {"hot_limit": 3} for at in range(hosts)}, parts)
        world = World(list(declared["hosts"]))
        seen = {name: world.observe(name, 1, "x") for name in world.machines}
        fleet = _fleet.Fleet(declared, seen, _memory.view(None), 0.0, {})
        placement = _placement.Placement(fleet, "spread", {}, {})
        placed = [placement.fill(name, spec, 20, frozenset(), frozenset()) for name, spec in parts.items()]
        assert sum(len(one) for one in placed) == 3 * hosts
        steps.append(placement.steps)
    assert steps[0] < 100 * 3 * 4
    assert steps[2] < 4.2 * steps[0]
