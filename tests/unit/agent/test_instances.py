# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared instances of a systemd template: what is written, and that a change of their number touches nothing else."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.module_utils import _instances, _units
from ansible_collections.sciops.sites.plugins.module_utils._programs import Unfit

STATES = st.sampled_from(["active", "inactive", "failed", "activating", "deactivating", "reloading"])
NAMES = [str(i) for i in range(1, 7)]


def params(**more: Any) -> dict[str, Any]:
    keys = (
        "description user working_directory restart_sec start_limit_interval start_limit_burst kill_signal timeout_stop"
    )
    base = dict.fromkeys(keys.split())
    base |= {"name": "mover", "environment": {}, "environment_file": [], "after": [], "type": "simple"}
    return base | {"restart": "on-failure", "prune": True, "enabled": True, "on_change": "restart"} | more


def seen(**states: str) -> dict[str, dict[str, str]]:
    return {name.lstrip("_"): {"ActiveState": state} for name, state in states.items()}


@given(st.integers(0, 6), st.integers(0, 6))
def test_a_count_names_no_survivor(old: int, new: int) -> None:
    before = _instances.instances(old, None)
    wanted = _instances.instances(new, None)
    plan = _instances.plan(wanted, {n: {"ActiveState": "active"} for n in before}, set(before), [], False, params())
    survivors = NAMES[: min(old, new)]
    assert plan["kept"] == survivors
    assert plan["stopped"] == plan["disabled"] == NAMES[new:old]
    assert plan["started"] == plan["enabled"] == NAMES[old:new]
    assert plan["restarted"] == []


@given(
    st.lists(st.sampled_from(NAMES), unique=True),
    st.dictionaries(st.sampled_from(NAMES), STATES),
    st.sets(st.sampled_from(NAMES)),
    st.sets(st.sampled_from(NAMES)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["restart", "none"]),
)
def test_every_instance_has_one_fate(wanted, states, linked, pending, changed, prune, enabled, on_change) -> None:
    options = params(prune=prune, enabled=enabled, on_change=on_change)
    now = {name: {"ActiveState": state} for name, state in states.items()}
    plan = _instances.plan(wanted, now, linked, sorted(pending), changed, options)
    fates = plan["started"] + plan["restarted"] + plan["kept"]
    assert sorted(fates) == sorted(wanted)
    for key in ("stopped", "disabled", "enabled"):
        assert len(set(plan[key])) == len(plan[key])
    assert not set(plan["stopped"]) & set(wanted)
    if not prune:
        assert plan["stopped"] == []
    for name in plan["kept"]:
        assert on_change == "none" or not (changed or name in pending)
    assert not set(plan["enabled"]) & (linked | set(plan["disabled"]))
    # nothing is left to do once it was done
    done = {name: {"ActiveState": "active"} for name in wanted}
    links = (linked - set(plan["disabled"])) | set(plan["enabled"])
    again = _instances.plan(wanted, done, links, [], False, options)
    assert not any(again[key] for key in again if key != "kept")


def test_one_that_failed_and_is_no_more_declared_is_forgotten() -> None:
    plan = _instances.plan(
        ["1"], seen(_1="active", _2="failed", _3="inactive"), set(), [], False, params(enabled=False)
    )
    assert plan["stopped"] == ["2"] and plan["kept"] == ["1"]


def test_the_template_has_what_was_declared_and_nothing_is_expanded_but_the_instance() -> None:
    text = _instances.template(
        params(
            user="jadelta",
            environment={"A": "100% $HOME {instance}", "N": 7, "B": True},
            environment_file=["-/etc/x {instance}%"],
            after=["network.target", "a.service"],
            restart_sec=5.0,
            start_limit_interval=0.5,
            start_limit_burst=3,
            description="100% {instance}",
        ),
        ["/bin/{instance}", "--slot={instance}", "%i $x"],
        "multi-user.target",
        "/s/mover.1",
    )
    assert text.startswith(_instances.MARK)
    assert text[len(_instances.MARK) :] == (
        "[Unit]\nDescription=100%% %i\nAfter=network.target a.service\nStartLimitIntervalSec=0.5\nStartLimitBurst=3\n\n"
        "[Service]\nType=simple\nUser=jadelta\n"
        'Environment="A=100%% $HOME %i"\nEnvironment=B=true\nEnvironment=N=7\n'
        "EnvironmentFile=-/etc/x %i%%\nEnvironmentFile=/s/mover.1\n"
        'ExecStart="/bin/%i" "--slot=%i" "%%i $$x"\nRestart=on-failure\nRestartSec=5\n\n'
        "[Install]\nWantedBy=multi-user.target\n"
    )


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"environment": {"1A": "x"}}, "no name of an environment variable"),
        ({"environment": {"A": "\x01"}}, "control characters"),
        ({"environment": {"A": None}}, "must be text or a number"),
        ({"working_directory": "/a\nb"}, "line break"),
        ({"description": "end\\"}, "backslash"),
    ],
)
def test_what_no_unit_can_hold_is_refused(given_: dict, words: str) -> None:
    with pytest.raises(Unfit, match=words):
        _instances.template(params(**given_), ["/bin/x"], "default.target", None)


def test_instances_by_count_and_by_name() -> None:
    assert _instances.instances(3, None) == ["1", "2", "3"]
    assert _instances.instances(None, ["a", "b:1", "a"]) == ["a", "b:1"]
    for count, names, words in [
        (-1, None, "must be 0"),
        (None, ["a b"], "use letters"),
        (None, ["a/b"], "use letters"),
    ]:
        with pytest.raises(Unfit, match=words):
            _instances.instances(count, names)


@given(st.text(st.sampled_from("ab\"'\\`$\n\t#=; %"), max_size=12))
def test_systemd_reads_secrets_back(value: str) -> None:
    # in double quotes of an environment file a backslash stands before what it makes plain, and nothing else counts
    text = _instances.secret_text({"A": value})
    found = re.fullmatch(r'A="((?:[^"\\`$]|\\["\\`$])*)"\n', text)
    assert found
    assert re.sub(r"\\(.)", r"\1", found.group(1)) == value


def test_a_secret_that_systemd_would_drop_is_refused_without_its_value() -> None:
    with pytest.raises(Unfit, match="secrets: A: ") as raised:
        _instances.secret_text({"A": "hidden\x01"})
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        ({"ActiveState": "active", "MainPID": "7"}, ""),
        ({"ActiveState": "active", "MainPID": "8"}, "it ended and was started again"),
        ({"ActiveState": "active", "MainPID": "8", "Type": "forking"}, ""),
        ({"ActiveState": "active", "MainPID": "7", "NRestarts": "1"}, "it ended and was started again"),
        ({"ActiveState": "activating", "SubState": "start"}, None),
        ({"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"}, "activating (auto-restart)"),
        ({"ActiveState": "failed", "ExecMainCode": "1", "ExecMainStatus": "3"}, "exit status 3"),
        ({"ActiveState": "failed", "ExecMainCode": "2", "ExecMainStatus": "9"}, "signal 9"),
        ({"ActiveState": "failed", "NRestarts": "5"}, "gave it up after 5 restarts"),
        ({"ActiveState": "failed", "Result": "start-limit-hit"}, "start limit hit"),
        ({"ActiveState": "inactive", "SubState": "dead", "Result": "success"}, "result success"),
    ],
)
def test_what_is_wrong_in_words(one: dict[str, str], words: str | None) -> None:
    said = _instances.trouble(one, "7", True)
    if words:
        assert said and words in said
    else:
        assert said == words


class Systemd:
    """A manager that has these units; ``told`` has what it was told to do."""

    scope, target = "system", "multi-user.target"

    def __init__(self, folder: Path, **units: str) -> None:
        self.folder, self.told = str(folder / "etc"), []
        (folder / "etc" / "multi-user.target.wants").mkdir(parents=True)
        # instance -> path of its unit; of one that nobody has that of the template
        self.units = {name.lstrip("_"): path for name, path in units.items()}

    def one(self, unit: str) -> dict[str, str]:
        name = unit.partition("@")[2][: -len(".service")]
        path, state = (
            self.units.get(name, self.units.get("template", "")),
            "active" if name in self.units else "inactive",
        )
        return {"Id": unit, "FragmentPath": path, "ActiveState": state, "LoadState": "loaded" if path else "not-found"}

    def find(self, patterns: list[str], properties: object) -> dict[str, dict[str, str]]:
        base = patterns[0].partition("@")[0]
        loaded = [f"{base}@{name}.service" for name in self.units if name != "template"]
        return {unit: self.one(unit) for unit in loaded + patterns[1:]}

    def show(self, units: list[str], properties: object) -> dict[str, dict[str, str]]:
        return {unit: self.one(unit) for unit in units}

    def run(self, *words: str) -> str:
        self.told.append(words)
        return ""

    def job(self, verb: str, units: list[str], seconds: float) -> str:
        self.told.append((verb, *units))
        for unit in units:
            self.units.pop(unit.partition("@")[2][: -len(".service")])
        return ""

    def link(self, unit: str, target: str) -> None:
        (Path(self.folder) / "multi-user.target.wants" / unit).symlink_to(target)

    def converge(self, wanted: list[str], check: bool = False, there: bool = True, **more: Any) -> dict:
        given_ = params(
            force=False, secrets={}, command="/bin/true", drop_in=None, state="present", timeout=5, serial=0
        )
        result = {"changed": False, "running": True, "linger": None, "linger_enabled": False}
        return _units._converge(self, there, given_ | {"settle": 0} | more, wanted, check, result)


def test_the_template_of_somebody_else_is_left_alone_with_its_instances(tmp_path: Path) -> None:
    vendor = "/usr/lib/systemd/system/getty@.service"
    one = Systemd(tmp_path, template=vendor, tty1=vendor)
    one.link("getty@tty1.service", vendor)
    for more in ({"state": "absent"}, {}):
        with pytest.raises(Unfit, match=f"{vendor}: has a unit file of .* somebody else"):
            one.converge([], name="getty", **more)
    # before there is a manager to ask, the link tells
    told = one.converge([], True, False, name="getty", state="absent")
    assert not told["stopped"] and not told["disabled"]
    assert one.told == [] and os.listdir(one.folder) == ["multi-user.target.wants"]
    assert one.converge([], True, name="getty", force=True)["stopped"] == ["tty1"]


@pytest.mark.parametrize("state", ["present", "absent"])
def test_units_of_an_administrator_are_no_instances_of_ours(tmp_path: Path, state: str) -> None:
    ours = f"{tmp_path}/etc/mover@.service"
    one = Systemd(tmp_path, template=ours, _2=ours, debug=f"{tmp_path}/etc/mover@debug.service")
    Path(ours).write_text(_instances.MARK)
    for name, target in (("2", "../mover@.service"), ("3", ours), ("debug", "../mover@debug.service")):
        one.link(f"mover@{name}.service", target)
    # enabled, and its unit file is gone
    one.units["old"] = ""
    one.link("mover@old.service", "/opt/mover@.service")
    told = one.converge([], state=state)
    assert sorted(told["disabled"]) == ["2", "3"] and told["stopped"] == ["2"]
    assert sorted(one.units) == ["debug", "old", "template"]
    words = [word for line in one.told for word in line]
    assert not [word for word in words if "debug" in word or "old" in word or "*" in word]
