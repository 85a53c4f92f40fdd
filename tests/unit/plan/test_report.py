# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables, differences and monitoring texts of a plan."""

from __future__ import annotations

import re
from typing import Any

from faults.simulator import Controller, World, component, declaration

from ansible_collections.sciops.sites.plugins.plugin_utils import _report, _status


def _plan(fault: str = "", count: int = 3, broken: bool = False) -> dict[str, Any]:
    world = World(["c9-1", "c9-2", "c9-3"])
    declared = declaration(
        {name: {} for name in world.machines}, {"p/a": component(0, 3), "p/off": component(1, 1, state="off")}
    )
    controller = Controller(world)
    controller.run(declared)
    world.tick(300)
    declared["components"]["p/a"]["count"] = {"min": count, "max": count}
    world.machines["c9-3"].fault = fault
    if broken:
        world.machines["c9-3"].processes.clear()
    controller.observe(declared)
    return controller.plan(declared)


def test_the_table_tells_wanted_running_possible_where_and_why_not() -> None:
    text = _report.table(_plan("mute"))
    rows = {line.split()[0]: re.split(r"\s{2,}", line) for line in text.splitlines() if line.strip()}
    assert rows["component"] == ["component", "state", "wanted", "running", "possible", "where", "why not"]
    assert rows["p/a"][1:6] == ["on", "3", "2", "3", "c9-1, c9-2"]
    assert rows["p/a"][6] == "2 of 3: 1 possibly running on c9-3 (no answer within 15 s)"
    assert rows["p/off"][1:] == ["off", "0", "0", "0", "-", "off: never started"]
    assert rows["c9-3"][1] == "unknown"
    assert text.endswith("\n")
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_the_difference_shows_the_fleet_before_and_after_and_each_reason() -> None:
    lines = _report.diff(_plan(count=1)).splitlines()
    assert lines[:2] == ["--- test.dev running", "+++ planned"]
    assert len([line for line in lines if line.startswith("-p/a on")]) == 2
    assert len([line for line in lines if line.startswith("# stop p/a")]) == 2
    assert all("3 running, 1 wanted" in line for line in lines if line.startswith("#"))
    assert _report.diff(_plan()) == ""


def test_j16_all_well_is_0() -> None:
    plan = _plan()
    code, text = _status.nagios(plan)
    assert (code, text) == (
        0,
        "test.dev OK | 2 components as wanted |".replace("2 ", str(len(plan["components"])) + " "),
    )
    assert all(line.startswith("0 ") for line in _status.check_mk(plan).splitlines())


def test_j16_a_short_component_is_2() -> None:
    plan = _plan(broken=True)
    assert _status.nagios(plan)[0] == 2
    assert "test.dev CRIT | p/a: 2 of 3 running" in _status.nagios(plan)[1]
    assert re.search(r"^2 sciops_test_dev_p_a - 2 of 3 running", _status.check_mk(plan), re.MULTILINE)


def test_j16_unknown_hosts_that_hide_the_answer_are_3() -> None:
    plan = _plan("mute")
    assert _status.nagios(plan)[0] == 3
    assert re.search(r"^3 sciops_test_dev_p_a - 2 of 3 running, 1 possibly", _status.check_mk(plan), re.MULTILINE)


def test_an_unsafe_pass_is_critical_and_a_halted_one_a_warning() -> None:
    plan = {**_plan(), "verdict": "unsafe", "why": "1 of 3 hosts answered | so"}
    code, text = _status.nagios(plan)
    assert code == 2
    assert text.count("|") == 2
    assert _status.nagios({**plan, "verdict": "halted"})[0] == 1


def test_j16_openmetrics_has_every_family_once_and_ends_with_eof() -> None:
    text = _status.openmetrics(_plan("mute"))
    assert text.endswith("# EOF\n")
    types = re.findall(r"^# TYPE (\S+) gauge$", text, re.MULTILINE)
    assert len(types) == len(set(types)) == 9
    labels = 'site="test",deployment="dev",component="p/a"'
    assert f"sciops_sites_running{{{labels}}} 2\n" in text
    assert f"sciops_sites_unknown{{{labels}}} 1\n" in text
    assert f"sciops_sites_oldest_seconds{{{labels}}} 300\n" in text
    assert 'sciops_sites_hosts{site="test",deployment="dev",state="unknown"} 1\n' in text
    sample = re.compile(r'[a-z_]+\{([a-z]+="[^"\\]*",?)+\} -?[0-9.e+]+')
    for line in text.splitlines():
        assert line.startswith("# ") or sample.fullmatch(line), line
