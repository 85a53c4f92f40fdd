# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rolling updates: who is replaced when, and what holds an update up."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import pytest
from faults.simulator import component
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils import _updates

from .scenes import V1, V2, V3, declare, kinds, row, running_fleet, versions

QUICK = [one for one in Phase if one is not Phase.explain]
SERIES = settings(phases=QUICK, max_examples=max(25, settings.default.max_examples // 4))


# -- one batch after the other ----------------------------------------------------------------------------------------


def test_one_is_replaced_and_the_next_when_that_one_is_healthy() -> None:
    world, controller, declared = running_fleet()
    new = declare(declared)
    controller.observe(new)
    plan = controller.plan(new)
    (stop,) = plan["actions"]
    assert (stop["kind"], stop["roll"]) == ("stop", True)
    assert stop["reason"] == f"runs configuration {V1}, {V2} is declared"
    assert row(plan)["why"] == "2 of 3: 1 stopped to be replaced, 2 to follow"
    controller.act(new)
    assert versions(world) == [V1, V1, V2]
    world.tick(30)
    plan = controller.run(new)
    assert row(plan)["why"] == "2 to be replaced: waits until 1 new is healthy for 60 s"
    assert versions(world) == [V1, V1, V2]
    for _pass in range(2):
        world.tick(60)
        controller.run(new)
    assert versions(world) == [V2, V2, V2]
    assert (world.fewest["p/a"], world.peak["p/a"]) == (2, 3)
    world.tick(60)
    assert row(controller.run(new))["why"] == ""


def test_without_a_time_to_prove_itself_one_pass_replaces_all() -> None:
    world, controller, declared = running_fleet(5, healthy_after=0)
    world.healthy_after = 0
    controller.run(declare(declared, healthy_after=0))
    assert versions(world) == [V2] * 5
    assert (world.fewest["p/a"], world.peak["p/a"]) == (4, 5)
    assert controller.spent == {"starts": 5, "stops": 5}


@pytest.mark.parametrize(("policy", "replaced"), [({"stop_budget": 2}, 2), ({"start_budget": 3}, 3)])
def test_an_update_ends_with_the_budgets(policy: dict[str, int], replaced: int) -> None:
    world, controller, declared = running_fleet(5, healthy_after=0)
    declared["policy"].update(policy)
    plan = controller.run(declare(declared))
    assert versions(world) == [V1] * (5 - replaced) + [V2] * replaced
    assert row(plan)["after"] == 4
    word = "stops" if "stop_budget" in policy else "starts"
    left = row(controller.plan(declare(declared)))["why"]
    assert left == f"{5 - replaced} to be replaced, the budget of {word} is used up"


def test_the_ill_go_first_and_then_the_oldest() -> None:
    world, controller, declared = running_fleet(4, hosts=1)
    first, second, third, fourth = world.machines["c9-1"].processes
    second.health = "log is 2 h old"
    third.born -= 1000
    new = declare(declared, update={"max_unavailable": 4, "revert": True})
    controller.observe(new)
    order = [one["pid"] for one in controller.plan(new)["actions"]]
    assert order[:2] == [second.pid, third.pid]
    assert set(order[2:]) == {first.pid, fourth.pid}
    # one that is ill is missing anyway, so with one to spare no healthy one goes beside it
    new["components"]["p/a"]["update"]["max_unavailable"] = 1
    assert [one["pid"] for one in controller.plan(new)["actions"]] == [second.pid]
    second.health, first.health = "", "port 80 refuses"
    controller.observe(new)
    new["components"]["p/a"]["update"]["max_unavailable"] = 2
    assert [one["pid"] for one in controller.plan(new)["actions"]] == [first.pid, third.pid]


def test_one_that_is_ill_and_cannot_be_stopped_is_still_missing() -> None:
    world, controller, declared = running_fleet()
    world.machines["c9-1"].processes[0].health = "log is 2 h old"
    new = declare(declared)
    controller.observe(new)
    plan = controller.plan(new, holds=[{**HOLD, "scope": "host:c9-1"}])
    assert plan["actions"] == []
    new["components"]["p/a"]["update"]["max_unavailable"] = 2
    plan = controller.plan(new, holds=[{**HOLD, "scope": "host:c9-1"}])
    assert [one["host"] for one in plan["actions"]] == ["c9-2"]


def test_a_new_one_that_is_not_healthy_holds_the_rest_back() -> None:
    world, controller, declared = running_fleet()
    new = declare(declared)
    controller.run(new)
    world.tick(300)
    fresh = next(one for machine in world.machines.values() for one in machine.processes if one.hash == V2)
    fresh.health = "log is 2 h old"
    plan = controller.run(new)
    assert "waits until 1 new is healthy" in row(plan)["why"]
    assert versions(world) == [V1, V1, V2]


@pytest.mark.parametrize("state", ["PENDING", "auto-restart", "BACKOFF Exited too quickly"])
def test_what_waits_in_its_manager_does_not_run_yet(state: str) -> None:
    world, controller, declared = running_fleet(launcher="slurm")
    new = declare(declared)
    controller.run(new)
    world.tick(300)
    fresh = next(one for machine in world.machines.values() for one in machine.processes if one.hash == V2)
    fresh.state = state
    controller.run(new)
    assert versions(world) == [V1, V1, V2]
    assert controller.memory["proven"]["p/a"]["hash"] == V1
    fresh.state = "RUNNING"
    controller.run(new)
    assert versions(world) == [V1, V2, V2]
    assert controller.memory["proven"]["p/a"]["hash"] == V2


def test_another_launcher_is_an_update_and_only_where_it_differs() -> None:
    world, controller, declared = running_fleet(4, hosts=2)
    declared["hosts"]["c9-2"]["classes"] = ["x", "vm"]
    new = copy.deepcopy(declared)
    new["components"]["p/a"]["launcher"] = {"default": "process", "vm": "systemd"}
    plan = controller.run(new)
    assert plan is not None
    assert [(one["host"], one["reason"]) for one in kinds(plan, "stop")] == [
        ("c9-2", "runs under process, systemd is declared")
    ]
    assert row(plan)["stale"] == 2
    world.tick(300)
    controller.run(new)
    found = {host: sorted(one.launcher for one in machine.processes) for host, machine in world.machines.items()}
    assert found == {"c9-1": ["process"] * 2, "c9-2": ["systemd"] * 2}
    stop = [one for one in controller.results if one["kind"] == "stop"]
    assert "launcher" not in stop[0]
    world.tick(300)
    plan = controller.run(declared)
    assert plan is not None
    assert kinds(plan, "stop")[0]["launcher"] == "systemd"


def test_a_surplus_goes_first_and_takes_the_outdated() -> None:
    world, controller, declared = running_fleet(4)
    new = declare(declared)
    new["components"]["p/a"]["count"] = {"min": 3, "max": 3}
    controller.observe(new)
    plan = controller.plan(new)
    assert [(one["reason"], one.get("roll")) for one in plan["actions"]] == [("4 running, 3 wanted", None)]
    controller.act(new)
    assert versions(world) == [V1, V1, V2]


def test_a_mass_update_is_no_mass_stop() -> None:
    world, controller, declared = running_fleet(30)
    new = declare(declared, update={"max_unavailable": 30, "revert": True})
    declared["policy"]["start_budget"] = 100
    plan = controller.run(new)
    assert plan is not None
    assert plan["verdict"] == "ok"
    assert len(kinds(plan, "stop")) == 10
    assert versions(world) == [V1] * 20 + [V2] * 10


def test_what_was_stopped_otherwise_comes_first_in_the_budget() -> None:
    world, controller, declared = running_fleet(2, policy={"stop_budget": 1})
    world.add("c9-1", "p/gone", slot=1)
    new = declare(declared)
    controller.observe(new)
    plan = controller.plan(new)
    assert [one["component"] for one in plan["actions"]] == ["p/gone"]


def test_what_is_missing_comes_first_in_the_budget_of_starts() -> None:
    _world, controller, declared = running_fleet(policy={"start_budget": 3})
    declared["components"]["p/b"] = component(1, 3)
    new = declare(declared)
    controller.observe(new)
    assert {one["kind"] for one in controller.plan(new)["actions"]} == {"start"}
    declared["policy"]["start_budget"] = 4
    assert [one["kind"] for one in controller.plan(declare(declared))["actions"]] == ["start"] * 3 + ["stop"]


# -- what holds an update up ------------------------------------------------------------------------------------------

HOLD = {"owner": "ana", "reason": "debugging", "until": None, "mode": "hold"}


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"gates": ["quota"]}, {}, "3 to be replaced: gate quota is closed: no reading"),
        ({}, {"holds": [{**HOLD, "scope": "component:p/a"}]}, "held by ana: debugging"),
        ({}, {"holds": [{**HOLD, "scope": f"host:c9-{at}"} for at in (1, 2, 3)]}, "none can be stopped and started"),
        ({"classes": ["nowhere"]}, {}, "none can be stopped and started again now"),
        ({"uses": {"tape": 2}}, {}, "none can be stopped and started again now"),
        ({"load": 3.0}, {}, "none can be stopped and started again now"),
        ({"state": "off"}, {}, "off: never started"),
    ],
)
def test_nothing_is_stopped_for_an_update_that_could_not_start_again(
    change: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    _world, controller, declared = running_fleet()
    for host in declared["hosts"].values():
        host["hot_limit"] = 2
    declared["shared_limits"] = {"tape": 5}
    new = declare(declared, **change)
    controller.observe(new)
    plan = controller.plan(new, **options)
    assert not [one for one in plan["actions"] if one.get("roll")]
    assert words in row(plan)["why"]


def test_full_hosts_make_their_own_room() -> None:
    world, controller, declared = running_fleet(6, load=1.0)
    for host in declared["hosts"].values():
        host["hot_limit"] = 2
    new = declare(declared)
    for _pass in range(6):
        controller.run(new)
        world.tick(300)
    assert versions(world) == [V2] * 6
    assert {len(machine.processes) for machine in world.machines.values()} == {2}


def test_an_update_waits_for_a_host_that_does_not_answer() -> None:
    world, controller, declared = running_fleet(6)
    world.machines["c9-2"].fault = "mute"
    new = declare(declared)
    plan = controller.run(new)
    assert plan is not None
    assert plan["actions"] == []
    assert "4 to be replaced: waits until it is known what runs" in row(plan)["why"]


def test_a_component_that_failed_lately_is_not_updated() -> None:
    world, controller, declared = running_fleet(update={"max_unavailable": 1, "revert": False})
    new = declare(declared)
    world.broken = {(V2, "*")}
    controller.run(new)
    assert versions(world) == [V1, V1]
    world.heal()
    world.tick(300)
    controller.run(new)
    assert versions(world) == [V1, V1, V2]
    world.tick(10)
    assert "waits after a failure until an instance has been healthy" in row(controller.run(new))["why"]
    world.tick(300)
    controller.run(new)
    assert versions(world) == [V1, V2, V2]


def test_a_singleton_ends_before_the_next_one_starts() -> None:
    world, controller, declared = running_fleet(1, singleton=True)
    world.peak.clear()
    controller.run(declare(declared))
    assert versions(world) == [V2]
    assert world.peak["p/a"] == 1


def test_a_range_is_updated_down_to_its_minimum() -> None:
    world, controller, declared = running_fleet(4)
    new = declare(declared)
    new["components"]["p/a"]["count"] = {"min": 2, "max": 5}
    for _pass in range(4):
        controller.run(new)
        world.tick(300)
    assert versions(world) == [V2, V2]
    assert world.fewest["p/a"] >= 1


# -- over generated fleets --------------------------------------------------------------------------------------------

SIZES = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 4))


@SERIES
@given(SIZES, st.sampled_from([0, 60]), st.sampled_from(["process", "systemd"]), st.integers(1, 10))
def test_an_update_converges_when_nothing_fails(
    sizes: tuple[int, int, int], healthy: int, launcher: str, budget: int
) -> None:
    hosts, count, most = sizes
    update = {"max_unavailable": most, "revert": True}
    world, controller, declared = running_fleet(count, hosts, update=update, healthy_after=healthy)
    world.healthy_after = healthy
    declared["policy"].update(stop_budget=budget)
    new = declare(declared, launcher=launcher)
    for _pass in range(math.ceil(count / min(most, budget))):
        controller.run(new)
        assert world.running("p/a") == count
        world.tick(300)
    assert versions(world) == [V2] * count
    assert {one.launcher for machine in world.machines.values() for one in machine.processes} == {launcher}
    assert world.fewest["p/a"] >= count - most
    assert world.peak["p/a"] == count
    final = controller.run(new)
    assert final is not None
    assert final["actions"] == []
    assert row(final)["why"] == ""


@SERIES
@given(st.integers(0, 2**32), SIZES)
def test_through_all_faults_no_more_are_down_for_an_update_than_may_be(seed: int, sizes: tuple[int, int, int]) -> None:
    """Versions and launchers come and go, some fail, hosts and managers are silent, replies are lost."""
    chance = random.Random(seed)
    hosts, count, most = sizes
    single = chance.random() < 0.2
    count = 1 if single else count
    update = {"max_unavailable": most, "revert": chance.random() < 0.8}
    world, controller, declared = running_fleet(count, hosts, singleton=single, update=update)
    for _version in range(4):
        name = chance.choice([V1, V2, V3])
        new = declare(declared, name, launcher=chance.choice(["process", "systemd"]))
        bad = chance.random() < 0.3
        for _pass in range(4):
            world.broken = {(name, "*")} if bad else set()
            for machine in world.machines.values():
                machine.fault = chance.choice(["", "", "", "mute"])
                machine.lose_reply = chance.random() < 0.2
                machine.silent = chance.choice([{}, {}, {"systemd": "no answer"}])
                for one in machine.processes:
                    one.hidden = one.launcher == "systemd" and chance.random() < 0.5
            controller.run(new)
            assert world.running("p/a") >= count - most
            world.tick(chance.choice([10, 70, 300]))
    assert world.peak["p/a"] <= count
    assert world.fewest.get("p/a", count) >= count - most


def test_a_restart_replaces_what_ran_when_it_was_asked_for_once() -> None:
    world, controller, declared = running_fleet()
    before = {one.token for machine in world.machines.values() for one in machine.processes}
    controller.memory = _updates.restart(controller.memory, ["p/a"], world.now)
    plan = controller.plan(declared)
    assert [(one["kind"], one["roll"], one["reason"]) for one in plan["actions"]] == [
        ("stop", True, "a restart was asked for")
    ]
    for number in range(4):
        if number < 2:
            # said again while it goes on, it changes nothing
            controller.memory = _updates.restart(controller.memory, ["p/a"], world.now)
        controller.run(declared)
        world.tick(61)
    after = {one.token for machine in world.machines.values() for one in machine.processes}
    assert len(after) == 3 and not after & before
    assert controller.memory["restarts"] == {}
    assert controller.run(declared)["actions"] == []
    assert (world.fewest["p/a"], world.peak["p/a"]) == (2, 3)
