# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as monitoring reads it: check_mk, Nagios and OpenMetrics. Pure.

The state of a component is judged by what was observed, not by what the plan would do: short of its count is critical,
but where hosts that did not answer may hold what is missing it is unknown.
"""

from __future__ import annotations

import re
from typing import Any

OK, WARN, CRIT, UNKNOWN = 0, 1, 2, 3
WORDS = ("OK", "WARN", "CRIT", "UNKNOWN")
# how bad, for the worst of many: a known fault is worse than not knowing
_RANK = {OK: 0, WARN: 1, UNKNOWN: 2, CRIT: 3}


def judge(component: dict[str, Any]) -> tuple[int, str]:
    """Return (state 0..3, text) of one component of a plan."""
    low, high = component["wanted"]
    certain, possible = component["certain"], component["possible"]
    why = component["why"]
    if component["state"] != "on":
        if component["state"] in ("off", "absent") and not possible:
            return OK, component["state"]
        left = certain or possible
        return WARN, f"{component['state']}, {left} {'running' if certain else 'possibly running'}" + _after(why)
    if certain < low:
        if possible >= low:
            return UNKNOWN, f"{certain} of {low} running, {possible - certain} possibly" + _after(why)
        return CRIT, f"{certain} of {low} running" + _after(why)
    if certain > high:
        return WARN, f"{certain} running, {high} wanted" + _after(why)
    if component.get("reverted"):
        return WARN, f"{certain} running" + _after(why)
    if component["unhealthy"]:
        return WARN, f"{certain} running, {component['unhealthy']} unhealthy"
    return OK, f"{certain} running"


def _after(why: str) -> str:
    reasons = re.sub(r"^\d+ of \d+: ", "", why)
    return f" ({reasons})" if reasons else ""


def judge_site(plan: dict[str, Any]) -> tuple[int, str]:
    """Return (state, text) of the pass itself."""
    if plan["verdict"] == "unsafe":
        return CRIT, f"unsafe: {plan['why']}"
    if plan["verdict"] == "halted":
        return WARN, plan["why"]
    aside = len(plan["set_aside"])
    if aside:
        return WARN, f"{aside} components set aside"
    return OK, "ok"


def _states(plan: dict[str, Any]) -> list[tuple[str, int, str]]:
    found = [("site", *judge_site(plan))]
    return found + [(name, *judge(one)) for name, one in plan["components"].items()]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def check_mk(plan: dict[str, Any]) -> str:
    """Return local-check lines `<0|1|2|3> <service> - <text>`, one for the site and one for each component."""
    prefix = f"sciops_{plan['site']}_{plan['deployment']}"
    return "".join(
        f"{state} {prefix}_{name.replace('/', '_').replace(' ', '_')} - {_one_line(text)}\n"
        for name, state, text in _states(plan)
    )


def nagios(plan: dict[str, Any]) -> tuple[int, str]:
    """Return (exit status 0..3, text `NAME OK|WARN|CRIT|UNKNOWN | details |`), the worst of site and components."""
    states = _states(plan)
    worst = max((state for _name, state, _text in states), key=lambda state: _RANK[state])
    bad = [f"{name}: {_one_line(text)}" for name, state, text in states if state != OK]
    details = "; ".join(bad) or f"{len(states) - 1} components as wanted"
    # a pipe would end the text where Nagios looks for performance data
    return worst, f"{plan['site']}.{plan['deployment']} {WORDS[worst]} | {details.replace('|', '/')} |"


def _label(text: Any) -> str:
    return str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def openmetrics(plan: dict[str, Any]) -> str:
    """Return OpenMetrics text: wanted, running, possible, unhealthy and age by component, hosts by state, verdict."""
    base = f'site="{_label(plan["site"])}",deployment="{_label(plan["deployment"])}"'
    components = [(f'{base},component="{_label(name)}"', one) for name, one in plan["components"].items()]
    families: list[tuple[str, str, list[tuple[str, Any]]]] = [
        ("wanted_min", "Instances that should run at least", [(at, one["wanted"][0]) for at, one in components]),
        ("wanted_max", "Instances that may run at most", [(at, one["wanted"][1]) for at, one in components]),
        ("running", "Instances that certainly run", [(at, one["certain"]) for at, one in components]),
        (
            "unknown",
            "Instances that may run where nobody answered",
            [(at, one["possible"] - one["certain"]) for at, one in components],
        ),
        (
            "unhealthy",
            "Running instances that fail their health check",
            [(at, one["unhealthy"]) for at, one in components],
        ),
        (
            "oldest_seconds",
            "Age of the oldest running instance",
            [(at, one["oldest"]) for at, one in components if one["oldest"] is not None],
        ),
        (
            "failures",
            "Failures in a row",
            [(at, (one["failure"] or {}).get("level", 0)) for at, one in components],
        ),
    ]
    states = ("answered", "unknown", "held", "drained")
    hosts = [
        (f'{base},state="{state}"', sum(1 for one in plan["hosts"].values() if one["state"] == state))
        for state in states
    ]
    families.append(("hosts", "Hosts by state", hosts))
    verdicts = [(f'{base},verdict="{word}"', int(plan["verdict"] == word)) for word in ("ok", "unsafe", "halted")]
    families.append(("verdict", "Verdict of the pass", verdicts))
    lines = []
    for name, words, samples in families:
        metric = f"sciops_sites_{name}"
        lines.append(f"# TYPE {metric} gauge")
        if name.endswith("_seconds"):
            lines.append(f"# UNIT {metric} seconds")
        lines.append(f"# HELP {metric} {words}.")
        lines += [f"{metric}{{{labels}}} {value:g}" for labels, value in samples]
    return "\n".join([*lines, "# EOF"]) + "\n"
