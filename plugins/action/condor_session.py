# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of `sciops.sites.condor_session`: chooses from the catalogue, and keeps secrets here."""

from __future__ import annotations

import json
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.sciops.sites.plugins.module_utils import _session
from ansible_collections.sciops.sites.plugins.modules.condor_session import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import _catalogue, _sessions

Json = dict[str, t.Any]

#: options that the submit host needs; the others are the controller's
HERE = ("catalogue", "app", "version", "memory", "cpu", "key", "payload")


class ActionModule(ActionBase):
    """Everything that can be known without the submit host is known before it is asked."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Choose, then have the submit host do it."""
        result: Json = super().run(tmp, task_vars)
        given = self._task.args
        try:
            for name, unit in (("memory", "GB"), ("cpu", "")):
                if given.get(name) is not None:
                    _catalogue.whole(name, given[name], unit)
            params = _sessions.options_of(self, DOCUMENTATION)
            choice = self._choice(params)
            # looked at here, so that what is refused is in no log of the submit host
            variables = {name: str(value) for name, value in params["environment"].items()}
            _session.variables({}, (), variables, params["secret_names"], params["not_secret"])
        except (_catalogue.Refused, _session.Refused) as error:
            raise AnsibleActionFail(f"condor_session: {error}") from error
        key = params["key"] or (f"{choice.application}_{choice.version.name}" if choice else "")
        payload = json.dumps({"choice": choice.plain() if choice else None, "key": key})
        args = {name: value for name, value in params.items() if name not in HERE and value is not None}
        done = self._execute_module(
            module_name="sciops.sites.condor_session", module_args={**args, "payload": payload}, task_vars=task_vars
        )
        result.update(done)
        if choice and choice.warnings:
            result["warnings"] = [*(f"condor_session: {one}" for one in choice.warnings), *result.get("warnings", [])]
        return result

    def _choice(self, params: Json) -> _catalogue.Choice | None:
        """Return what the catalogue has for these options, None where a job is only to be removed by key or number."""
        if params["payload"]:
            raise AnsibleActionFail("payload: is set by the task itself")
        bad = [
            name
            for name in ("interval", "limit", "timeout")
            if params[name] < 0 or (name != "limit" and not params[name])
        ]
        if bad:
            raise AnsibleActionFail(f"condor_session: {bad[0]}: {params[bad[0]]}: must be more than 0")
        if params["state"] == "absent" and (params["key"] or params["job"] is not None):
            return None
        if params["job"] is not None:
            raise AnsibleActionFail("condor_session: job: is only for state absent; a session that is there has a key")
        if not params["app"]:
            raise AnsibleActionFail("condor_session: app: is missing; say which application of the catalogue")
        catalogue = _sessions.catalogue(self, params["catalogue"])
        return _catalogue.choose(catalogue, params["app"], params["version"], params["memory"], params["cpu"])
