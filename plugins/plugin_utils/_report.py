# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as people read it: a table, and a difference of the fleet before and after it. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from ansible_collections.sciops.sites.plugins.plugin_utils._placement import some

MOST_HOSTS_SHOWN = 8
MOST_PROBLEMS_SHOWN = 10


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def wanted(component: dict[str, Any]) -> str:
    """Return the wanted count of a plan's component: "5", "2-4", or "?" where its declaration has a fault."""
    if component["state"] == "set_aside":
        return "?"
    low, high = component["wanted"]
    return str(low) if low == high else f"{low}-{high}"


def _where(component: dict[str, Any]) -> str:
    places = [host if count == 1 else f"{host}:{count}" for host, count in component["where"].items()]
    return some(places, MOST_HOSTS_SHOWN) or "-"


def table(plan: dict[str, Any], heading: bool = True) -> str:
    """Return the plan as aligned text: components, hosts, what is set aside, notes; ends with a newline.

    Without `heading` the first line, which names site, pass and verdict, is left out.

    `running` and `possible` are what was observed, before the plan; `why not` is what the plan leaves undone.
    """
    head = f"{plan['site']}.{plan['deployment']}, pass {plan['number']}: {plan['verdict']}"
    lines = [f"{head}: {plan['why']}" if plan["why"] else head, ""] if heading else []
    rows = [["component", "state", "wanted", "running", "possible", "where", "why not"]]
    for name, one in plan["components"].items():
        flaws = [f"{one[key]} {key}" for key in ("unhealthy", "stale") if one[key]]
        if one["unhealthy"] and one.get("flaw"):
            flaws[0] += f" ({one['flaw']})"
        why = "; ".join(part for part in (one["why"], *flaws) if part)
        rows.append(
            [name, one["state"], wanted(one), str(one["certain"]), str(one["possible"]), _where(one), why or "-"]
        )
    lines += _aligned(rows)
    rows = [["host", "state", "load", "limit", "instances", "why"]]
    for name, one in plan["hosts"].items():
        limit = "-" if one["hot_limit"] is None else f"{one['hot_limit']:g}"
        rows.append([name, one["state"], f"{one['load']:g}", limit, str(one["instances"]), one["why"] or "-"])
    lines += ["", *_aligned(rows)]
    for name, one in plan["hosts"].items():
        problems = one.get("problems") or []
        if problems:
            more = len(problems) - MOST_PROBLEMS_SHOWN
            lines += ["", f"{name} says:", *(f"  {words}" for words in problems[:MOST_PROBLEMS_SHOWN])]
            lines += [f"  and {more} more"] if more > 0 else []
    for name, one in plan["components"].items():
        if one["failure"]:
            lines += ["", f"{name}: last failure: {one['failure'].get('last')}"]
            lines += [f"  | {line}" for line in one["failure"].get("log_tail") or ()]
    if plan["set_aside"]:
        lines += ["", "set aside:", *(f"  {name}: {why}" for name, why in plan["set_aside"].items())]
    if plan["notes"]:
        lines += ["", "notes:", *(f"  {note}" for note in plan["notes"])]
    if plan["actions"]:
        lines += ["", "actions:"]
        rows = [[one["kind"], one["component"], _slot(one), one["host"], one["reason"]] for one in plan["actions"]]
        lines += [f"  {line}" for line in _aligned(rows)]
    return "\n".join(lines) + "\n"


def _slot(action: dict[str, Any]) -> str:
    if action.get("slot") is not None:
        return f"#{action['slot']}"
    return f"pid {action['pid']}" if action.get("pid") is not None else "-"


def diff(plan: dict[str, Any]) -> str:
    """Return the fleet before and after the plan as a unified difference, "" where nothing changes.

    One line for each component and host with its number of instances, sorted; changed lines carry the reason below
    the difference, one line for each action.
    """
    before: dict[tuple[str, str], int] = {}
    for name, one in plan["components"].items():
        for host, count in one["where"].items():
            before[name, host] = count
    after = dict(before)
    for action in plan["actions"]:
        step = {"start": 1, "stop": -1}.get(action["kind"], 0)
        key = (action["component"], action["host"])
        after[key] = after.get(key, 0) + step

    def lines(counts: dict[tuple[str, str], int]) -> list[str]:
        return [f"{name} on {host}: {count} running" for (name, host), count in sorted(counts.items()) if count > 0]

    found = list(
        difflib.unified_diff(
            lines(before), lines(after), f"{plan['site']}.{plan['deployment']} running", "planned", lineterm="", n=0
        )
    )
    reasons = [
        f"# {one['kind']} {one['component']} {_slot(one)} on {one['host']}: {one['reason']}" for one in plan["actions"]
    ]
    if plan["verdict"] != "ok":
        reasons.append(f"# {plan['verdict']}: {plan['why']}")
    text = [line for line in found if not line.startswith("@@")] + reasons
    return "\n".join(text) + "\n" if text else ""
