# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The invariants of the design, each as a property over generated fleets with faults."""

from __future__ import annotations

import copy
import json
import math
import random
from typing import Any

from faults.simulator import Controller, Process, World, component, declaration
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils._launcher import launcher_for

from .scenes import Scene, components, hosts, scenes

# Python 3.11 explains failures by tracing every line of every example: four times the time, for a hint.
QUICK = [one for one in Phase if one is not Phase.explain]
# Properties that run whole series of passes take a part of the profile's examples, so that all take about as long.
SERIES = settings(phases=QUICK, max_examples=max(25, settings.default.max_examples // 4))


def _by(plan: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [one for one in plan["actions"] if one["kind"] == kind]


def _is_stale(scene: Scene, host: str, one: Process) -> bool:
    spec = scene.declared["components"][one.component]
    return one.owned and (one.hash, one.launcher) != (
        spec["hash"],
        launcher_for(spec, scene.declared["hosts"][host]),
    )


def _starts(plan: dict[str, Any], name: str) -> int:
    return sum(1 for one in _by(plan, "start") if one["component"] == name)


@given(scenes())
def test_invariant_1_never_start_beyond_what_may_run(scene: Scene) -> None:
    """What truly runs, on hosts that answer or not, plus all starts, is never more than wanted."""
    plan = scene.controller.plan(scene.declared)
    for name, spec in scene.declared["components"].items():
        starts = _starts(plan, name)
        if starts:
            assert spec["state"] == "on"
            assert scene.world.running(name) + starts <= spec["count"]["min"]
    assert not _starts(plan, "p/gone")
    slots = [(one["component"], one["slot"]) for one in _by(plan, "start")]
    assert len(slots) == len(set(slots))
    for name, slot in slots:
        assert 1 <= slot <= scene.declared["components"][name]["count"]["max"]
        taken = [
            one.slot for machine in scene.world.machines.values() for one in machine.processes if one.component == name
        ]
        assert slot not in taken


@given(scenes())
def test_invariant_2_never_stop_unless_certainly_too_many(scene: Scene) -> None:
    """On a component that is on, stops are at most the surplus seen on hosts that answered, drained hosts apart.

    What an update stops is outdated, of a component that is complete, and no more than may be missing for it.
    """
    plan = scene.controller.plan(scene.declared)
    machines = scene.world.machines
    running = {one.pid: (host, one) for host in machines for one in machines[host].processes}
    for name, spec in scene.declared["components"].items():
        if spec["state"] != "on":
            continue
        stops = [one for one in _by(plan, "stop") if one["component"] == name and not one.get("roll")]
        rolled = [running[one["pid"]][1] for one in _by(plan, "stop") if one["component"] == name and one.get("roll")]
        assert all(_is_stale(scene, *running[one["pid"]]) for one in _by(plan, "stop") if one.get("roll"))
        assert len(rolled) <= spec["update"]["max_unavailable"]
        drained = [one for one in stops if scene.declared["hosts"][one["host"]]["state"] == "drain"]
        certain = sum(
            1
            for host in scene.answered()
            for one in machines[host].processes
            if one.component == name and machines[host].seen(one)
        )
        if rolled:
            assert not stops
            assert spec["count"]["min"] <= certain == scene.world.running(name) <= spec["count"]["max"]
        there = sum(
            1
            for host in scene.answered()
            for one in machines[host].processes
            if one.component == name
            and machines[host].seen(one)
            and scene.declared["hosts"][host]["state"] == "drain"
            and (one.owned or spec["adopt"])
        )
        assert len(stops) - len(drained) <= max(0, certain - there - spec["count"]["max"])
    for one in _by(plan, "stop"):
        host, process = running[one["pid"]]
        assert host == one["host"]
        assert process.component == one["component"]
    assert len({one["pid"] for one in _by(plan, "stop")}) == len(_by(plan, "stop"))


@given(scenes())
def test_invariant_3_no_limit_is_exceeded_after_any_action(scene: Scene) -> None:
    """Limits are counted anew here, from the declaration and what truly runs, after each single start."""
    plan = scene.controller.plan(scene.declared)
    specs, declared = scene.declared["components"], scene.declared["hosts"]
    cost = {name: (spec["load"], spec["memory"]) for name, spec in specs.items()}
    cost["p/gone"] = (1.0, 0)
    here = {host: [one.component for one in scene.world.machines[host].processes] for host in declared}
    fresh: dict[str, float] = dict.fromkeys(declared, 0.0)
    for one in _by(plan, "start"):
        host, name, spec = one["host"], one["component"], specs[one["component"]]
        here[host].append(name)
        fresh[host] += spec["load"]
        limits = declared[host]
        if spec["load"] and limits["hot_limit"] is not None:
            assert sum(cost[other][0] for other in here[host]) <= limits["hot_limit"] + 1e-9
        if spec["memory"] and limits["memory"] is not None:
            assert sum(cost[other][1] for other in here[host]) <= limits["memory"]
        if limits["max_instances"] is not None:
            assert len(here[host]) <= limits["max_instances"]
        if limits["max_load"] is not None:
            assert scene.world.machines[host].loadavg + fresh[host] <= limits["max_load"] + 1e-9
        if spec["max_per_host"] is not None:
            assert here[host].count(name) <= spec["max_per_host"]
        assert not spec["classes"] or set(spec["classes"]) & set(limits["classes"])
        assert not set(spec["avoid"]) & set(limits["classes"])
        assert limits["state"] == "on"
        tape = sum(specs[other]["uses"].get("tape", 0) for names in here.values() for other in names if other in specs)
        if spec["uses"]:
            assert tape <= scene.declared["shared_limits"]["tape"]


@given(scenes(quorum=0.5, unseen=True))
def test_invariant_4_no_action_where_nobody_answered_or_too_few(scene: Scene) -> None:
    """Hosts that did not answer are left alone; below half of the site, or of a component's hosts, nothing happens."""
    plan = scene.controller.plan(scene.declared)
    answered = scene.answered()
    assert all(one["host"] in answered for one in plan["actions"])
    total = len(scene.declared["hosts"])
    if answered != set(scene.declared["hosts"]) and len(answered) <= 0.5 * total:
        assert plan["verdict"] == "unsafe"
        assert not plan["actions"]
    for name in {one["component"] for one in plan["actions"]} - {"p/gone"}:
        spec = scene.declared["components"][name]
        fit = {
            host
            for host, one in scene.declared["hosts"].items()
            if (not spec["classes"] or set(spec["classes"]) & set(one["classes"]))
            and not set(spec["avoid"]) & set(one["classes"])
        }
        assert fit <= answered or len(fit & answered) > 0.5 * len(fit)


@given(st.integers(6, 30), st.integers(0, 30), st.booleans(), st.booleans())
def test_invariant_4_no_action_after_an_unexplained_collapse(count: int, lost: int, reboot: bool, accept: bool) -> None:
    """More than half of the established instances vanish: unsafe, unless explained or accepted."""
    lost = min(lost, count)
    world = World(["h0", "h1", "h2"])
    declared = declaration({name: {} for name in world.machines}, {"p/a": component(0, count), "p/b": component(1, 3)})
    controller = Controller(world)
    controller.run(declared)
    world.tick(300)
    assert controller.run(declared)["verdict"] == "ok"  # type: ignore[index]
    world.tick(300)
    established = sum(len(machine.processes) for machine in world.machines.values())
    gone = 0
    if reboot:
        gone = len(world.machines["h0"].processes)
        world.reboot("h0")
    unexplained = 0
    for machine in world.machines.values():
        while machine.processes and unexplained < lost:
            machine.processes.pop()
            unexplained += 1
    controller.observe(declared)
    plan = controller.plan(declared, accept_collapse=accept, by="ana")
    collapsed = unexplained > 0.5 * established
    if collapsed and not accept:
        assert plan["verdict"] == "unsafe"
        assert not plan["actions"]
    else:
        assert plan["verdict"] == "ok"
        assert len(_by(plan, "start")) == min(100, gone + unexplained)
        assert any("ana" in note for note in plan["notes"]) == collapsed


@given(scenes(), st.integers(0, 4), st.integers(0, 4))
def test_invariant_5_no_pass_changes_more_than_its_budgets(scene: Scene, starts: int, stops: int) -> None:
    """The budgets hold for the pass, also with what it used before."""
    scene.controller.spent = {"starts": starts, "stops": stops}
    plan = scene.controller.plan(scene.declared, lift_stop_guard=True)
    assert len(_by(plan, "start")) <= max(0, scene.declared["policy"]["start_budget"] - starts)
    assert len(_by(plan, "stop")) <= max(0, scene.declared["policy"]["stop_budget"] - stops)


@given(scenes())
def test_invariant_6_the_next_plan_is_empty_or_leaves_less_to_do(scene: Scene) -> None:
    """After a plan was carried out, what remains to be done is less than before, until nothing can be done."""

    drained = [name for name, one in scene.declared["hosts"].items() if one["state"] == "drain"]

    def next_plan() -> tuple[dict[str, Any], int]:
        """Return the plan and what remains: what leaves a drained host, or is outdated, is missing afterwards."""
        plan = scene.controller.plan(scene.declared, lift_stop_guard=True, accept_collapse=True)
        left = 2 * sum(len(scene.world.machines[name].processes) for name in drained)
        for one in plan["components"].values():
            low, high = one["wanted"]
            left += max(0, low - one["certain"]) + max(0, one["certain"] - high)
            left += 2 * one["stale"] * (one["state"] == "on")
        return plan, left

    plan, left = next_plan()
    for _pass in range(200):
        if not plan["actions"]:
            break
        scene.controller.apply(scene.declared, plan["actions"])
        scene.controller.spent = {"starts": 0, "stops": 0}
        before = left
        plan, left = next_plan()
        assert not plan["actions"] or left < before
    assert not plan["actions"]


@SERIES
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 4), st.integers(1, 7))
def test_j22_invariant_6_converges_in_time_once_faults_end(seed: int, size: int, kinds: int, budget: int) -> None:
    """Lost replies, flapping hosts and managers, failing starts, crashes and updates for a while; then few passes.

    ceil(missing / budget) + 1, and for each instance that is still outdated then another one.
    """
    chance = random.Random(seed)
    declared_hosts, parts = hosts(chance, size, limits=False), components(chance, kinds, limits=False)
    for host in declared_hosts.values():
        host["hot_limit"] = None
    declared = declaration(
        declared_hosts, parts, start_budget=budget, stop_budget=100, stop_guard=1.0, cliff=1.0, undeclared="stop"
    )
    world = World(list(declared_hosts))
    updates = chance.random() < 0.5
    controller = Controller(world)
    for _pass in range(8):
        for host, machine in world.machines.items():
            machine.fault = chance.choice(["", "", "", "mute", "garbled"])
            machine.lose_reply = chance.random() < 0.2
            machine.silent = chance.choice([{}, {}, {}, {"systemd": "no answer within 10 s"}])
            for one in machine.processes:
                one.hidden = one.launcher == "systemd" and chance.random() < 0.5
            if chance.random() < 0.1:
                world.reboot(host)
        for spec in parts.values():
            if updates and chance.random() < 0.1:
                spec.update(hash=f"{chance.randrange(3):012}", launcher=chance.choice(["process", "systemd"]))
        world.broken = {(name, "*") for name in parts if chance.random() < 0.2}
        world.lives = {name: 20.0 for name in parts if chance.random() < 0.2}
        controller.run(declared)
        world.tick(chance.choice([60, 300]))
    world.heal()
    world.tick(300)
    controller.observe(declared)  # what crashed last is seen now; its back-off is still the fault's consequence
    world.tick(2 * declared["policy"]["backoff_max"])
    wanted = {name: spec["count"] for name, spec in parts.items() if spec["state"] == "on"}
    missing = sum(max(0, count["min"] - world.running(name)) for name, count in wanted.items())
    for _pass in range(math.ceil(missing / budget) + 1):
        controller.run(declared, rounds=1)
        world.tick(300)
    for _pass in range(sum(world.running(name) for name in parts) if updates else 0):
        controller.run(declared)
        world.tick(300)
    pids = world.pids()
    for name, spec in parts.items():
        low, high = (spec["count"]["min"], spec["count"]["max"]) if spec["state"] == "on" else (0, 0)
        assert low <= world.running(name) <= high, name
    final = controller.run(declared)
    assert final is not None
    assert final["actions"] == []
    assert world.pids() == pids


@SERIES
@given(st.integers(1, 5), st.integers(0, 2**32).map(random.Random))
def test_invariant_7_a_singleton_has_at_most_one_copy(count: int, chance: random.Random) -> None:
    """Through mute hosts and managers, lost replies, reboots, updates, long silences and a lost memory."""
    names = [f"h{at}" for at in range(count)]
    declared = declaration({name: {} for name in names}, {"p/one": component(0, 1, singleton=True)})
    spec = declared["components"]["p/one"]
    world = World(names)
    controller = Controller(world)
    for _pass in range(12):
        for host, machine in world.machines.items():
            machine.fault = chance.choice(["", "", "mute", "down"])
            machine.lose_reply = chance.random() < 0.2
            machine.silent = chance.choice([{}, {}, {"systemd": "no answer within 10 s"}])
            for one in machine.processes:
                one.hidden = one.launcher == "systemd" and chance.random() < 0.5
            if chance.random() < 0.1:
                world.reboot(host)
        if chance.random() < 0.2:
            spec.update(hash=f"{chance.randrange(4):012}", launcher=chance.choice(["process", "systemd"]))
        world.lives = {"p/one": 30.0} if chance.random() < 0.2 else {}
        if chance.random() < 0.1:
            controller.memory = {}
        controller.run(declared)
        assert world.running("p/one") <= 1
        world.tick(chance.choice([10, 300, 9000]))
    assert world.peak.get("p/one", 0) <= 1


@given(scenes(), st.integers(0, 4))
def test_invariant_8_survivors_keep_their_pid_and_others_property_is_untouched(scene: Scene, count: int) -> None:
    """After any change of a count whoever still runs is the same process; with adopt false foreign ones all do."""
    before = {one.pid: one for machine in scene.world.machines.values() for one in machine.processes}
    declared = copy.deepcopy(scene.declared)
    for spec in declared["components"].values():
        if not spec["singleton"]:
            spec["count"] = {"min": count, "max": count}
        spec["adopt"] = False
    plan = scene.controller.plan(declared, lift_stop_guard=True)
    scene.controller.apply(declared, plan["actions"])
    after = scene.world.pids()
    stopped = {one["pid"] for one in _by(plan, "stop")}
    assert {pid for pid in before if pid not in after} == stopped
    declared_names = set(declared["components"])
    assert all(before[pid].owned or before[pid].component not in declared_names for pid in stopped)


@given(scenes(), st.integers(0, 2**32).map(random.Random))
def test_invariant_9_the_order_of_hosts_does_not_matter(scene: Scene, chance: random.Random) -> None:
    """Another order in every mapping changes no host's load; the same plan comes out."""
    plan = scene.controller.plan(scene.declared)
    other = copy.deepcopy(scene.declared)
    names = list(other["hosts"])
    chance.shuffle(names)
    other["hosts"] = {name: {**other["hosts"][name], "order": at} for at, name in enumerate(names)}
    seen = scene.controller.observations
    scene.controller.observations = {name: seen[name] for name in names}
    shuffled = scene.controller.plan(other)
    for name in names:
        assert abs(plan["hosts"][name]["load"] - shuffled["hosts"][name]["load"]) <= 1
    assert _by(plan, "start") == _by(shuffled, "start")
    assert sorted(map(str, _by(plan, "stop"))) == sorted(map(str, _by(shuffled, "stop")))


@given(scenes())
def test_same_input_gives_same_bytes(scene: Scene) -> None:
    """The order of keys in the input does not show, and nothing given is changed."""
    given_ = json.dumps([scene.declared, scene.controller.observations, scene.controller.memory], sort_keys=True)
    plan = scene.controller.plan(scene.declared)
    assert (
        json.dumps([scene.declared, scene.controller.observations, scene.controller.memory], sort_keys=True) == given_
    )
    declared, seen, memory = json.loads(given_)
    again = copy.copy(scene.controller)
    again.observations, again.memory = dict(reversed(seen.items())), memory
    assert json.dumps(again.plan(declared)) == json.dumps(plan)


@given(scenes())
def test_every_action_and_every_missing_instance_has_a_reason(scene: Scene) -> None:
    """No action without words, no shortage without words."""
    plan = scene.controller.plan(scene.declared)
    assert all(one["reason"] for one in plan["actions"])
    for name, one in plan["components"].items():
        if one["missing"] or one["after"] > one["wanted"][1]:
            assert one["why"], name


@settings(phases=QUICK, max_examples=2000)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7), st.booleans()), min_size=1, max_size=8), st.data())
def test_j05_no_host_is_above_its_hot_limit_through_the_plan(
    fleet: list[tuple[int, int, bool]], data: st.DataObject
) -> None:
    """2,000 fleets of busy and mute hosts with limits 0 to 5: a host at or above its limit gets nothing hot."""
    names = [f"h{at}" for at in range(len(fleet))]
    wanted = data.draw(st.integers(0, 12))
    declared = declaration(
        {name: {"hot_limit": fleet[at][0]} for at, name in enumerate(names)},
        {"p/hot": component(0, wanted, load=1.0), "p/busy": component(1, 60, load=1.0), "p/cold": component(2, 3)},
        quorum=0,
    )
    world = World(names)
    for at, (_limit, busy, mute) in enumerate(fleet):
        world.machines[names[at]].fault = "mute" if mute else ""
        for _index in range(busy):
            world.add(names[at], "p/busy")
    controller = Controller(world)
    controller.observe(declared)
    plan = controller.plan(declared)
    load = {names[at]: one[1] for at, one in enumerate(fleet)}
    for one in _by(plan, "start"):
        if one["component"] != "p/cold":
            load[one["host"]] += 1
            assert load[one["host"]] <= declared["hosts"][one["host"]]["hot_limit"]
        assert not world.machines[one["host"]].fault


@settings(phases=QUICK, max_examples=2000)
@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 2**32).map(random.Random))
def test_j08_mute_hosts_never_lead_to_more_than_count(hosts_: int, count: int, chance: random.Random) -> None:
    """2,000 fleets, a host in twelve mute or with a lost reply: at no time more than `count` runs."""
    names = [f"h{at}" for at in range(hosts_)]
    declared = declaration({name: {} for name in names}, {"p/a": component(0, count)})
    world = World(names)
    for slot in range(1, chance.randint(0, count) + 1):
        world.add(chance.choice(names), "p/a", slot=slot)
    controller = Controller(world)
    controller.observe(declared)
    for _pass in range(2):
        world.tick(300)
        for machine in world.machines.values():
            machine.fault = "mute" if chance.random() < 0.08 else ""
            machine.lose_reply = chance.random() < 0.08
            if machine.processes and chance.random() < 0.1:
                machine.processes.pop()
        controller.run(declared, rounds=1)
    assert world.peak.get("p/a", 0) <= count


@SERIES
@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 2**32).map(random.Random))
def test_two_controllers_never_start_more_than_wished(hosts_: int, count: int, chance: random.Random) -> None:
    """Observing and acting interleave in any order; fences refuse whoever is late, unknown hosts count in full."""
    names = [f"h{at}" for at in range(hosts_)]
    declared = declaration(
        {name: {} for name in names}, {"p/a": component(0, count), "p/s": component(1, 1, singleton=True)}
    )
    world = World(names)
    both = [Controller(world, "one"), Controller(world, "two")]
    ready: dict[str, bool] = {}
    for _step in range(16):
        controller = chance.choice(both)
        if ready.pop(controller.name, False):
            controller.act(declared, rounds=2)
        else:
            ready[controller.name] = controller.observe(declared)
        if chance.random() < 0.3:
            ready = {}  # nobody is in the middle of a pass while the network changes
            for machine in world.machines.values():
                machine.fault = chance.choice(["", "", "", "mute"])
                machine.lose_reply = chance.random() < 0.2
            world.tick(60)
    assert world.peak.get("p/a", 0) <= count
    assert world.peak.get("p/s", 0) <= 1
