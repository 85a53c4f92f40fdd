# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that do not answer, or answer rubbish, and replies that were lost: possibly running."""

from __future__ import annotations

from typing import Any

import pytest
from faults.simulator import Controller, component, declaration

from ansible_collections.sciops.sites.plugins.plugin_utils import _memory, _planner

from .scenes import fleet, kinds


def test_j08_one_mute_host_of_three_gives_an_empty_plan_that_says_why() -> None:
    world, controller, declared = fleet(3, {"p/a": component(0, 6)})
    controller.run(declared)
    world.tick(300)
    world.machines["c9-2"].fault = "mute"
    plan = controller.run(declared)
    assert plan is not None
    assert plan["actions"] == []
    assert plan["components"]["p/a"]["why"] == "4 of 6: 2 possibly running on c9-2 (no answer within 15 s)"


def test_j08_last_known_instances_are_given_up_after_lost_after() -> None:
    world, controller, declared = fleet(3, {"p/a": component(0, 6)}, lost_after=3600)
    controller.run(declared)
    world.machines["c9-2"].fault = "mute"
    world.tick(3600)
    assert controller.run(declared)["actions"] == []  # type: ignore[index]
    world.tick(1)
    plan = controller.run(declared)
    assert plan is not None
    assert {one["host"] for one in kinds(plan, "start")} == {"c9-1", "c9-3"}
    assert len(kinds(plan, "start")) == 2
    world.machines["c9-2"].fault = ""
    world.tick(300)
    plan = controller.run(declared)
    assert plan is not None
    assert len(kinds(plan, "stop")) == 2
    assert world.running("p/a") == 6


def test_a_singleton_waits_for_a_person_however_long_its_host_is_silent() -> None:
    world, controller, declared = fleet(3, {"p/s": component(0, 1, singleton=True)})
    controller.run(declared)
    host = next(name for name, machine in world.machines.items() if machine.processes)
    world.machines[host].fault = "down"
    world.tick(1e6)
    plan = controller.run(declared)
    assert plan is not None
    assert plan["actions"] == []
    assert f"1 possibly running on {host}" in plan["components"]["p/s"]["why"]
    plan = controller.run(declared, assume_lost=[host], by="ana")
    assert plan is not None
    assert len(kinds(plan, "start")) == 1


def test_a_singleton_is_not_started_while_a_host_that_may_hold_it_never_answered() -> None:
    world, controller, declared = fleet(3, {"p/s": component(0, 1, singleton=True), "p/a": component(1, 1)})
    world.machines["c9-2"].fault = "down"
    plan = controller.run(declared)
    assert plan is not None
    assert [one["component"] for one in plan["actions"]] == ["p/a"]
    assert plan["components"]["p/s"]["why"] == "0 of 1: c9-2 never answered and may hold it"
    declared["components"]["p/s"]["avoid"] = ["bad"]
    declared["hosts"]["c9-2"]["classes"] = ["bad"]
    plan = controller.run(declared)
    assert plan is not None
    assert [one["component"] for one in plan["actions"]] == ["p/s"]


def test_limit_leaves_hosts_out_and_needs_no_quorum_of_those_seen_lately() -> None:
    world, controller, declared = fleet(4, {"p/a": component(0, 4)})
    world.machines["c9-1"].fault = "mute"
    controller.observe(declared)
    plan = controller.plan(declared, limit=["c9-2"])
    assert plan["verdict"] == "unsafe", "c9-1 was never seen"
    world.machines["c9-1"].fault = ""
    controller.observe(declared)
    plan = controller.plan(declared, limit=["c9-2"])
    assert {one["host"] for one in plan["actions"]} == {"c9-2"}
    assert plan["hosts"]["c9-3"]["why"] == "outside --limit"


def test_a_lost_reply_counts_as_possibly_running_until_the_host_answers() -> None:
    world, controller, declared = fleet(3, {"p/a": component(0, 1)})
    world.machines["c9-1"].lose_reply = True
    controller.run(declared)
    assert world.running("p/a") == 1
    assert controller.memory["pending"][0]["component"] == "p/a"
    plan = controller.plan(declared)
    assert plan["actions"] == []
    assert "1 possibly running on c9-1 (the reply to its start was lost)" in plan["components"]["p/a"]["why"]
    world.heal()
    plan = controller.run(declared)
    assert plan is not None
    assert plan["actions"] == []
    assert plan["components"]["p/a"]["certain"] == 1
    assert controller.memory["pending"] == []


def test_another_controllers_acts_make_silent_hosts_count_in_full() -> None:
    world, controller, declared = fleet(4, {"p/a": component(0, 2)})
    controller.run(declaration({name: {} for name in world.machines}, {}))
    other = Controller(world, "two")
    other.number = 5
    other.run(declared)
    assert world.running("p/a") == 2
    world.machines["c9-1"].fault = "mute"
    controller.number = 9
    plan = controller.run(declared)
    assert plan is not None
    assert plan["actions"] == []
    assert "2 possibly running on c9-1 (two may have started it there)" in plan["components"]["p/a"]["why"]
    assert world.running("p/a") == 2
    world.machines["c9-1"].fault = ""
    controller.run(declared)
    assert controller.memory["foreign"] is None


@pytest.mark.parametrize(
    "garbage",
    [
        None,
        "text",
        {},
        {"answered": "yes"},
        {"answered": True},
        {"answered": True, "instances": "none"},
        {"answered": True, "instances": [{"component": "p/a"}]},
        {"answered": True, "instances": [{"component": "p/a", "pid": "7", "age": 1}]},
        {"answered": True, "instances": [], "superseded": True},
    ],
)
def test_what_does_not_parse_did_not_answer(garbage: Any) -> None:
    world, controller, declared = fleet(3, {"p/a": component(0, 3)})
    controller.run(declared)
    controller.observe(declared)
    controller.observations["c9-1"] = garbage
    memory = _memory.learn(controller.memory, declared, controller.observations, world.now, "one")
    plan = _planner.plan(declared, controller.observations, memory, world.now)
    assert plan["hosts"]["c9-1"]["state"] == "unknown"
    assert plan["actions"] == []
    assert plan["components"]["p/a"]["possible"] == 3
