# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts that fail and instances that end: the next host, back-off, and the way back."""

from __future__ import annotations

import itertools
import math

import pytest
from faults.simulator import component

from .scenes import fleet, kinds


def test_j09_a_failed_start_goes_to_the_next_host_and_others_go_on() -> None:
    world, controller, declared = fleet(3, {"p/a": component(0, 1), "p/b": component(1, 1)})
    world.broken = {("p/a", "c9-1")}
    controller.run(declared)
    assert world.running("p/a") == world.running("p/b") == 1
    assert [one["host"] for one in controller.results if one["outcome"] == "failed"] == ["c9-1"]
    assert not any(one.component == "p/a" for one in world.machines["c9-1"].processes)


def test_j09_what_fails_on_three_hosts_in_a_row_is_not_tried_on_the_whole_fleet() -> None:
    world, controller, declared = fleet(16, {"p/a": component(0, 1)})
    world.broken = {("p/a", "*")}
    controller.run(declared, rounds=30)
    assert world.starts == 3
    plan = controller.plan(declared)
    assert plan["actions"] == []
    assert plan["components"]["p/a"]["why"] == "0 of 1: failed 3 times, next try in 90 s; last: exit status 1"


@pytest.mark.parametrize("hosts", [1, 16])
@pytest.mark.parametrize("step", [10, 60, 300])
@pytest.mark.parametrize("life", [None, 5.0])
def test_j23_at_most_30_starts_in_24_hours(hosts: int, step: int, life: float | None) -> None:
    """A command that ends at once, or soon after it was seen alive; delays rise from 10 s to one hour."""
    world, controller, declared = fleet(hosts, {"p/a": component(0, 1)})
    begin, tries = world.now, []
    if life is None:
        world.broken = {("p/a", "*")}
    else:
        world.lives = {"p/a": life}
    while world.now < begin + 86400:
        before = world.starts
        controller.run(declared)
        tries += [world.now] * (world.starts - before)
        # a pass every `step` seconds; those in which nothing can have changed are left out
        until = controller.memory["failures"].get("p/a", {}).get("until", 0.0)
        idle = max(0, math.ceil((until - world.now) / step) - 1) if before == world.starts else 0
        world.tick(step * (1 + idle))
    assert 20 <= world.starts <= 30
    waits = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert max(waits) >= 3600
    assert max(waits) <= 3600 + 2 * step + 60
    entry = controller.memory["failures"]["p/a"]
    if life is None:
        assert entry["log_tail"] == [f"line {at}" for at in range(10, 30)]
        assert min(wait for wait in waits if wait) <= 90 + step
    world.heal()
    for _pass in range(3):
        world.tick(3600)
        controller.run(declared)
    assert world.running("p/a") == 1
    assert controller.memory["failures"].get("p/a", {"level": 0})["level"] == 0


def test_an_instance_that_ends_after_a_healthy_life_is_started_again_at_once() -> None:
    world, controller, declared = fleet(2, {"p/a": component(0, 1)})
    controller.run(declared)
    world.tick(300)
    controller.run(declared)
    next(machine for machine in world.machines.values() if machine.processes).processes.clear()
    world.tick(300)
    plan = controller.run(declared)
    assert plan is not None
    assert len(kinds(plan, "start")) == 1
    assert controller.memory["failures"] == {}


def test_a_reboot_is_no_crash() -> None:
    world, controller, declared = fleet(2, {"p/a": component(0, 2)})
    controller.run(declared)
    world.tick(5)
    world.reboot("c9-1")
    plan = controller.run(declared)
    assert plan is not None
    assert len(kinds(plan, "start")) == 1
    assert controller.memory["failures"] == {}


def test_after_failures_one_is_tried_and_the_rest_follow_when_it_proved_itself() -> None:
    world, controller, declared = fleet(4, {"p/a": component(0, 4)})
    world.broken = {("p/a", "*")}
    controller.run(declared)
    world.heal()
    world.tick(300)
    plan = controller.run(declared)
    assert plan is not None
    assert len(kinds(plan, "start")) == 1
    assert "one at a time after 3 failures" in plan["components"]["p/a"]["why"]
    assert world.running("p/a") == 1
    world.tick(300)
    controller.run(declared)
    assert world.running("p/a") == 4
