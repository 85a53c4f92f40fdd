# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of `sciops.sites.condor_session_info`: reads the catalogue; the host has the schedds and programs."""

from __future__ import annotations

import json
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.sciops.sites.plugins.modules.condor_session_info import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import _catalogue, _sessions

Json = dict[str, t.Any]


class ActionModule(ActionBase):
    """One table of applications, one of sessions."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Read the catalogue, then have the host look."""
        result: Json = super().run(tmp, task_vars)
        params = _sessions.options_of(self, DOCUMENTATION)
        if params["payload"]:
            raise AnsibleActionFail("payload: is set by the task itself")
        if params["check_commands"] and not params["catalogue"]:
            raise AnsibleActionFail("condor_session_info: check_commands: needs the catalogue whose commands are meant")
        known: Json = {}
        if params["catalogue"]:
            catalogue = _sessions.catalogue(self, params["catalogue"])
            known = {"applications": _catalogue.rows(catalogue), "applications_table": _catalogue.table(catalogue)}
        result.update(changed=False)
        if params["sessions"] or params["check_commands"]:
            args = {
                name: one for name, one in params.items() if name not in ("catalogue", "payload") and one is not None
            }
            args["payload"] = json.dumps(known.get("applications", []))
            name = "sciops.sites.condor_session_info"
            result.update(self._execute_module(module_name=name, module_args=args, task_vars=task_vars))
        result.update(known)
        return result
