# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates that fail: which version is rejected, which one takes over, and what is kept of both."""

from __future__ import annotations

import copy

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils import _memory, _report, _status, _updates
from ansible_collections.sciops.sites.plugins.plugin_utils._apply import converged

from .scenes import V1, V2, V3, declare, row, running_fleet, versions

QUICK = [one for one in Phase if one is not Phase.explain]
SERIES = settings(phases=QUICK, max_examples=max(25, settings.default.max_examples // 4))
SIZES = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 4))


# -- back to what worked ----------------------------------------------------------------------------------------------


def test_a_version_that_does_not_start_is_taken_back_in_the_same_pass() -> None:
    world, controller, declared = running_fleet()
    world.broken = {(V2, "*")}
    new = declare(declared)
    plan = controller.run(new)
    assert plan is not None
    assert versions(world) == [V1] * 3
    assert [one["outcome"] for one in controller.results] == ["stopped", "failed", "started"]
    assert world.fewest["p/a"] == 2
    plan = controller.plan(new)
    assert row(plan)["reverted"] == {"hash": V2, "to": V1, "why": "exit status 1"}
    assert row(plan)["why"] == f"reverted to {V1}: {V2} failed: exit status 1"
    assert row(plan)["failure"]["log_tail"][-1] == "line 29"
    assert not converged(plan)
    assert "reverted to" in _report.table(plan)
    assert _status.judge(row(plan)) == (1, f"3 running (reverted to {V1}: {V2} failed: exit status 1)")
    world.tick(300)
    assert row(controller.run(new))["failure"]["last"] == "exit status 1", "told on, though the proven one is healthy"
    before = world.pids(), world.starts
    for _pass in range(5):
        world.tick(3600)
        controller.run(new)
    assert (world.pids(), world.starts) == before


def test_a_version_that_ends_too_soon_is_taken_back() -> None:
    world, controller, declared = running_fleet()
    world.lives = {V2: 20.0}
    new = declare(declared)
    controller.run(new)
    assert versions(world) == [V1, V1, V2]
    world.tick(30)
    controller.run(new)
    assert versions(world) == [V1] * 3
    assert "ended on c9-" in controller.memory["rejected"]["p/a"]["why"]


def test_a_new_version_that_its_manager_has_to_restart_is_taken_back() -> None:
    world, controller, declared = running_fleet(launcher="systemd")
    new = declare(declared)
    controller.run(new)
    fresh = next(one for machine in world.machines.values() for one in machine.processes if one.hash == V2)
    world.tick(30)
    fresh.born, fresh.pid = world.now - 5, fresh.pid + 1000
    plan = controller.run(new)
    assert row(plan)["reverted"]["to"] == V1
    assert versions(world) == [V1] * 3
    # an instance of the proven version may be restarted as often as its manager likes
    old = next(one for machine in world.machines.values() for one in machine.processes)
    old.born = world.now
    controller.run(new)
    assert controller.memory["failures"]["p/a"]["rejected"]


def test_a_job_that_waited_in_the_queue_was_not_restarted() -> None:
    world, controller, declared = running_fleet(launcher="slurm")
    new = declare(declared)
    controller.run(new)
    fresh = next(one for machine in world.machines.values() for one in machine.processes if one.hash == V2)
    fresh.state = "PENDING: Priority"
    controller.run(new)
    world.tick(30)
    fresh.state, fresh.pid, fresh.born = "RUNNING on n7", fresh.pid + 1000, world.now
    controller.run(new)
    assert controller.memory["rejected"] == {}


def test_another_launcher_that_does_not_work_is_taken_back() -> None:
    world, controller, declared = running_fleet()
    new = copy.deepcopy(declared)
    new["components"]["p/a"]["launcher"] = {"default": "systemd"}
    world.broken = {("systemd", "*")}
    controller.run(new)
    assert {one.launcher for machine in world.machines.values() for one in machine.processes} == {"process"}
    assert world.running("p/a") == 3
    assert row(controller.plan(new))["why"] == "reverted to launcher process: systemd failed: exit status 1"


def test_what_already_runs_of_a_rejected_version_is_replaced_again() -> None:
    world, controller, declared = running_fleet(4, update={"max_unavailable": 2, "revert": True})
    new = declare(declared)
    world.broken = {(V2, "c9-2"), ("p/a", "c9-2")}
    world.add("c9-1", "p/x", slot=1)
    for _pass in range(6):
        controller.run(new)
        if "p/a" in controller.memory["rejected"]:
            world.broken = {(V2, "*")}
        world.tick(300)
    assert versions(world) in ([V1] * 4, [V2] * 4)
    assert world.fewest["p/a"] >= 2


def test_another_declaration_or_a_persons_word_ends_a_rejection() -> None:
    world, controller, declared = running_fleet()
    world.broken = {(V2, "*")}
    bad = declare(declared)
    controller.run(bad)
    world.tick(300)
    controller.run(bad)
    assert world.starts == 5
    controller.memory = _updates.retry(controller.memory, ["p/b"])
    assert row(controller.run(bad))["reverted"]
    controller.memory = _updates.retry(controller.memory, ["p/a"])
    assert controller.memory["failures"] == {}
    plan = controller.run(bad)
    assert row(plan)["reverted"] is None
    assert (world.starts, versions(world)) == (7, [V1] * 3)
    world.tick(300)
    third = declare(declared, V3)
    for _pass in range(3):
        controller.run(third)
        world.tick(300)
    assert versions(world) == [V3] * 3
    assert controller.memory["rejected"] == {}
    assert controller.memory["failures"] == {}
    world.broken = set()
    controller.run(bad)
    assert versions(world) == sorted([V2, V3, V3])


def test_a_component_that_need_not_go_back_forgets_the_rejection() -> None:
    world, controller, declared = running_fleet()
    world.broken = {(V2, "*")}
    controller.run(declare(declared))
    assert controller.memory["rejected"]
    world.broken = set()
    for _pass in range(4):
        world.tick(300)
        controller.run(declare(declared, update={"max_unavailable": 1, "revert": False}))
    assert versions(world) == [V2] * 3
    assert controller.memory["rejected"] == {}
    world.tick(300)
    assert row(controller.run(declare(declared)))["reverted"] is None


def test_a_rejected_version_explains_no_collapse_of_the_proven_one() -> None:
    world, controller, declared = running_fleet(8)
    world.broken = {(V2, "*")}
    new = declare(declared)
    for _pass in range(2):
        controller.run(new)
        world.tick(300)
    for machine in world.machines.values():
        machine.processes = machine.processes[:1]
    plan = controller.run(new)
    assert plan is not None
    assert plan["verdict"] == "unsafe"


def test_what_lives_on_elsewhere_does_not_prove_a_version_that_was_rejected() -> None:
    world, controller, declared = running_fleet()
    world.broken = {(V2, "*")}
    new = declare(declared)
    controller.run(new)
    world.machines["c9-2"].processes[0].hash = V2
    seen = {name: world.observe(name, 99, "one") for name in world.machines}
    memory = _memory.learn(controller.memory, new, seen, world.now)
    assert (memory["proven"]["p/a"]["hash"], memory["rejected"]["p/a"]["hash"]) == (V1, V2)


def test_without_a_proven_version_or_with_revert_false_a_failure_is_only_waited_for() -> None:
    for revert, settled in ((False, True), (True, False)):
        world, controller, declared = running_fleet(update={"max_unavailable": 1, "revert": revert}, settled=settled)
        if not settled:
            world.tick(1)
            controller.memory["proven"] = {}
        world.broken = {(V2, "*")}
        new = declare(declared)
        next(iter(world.machines.values())).processes.clear()
        plan = controller.run(new)
        assert row(plan)["reverted"] is None
        assert controller.memory["rejected"] == {}
        assert controller.memory["failures"]["p/a"]["level"] > 0


def test_what_fails_where_both_versions_are_the_same_says_nothing_of_the_new_one() -> None:
    world, controller, declared = running_fleet(hosts=2)
    declared["hosts"]["c9-2"]["classes"] = ["vm"]
    new = copy.deepcopy(declared)
    new["components"]["p/a"]["launcher"] = {"default": "process", "vm": "systemd"}
    new["components"]["p/a"]["count"] = {"min": 6, "max": 6}
    world.broken = {("p/a", "c9-1")}
    controller.run(new)
    assert controller.memory["rejected"] == {}
    assert controller.memory["proven"]["p/a"]["launcher"] == {"default": "process"}


# -- what is kept of a version ----------------------------------------------------------------------------------------


def test_the_proven_version_is_kept_whole_and_all_else_stays_as_declared() -> None:
    world, controller, declared = running_fleet(environment={"A": "1"}, vars={"spool": "/old"})
    world.broken = {(V2, "*")}
    new = declare(declared, environment={"A": "2"}, vars={"spool": "/new"}, load=0.5, priority=9)
    new["components"]["p/a"]["count"] = {"min": 4, "max": 4}
    controller.run(new)
    spec = controller.active(new)["components"]["p/a"]
    assert (spec["hash"], spec["environment"], spec["vars"]) == (V1, {"A": "1"}, {"spool": "/old"})
    assert (spec["load"], spec["priority"], spec["count"]["min"]) == (0.5, 9, 4)
    assert set(controller.memory["proven"]["p/a"]["spec"]) <= set(_updates.OF_A_VERSION)
    assert versions(world) == [V1] * 4
    assert new["components"]["p/a"]["hash"] == V2, "what is declared is not changed"


def test_what_was_encrypted_is_never_kept_and_so_never_taken_back() -> None:
    world, controller, declared = running_fleet(environment={"A": "hush"}, vaulted=True)
    assert controller.memory["proven"] == {}
    world.broken = {(V2, "*")}
    controller.run(declare(declared))
    assert versions(world) == [V1, V1]
    assert "hush" not in str(controller.memory)


def test_settings_outside_of_the_hash_are_those_of_the_last_pass() -> None:
    world, controller, declared = running_fleet()
    declared["components"]["p/a"]["settle"] = 7
    world.tick(60)
    controller.run(declared)
    assert controller.memory["proven"]["p/a"]["spec"]["settle"] == 7


def test_versions_of_what_is_gone_are_forgotten() -> None:
    _world, controller, declared = running_fleet()
    controller.memory["rejected"]["p/a"] = {"hash": V3, "launcher": {"default": "process"}, "why": "x", "at": 0.0}
    for state, left in (("off", True), ("absent", False)):
        declared["components"]["p/a"]["state"] = state
        controller.run(declared)
        assert ("p/a" in controller.memory["proven"]) is left
    assert controller.memory["rejected"] == {}


def test_an_older_memory_has_no_versions_and_is_read() -> None:
    world, controller, declared = running_fleet()
    old = {key: one for key, one in controller.memory.items() if key not in ("proven", "rejected")}
    for known in old["hosts"].values():
        for one in known["instances"]:
            one.pop("hash")
    controller.memory = old
    assert _updates.effective(declared, old) is declared
    world.machines["c9-1"].processes.clear()
    controller.run(declare(declared))
    assert versions(world)[0] == V1
    assert _memory.view(None)["proven"] == {}


@SERIES
@given(SIZES, st.sampled_from([None, 1.0, 40.0]), st.sampled_from([10, 60, 300]))
def test_an_update_that_always_fails_ends_with_the_proven_version(
    sizes: tuple[int, int, int], life: float | None, step: int
) -> None:
    hosts, count, most = sizes
    world, controller, declared = running_fleet(count, hosts, update={"max_unavailable": most, "revert": True})
    if life is None:
        world.broken = {(V2, "*")}
    else:
        world.lives = {V2: life}
    new = declare(declared)
    for _pass in range(12):
        controller.run(new)
        world.tick(step)
        assert world.running("p/a") >= count - most
    assert versions(world) == [V1] * count
    assert world.fewest["p/a"] >= count - most
    assert world.peak["p/a"] == count
    plan = controller.run(new)
    assert plan is not None
    assert plan["actions"] == []
    assert row(plan)["reverted"]["hash"] == V2
