# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Managers on hosts that answer: what may run behind one that hangs, which starts it prevents, and successors."""

from __future__ import annotations

from typing import Any

import pytest
from faults.simulator import Controller, World, component, declaration

from ansible_collections.sciops.sites.plugins.plugin_utils import _memory, _planner, _report

from .scenes import V1, V2, declare, fleet, kinds, running_fleet

HANGS = {"supervisord": "no answer within 5 s"}


def managed(count: int = 3, hosts: int = 3, **more: Any) -> tuple[World, Controller, dict[str, Any]]:
    """Return a fleet whose instances are known to their manager alone."""
    world, controller, declared = fleet(hosts, {"p/a": component(0, count, launcher="supervisord", **more)})
    controller.run(declared)
    for machine in world.machines.values():
        for one in machine.processes:
            one.hidden = True
    world.tick(300)
    controller.run(declared)
    world.tick(300)
    return world, controller, declared


# -- a manager that hangs ---------------------------------------------------------------------------------------------


def test_what_a_silent_manager_had_may_still_run() -> None:
    world, controller, declared = managed()
    world.machines["c9-2"].silent = HANGS
    plan = controller.run(declared)
    assert plan is not None
    assert plan["actions"] == []
    one = plan["components"]["p/a"]
    assert (one["certain"], one["possible"]) == (2, 3)
    assert one["why"] == "2 of 3: 1 possibly running on c9-2 (no answer within 5 s)"
    assert plan["hosts"]["c9-2"]["state"] == "answered"
    assert plan["hosts"]["c9-2"]["instances"] == 1


def test_what_may_run_is_remembered_as_neither_gone_nor_crashed() -> None:
    world, controller, declared = managed()
    before = {one["token"]: one for one in controller.memory["hosts"]["c9-2"]["instances"]}
    for known in controller.memory["hosts"].values():
        for one in known["instances"]:
            one["since"] = world.now - 5
    world.machines["c9-2"].silent = HANGS
    controller.run(declared)
    (kept,) = controller.memory["hosts"]["c9-2"]["instances"]
    assert kept["token"] in before
    assert (kept["launcher"], kept["doubt"]) == ("supervisord", world.now)
    assert controller.memory["failures"] == {}
    world.tick(10)
    controller.run(declared)
    assert controller.memory["hosts"]["c9-2"]["instances"][0]["doubt"] == world.now - 10
    # the manager answers again and has it no more: nothing says when it ended
    world.machines["c9-2"].silent, world.machines["c9-2"].processes = {}, []
    plan = controller.run(declared)
    assert plan is not None
    assert len(kinds(plan, "start")) == 1
    assert controller.memory["failures"] == {}
    assert "doubt" not in controller.memory["hosts"]["c9-2"]["instances"][0]


def test_what_may_run_is_given_up_after_lost_after_but_never_a_singleton() -> None:
    for singleton in (False, True):
        world, controller, declared = managed(1, singleton=singleton)
        (host,) = [name for name, machine in world.machines.items() if machine.processes]
        world.machines[host].silent = HANGS
        controller.run(declared)
        world.tick(3601)
        plan = controller.run(declared)
        assert plan is not None
        assert len(kinds(plan, "start")) == (0 if singleton else 1)
        assert all(one["host"] != host for one in kinds(plan, "start"))
        if singleton:
            plan = controller.run(declared, assume_lost=[host], by="ana")
            assert plan is not None
            assert len(kinds(plan, "start")) == 1


def test_many_managers_that_hang_are_no_collapse() -> None:
    world, controller, declared = managed(12)
    for machine in world.machines.values():
        machine.silent = HANGS
    plan = controller.run(declared)
    assert plan is not None
    assert (plan["verdict"], plan["actions"]) == ("ok", [])
    assert plan["components"]["p/a"]["possible"] == 12


def test_a_new_controller_counts_what_may_run() -> None:
    world, _controller, declared = managed()
    world.machines["c9-2"].silent = HANGS
    other = Controller(world, "two")
    other.number = 100
    plan = other.run(declared)
    assert plan is not None
    assert plan["actions"] == []
    (known,) = other.memory["hosts"]["c9-2"]["instances"]
    assert (known["component"], known["slot"], known["launcher"]) == ("p/a", 2, "supervisord")
    world.machines["c9-2"].fault = "mute"
    plan = other.run(declared)
    assert plan is not None
    assert plan["components"]["p/a"]["possible"] == 3
    world.heal()
    plan = other.run(declared)
    assert plan is not None
    assert plan["components"]["p/a"]["certain"] == 3


def test_what_may_run_bears_on_the_limits_of_its_host() -> None:
    world, controller, declared = managed(3, load=1.0)
    declared["components"]["p/b"] = component(1, 3, load=1.0)
    for host in declared["hosts"].values():
        host["hot_limit"] = 1
    world.machines["c9-2"].silent = HANGS
    plan = controller.run(declared)
    assert plan is not None
    assert plan["actions"] == []
    assert plan["components"]["p/b"]["why"] == "0 of 3: hot limit reached on c9-1, c9-2, c9-3"


def test_nothing_starts_or_stops_through_a_silent_manager_and_all_else_does() -> None:
    world, controller, declared = managed()
    declared["components"]["p/b"] = component(1, 3, load=1.0)
    declared["components"]["p/a"]["count"] = {"min": 5, "max": 5}
    declared["hosts"]["c9-2"]["classes"] = ["bare"]
    declared["components"]["p/c"] = component(2, 3, launcher={"default": "supervisord", "bare": "process"})
    for name in ("c9-1", "c9-2"):
        world.machines[name].silent = HANGS
    plan = controller.run(declared)
    assert plan is not None
    places = {
        name: {one["host"] for one in kinds(plan, "start") if one["component"] == name}
        for name in "p/a p/b p/c".split()
    }
    assert places == {"p/a": {"c9-3"}, "p/b": {"c9-1", "c9-2", "c9-3"}, "p/c": {"c9-2"}}
    for machine in world.machines.values():
        machine.silent = HANGS
    declared["components"]["p/a"]["count"] = {"min": 9, "max": 9}
    plan = controller.run(declared)
    assert plan is not None
    words = "on c9-1, c9-2, c9-3 supervisord does not answer: no answer within 5 s"
    assert words in plan["components"]["p/a"]["why"]
    declared["components"]["p/a"]["state"] = "off"
    for machine in world.machines.values():
        for one in machine.processes:
            one.hidden = False
    plan = controller.run(declared)
    assert plan is not None
    assert not kinds(plan, "stop")
    assert "their manager does not answer" in plan["components"]["p/a"]["why"]


def test_what_leaves_a_drained_host_waits_for_its_manager_and_no_other_one_ends_for_it() -> None:
    world, controller, declared = managed()
    declared["hosts"]["c9-2"]["state"] = "drain"
    declared["components"]["p/a"]["count"] = {"min": 2, "max": 2}
    world.machines["c9-2"].silent = HANGS
    for machine in world.machines.values():
        for one in machine.processes:
            one.hidden = False
    plan = controller.run(declared)
    assert plan is not None
    assert plan["actions"] == []
    assert plan["components"]["p/a"]["why"] == "1 to leave drained hosts once their manager answers"
    world.machines["c9-2"].silent = {}
    plan = controller.run(declared)
    assert plan is not None
    assert [one["host"] for one in kinds(plan, "stop")] == ["c9-2"]


def test_an_update_waits_for_managers() -> None:
    world, controller, declared = managed()
    declared["components"]["p/a"]["hash"] = "9876543210fe"
    world.machines["c9-2"].silent = HANGS
    plan = controller.run(declared)
    assert plan is not None
    assert plan["actions"] == []
    assert "2 to be replaced: waits until it is known what runs" in plan["components"]["p/a"]["why"]
    for machine in world.machines.values():
        machine.silent = HANGS
        for one in machine.processes:
            one.hidden = False
    plan = controller.run(declared)
    assert plan is not None
    assert plan["components"]["p/a"]["why"] == "3 to be replaced, none can be stopped and started again now"


@pytest.mark.parametrize(
    ("state", "runs"),
    [
        ("RUNNING on n1", True),
        ("SIGNALING on n1", True),
        ("RESIZING on n1", True),
        ("COMPLETING on n1", False),
        ("STAGE_OUT on n1", False),
        ("EXPEDITING on n1", False),
        ("POWER_UP_NODE on n1", False),
        ("CONFIGURING on n1", False),
        ("SUSPENDED on n1", False),
        ("PENDING: Resources", False),
        ("TRANSFERRING_OUTPUT on slot1@n1", False),
    ],
)
def test_a_job_that_does_not_run_is_neither_available_nor_proof_of_its_version(state: str, runs: bool) -> None:
    world, controller, declared = running_fleet(launcher="slurm")
    new = declare(declared)
    controller.run(new)
    world.tick(70)
    controller.observe(new)
    (row,) = [one for seen in controller.observations.values() for one in seen["instances"] if one["hash"] == V2]
    assert row["age"] >= 60
    row["state"] = state
    controller.memory["proven"]["p/a"]["hash"] = V1
    memory = _memory.learn(controller.memory, new, controller.observations, world.now, "one")
    plan = _planner.plan(new, controller.observations, memory, world.now)
    assert (memory["proven"]["p/a"]["hash"] == V2) == runs
    assert ("waits until 1 new is healthy" in plan["components"]["p/a"]["why"]) == (not runs)
    assert len(kinds(plan, "stop")) == runs


@pytest.mark.parametrize(
    "garbage",
    [
        {"possible": "none"},
        {"possible": [7]},
        {"possible": [{"component": "p/a"}]},
        {"possible": [{"component": "p/a", "token": None}]},
        {"possible": [{"component": "p/a", "token": "1-0", "slot": "1"}]},
        {"possible": [{"component": "p/a", "token": "1-0", "why": 3}]},
        {"possible": [{"token": "1-0"}]},
        {"silent": ["supervisord"]},
        {"silent": {"supervisord": 5}},
        {"over": ["1-0"]},
        {"over": {"1-0": None}},
        {"instances": [{"component": "p/a", "pid": 1, "age": 1, "launcher": 7}]},
        {"instances": [{"component": "p/a", "pid": 1, "age": 1, "renew": True}]},
    ],
)
def test_words_of_managers_that_do_not_parse_are_no_answer(garbage: dict[str, Any]) -> None:
    world, controller, declared = managed()
    controller.observe(declared)
    controller.observations["c9-1"] = {**controller.observations["c9-1"], **garbage}
    memory = _memory.learn(controller.memory, declared, controller.observations, world.now, "one")
    plan = _planner.plan(declared, controller.observations, memory, world.now)
    assert plan["hosts"]["c9-1"]["state"] == "unknown"
    assert plan["actions"] == []
    assert plan["components"]["p/a"]["possible"] == 3


def test_one_that_is_told_twice_counts_once() -> None:
    _world, controller, declared = managed()
    controller.observe(declared)
    seen = controller.observations["c9-1"]
    row = seen["instances"][0]
    other = {"component": "p/a", "slot": 9, "token": "x-1", "launcher": "supervisord", "why": "hangs"}
    seen["possible"] = [{**other, "token": row["token"]}, other, other]
    plan = controller.plan(declared)
    assert (plan["components"]["p/a"]["certain"], plan["components"]["p/a"]["possible"]) == (3, 4)


# -- the hand-over to a successor -------------------------------------------------------------------------------------


def test_what_will_end_gets_a_successor_and_no_count_changes() -> None:
    _world, controller, declared = managed()
    controller.observe(declared)
    row = controller.observations["c9-2"]["instances"][0]
    row.update(launcher="slurm", renew="the walltime ends in 580 s")
    declared["components"]["p/a"]["launcher"] = "slurm"
    plan = controller.plan(declared)
    assert kinds(plan, "renew") == [
        {"kind": "renew", "host": "c9-2", "component": "p/a", "slot": row["slot"], "token": row["token"],
         "launcher": "slurm", "reason": "the walltime ends in 580 s"}
    ]  # fmt: skip
    # the two others run under another launcher than is declared, and are updated one by one
    assert plan["components"]["p/a"]["after"] == 2


HOLD = {"owner": "ana", "reason": "debugging", "until": None}


@pytest.mark.parametrize(
    ("state", "holds"),
    [
        ("on", [{**HOLD, "mode": "hold", "scope": "host:c9-2"}]),
        ("on", [{**HOLD, "mode": "drain", "scope": "host:c9-2"}]),
        ("on", [{**HOLD, "mode": "hold", "scope": "component:p/a"}]),
        ("on", [{**HOLD, "mode": "drain", "scope": "component:p/a"}]),
        ("off", []),
    ],
)
def test_what_is_held_or_is_to_end_gets_none(state: str, holds: list[dict[str, Any]]) -> None:
    _world, controller, declared = managed(state=state) if state == "on" else managed()
    declared["components"]["p/a"]["state"] = state
    controller.observe(declared)
    controller.observations["c9-2"]["instances"][0]["renew"] = "the walltime ends in 580 s"
    assert not kinds(controller.plan(declared, holds=holds), "renew")


# -- what the memory keeps of launchers -------------------------------------------------------------------------------


def test_launchers_of_what_runs_and_of_what_is_in_doubt_are_remembered() -> None:
    world = World(["h0", "h1"])
    world.add("h0", "p/a", slot=1, launcher="systemd")
    world.add("h0", "p/a", slot=2)
    declared = declaration({"h0": {}, "h1": {}}, {"p/a": component(0, 2)})
    controller = Controller(world)
    controller.observe(declared)
    start = {"kind": "start", "host": "h1", "component": "p/a", "slot": 1, "token": "1-0", "launcher": "slurm"}
    memory = _memory.intend(controller.memory, [start, {**start, "launcher": "process"}], 5.0)
    assert _memory.launchers(memory, "h0") == {"systemd"}
    assert _memory.launchers(memory, "h1") == {"slurm"}
    assert _memory.launchers({}, "h1") == set()
    assert [one.get("launcher") for one in memory["pending"]] == ["slurm", None]


def test_what_a_host_says_of_its_managers_is_in_the_table() -> None:
    declared = declaration({"h1": {}}, {"p/a": component(0, 1)})
    seen = {
        "h1": {
            "answered": True,
            "boot_id": "b",
            "cores": 1,
            "memory": {"total": 1 << 30},
            "instances": [],
            "problems": [f"p/a slot {n} (x): supervisord: FATAL: cannot spawn" for n in range(12)],
        }
    }
    plan = _planner.plan(declared, seen, None, 0.0)
    lines = _report.table(plan).splitlines()
    begin = lines.index("h1 says:")
    assert lines[begin + 1] == "  p/a slot 0 (x): supervisord: FATAL: cannot spawn"
    assert lines[begin + 11] == "  and 2 more"
