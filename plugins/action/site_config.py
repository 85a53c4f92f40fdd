# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of `sciops.sites.site_config`: renders everything, then one module puts it onto the host."""

from __future__ import annotations

import json
import os
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.sciops.sites.plugins.module_utils import _files
from ansible_collections.sciops.sites.plugins.modules.site_config import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import _templatefiles
from ansible_collections.sciops.sites.plugins.plugin_utils._controller import options_of
from ansible_collections.sciops.sites.plugins.plugin_utils._source import SourceError
from ansible_collections.sciops.sites.plugins.plugin_utils._templates import Unusable

Json = dict[str, t.Any]
OF_A_TREE = ("src", "dest", "mode", "owner", "group", "validate", "secret")


class ActionModule(ActionBase):
    """One task renders any number of trees and sends them in one step."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Render, then have the host compare, check and write."""
        result: Json = super().run(tmp, task_vars)
        params = options_of(self, DOCUMENTATION)
        if params["payload"]:
            raise AnsibleActionFail("payload: is set by the task itself")
        if bool(params["src"]) != bool(params["dest"]):
            raise AnsibleActionFail("src and dest: one of them without the other says nothing")
        targets = _trees(params) if params["src"] or params["trees"] else [self._target(params, task_vars or {})]
        sent: Json = {"files": [], "secrets": []}
        faults: list[str] = []
        makers: dict[str, t.Any] = {}
        for target in targets:
            folder = target["folder"] or self._loader.get_basedir()
            maker = makers.setdefault(folder, _templatefiles.of_folder(folder))
            try:
                found = maker.payload(target, maker.render(target))
            except Unusable as error:
                faults += [str(one) for one in error.problems]
                continue
            sent = {key: [*sent[key], *found[key]] for key in sent}
        dests = [one["dest"] for one in sent["files"]]
        faults += [f"{dest}: is made twice" for dest in sorted({one for one in dests if dests.count(one) > 1})]
        if faults:
            lines = "".join(f"\n  {one}" for one in dict.fromkeys(faults))
            raise AnsibleActionFail(f"templates: nothing was sent to the host:{lines}")
        args = {"payload": _files.pack(sent), **{key: params[key] for key in ("backup", "stage", "root")}}
        result.update(
            self._execute_module(module_name="sciops.sites.site_config", module_args=args, task_vars=task_vars)
        )
        return result

    def _target(self, params: Json, task_vars: t.Mapping[str, t.Any]) -> Json:
        """Return the resolved target of this host."""
        from ansible_collections.sciops.sites.plugins.plugin_utils import _systemfile

        known = task_vars.get("sciops_sites_target")
        if not known:
            raise AnsibleActionFail(
                "this host has no target: give src and dest, or an inventory with a system file (sciops.sites.system)"
            )
        caller = {**json.loads(json.dumps(task_vars.get("sciops_sites_vars") or {})), **params["variables"]}
        where = (known["file"], known["site"], known["deployment"], known["host"])
        try:
            target, problems = _systemfile.target(*where, self._loader, os.environ, caller)
        except (SourceError, RuntimeError, KeyError) as error:
            raise AnsibleActionFail(f"the system file cannot be used:\n  {error}") from error
        fatal = [f"\n  {one}" for one in problems if one.fatal]
        if fatal:
            raise AnsibleActionFail("the target cannot be used:" + "".join(fatal))
        return target


def _trees(params: Json) -> list[Json]:
    """Return a target for each tree that the task names; what it leaves out is taken from the task's own options."""
    found = []
    for tree in [*([{}] if params["src"] else []), *(params["trees"] or [])]:
        entry = {key: params[key] if tree.get(key) is None else tree[key] for key in OF_A_TREE}
        found.append(
            {
                "folder": "",
                "values": {**params["variables"], **tree.get("variables", {})},
                "secrets": [*params["secrets"], *tree.get("secrets", [])],
                "files": [{**entry, "restarts": "none"}],
            }
        )
    return found
