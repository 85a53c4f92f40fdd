# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of `sciops.sites.state_info`: reads the state folder of each site."""

from __future__ import annotations

import datetime
import time
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.sciops.sites.plugins.modules.state_info import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import _holds
from ansible_collections.sciops.sites.plugins.plugin_utils._controller import Task
from ansible_collections.sciops.sites.plugins.plugin_utils._store import Store, StoreError

Json = dict[str, t.Any]


class ActionModule(ActionBase):
    """Runs once for the whole play; contacts no host."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Read the state of the sites."""
        super().run(tmp, task_vars)
        task = Task(self, DOCUMENTATION, task_vars or {})
        now = time.time()
        try:
            sites = {
                declaration["site"]: state(task.store(declaration), declaration["holds"], task.params["history"], now)
                for declaration in task.declarations(task.params["sites"])
            }
        except StoreError as error:
            raise AnsibleActionFail(str(error)) from error
        return {"changed": False, "sites": sites, "lines": [line for one in sites.values() for line in lines(one, now)]}


def state(store: Store, declared: list[Json], last: int, now: float) -> Json:
    """Return what is remembered of one site; what cannot be read is told in `problems`."""
    problems: list[str] = []

    def reading(read: t.Callable[[], t.Any], otherwise: t.Any) -> t.Any:
        try:
            return read()
        except StoreError as error:
            problems.append(str(error))
            return otherwise

    memory = reading(store.load_memory, {})
    report = reading(store.read_report, None) or {}
    holds = [*declared, *reading(store.load_holds, [])]
    history, torn = store.read_history(last)
    steady = store.now() if memory else 0.0
    return {
        "site": store.site,
        "deployment": store.deployment,
        "folder": str(store.folder),
        "number": report.get("number", memory.get("number")),
        "outcome": report.get("outcome"),
        "at": report.get("at"),
        "lock": reading(store.holder, None),
        "halt": store.halted(),
        "holds": _holds.effective(holds, now),
        "expired": _holds.expired(holds, now),
        "backoffs": backoffs(memory.get("failures") or {}, steady),
        "history": history,
        "problems": problems + torn,
    }


def backoffs(failures: t.Mapping[str, Json], steady: float) -> list[Json]:
    """Return the components that failed, the longest wait first, then by name."""
    found = [
        {
            "component": name,
            "level": one.get("level"),
            "left": round(max(float(one.get("until") or 0) - steady, 0.0), 1),
            "last": one.get("last"),
        }
        for name, one in failures.items()
        if one.get("level")
    ]
    return sorted(found, key=lambda one: (-one["left"], one["component"]))


def lines(site: Json, now: float) -> list[str]:
    """Return the state of one site in a few lines for people."""
    head = f"{site['site']} ({site['deployment']}): "
    if site["at"] is None:
        head += "no pass yet"
    else:
        head += f"pass {site['number']} {site['outcome']}, {max(now - site['at'], 0):.0f} s ago"
    result = [head]
    if site["halt"]:
        result.append(f"  HALTED by {site['halt']['by']}: {site['halt']['reason']}")
    if site["lock"]:
        age = site["lock"]["age"]
        held = "for an unknown time" if age is None else f"for {age:.0f} s"
        words = " ".join(f"{key} {site['lock'][key]}" for key in ("user", "host", "pid") if key in site["lock"])
        result.append(f"  lock: {words or 'somebody'}, {held}")
    result += [f"  {_holds.describe(hold)}" for hold in site["holds"]]
    result += [f"  over: {_holds.describe(hold)}" for hold in site["expired"]]
    result += [
        f"  {one['component']}: failed, level {one['level']}, next try in {one['left']:.0f} s: {one['last']}"
        for one in site["backoffs"]
    ]
    result += [f"  {_entry(one)}" for one in site["history"]]
    result += [f"  PROBLEM: {words}" for words in site["problems"]]
    return result


def _entry(entry: Json) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(float(entry["at"]), tz=datetime.timezone.utc)
        when = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    except (KeyError, TypeError, ValueError, OverflowError):
        when = "?"
    if entry.get("event"):
        hold = entry.get("hold") or {}
        what = f"{entry['event']} {hold.get('mode') or ''} {hold.get('scope')}"
        text = f"{what} by {entry.get('by')}: {hold.get('reason') or ''}"
        return f"{when}  {' '.join(text.split()).rstrip(':')}"
    done: dict[str, int] = {}
    for one in entry.get("results") or []:
        done[str(one.get("outcome"))] = done.get(str(one.get("outcome")), 0) + 1
    did = ", ".join(f"{count} {word}" for word, count in sorted(done.items()))
    parts = [f"{when}  pass {entry.get('number')}", str(entry.get("outcome")), did, str(entry.get("why") or "")]
    parts += [str(words) for words in entry.get("authorised") or []]
    return "; ".join(part for part in parts if part)
