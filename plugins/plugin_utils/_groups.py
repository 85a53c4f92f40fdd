# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups of hosts that a declaration and observations make (pure; the names are not yet made safe for Ansible)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def may_run(component: Mapping[str, Any], host: Mapping[str, Any]) -> bool:
    """True where the component's classes let it run on the host."""
    classes = set(host["classes"])
    return (not component["classes"] or bool(classes & set(component["classes"]))) and not classes & set(
        component["avoid"]
    )


def declared_groups(declaration: Mapping[str, Any]) -> dict[str, list[str]]:
    """Group name -> hosts in order: one per pipe, component and host class."""
    groups: dict[str, list[str]] = {}
    for component in declaration["components"].values():
        hosts = [name for name, host in declaration["hosts"].items() if may_run(component, host)]
        groups[f"component_{component['pipe']}_{component['name']}"] = hosts
        pipe = groups.setdefault(f"pipe_{component['pipe']}", [])
        pipe += [name for name in hosts if name not in pipe]
    for name, host in declaration["hosts"].items():
        for kind in host["classes"]:
            groups.setdefault(f"class_{kind}", []).append(name)
    return groups


def live_groups(declaration: Mapping[str, Any], observations: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Group name -> hosts in order: `reachable`, `unknown`, `hot` (hot limit reached), one per running component.

    A host without an observation is unknown, and in no other group.
    """
    groups: dict[str, list[str]] = {"reachable": [], "unknown": [], "hot": []}
    for name, host in declaration["hosts"].items():
        seen = observations.get(name) or {}
        if not seen.get("answered"):
            groups["unknown"].append(name)
            continue
        groups["reachable"].append(name)
        load = 0.0
        for instance in seen.get("instances", ()):
            component = declaration["components"].get(instance["component"])
            load += component["load"] if component else 0.0
            running = groups.setdefault("running_" + instance["component"].replace("/", "_"), [])
            if name not in running:
                running.append(name)
        if host["hot_limit"] is not None and load >= host["hot_limit"]:
            groups["hot"].append(name)
    return groups
