# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of `sciops.sites.deploy`: resolves the target, renders its files, and has its host do the rest."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.sciops.sites.plugins.module_utils import _files
from ansible_collections.sciops.sites.plugins.modules.deploy import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import _deploying, _systemfile
from ansible_collections.sciops.sites.plugins.plugin_utils._controller import options_of
from ansible_collections.sciops.sites.plugins.plugin_utils._faults import Problem
from ansible_collections.sciops.sites.plugins.plugin_utils._source import SourceError
from ansible_collections.sciops.sites.plugins.plugin_utils._templates import Templates, Unusable

Json = dict[str, t.Any]
#: options of release_switch that this task has too
HANDED_ON = ("services", "retry", "by", "reason")


class Failed(Exception):
    """A step failed on the host; `result` is what it said."""

    def __init__(self, result: Json) -> None:
        super().__init__(result.get("msg"))
        self.result = result


class ActionModule(ActionBase):
    """One task for one target; each step is one module on its host."""

    _supports_check_mode = True
    _supports_async = False
    documentation = DOCUMENTATION

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Do what the state asks for; a step that fails ends it, and says which one it was."""
        self._steps: list[Json] = []
        self._diffs: list[Json] = []
        self._vars = dict(task_vars or {})
        result: Json = super().run(tmp, task_vars)
        params = options_of(self, self.documentation)
        target, problems = self._target(params.get("vars") or {})
        try:
            found = self._work(target, problems, params)
        except Failed as failure:
            found = {**failure.result, "failed": True}
        except _deploying.Unusable as error:
            raise AnsibleActionFail(str(error)) from None
        if self._diffs and self._task.diff:
            found["diff"] = self._diffs
        steps = [*self._steps, *found.pop("steps", [])]
        result.update(found, steps=steps, target=target["host"])
        self._display.display(self._told(target["host"], result))
        return result

    def _told(self, host: str, result: Json) -> str:
        return _deploying.told(host, result, self._task.check_mode)

    def _work(self, target: Json, problems: list[Problem], params: Json) -> Json:
        if params["state"] in ("present", "checked"):
            _deploying.usable(target["host"], [problem for problem in problems if problem.fatal])
            work = self._deploy if params["state"] == "present" else self._check
            return work(target, params)
        given = {name: params[name] for name in HANDED_ON}
        # going back sweeps too, so it must know how many releases stay
        given["keep"] = target["keep"]
        return self._step("release_switch", root=_deploying.root_of(target, problems), state=params["state"], **given)

    def _target(self, caller: Json) -> tuple[Json, list[Problem]]:
        known = self._vars.get("sciops_sites_target")
        if not known:
            words = "the host is no target of a system; use an inventory of the plugin sciops.sites.system"
            raise AnsibleActionFail(words)
        place = (known["file"], known["site"], known["deployment"], known["host"])
        try:
            return _systemfile.target(*place, self._loader, os.environ, caller)
        except (SourceError, RuntimeError) as error:
            raise AnsibleActionFail(f"the system file cannot be used, nothing was touched:\n  {error}") from None
        except KeyError:
            words = f"{known['host']}: is no target of {known['file']} any more; the inventory is an old one"
            raise AnsibleActionFail(words) from None

    def _step(self, module: str, **options: t.Any) -> Json:
        """What a module of this collection answers on the host. Raises Failed."""
        name = f"sciops.sites.{module}"
        found: Json = self._execute_module(module_name=name, module_args=options, task_vars=self._vars)
        for key in ("invocation", "_ansible_verbose_always"):
            found.pop(key, None)
        if found.get("failed") or found.get("unreachable"):
            found.setdefault("failed_step", module)
            raise Failed(found)
        diff = found.pop("diff", None)
        self._diffs += diff if isinstance(diff, list) else [diff] if diff else []
        if "steps" not in found:
            self._steps.append({"step": module, "changed": bool(found.get("changed"))})
        return found

    # --- the steps

    def _check(self, target: Json, params: Json) -> Json:
        files = self._rendered(target)[0]
        self._step("host_check", **_deploying.check_options(target))
        return {"changed": False, "files": len(files)}

    def _deploy(self, target: Json, params: Json) -> Json:
        files, payload = self._rendered(target)
        requirements = self._requirements(target)
        self._step("host_check", **_deploying.check_options(target))
        changed = self._step("site_folders", folders=target["folders"])["changed"]
        build = None
        if target["install"]["method"] != "none":
            built = self._step("release_build", **_deploying.build_options(target, requirements))
            build, changed = built["build"], changed or built["changed"]
        release = _deploying.manifest(target, build, files)
        staged = self._step("site_config", payload=payload, stage=release["id"], root=target["root"])
        given = {name: params[name] for name in HANDED_ON if name != "services"}
        keep = target["keep"]
        found = self._step("release_switch", root=target["root"], manifest=release, keep=keep, **given)
        return {**found, "changed": changed or staged["changed"] or found["changed"], "version": target["version"]}

    def _requirements(self, target: Json) -> str | None:
        """The text of the requirements that the install settings name, None where they name none."""
        name = target["install"].get("requirements")
        if not name:
            return None
        try:
            return _systemfile.reader(Path(target["folder"]))[0](name)
        except ValueError as error:
            raise AnsibleActionFail(
                f"{target['host']}: install.{target['install']['method']}.requirements: {error}"
            ) from None

    def _rendered(self, target: Json) -> tuple[list[Json], str]:
        """The files of the target, and how they are sent."""
        templates = Templates(*_systemfile.reader(Path(target["folder"])))
        try:
            files = templates.render(target)
        except Unusable as error:
            _deploying.usable(target["host"], error.problems)
        return files, _files.pack(templates.payload(target, files))
