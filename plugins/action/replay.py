# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of `sciops.sites.replay`: reads recorded states, shows or writes the plans."""

from __future__ import annotations

import json
import pathlib
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.sciops.sites.plugins.modules.replay import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import _replay
from ansible_collections.sciops.sites.plugins.plugin_utils._controller import Task, write_text

display = Display()


class ActionModule(ActionBase):
    """Runs on the controller only; no host is contacted."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Plan every state of the file."""
        super().run(tmp, task_vars)
        task = Task(self, DOCUMENTATION, task_vars or {})
        params = task.params
        declaration = None
        if params["site"]:
            if params["mode"] != "plan":
                raise AnsibleActionFail(
                    f"site: {params['site']}: is for mode plan, a legacy state holds its own configuration"
                )
            declaration = task.declarations([params["site"]])[0]
        source = pathlib.Path(params["src"])
        try:
            with source.open(encoding="utf-8") as stream:
                plans = list(_replay.replay(stream, str(source), params["mode"], declaration))
        except (OSError, UnicodeDecodeError) as exc:
            raise AnsibleActionFail(f"{source}: cannot be read: {exc}") from exc
        except _replay.ReplayError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        lines = [json.dumps(one, sort_keys=True) for one in plans]
        changed = False
        if params["dest"]:
            changed = self._write(pathlib.Path(params["dest"]), "".join(f"{line}\n" for line in lines))
        elif params["show"]:
            for line in lines:
                display.display(line)
        return {"changed": changed, "count": len(plans), "plans": plans}

    def _write(self, dest: pathlib.Path, text: str) -> bool:
        """Write the plans where they differ from what is there; return whether they do."""
        try:
            if dest.exists() and dest.read_text(encoding="utf-8") == text:
                return False
        except (OSError, UnicodeDecodeError) as exc:
            raise AnsibleActionFail(f"{dest}: cannot be read: {exc}") from exc
        if not self._task.check_mode:
            write_text(str(dest), text)
        return True
