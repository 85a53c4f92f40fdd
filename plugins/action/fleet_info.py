# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of `sciops.sites.fleet_info`: one read-only pass, shown in the form that was asked for."""

from __future__ import annotations

import json
import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.sciops.sites.plugins.modules.fleet_info import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import _pass, _show, _status
from ansible_collections.sciops.sites.plugins.plugin_utils._controller import (
    Task,
    gates_reader,
    secret_reader,
    write_text,
)

display = Display()

FORMATS: dict[str, t.Callable[[dict[str, t.Any]], str]] = {
    "table": _show.summary,
    "check_mk": lambda report: _status.check_mk(report["plan"]),
    "nagios": lambda report: _status.nagios(report["plan"])[1],
    "openmetrics": lambda report: _status.openmetrics(report["plan"]),
    "json": lambda report: json.dumps(report["plan"], sort_keys=True),
}


class ActionModule(ActionBase):
    """Runs once for the whole play."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Look at the sites of the inventory."""
        super().run(tmp, task_vars)
        task = Task(self, DOCUMENTATION, task_vars or {})
        params = task.params
        options = _pass.Options(check=True, limit=task.limit())
        passes = [
            _pass.SitePass(
                declaration, task.store(declaration), options, gates_reader(declaration), secret_reader(self._loader)
            )
            for declaration in task.declarations(params["sites"])
        ]
        reports = _pass.run(passes, task.fleet())
        text = "\n".join(FORMATS[params["format"]](report) for report in reports.values() if report["plan"])
        broken = [f"{name}: {report['why']}" for name, report in reports.items() if not report["plan"]]
        result: dict[str, t.Any] = {
            "changed": False,
            "text": text,
            "status": max([_status.nagios(report["plan"])[0] for report in reports.values() if report["plan"]] + [0]),
            "sites": {name: report["plan"] for name, report in reports.items()},
        }
        if params["dest"] and not self._task.check_mode:
            write_text(params["dest"], text if text.endswith("\n") else text + "\n")
        if params["show"]:
            display.display(text)
        if broken:
            result.update(failed=True, msg="\n".join(broken))
        return result
