# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""jadetools fleet states: planned as the old coordinator did, and as this collection does. Pure.

A state is {"config": Interface.json, "hosts": {HOST: {"ping": "ok|lost|unreachable", "getmex_rc": 0, "lines": [..],
"launch_rc": {SUBMITTER: 0}}}}; a host of `available` that is not in `hosts` is up, idle and working.
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils import _planner

_INTERPRETER = re.compile(r"(ba|da|k|z)?sh|python[0-9.]*|perl")
_PS_COLUMNS = 11


def plan(state: dict[str, Any]) -> dict[str, Any]:
    """Return {"launches": [[host, submitter], ..]}: every start that the old coordinator would try, in its order.

    Its faults are kept on purpose (a start raises no heat, a host that cannot be asked is idle, keys are substrings):
    this mode exists to compare with what it did.
    """
    config, hosts = state["config"], state.get("hosts") or {}
    components = [(f"{pipe['pipe']}_{one['name']}", one) for pipe in config["pipes"] for one in pipe["types"]]
    counters = {name: 0 for name, _one in components}
    heat: dict[str, int] = {}
    for host in config["available"]:
        if (hosts.get(host) or {}).get("ping", "ok") == "ok":
            heat[host] = 0
    for host in heat:
        seen = hosts.get(host) or {}
        if seen.get("getmex_rc", 0) != 0:
            continue
        for line in seen.get("lines") or ():
            for name, one in components:
                if one["key"] in line:
                    counters[name] += 1
                    heat[host] += 1 if one["hot"] else 0
    launches: list[list[str]] = []
    for name, one in components:
        if not one["on"]:
            continue
        for host, hot in heat.items():
            if counters[name] >= one["count"]:
                break
            if one["hot"] and hot >= config["hotlimit"]:
                continue
            launches.append([host, one["submitter"]])
            if ((hosts.get(host) or {}).get("launch_rc") or {}).get(one["submitter"], 0) == 0:
                counters[name] += 1
    return {"launches": launches}


def count_legacy(lines: list[str], key: str) -> int:
    """Count as the old coordinator did: every line that holds the key."""
    return sum(1 for line in lines if key in line)


def count_strict(lines: list[str], key: str) -> int:
    """Count instances by their program: interpreter and script, or the program itself, named by the key.

    The name may go on with lowercase letters or hyphens and an extension. Lines tell no parents, so a wrapper without
    an extension and the script with one are taken for the same instances: the larger of the two numbers counts.
    """
    name = re.compile(re.escape(key) + r"[a-z-]*(\.[A-Za-z]+)?")
    plain = extended = 0
    for line in lines:
        match = name.fullmatch(_program(line))
        if match:
            plain, extended = plain + (match[1] is None), extended + (match[1] is not None)
    return max(plain, extended)


def _program(line: str) -> str:
    """Return the last path component of what a line of a process list runs, looking through interpreters."""
    columns = line.split(None, _PS_COLUMNS - 1)
    words = columns[-1].split() if len(columns) == _PS_COLUMNS and columns[1].isdigit() else line.split()
    if words and _INTERPRETER.fullmatch(words[0].rsplit("/", 1)[-1]):
        words = [word for word in words[1:] if not word.startswith("-")]
    return words[0].rsplit("/", 1)[-1] if words else ""


def to_declaration(config: dict[str, Any]) -> dict[str, Any]:
    """Return the declaration that wishes what an Interface.json wishes, for planning offline."""
    components: dict[str, Any] = {}
    aside: dict[str, str] = {}
    for at, pipe in enumerate(config["pipes"]):
        for index, one in enumerate(pipe["types"]):
            name = f"{pipe['pipe']}/{one['name']}"
            if name in components:
                path = f"pipes[{at}].types[{index}]"
                aside[f"{name}#{index}"] = f"{path}: {name}: is declared twice; give each its own name"
                continue
            components[name] = {
                "pipe": pipe["pipe"],
                "name": one["name"],
                "order": len(components),
                "state": "on" if one["on"] else "off",
                "count": {"min": one["count"], "max": one["count"]},
                "load": 1.0 if one["hot"] else 0.0,
                "legacy": {"submitter": one["submitter"], "key": one["key"]},
            }
    hosts = {
        host: {"order": at, "hot_limit": config["hotlimit"]} for at, host in reversed([*enumerate(config["available"])])
    }
    return {
        "site": "jadetools",
        "deployment": "legacy",
        "policy": {"quorum": 0},
        "hosts": hosts,
        "components": components,
        "set_aside": aside,
    }


def to_observations(state: dict[str, Any], declaration: dict[str, Any]) -> dict[str, Any]:
    """Return what the hosts of a state said, as observations; what others started has neither slot nor token."""
    found: dict[str, Any] = {}
    for host in declaration["hosts"]:
        seen = (state.get("hosts") or {}).get(host) or {}
        if seen.get("ping", "ok") != "ok":
            found[host] = {"answered": False, "kind": "unreachable", "reason": f"ping: {seen['ping']}"}
            continue
        if seen.get("getmex_rc", 0) != 0:
            found[host] = {"answered": False, "kind": "refused", "reason": f"query: status {seen['getmex_rc']}"}
            continue
        instances: list[dict[str, Any]] = []
        for name, spec in declaration["components"].items():
            for _index in range(count_strict(seen.get("lines") or [], spec["legacy"]["key"])):
                at = len(instances) + 1
                instances.append({"component": name, "owned": False, "pid": at, "start": at, "age": 0.0})
        found[host] = {"answered": True, "boot_id": host, "instances": instances}
    return found


def strict(state: dict[str, Any]) -> dict[str, Any]:
    """Plan a legacy state by the rules of this collection, with quorum 0.

    Returns {"launches": [[host, submitter], ..], "unplaced": {component: "a: hot limit, b: unknown"}, "plan": plan}.
    """
    declaration = to_declaration(state["config"])
    made = _planner.plan(declaration, to_observations(state, declaration), None, 0.0, options={"each_host": True})
    launches = [
        [one["host"], declaration["components"][one["component"]]["legacy"]["submitter"]]
        for one in made["actions"]
        if one["kind"] == "start"
    ]
    unplaced = {
        name: ", ".join(f"{host}: {word}" for host, word in one["refusals"].items())
        for name, one in made["components"].items()
        if "refusals" in one
    }
    return {"launches": launches, "unplaced": unplaced, "plan": made}
