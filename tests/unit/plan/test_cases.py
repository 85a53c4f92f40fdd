# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator meets, one case after the other: counts, states, who goes first, where, and why."""

from __future__ import annotations

from typing import Any

from faults.simulator import component, declaration

from ansible_collections.sciops.sites.plugins.plugin_utils import _memory, _planner

from .scenes import fleet, kinds


def test_j06_missing_instances_start_then_nothing() -> None:
    world, controller, declared = fleet(3, {"p/a": component(0, 5, load=1.0), "p/b": component(1, 2)})
    first = controller.run(declared)
    assert first is not None
    assert len(kinds(first, "start")) == 7
    assert first["actions"][0]["reason"] == "0 of 5 running, 5 missing"
    world.tick(300)
    second = controller.run(declared)
    assert second is not None
    assert (second["verdict"], second["actions"]) == ("ok", [])
    assert world.starts == 7
    assert second["components"]["p/a"]["certain"] == second["components"]["p/a"]["possible"] == 5


def test_j07_count_3_to_1_stops_two_at_once_and_the_third_keeps_its_pid() -> None:
    world, controller, declared = fleet(3, {"p/a": component(0, 3)})
    controller.run(declared)
    world.tick(300)
    before = world.pids()
    declared["components"]["p/a"]["count"] = {"min": 1, "max": 1}
    plan = controller.run(declared)
    assert plan is not None
    assert [one["reason"] for one in plan["actions"]] == ["3 running, 1 wanted"] * 2
    assert len(world.pids()) == 1
    assert world.pids() <= before
    world.tick(300)
    assert controller.run(declared)["actions"] == []  # type: ignore[index]


def test_j07_off_is_never_started_and_the_plan_says_so() -> None:
    world, controller, declared = fleet(2, {"p/a": component(0, 3, state="off")})
    plan = controller.run(declared)
    assert plan is not None
    assert plan["actions"] == []
    assert plan["components"]["p/a"]["why"] == "off: never started"
    world.add("c9-1", "p/a", slot=1)
    plan = controller.run(declared)
    assert plan is not None
    assert [one["reason"] for one in plan["actions"]] == ["declared off"]
    assert world.running("p/a") == 0


def test_absent_stops_forgets_failures_and_is_not_shown_once_gone() -> None:
    world, controller, declared = fleet(2, {"p/a": component(0, 1)})
    world.broken = {("p/a", "*")}
    controller.run(declared)
    assert controller.memory["failures"]["p/a"]["level"] > 0
    declared["components"]["p/a"]["state"] = "absent"
    world.add("c9-1", "p/a", slot=1)
    plan = controller.run(declared)
    assert plan is not None
    assert [one["reason"] for one in plan["actions"]] == ["declared absent"]
    plan = controller.run(declared)
    assert plan is not None
    assert plan["components"] == {}
    assert controller.memory["failures"] == {}


def test_scale_down_takes_unhealthy_then_outdated_then_the_fullest_host_then_the_newest_and_own_before_adopted() -> (
    None
):
    world, controller, declared = fleet(3, {"p/a": component(0, 1), "p/x": component(1, 9, load=1.0)})
    adopted = world.add("c9-1", "p/a", owned=False)
    young = world.add("c9-2", "p/a", age=100, slot=2)
    old = world.add("c9-2", "p/a", age=900, slot=3)
    lone = world.add("c9-3", "p/a", age=50, slot=4)
    sick = world.add("c9-3", "p/a", age=5000, slot=5)
    sick.health = "log is 2 h old"
    world.add("c9-2", "p/x", slot=1)
    controller.observe(declared)
    order = []
    for count in (4, 3, 2, 1, 0):
        declared["components"]["p/a"]["count"] = {"min": count, "max": count}
        plan = controller.plan(declared, lift_stop_guard=True)
        stops = [one["pid"] for one in kinds(plan, "stop")]
        order.append((set(stops) - {pid for pids in order for pid in pids}).pop())  # type: ignore[attr-defined]
        order[-1] = (order[-1],)  # type: ignore[call-overload]
    assert [one[0] for one in order] == [sick.pid, young.pid, old.pid, lone.pid, adopted.pid]  # type: ignore[index]


def test_adopt_false_counts_what_others_started_but_never_stops_it() -> None:
    world, controller, declared = fleet(2, {"p/a": component(0, 1, adopt=False)})
    for _index in range(3):
        world.add("c9-1", "p/a", owned=False)
    plan = controller.run(declared)
    assert plan is not None
    assert plan["actions"] == []
    assert plan["components"]["p/a"]["certain"] == 3
    assert "2 more than wanted" in plan["components"]["p/a"]["why"]


def test_undeclared_instances_are_stopped_or_reported_as_the_policy_says() -> None:
    world, controller, declared = fleet(2, {"p/a": component(0, 1)}, undeclared="report")
    world.add("c9-1", "p/gone", slot=1)
    plan = controller.run(declared)
    assert plan is not None
    assert not kinds(plan, "stop")
    assert plan["components"]["p/gone"]["state"] == "undeclared"
    declared["policy"]["undeclared"] = "stop"
    plan = controller.run(declared)
    assert plan is not None
    assert [one["reason"] for one in kinds(plan, "stop")] == ["not declared any more"]


def test_stops_make_no_room_before_they_were_seen_to_happen() -> None:
    world, controller, declared = fleet(1, {"p/a": component(0, 1, load=1.0), "p/b": component(1, 1, load=1.0)})
    declared["hosts"]["c9-1"]["hot_limit"] = 1
    declared["components"]["p/a"]["state"] = "off"
    world.add("c9-1", "p/a", slot=1)
    controller.observe(declared)
    plan = controller.plan(declared)
    assert [one["kind"] for one in plan["actions"]] == ["stop"]
    controller.act(declared)
    assert (world.running("p/a"), world.running("p/b")) == (0, 1)


def test_priority_is_served_first_then_the_order_of_declaration() -> None:
    _world, controller, declared = fleet(
        1, {"p/a": component(0, 2), "p/b": component(1, 1, priority=5), "p/c": component(2, 1)}, start_budget=3
    )
    controller.observe(declared)
    plan = controller.plan(declared)
    assert [one["component"] for one in plan["actions"]] == ["p/b", "p/a", "p/a"]
    assert plan["components"]["p/c"]["why"] == "0 of 1: budget of starts is used up"


def test_pack_fills_one_host_and_spread_takes_the_freest() -> None:
    world, controller, declared = fleet(3, {"p/a": component(0, 3, load=1.0)})
    for host in declared["hosts"].values():
        host["hot_limit"] = 4
    world.add("c9-2", "p/a", slot=9)
    declared["components"]["p/a"]["count"] = {"min": 4, "max": 4}
    controller.observe(declared)
    spread = [one["host"] for one in controller.plan(declared)["actions"]]
    assert spread == ["c9-1", "c9-3", "c9-1"]
    declared["policy"]["placement"] = "pack"
    assert [one["host"] for one in controller.plan(declared)["actions"]] == ["c9-2"] * 3


def test_a_log_that_is_too_long_is_rotated() -> None:
    _world, controller, declared = fleet(1, {"p/a": component(0, 1)})
    controller.run(declared)
    controller.observe(declared)
    seen = controller.observations["c9-1"]["instances"][0]
    seen.update(log="/var/log/a.log", log_size=200e6)
    plan = controller.plan(declared)
    assert [(one["kind"], one["log"]) for one in plan["actions"]] == [("rotate", "/var/log/a.log")]
    assert plan["components"]["p/a"]["after"] == 1


def test_a_site_without_hosts_plans_nothing_and_says_so() -> None:
    plan = _planner.plan(declaration({}, {"p/a": component(0, 1)}), {}, None, 0.0)
    assert plan["actions"] == []
    assert plan["components"]["p/a"]["why"] == "0 of 1: no host is left"


def test_a_process_of_others_that_two_logical_hosts_of_one_machine_see_is_one_process() -> None:
    """Without our marker nothing says which of them it belongs to; the machine is known by its boot id."""
    spec = component(0, 3, match=[["a"]])
    declared = declaration({"c9-1": {}, "c9-2": {}, "c8-1": {}}, {"p/a": spec})
    one = {"component": "p/a", "slot": None, "token": None, "owned": False, "pid": 7, "start": 70, "age": 9000.0}
    seen = {
        host: {"answered": True, "boot_id": boot, "cores": 8, "memory": {"total": 1 << 36}, "instances": [one]}
        for host, boot in (("c9-1", "same"), ("c9-2", "same"), ("c8-1", "other"))
    }
    plan = _planner.plan(declared, seen, None, 0.0)
    assert (plan["components"]["p/a"]["certain"], plan["components"]["p/a"]["where"]) == (2, {"c8-1": 1, "c9-1": 1})
    assert len(kinds(plan, "start")) == 1


def _crowd(numbers: range) -> dict[str, Any]:
    """Three logical hosts of one machine, each of which sees all of these processes of others."""
    ones = [
        {"component": "p/a", "slot": None, "token": None, "owned": False, "pid": n, "start": n, "age": 9000.0}
        for n in numbers
    ]
    return {
        f"c9-{n}": {"answered": True, "boot_id": "same", "cores": 8, "memory": {"total": 1 << 36}, "instances": ones}
        for n in (1, 2, 3)
    }


def test_what_three_logical_hosts_see_is_remembered_once() -> None:
    """Counted by the machine in one pass and by the host in the next, they would look like a collapse."""
    spec = component(0, 8, match=[["a"]])
    declared = declaration({"c9-3": {}, "c9-2": {}, "c9-1": {}}, {"p/a": spec}, policy={"stop_budget": 100})
    memory = None
    for now in (0.0, 60.0, 120.0):
        memory = _memory.learn(memory, declared, _crowd(range(1, 9)), now)
        plan = _planner.plan(declared, _crowd(range(1, 9)), memory, now)
        assert (plan["verdict"], plan["why"], plan["components"]["p/a"]["certain"]) == ("ok", "", 8)
        memory = _memory.note_good(memory, plan, now)
        assert memory["last_good"]["established"] == 8
    # the host that answers no more adds nothing to what the others still see
    silent = {**_crowd(range(1, 9)), "c9-1": {"answered": False, "kind": "timeout", "reason": "no answer"}}
    plan = _planner.plan(declared, silent, _memory.learn(memory, declared, silent, 180.0), 180.0)
    assert (plan["components"]["p/a"]["certain"], plan["components"]["p/a"]["possible"]) == (8, 8)
    # five of eight gone without a reason is a collapse; five stopped by us is none, whoever remembers them
    few = _crowd(range(1, 4))
    assert _planner.plan(declared, few, _memory.learn(memory, declared, few, 180.0), 180.0)["verdict"] == "unsafe"
    stops = [
        {"kind": "stop", "host": "c9-3", "component": "p/a", "slot": None, "token": None, "pid": n, "start": n}
        for n in range(4, 9)
    ]
    told = _memory.learn(_memory.intend(memory, stops, 130.0), declared, few, 180.0)
    assert _planner.plan(declared, few, told, 180.0)["verdict"] == "ok"
