# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes from one release to another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _switching

NAMES = ("rpc", "run", "transfer", "consumer")
STATES = ("running", "starting", "waiting", "stopped", "failed")


def release(ident: str, prints: dict[str, str], files: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    entries = [
        {"dest": dest, "digest": digest, "mode": "0600", "owner": None, "group": None}
        for dest, digest in (files or {}).items()
    ]
    services = [{"name": name} for name in prints]
    base = {"id": ident, "services": services, "prints": prints, "manager": "m", "build": None, "files": entries}
    return {**base, "launch": {"method": "supervisord"}, **more}


def todo(old: Any, new: Any, states: dict[str, str], drift: Any = (), touched: Any = ()) -> dict[str, Any]:
    return _switching.plan(old, new, states, drift, touched)


def test_a_first_release_starts_all_and_stops_nothing() -> None:
    plan = todo(None, release("1", {"rpc": "a", "run": "a"}, {"/c": "1"}), {})
    assert (plan["start"], plan["stop"], plan["put"]) == (["rpc", "run"], [], [0])


def test_only_what_a_change_concerns_is_restarted() -> None:
    old = release("1", {"rpc": "a", "run": "a"}, {"/c": "1", "/d": "1"})
    new = release("2", {"rpc": "a", "run": "b", "transfer": "a"}, {"/c": "2", "/d": "1"})
    plan = todo(old, new, {"rpc": "running", "run": "running"})
    assert (plan["stop"], plan["start"], plan["load"]) == (["run"], ["run", "transfer"], ["run", "transfer"])
    assert (plan["kept"], plan["put"], plan["drop"]) == (["rpc"], [0], [])


def test_what_is_no_longer_declared_goes() -> None:
    old, new = release("1", {"rpc": "a", "run": "a"}, {"/c": "1", "/d": "1"}), release("2", {"rpc": "a"}, {"/c": "1"})
    plan = todo(old, new, {"rpc": "running", "run": "running"})
    assert (plan["stop"], plan["gone"], plan["drop"], plan["start"]) == (["run"], ["run"], ["/d"], [])


def test_another_launch_method_stops_all_and_starts_all() -> None:
    old = release("1", {"rpc": "a", "run": "a"})
    plan = todo(old, {**old, "launch": {"method": "systemd"}}, {"rpc": "running", "run": "running"})
    assert (plan["stop"], plan["start"], plan["kept"]) == (["run", "rpc"], ["rpc", "run"], [])


def test_a_changed_file_of_the_manager_concerns_all() -> None:
    old = release("1", {"rpc": "a", "run": "a"})
    plan = todo(old, {**old, "manager": "n"}, {"rpc": "running", "run": "running"})
    assert plan["manager"] and plan["stop"] == ["run", "rpc"] and plan["start"] == ["rpc", "run"]


def test_settings_changed_with_a_file_of_the_manager_do_not_keep_it_from_reading_that() -> None:
    def launch(**settings: Any) -> dict[str, Any]:
        return {"launch": {"method": "supervisord", "supervisord": {"config": "/c/a.conf", **settings}}}

    old = release("1", {"rpc": "a"}, **launch())
    assert todo(old, {**old, **launch(timeout=9), "manager": "n"}, {"rpc": "running"})["manager"]
    # the supervisord of another configuration is another one, and starts with what is in its files
    assert not todo(old, {**old, **launch(config="/c/b.conf"), "manager": "n"}, {"rpc": "running"})["manager"]
    assert not todo(old, {**old, "launch": {"method": "systemd"}, "manager": "n"}, {"rpc": "running"})["manager"]


def test_an_edited_file_of_the_manager_restarts_what_is_under_it_as_a_changed_one_does() -> None:
    old = release("1", {"rpc": "a", "run": "a"})
    plan = _switching.plan(old, old, {"rpc": "running", "run": "running"}, {}, (), edited=True)
    assert plan["manager"] and plan["stop"] == ["run", "rpc"] and plan["start"] == ["rpc", "run"]


def test_what_has_a_manager_of_its_own_is_left_alone_by_that_of_the_deployment() -> None:
    """A runner that may be running this very deployment: no setting and no password of supervisord is its business."""
    runner = {"name": "runner", "apart": True, "launch": {"method": "process", "process": {"command": ["r"]}}}
    old = release("1", {"rpc": "a", "runner": "a"}, services=[{"name": "rpc"}, runner])
    old["launch"] = {"method": "supervisord", "supervisord": {"timeout": 60}}
    states = dict.fromkeys(NAMES + ("runner",), "running")
    for changed in ({"manager": "n"}, {"launch": {"method": "supervisord", "supervisord": {"timeout": 9}}}):
        plan = todo(old, {**old, **changed}, states)
        assert (plan["stop"], plan["start"], plan["kept"]) == (["rpc"], ["rpc"], ["runner"])
        assert plan["manager"] == ("manager" in changed)
    # its own settings are, and under the deployment's manager it is none of its own
    other = {**runner, "launch": {"method": "process", "process": {"command": ["s"]}}}
    assert todo(old, {**old, "services": [{"name": "rpc"}, other]}, states)["stop"] == ["runner"]
    shared = {**old, "services": [{"name": "rpc"}, {"name": "runner", "apart": True}]}
    assert todo(shared, {**shared, "manager": "n"}, states)["stop"] == ["runner", "rpc"]


def test_what_ran_before_any_release_had_it_is_stopped_and_started_anew() -> None:
    services = [
        {"name": "rpc"},
        {"name": "run", "after": ["rpc"]},
        {"name": "new"},
        {"name": "apart", "apart": True},
        {"name": "plain", "launch": "process"},
    ]
    names = [one["name"] for one in services]
    states = dict.fromkeys(names, "running")
    for old in (None, release("0", {})):
        new = release("1", dict.fromkeys(names, "a"), services=services)
        plan = todo(old, new, {**states, "run": "starting", "new": "stopped"})
        assert (plan["theirs"], plan["alone"], plan["stop"]) == (["run", "rpc"], ["apart", "plain"], [])
        assert plan["load"] == plan["start"] == ["rpc", "new", "run"] and plan["kept"] == ["apart", "plain"]


def test_order_follows_what_is_declared() -> None:
    services = [{"name": "cromwell", "after": ["jtm"]}, {"name": "site", "after": ["cromwell"]}, {"name": "jtm"}]
    assert _switching.waves(services) == [["jtm"], ["cromwell"], ["site"]]
    with pytest.raises(ValueError, match="wait for each other: a, b"):
        _switching.waves([{"name": "a", "after": ["b"]}, {"name": "b", "after": ["a"]}])


@given(
    before=st.dictionaries(st.sampled_from(NAMES), st.sampled_from("ab")),
    after=st.dictionaries(st.sampled_from(NAMES), st.sampled_from("ab")),
    states=st.fixed_dictionaries({name: st.sampled_from(STATES) for name in NAMES}),
)
def test_every_service_is_accounted_for(before: dict[str, str], after: dict[str, str], states: dict[str, str]) -> None:
    old, new = release("1", before), release("2", after)
    plan = todo(old, new, states)
    assert set(plan["start"]) | set(plan["kept"]) == set(after)
    assert not set(plan["start"]) & set(plan["kept"])
    assert set(plan["gone"]) == set(before) - set(after)
    # what goes on with its process is neither stopped nor loaded anew; what is started anew was stopped before
    assert not set(plan["kept"]) & {*plan["stop"], *plan["load"]}
    for name in plan["load"]:
        gone_before = "theirs" if name not in before else "stop"
        assert states[name] in ("stopped", "failed") or name in plan[gone_before]
    # the way back needs the same words
    assert _switching.empty(todo(new, new, dict.fromkeys(NAMES, "running")))


@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(STATES), min_size=1))
def test_the_same_release_starts_only_what_is_down(states: dict[str, str]) -> None:
    same = release("1", dict.fromkeys(states, "a"))
    plan = todo(same, same, states)
    assert plan["stop"] == plan["load"] == []
    assert set(plan["start"]) == {name for name, state in states.items() if state in ("stopped", "failed")}


def test_prints_cover_definition_build_and_named_files() -> None:
    services = [{"name": "rpc"}, {"name": "run"}]
    files = [
        {"dest": "/all", "digest": "1", "restarts": "all"},
        {"dest": "/rpc", "digest": "1", "restarts": ["rpc"]},
        {"dest": "/none", "digest": "1", "restarts": "none"},
        {"dest": "/manager", "digest": "1", "restarts": "manager"},
    ]
    build = {"id": "x", "target": "/b"}

    def prints(definitions: Any = (), installed: Any = None, **changed: str) -> tuple[dict[str, str], str]:
        now = [{**one, "digest": changed.get(one["dest"][1:], "1")} for one in files]
        return _switching.prints(services, dict(definitions), installed or build, now)

    base, manager = prints()
    assert prints(all="2")[0]["rpc"] != base["rpc"] and prints(all="2")[0]["run"] != base["run"]
    assert prints(rpc="2")[0]["rpc"] != base["rpc"] and prints(rpc="2")[0]["run"] == base["run"]
    assert prints(none="2") == (base, manager)
    assert prints(manager="2")[0] == base and prints(manager="2")[1] != manager
    assert prints(installed={"id": "y", "target": "/b"})[0]["run"] != base["run"]
    assert prints({"run": "x"})[0]["run"] != base["run"] and prints({"run": "x"})[0]["rpc"] == base["rpc"]


def test_a_service_counts_as_up_once_it_has_settled() -> None:
    services = [{"name": "rpc", "settle": 3}, {"name": "run"}]
    seen = {"rpc": {"state": "running", "why": ""}, "run": {"state": "waiting", "why": "Priority"}}
    assert _switching.judge(services, seen, {"rpc": (10, 1)}, 12, {})[0] == {"rpc": "up for less than 3 s"}
    assert _switching.judge(services, seen, {"rpc": (10, 1)}, 13, {}) == ({}, {})
    assert _switching.judge(services, seen, {"rpc": (10, 1)}, 99, {"rpc": "port 1: refused"})[0] == {
        "rpc": "port 1: refused"
    }
    seen["rpc"] = {"state": "failed", "why": "exit 1"}
    assert _switching.judge(services, seen, {}, 99, {})[1] == {"rpc": "exit 1"}
    assert _switching.judge(services, {"run": seen["run"]}, {}, 99, {})[0] == {"rpc": "unknown: is not known"}
