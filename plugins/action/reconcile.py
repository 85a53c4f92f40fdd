# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of `sciops.sites.reconcile`: options in, one pass, display and result out."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.sciops.sites.plugins.modules.reconcile import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import _pass, _report, _show, _store
from ansible_collections.sciops.sites.plugins.plugin_utils._controller import (
    Task,
    gates_reader,
    read_plan,
    secret_reader,
    write_json,
)

display = Display()

#: What a failed task returns of each site.
SHORT = ("outcome", "exit_code", "why", "changed", "failures")


class ActionModule(ActionBase):
    """Runs once for the whole play."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run one pass over the sites of the inventory."""
        super().run(tmp, task_vars)
        task = Task(self, DOCUMENTATION, task_vars or {})
        params = task.params
        check = bool(self._task.check_mode)
        if params["state"] == "off" and not params["sites"]:
            raise AnsibleActionFail("state: off: name the sites to stop in `sites`")
        options = _pass.Options(
            check=check,
            diff=bool(self._task.diff),
            by=params["by"] or _store.login(),
            accept_collapse=params["accept_collapse"],
            lift_stop_guard=params["lift_stop_guard"],
            assume_lost=tuple(params["assume_lost"]),
            retry_update=tuple(params["retry_update"]),
            restart=tuple(params["restart"]),
            limit=task.limit(),
            seed=params["seed"],
        )
        declarations = task.declarations(params["sites"], off=params["state"] == "off")
        known = {
            name for declaration in declarations for part in ("components", "set_aside") for name in declaration[part]
        }
        for option, name in [(key, name) for key in ("retry_update", "restart") for name in params[key]]:
            if name not in known:
                # it brings along what checks site files, which a pass can do without
                from ansible_collections.sciops.sites.plugins.plugin_utils._faults import hint

                raise AnsibleActionFail(f"{option}: {name}: no site here has this component, {hint(name, known)}")
        names = [declaration["site"] for declaration in declarations]
        saved = read_plan(params["plan_src"], names) if params["plan_src"] else {}
        fleet = task.fleet()
        passes = [
            _pass.SitePass(
                declaration,
                task.store(declaration),
                replace(options, saved_plan=saved.get(declaration["site"])),
                gates_reader(declaration),
                secret_reader(self._loader),
            )
            for declaration in declarations
        ]
        reports = _pass.run(passes, fleet)
        outcome = _store.worst([report["outcome"] for report in reports.values()])
        result: dict[str, t.Any] = {
            "changed": any(report["changed"] for report in reports.values()),
            "outcome": outcome,
            "exit_code": _store.OUTCOMES[outcome],
            "sites": reports,
            "table": "\n".join(_show.summary(report) for report in reports.values()),
            "execs": fleet.execs,
            "sent": fleet.sent,
        }
        if params["plan_dest"]:
            write_json(params["plan_dest"], {name: report["plan"] for name, report in reports.items()})
        if params["report_dest"]:
            write_json(params["report_dest"], result)
        if self._task.diff:
            # of what was found first, not of what the last look found
            plans = [one.first_plan for one in passes if one.first_plan and one.first_plan["actions"]]
            result["diff"] = [{"prepared": _report.diff(plan)} for plan in plans]
            result["diff"] += [difference for one in passes for difference in one.files]
        if params["show"]:
            display.display(result["table"])
        if outcome in params["fail_on"]:
            result["failed"] = True
            # Ansible prints all of a failed result; the whole is in the report and in the history
            result["sites"] = {name: {key: report[key] for key in SHORT} for name, report in reports.items()}
            del result["table"]
            result["msg"] = "\n".join(
                f"{name}: {report['outcome']}: {_show.why(report)}"
                for name, report in reports.items()
                if report["outcome"] in params["fail_on"]
            )
        return result
