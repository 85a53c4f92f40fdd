# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole passes over simulated hosts: updates, reverts, what hosts are asked about launchers, what is kept on disk."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from faults.simulator import World, component
from faults.simulator import declaration as declare

from ansible_collections.sciops.sites.plugins.plugin_utils import _pass
from ansible_collections.sciops.sites.plugins.plugin_utils._apply import apply_time, converged, request_for
from ansible_collections.sciops.sites.plugins.plugin_utils._store import Store

V1, V2 = "0123456789ab", "9876543210fe"
MANAGERS = {
    "systemd": {"scope": "auto", "timeout": 10},
    "slurm": {"timeout": 30},
    "apptainer": {"program": "apptainer"},
}


class Hosts:
    """Simulated hosts as the transport of a pass."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: list[dict] = []

    def ask(self, requests, width, limit):
        found = {}
        for host, (request, _timeout) in requests.items():
            self.asked.append(request)
            fence = request["fence"]
            if request["mode"] == "observe":
                # a look without a fence leaves no trace
                number, holder = (fence["number"], fence["holder"]) if fence else (self.world.machines[host].fence)
                found[host] = self.world.observe(host, number, holder)
                continue
            who = (fence["number"], fence["holder"])
            seen, results = self.world.apply(host, who, request["expect"]["boot_id"], request["actions"])
            found[host] = {**seen, "results": results}
        return found


@pytest.fixture
def site(tmp_path):
    """A world with three hosts, a declaration, and the function that runs a pass and returns its report."""
    world = World(["h1", "h2", "h3"])
    spec = component(0, 3, environment={}, secrets={}, cwd=None, user=None, draw={}, vars={})
    declared = declare({name: {"vars": {}} for name in world.machines}, {"p/a": spec})
    declared.update(vars={}, launchers=MANAGERS, description="")
    store = Store(tmp_path, "test", "dev")
    store.now = lambda: world.now
    fleet = Hosts(world)

    def run(declaration, gates=None, **options):
        known = _pass.Options(by="ana", **options)
        made = _pass.SitePass(
            copy.deepcopy(declaration), store, known, lambda _site: gates or {}, lambda _reference: "", lambda: 1.7e9
        )
        report = _pass.run([made], fleet)["test"]
        world.tick(300)
        return report

    return world, declared, run, fleet, store


def versions(world):
    return sorted(one.hash for machine in world.machines.values() for one in machine.processes)


def changed(declared, **more):
    new = copy.deepcopy(declared)
    new["components"]["p/a"].update({"hash": V2, "command": ["/bin/b"], **more})
    return new


def test_an_update_goes_on_from_pass_to_pass(site):
    world, declared, run, _fleet, _store = site
    assert run(declared)["outcome"] == "changed"
    assert run(declared)["outcome"] == "unchanged"
    new = changed(declared)
    for left in (2, 1, 0):
        assert run(new)["outcome"] == "changed"
        assert versions(world) == [V1] * left + [V2] * (3 - left)
    assert run(new)["outcome"] == "unchanged"
    assert world.fewest["p/a"] == 2


def test_without_a_time_to_prove_itself_one_pass_does_it_all(site):
    world, declared, run, fleet, _store = site
    run(declared)
    new = changed(declared, healthy_after=0)
    world.healthy_after = 0
    before = len(fleet.asked)
    report = run(new)
    assert report["outcome"] == "changed"
    assert versions(world) == [V2] * 3
    # three to look, and for each instance one to stop it and one to start the next: more rounds than any other pass has
    assert len(fleet.asked) - before == 3 + 6 > 3 + _pass.ROUNDS


def test_a_pass_ends_though_nothing_can_be_stopped(site):
    world, declared, run, fleet, _store = site
    run(declared)
    act = world._act
    world._act = lambda machine, one: (
        {**one, "outcome": "unstoppable", "message": "lives on"} if one["kind"] == "stop" else act(machine, one)
    )
    before = len(fleet.asked)
    report = run(changed(declared, healthy_after=0))
    assert report["outcome"] == "not_converged"
    assert len(fleet.asked) - before <= 3 + _pass.ROUNDS
    assert versions(world) == [V1] * 3


def test_a_version_that_fails_is_taken_back_and_the_outcome_says_that_what_is_declared_does_not_run(site):
    world, declared, run, _fleet, store = site
    run(declared)
    run(declared)
    world.broken = {(V2, "*")}
    new = changed(declared, environment={"A": "2"})
    report = run(new)
    assert versions(world) == [V1] * 3
    assert (report["outcome"], report["exit_code"]) == ("not_converged", 20)
    assert report["plan"]["components"]["p/a"]["reverted"] == {"hash": V2, "to": V1, "why": "exit status 1"}
    kinds = [(one["kind"], one["outcome"], one.get("hash")) for one in report["results"]]
    assert kinds == [("stop", "stopped", None), ("start", "failed", V2), ("start", "started", V1)]
    starts, pids = world.starts, world.pids()
    for _again in range(2):
        assert run(new)["outcome"] == "not_converged"
    assert (world.starts, world.pids()) == (starts, pids)
    memory = store.load_memory()
    assert memory["rejected"]["p/a"]["hash"] == V2
    assert memory["proven"]["p/a"]["spec"]["command"] == ["/bin/true"]
    # a dry run with a person's word shows the update, and keeps nothing
    report = run(new, retry_update=("p/a",), check=True)
    assert [one["reason"] for one in report["planned"]] == [f"runs configuration {V1}, {V2} is declared"]
    assert store.load_memory()["rejected"]["p/a"]["hash"] == V2
    world.broken = set()
    report = run(new, retry_update=("p/a",))
    assert report["outcome"] == "changed"
    assert versions(world) == [V1, V1, V2]
    assert report["authorised"] == ["ana had the update of p/a tried again"]


def test_where_there_is_one_host_the_proven_version_starts_where_the_new_one_failed(site):
    world, declared, run, _fleet, _store = site
    declared["hosts"] = {"h1": declared["hosts"]["h1"]}
    run(declared)
    run(declared)
    world.broken = {(V2, "*")}
    assert run(changed(declared))["plan"]["components"]["p/a"]["certain"] == 3
    assert versions(world) == [V1] * 3


def test_a_version_whose_template_fails_is_taken_back_too(site):
    world, declared, run, _fleet, _store = site
    run(declared)
    run(declared)
    report = run(changed(declared, command=["/bin/{{ 1 // 0 }}"]))
    assert versions(world) == [V1] * 3
    assert "by zero" in report["plan"]["components"]["p/a"]["reverted"]["why"]


def test_a_saved_plan_of_an_update_starts_the_replacements_of_what_it_stops_and_no_more(site):
    world, declared, run, _fleet, _store = site
    run(declared)
    new = changed(declared, healthy_after=0)
    world.healthy_after = 0
    plan = run(new, check=True)["plan"]
    assert [one["kind"] for one in plan["actions"]] == ["stop"]
    report = run(new, saved_plan=plan)
    assert [(one["kind"], one["outcome"]) for one in report["results"]] == [("stop", "stopped"), ("start", "started")]
    assert versions(world) == [V1, V1, V2]
    # the rest of the update is in the plan that comes next
    assert report["outcome"] == "not_converged"
    assert [one["roll"] for one in report["plan"]["actions"]] == [True]


def test_a_saved_plan_leaves_alone_what_it_did_not_stop(site):
    world, declared, run, _fleet, _store = site
    declared["components"]["p/b"] = component(1, 3, environment={}, secrets={}, cwd=None, user=None, draw={}, vars={})
    run(declared)
    new = changed(declared)
    plan = run(new, check=True)["plan"]
    act = world._act

    def crash(machine, one):
        machine.processes = [process for process in machine.processes if process.component != "p/b"]
        return act(machine, one)

    world._act = crash
    report = run(new, saved_plan=plan)
    assert {one["component"] for one in report["results"]} == {"p/a"}
    assert report["outcome"] == "not_converged"
    assert world.running("p/a") == 3
    world._act = act
    assert "p/b" in {one["component"] for one in run(new)["results"]}


def test_a_saved_plan_whose_new_version_fails_leaves_the_proven_one(site):
    world, declared, run, _fleet, _store = site
    declared["components"]["p/a"].update(count={"min": 1, "max": 1}, singleton=True)
    run(declared)
    run(declared)
    new = changed(declared)
    plan = run(new, check=True)["plan"]
    world.broken = {(V2, "*")}
    report = run(new, saved_plan=plan)
    assert [one["outcome"] for one in report["results"]] == ["stopped", "failed", "started"]
    assert versions(world) == [V1]


def test_a_saved_plan_does_not_start_through_a_gate_that_was_closed_since(site):
    world, declared, run, _fleet, _store = site
    declared["components"]["p/a"].update(gates=["quota"], count={"min": 0, "max": 3})
    run(declared)
    declared["components"]["p/a"]["count"] = {"min": 3, "max": 3}
    declared["components"]["p/off"] = component(1, 1, state="off", gates=["other"])
    declared["gates"] = {"quota": {"file": "/x"}, "other": {"file": "/y"}}
    opened, closed = {"open": True, "reason": ""}, {"open": False, "reason": "quota full"}
    plan = run(declared, {"quota": opened, "other": closed}, check=True)["plan"]
    assert len(plan["actions"]) == 3
    for gates in ({"quota": closed}, {}):
        report = run(declared, gates, saved_plan=plan)
        assert report["outcome"] == "error"
        assert "the saved plan does not hold any more: gate quota changed. Make a new one" in report["why"]
        assert world.starts == 0
    # what is off asks no gate
    assert run(declared, {"quota": opened, "other": opened}, saved_plan=plan)["outcome"] == "changed"
    assert world.running("p/a") == 3


def test_stopping_a_site_is_no_revert(site):
    world, declared, run, _fleet, _store = site
    run(declared)
    run(declared)
    world.broken = {(V2, "*")}
    new = changed(declared)
    assert run(new)["outcome"] == "not_converged"
    new["components"]["p/a"]["state"] = "off"
    assert run(new)["outcome"] == "changed"
    assert world.running("p/a") == 0


def test_hosts_are_asked_about_the_launchers_that_they_may_have(site):
    world, declared, run, fleet, _store = site
    new = copy.deepcopy(declared)
    new["components"]["p/a"]["launcher"] = {"default": "process", "vm": "systemd"}
    new["hosts"]["h2"]["classes"] = ["vm"]
    run(new)
    asked = {one["host"]: one.get("launchers") for one in fleet.asked if one["mode"] == "observe"}
    assert asked == {"h1": None, "h2": {"systemd": MANAGERS["systemd"]}, "h3": None}
    start = next(one for request in fleet.asked for one in request.get("actions", ()) if request["host"] == "h2")
    assert (start["launcher"], start["manager"]) == ("systemd", MANAGERS["systemd"])
    # what is declared off is remembered to run there, so its manager is still asked
    new["components"]["p/a"]["state"] = "off"
    fleet.asked.clear()
    run(new)
    assert {one["host"] for one in fleet.asked if "launchers" in one} == {"h2"}
    assert world.running("p/a") == 0
    fleet.asked.clear()
    run(new)
    assert not any("launchers" in one for one in fleet.asked)


def test_a_start_in_doubt_keeps_its_launcher_known(site):
    world, declared, run, fleet, _store = site
    new = copy.deepcopy(declared)
    new["components"]["p/a"].update(launcher="slurm", count={"min": 1, "max": 1})
    for machine in world.machines.values():
        machine.lose_reply = True
    run(new)
    world.heal()
    fleet.asked.clear()
    new["components"]["p/a"]["launcher"] = "process"
    run(new)
    assert any("slurm" in one.get("launchers", {}) for one in fleet.asked if one["mode"] == "observe")


# -- the parts --------------------------------------------------------------------------------------------------------


def test_requests_name_launchers_of_what_is_on_and_fits_and_what_is_known():
    parts = {
        "p/on": component(0, launcher="systemd"),
        "p/off": component(1, launcher="slurm", state="off"),
        "p/else": component(2, launcher="apptainer", classes=["gpu"]),
        "p/plain": component(3),
    }
    declared = {**declare({"h1": {}, "h2": {"classes": ["gpu"]}}, parts), "launchers": MANAGERS}
    assert list(request_for(declared, "h1", "observe")["launchers"]) == ["systemd"]
    assert list(request_for(declared, "h2", "observe")["launchers"]) == ["apptainer", "systemd"]
    known = request_for(declared, "h1", "observe", known=["slurm", "process", "htcondor"])["launchers"]
    assert known == {"htcondor": {}, "slurm": {"timeout": 30}, "systemd": {"scope": "auto", "timeout": 10}}
    del declared["components"]["p/on"]
    assert "launchers" not in request_for(declared, "h1", "observe", known={"process"})
    assert "known" not in request_for(declared, "h1", "observe")


@pytest.mark.parametrize(
    ("requests", "extra"),
    [
        ([{"kind": "stop", "grace": 3}], 0),
        ([{"kind": "stop", "grace": 3, "launcher": "process"}], 0),
        ([{"kind": "stop", "grace": 3, "launcher": "slurm"}, {"kind": "rotate", "launcher": "systemd"}], 30),
        ([{"kind": "stop", "grace": 3}, {"kind": "renew", "launcher": "systemd"}], 10),
        ([{"kind": "stop", "grace": 3, "launcher": "apptainer"}], 5),
    ],
)
def test_managers_get_their_time(requests, extra):
    plain = [{key: value for key, value in one.items() if key != "launcher"} for one in requests]
    assert apply_time(requests, MANAGERS) == apply_time(plain) + extra


def test_a_component_that_was_reverted_is_not_converged():
    one = {"state": "on", "wanted": [2, 2], "certain": 2, "possible": 2, "after": 2, "reverted": None}
    assert converged({"components": {"p/a": one}, "set_aside": {}})
    one["reverted"] = {"hash": V2, "to": V1, "why": "exit status 1"}
    assert not converged({"components": {"p/a": one}, "set_aside": {}})


def test_options_tell_what_a_person_said():
    options = replace(_pass.Options(by="ana"), retry_update=("p/b", "p/a"))
    assert options.for_planner()["retry_update"] == ["p/a", "p/b"]
    assert options.authorised() == [f"ana had the update of p/{name} tried again" for name in "ab"]
