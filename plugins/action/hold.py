# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of `sciops.sites.hold`: changes holds.json and HALT of each site, and writes it to the history."""

from __future__ import annotations

import contextlib
import difflib
import json
import time
import typing as t

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.sciops.sites.plugins.modules.hold import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import _holds
from ansible_collections.sciops.sites.plugins.plugin_utils._controller import Task
from ansible_collections.sciops.sites.plugins.plugin_utils._store import Store, StoreError, login

Json = dict[str, t.Any]


class ActionModule(ActionBase):
    """Runs once for the whole play; contacts no host."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Set or take away holds."""
        super().run(tmp, task_vars)
        task = Task(self, DOCUMENTATION, task_vars or {})
        # plain types: what comes from a playbook carries Ansible's tags
        params = json.loads(json.dumps(task.params))
        now = time.time()
        try:
            wanted = _wanted(params, now)
            declarations = task.declarations(params["sites"])
            if wanted is not None:
                # every site is looked at before the first is changed
                for declaration in declarations:
                    _must_exist(declaration, wanted["scope"])
            sites = {}
            for declaration in declarations:
                store = task.store(declaration)
                check = bool(self._task.check_mode)
                sites[declaration["site"]] = _apply(store, params, wanted, declaration, now=now, check=check)
        except (ValueError, StoreError) as error:
            raise AnsibleActionFail(str(error)) from error
        result: Json = {
            "changed": any(one.pop("changed") for one in sites.values()),
            "diff": [one.pop("diff") for one in sites.values()],
            "sites": sites,
        }
        warnings = [
            f"{name}: {_holds.describe(hold)}: is declared in {one.pop('file')}, take it out there"
            for name, one in sites.items()
            for hold in one["declared"]
            if params["state"] == "absent" and hold["scope"] == params["scope"]
        ]
        for one in sites.values():
            one.pop("file", None)
        if warnings:
            result["warnings"] = warnings
        return result


def _wanted(params: Json, now: float) -> Json | None:
    """Return the hold to set, or None where holds are to be taken away. Raises ValueError."""
    _holds.parse_scope(params["scope"])
    if params["state"] == "absent":
        if params["mode"] == "halt" and params["scope"] != "site":
            raise ValueError("mode: halt has the scope site")
        return None
    return _holds.make(
        params["scope"],
        params["mode"] or "hold",
        owner=params["owner"] if params["owner"] is not None else login(),
        reason=params["reason"] or "",
        until=_holds.parse_until(params["until"], now),
        since=now,
    )


def _must_exist(declaration: Json, scope: str) -> None:
    """Refuse a scope that the site does not have: a hold with a slip in its name would hold nothing."""
    kind, name = _holds.parse_scope(scope)
    components = [*declaration["components"], *declaration["set_aside"]]
    known = {
        "site": [""],
        "host": list(declaration["hosts"]),
        "pipe": [one.partition("/")[0] for one in components],
        "component": components,
    }[kind]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(set(known))[:10]) or 'none'}"
        raise ValueError(f"scope: {scope}: site {declaration['site']} has no such {kind}; {hint}")


def _apply(store: Store, params: Json, wanted: Json | None, declaration: Json, *, now: float, check: bool) -> Json:
    """Change one site; return what is recorded then, with `changed` and `diff`."""
    writing = contextlib.nullcontext() if check else store.changing_holds()
    with writing as keep:
        before = _holds.effective(store.load_holds(), now)
        over = _holds.expired(store.load_holds(), now)
        halt = own_halt(store)
        after, halt_after = before, halt
        if wanted is None and params["mode"] == "halt":
            halt_after = None
        elif wanted is None:
            after = _holds.absent(before, params["scope"], params["mode"])[0]
        elif wanted["mode"] == "halt":
            same = halt is not None and (halt["by"], halt["reason"]) == (wanted["owner"], wanted["reason"])
            halt_after = halt if same else {"by": wanted["owner"], "reason": wanted["reason"], "since": now}
        else:
            after = _holds.present(before, wanted)[0]
        texts = {"before": _text(before, halt), "after": _text(after, halt_after)}
        changed = after != before or halt_after != halt
        if changed and not check:
            if after != before and keep is not None:
                keep(after)
            if halt_after is None and halt is not None:
                store.clear_halt()
            elif halt_after is not None and halt_after != halt:
                store.set_halt(halt_after["by"], halt_after["reason"])
            store.append_history(_line(params, wanted, now))
    name = f"{store.site}.{store.deployment}"
    return {
        "changed": changed,
        "diff": {"before_header": name, "after_header": name, **texts},
        "holds": after,
        "halt": halt_after,
        "expired": over,
        "declared": _holds.effective(declaration["holds"], now),
        "file": declaration.get("file") or "its site file",
    }


def own_halt(store: Store) -> Json | None:
    """Return the kill switch of this site alone, not the one in the root, which this task cannot lift."""
    found = store.halted()
    if found is not None and not (store.folder / "HALT").is_symlink() and not (store.folder / "HALT").exists():
        return None
    return found


def _line(params: Json, wanted: Json | None, now: float) -> Json:
    what = wanted if wanted is not None else {"scope": params["scope"], "mode": params["mode"]}
    by = params["owner"] or login()
    return {"at": now, "event": "hold" if wanted is not None else "release", "by": by, "login": login(), "hold": what}


def _text(holds: list[Json], halt: Json | None) -> str:
    document = {"halt": halt, "holds": sorted(holds, key=lambda hold: (hold["scope"], hold["mode"]))}
    return yaml.safe_dump(document, sort_keys=True, allow_unicode=True)
