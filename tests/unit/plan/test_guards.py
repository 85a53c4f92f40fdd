# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a pass from acting: saved plans, halts, holds, gates, the guards of stops and collapses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from faults.simulator import component, declaration

from ansible_collections.sciops.sites.plugins.plugin_utils import _launcher, _memory, _planner

from .scenes import fleet


def test_j10_the_plan_does_not_depend_on_who_looks_and_has_a_reason_everywhere() -> None:
    _world, controller, declared = fleet(2, {"p/a": component(0, 3, load=1.0), "p/off": component(1, 1, state="off")})
    for host in declared["hosts"].values():
        host["hot_limit"] = 1
    controller.observe(declared)
    looked = controller.plan(declared)
    assert json.dumps(controller.act(declared)) == json.dumps(looked)
    assert looked["components"]["p/a"]["why"] == "2 of 3: hot limit reached on c9-1, c9-2"
    assert all(one["reason"] for one in looked["actions"])


def test_j10_a_saved_plan_is_refused_with_the_names_of_what_changed() -> None:
    world, controller, declared = fleet(3, {"p/a": component(0, 3)})
    controller.run(declared)
    controller.observe(declared)
    saved = controller.plan(declared)["basis"]
    world.tick(300)
    world.machines["c9-1"].loadavg = 3.0
    controller.observe(declared)
    assert _planner.basis_changes(saved, controller.plan(declared)["basis"]) == []
    world.reboot("c9-2")
    controller.observe(declared)
    declared["components"]["p/a"]["count"]["max"] = 4
    changes = _planner.basis_changes(saved, controller.plan(declared)["basis"])
    assert changes == ["declaration changed", "host c9-2 changed"]
    del declared["hosts"]["c9-3"]
    controller.memory["hosts"].pop("c9-3")
    controller.observe(declared)
    assert "host c9-3 is gone" in _planner.basis_changes(saved, controller.plan(declared)["basis"])


def test_j17_halt_drain_and_run_again() -> None:
    world, controller, declared = fleet(3, {"p/a": component(0, 3)})
    plan = controller.run(declared, halt={"by": "ana", "reason": "tape robot is down"})
    assert plan is not None
    assert (plan["verdict"], plan["actions"]) == ("halted", [])
    assert plan["why"] == "halted by ana: tape robot is down"
    controller.run(declared)
    assert world.running("p/a") == 3
    drain = {"scope": "site", "mode": "drain", "owner": "ana", "reason": "power cut", "until": None}
    plan = controller.run(declared, holds=[drain])
    assert plan is not None
    assert {one["kind"] for one in plan["actions"]} == {"stop"}
    assert world.running("p/a") == 0
    assert controller.run(declared, holds=[drain])["actions"] == []  # type: ignore[index]
    controller.run(declared)
    assert world.running("p/a") == 3


@pytest.mark.parametrize("scope", ["component:p/a", "pipe:p", "host:c9-1", "site"])
def test_j17_a_hold_touches_nothing_and_expires(scope: str) -> None:
    world, controller, declared = fleet(1, {"p/a": component(0, 1), "q/b": component(1, 1, pipe="q")})
    world.add("c9-1", "p/a", slot=1)
    world.add("c9-1", "p/a", slot=2)
    hold = {"scope": scope, "mode": "hold", "owner": "ana", "reason": "debugging", "until": 500.0}
    declared["holds"] = [hold]
    controller.observe(declared)
    plan = controller.plan(declared, unix_time=400.0)
    assert not [one for one in plan["actions"] if one["component"] == "p/a"]
    assert "held by ana: debugging" in json.dumps(plan)
    assert plan["verdict"] == ("halted" if scope == "site" else "ok")
    assert bool(plan["actions"]) == (scope in ("component:p/a", "pipe:p"))
    plan = controller.plan(declared, unix_time=500.0)
    assert len(plan["actions"]) == 2


def test_j17_a_drained_host_is_emptied_and_its_work_goes_elsewhere() -> None:
    world, controller, declared = fleet(3, {"p/a": component(0, 3)})
    controller.run(declared)
    declared["holds"] = [{"scope": "host:c9-2", "mode": "drain", "owner": "ana", "reason": "disk", "until": None}]
    world.tick(300)
    plan = controller.run(declared)
    assert plan is not None
    assert [one["reason"] for one in plan["actions"]] == ["c9-2 is drained by ana: disk"]
    assert world.machines["c9-2"].processes == []
    assert world.running("p/a") == 3
    assert world.peak["p/a"] == 3


def test_j21_an_empty_declaration_stops_nothing_until_a_person_lifts_the_guard() -> None:
    world, controller, declared = fleet(10, {"p/a": component(0, 100)})
    controller.run(declared)
    assert world.running("p/a") == 100
    world.tick(300)
    declared["components"] = {}
    plan = controller.run(declared)
    assert plan is not None
    assert (plan["verdict"], plan["actions"]) == ("unsafe", [])
    assert plan["why"].startswith("the declaration would stop 100 of 100")
    plan = controller.run(declared, lift_stop_guard=True, by="ana")
    assert plan is not None
    assert len(plan["actions"]) == 10
    assert any("allowed by ana" in note for note in plan["notes"])
    assert world.running("p/a") == 90


def test_j21_a_collapse_without_cause_neither_starts_nor_stops() -> None:
    world, controller, declared = fleet(4, {"p/a": component(0, 10), "p/off": component(1, 1)})
    for _pass in range(2):
        controller.run(declared)
        world.tick(300)
    declared["components"]["p/off"]["state"] = "off"
    for host in ("c9-1", "c9-2"):
        world.machines[host].processes.clear()
    world.machines["c9-3"].processes.clear()
    plan = controller.run(declared)
    assert plan is not None
    assert (plan["verdict"], plan["actions"]) == ("unsafe", [])
    assert "established instances are left" in plan["why"]
    plan = controller.run(declared, accept_collapse=True, by="ana")
    assert plan is not None
    assert plan["verdict"] == "ok"
    assert any("accepted by ana" in note for note in plan["notes"])
    world.tick(300)
    assert controller.run(declared)["verdict"] == "ok"  # type: ignore[index]


class Jobs:
    """Eight jobs of a queue that were established at the last good pass."""

    def __init__(self) -> None:
        self.declared = declaration({"login": {}}, {"p/a": component(0, 8, launcher="slurm")})
        self.memory, self.now = _memory.empty(), 10000.0
        assert self.verdict([self.row(slot) for slot in range(1, 9)]) == "ok"

    def row(self, slot: int, age: float = 3600.0, **more: Any) -> dict[str, Any]:
        base = {"component": "p/a", "slot": slot, "token": f"1-{slot}", "hash": "0123456789ab", "owned": True}
        base |= {"leader": True, "pid": 40 + slot, "start": 1000, "age": age, "launcher": "slurm", "health": ""}
        return base | {"state": "RUNNING on n1", "log": None, "log_size": None} | more

    def verdict(self, rows: list[dict[str, Any]], over: dict[str, str] | None = None) -> str:
        """Look once more, an hour later."""
        self.now += 3600
        seen = {"answered": True, "boot_id": "b", "cores": 4, "memory": {"total": 1}, "loadavg": [0, 0, 0]}
        seen |= {"instances": rows, "over": over or {}}
        self.memory = _memory.learn(self.memory, self.declared, {"login": seen}, self.now, "me")
        self.plan = _planner.plan(self.declared, {"login": seen}, self.memory, self.now)
        self.memory = _memory.note_good(self.memory, self.plan, self.now)
        return str(self.plan["verdict"])


@pytest.mark.parametrize(
    ("how", "is_ended"),
    [
        ("job 41: TIMEOUT", True),
        ("job 41: TIMEOUT, says sacct", True),
        ("job 41: CANCELLED, ended by signal 15", True),
        ("job 41: PREEMPTED", True),
        ("job 41: its time is over: ended by signal 15", True),
        ("job 41: removed: via condor_rm (by user ann)", True),
        ("job 41: removed: its time is over, and its node did not end it", True),
        ("job 41: removed: it was taken off its node and is not to run twice", False),
        ("job 41: FAILED, ended with status 1", False),
        ("job 41: NODE_FAIL", False),
        ("job 41: OUT_OF_MEMORY", False),
        ("job 41: COMPLETED", False),
        ("its job is not in the queue any more", False),
        ("", False),
        (None, False),
    ],
)
def test_jobs_that_were_ended_together_are_no_collapse_and_jobs_that_failed_are(how: Any, is_ended: bool) -> None:
    assert _launcher.was_ended(how) == is_ended
    jobs = Jobs()
    over = {f"1-{slot}": how for slot in range(1, 9)} if how is not None else None
    assert jobs.verdict([], over) == ("ok" if is_ended else "unsafe")
    assert len(jobs.plan["actions"]) == (8 if is_ended else 0)
    # how they ended is told once
    if not is_ended:
        assert jobs.verdict([]) == "unsafe"


def test_each_job_is_explained_by_its_own_end() -> None:
    jobs = Jobs()
    assert jobs.verdict([], {f"1-{slot}": "job 1: TIMEOUT" for slot in range(1, 4)}) == "unsafe"
    assert "0 of 5 established instances are left" in jobs.plan["why"]
    jobs = Jobs()
    assert jobs.verdict([], {f"1-{slot}": "job 1: TIMEOUT" for slot in range(1, 5)}) == "ok"


def test_successors_that_wait_for_a_full_cluster_are_no_collapse() -> None:
    jobs = Jobs()
    waits = [jobs.row(slot, 0.0, state="PENDING: Resources", pid=80 + slot, start=9000) for slot in range(1, 9)]
    assert jobs.verdict(waits) == "ok"
    assert jobs.plan["actions"] == []
    jobs.declared["components"]["p/a"]["count"] = {"min": 9, "max": 9}
    assert jobs.verdict(waits) == "ok"
    assert len(jobs.plan["actions"]) == 1
    # what is there explains nothing of what is not
    jobs = Jobs()
    assert jobs.verdict([jobs.row(slot, 1.0, pid=90 + slot) for slot in range(1, 5)]) == "ok"
    jobs = Jobs()
    assert jobs.verdict([jobs.row(slot, 1.0, pid=90 + slot) for slot in range(1, 4)]) == "unsafe"
    # and once they are established again they count again
    jobs = Jobs()
    assert jobs.verdict(waits) == "ok"
    assert jobs.verdict([jobs.row(slot, pid=80 + slot, start=9000) for slot in range(1, 9)]) == "ok"
    assert jobs.verdict([]) == "unsafe"


def test_our_own_stops_and_scale_downs_are_no_collapse() -> None:
    world, controller, declared = fleet(4, {"p/a": component(0, 12)}, stop_guard=1.0)
    for _pass in range(2):
        controller.run(declared)
        world.tick(300)
    declared["components"]["p/a"]["count"] = {"min": 2, "max": 2}
    for _pass in range(3):
        assert controller.run(declared)["verdict"] == "ok"  # type: ignore[index]
        world.tick(300)
    assert world.running("p/a") == 2


def test_a_component_that_was_set_aside_is_frozen() -> None:
    world, controller, declared = fleet(2, {"p/a": component(0, 1)})
    declared["set_aside"] = {"p/bad": "x.site.yml:3: count: -1: must be 0 or more"}
    world.add("c9-1", "p/bad", slot=1)
    plan = controller.run(declared)
    assert plan is not None
    assert [one["component"] for one in plan["actions"]] == ["p/a"]
    assert plan["components"]["p/bad"]["why"].startswith("set aside: x.site.yml:3")
    assert plan["set_aside"] == declared["set_aside"]
    assert world.running("p/bad") == 1


def test_gates_without_a_reading_are_closed() -> None:
    _world, controller, declared = fleet(1, {"p/a": component(0, 1, gates=["quota"])})
    controller.observe(declared)
    plan = controller.plan(declared)
    assert plan["components"]["p/a"]["why"] == "0 of 1: gate quota is closed: no reading"
    plan = controller.plan(declared, gates={"quota": {"open": False, "reason": "86 of 100 used"}})
    assert plan["components"]["p/a"]["why"] == "0 of 1: gate quota is closed: 86 of 100 used"
    assert len(controller.plan(declared, gates={"quota": {"open": True, "reason": ""}})["actions"]) == 1
