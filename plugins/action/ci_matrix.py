# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of `sciops.sites.ci_matrix`: takes the targets from the inventory, writes one file."""

from __future__ import annotations

import json
import os
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.sciops.sites.plugins.modules.ci_matrix import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import _matrix
from ansible_collections.sciops.sites.plugins.plugin_utils._controller import options_of, write_text
from ansible_collections.sciops.sites.plugins.plugin_utils._source import SourceError, read_text

Json = dict[str, t.Any]


class ActionModule(ActionBase):
    """Contacts no host; runs once, also in a play over many."""

    BYPASS_HOST_LOOP = True
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Make the jobs, write the file where it differs."""
        result = super().run(tmp, task_vars)
        params = options_of(self, DOCUMENTATION)
        dest = params["dest"]
        try:
            jobs = _matrix.jobs(_targets(params, task_vars or {}), params["rules"] or _matrix.RULES)
            text = _matrix.DIALECTS[params["dialect"]](jobs, params["command"])
            before = read_text(dest) if dest and os.path.lexists(dest) else ""
        except (ValueError, SourceError) as error:
            raise AnsibleActionFail(str(error)) from None
        changed = bool(dest) and before != text
        if changed and not self._task.check_mode:
            write_text(dest, text)
        result.update(changed=changed, jobs=jobs, text=text)
        if dest:
            result["diff"] = {"before_header": dest, "after_header": dest, "before": before, "after": text}
        return result


def _targets(params: Json, task_vars: t.Mapping[str, t.Any]) -> list[_matrix.Target]:
    """Return the targets of the system. ValueError where it cannot be told which are meant."""
    broken = task_vars.get("sciops_sites_broken") or {}
    if broken:
        raise ValueError("\n".join(f"{path}: {words}" for path, words in sorted(broken.items())))
    targets = []
    for host in task_vars["groups"].get("systems", ()):
        variables = task_vars["hostvars"].raw_get(host)
        # plain types: what comes out of the inventory carries Ansible's tags
        target = json.loads(json.dumps(variables["sciops_sites_target"]))
        values = json.loads(json.dumps(variables.get("sciops_sites_values") or {}))
        methods = (values.get(params["install_variable"]), values.get(params["launch_variable"]))
        targets.append(_matrix.Target(str(host), target["system"], target["site"], target["deployment"], *methods))
    systems = sorted({one.system for one in targets})
    if not systems:
        raise ValueError(
            "no system in this inventory: give one with -i that holds a *.system.yml file (plugin: sciops.sites.system)"
        )
    wanted = params["system"] or (systems[0] if len(systems) == 1 else "")
    if wanted not in systems:
        raise ValueError(
            f"system: {wanted or 'is not given'}: this inventory has {', '.join(systems)}; name one of them"
        )
    return [one for one in targets if one.system == wanted]
