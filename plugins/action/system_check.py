# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of `sciops.sites.system_check`: everything about targets that can be known without their hosts."""

from __future__ import annotations

import os
import pathlib
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.sciops.sites.plugins.modules.system_check import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import (
    _collisions,
    _system,
    _systemfile,
    _templates,
    _variables,
)
from ansible_collections.sciops.sites.plugins.plugin_utils._controller import options_of
from ansible_collections.sciops.sites.plugins.plugin_utils._faults import Problem
from ansible_collections.sciops.sites.plugins.plugin_utils._source import SourceError

Json = dict[str, t.Any]

_MOST_NAMES = 4  # targets that a fault names


class ActionModule(ActionBase):
    """Runs once for the whole play; contacts no host."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Check the targets of the play."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        caller = options_of(self, DOCUMENTATION)["vars"] or {}
        broken = variables.get("sciops_sites_broken") or {}
        if broken:
            raise AnsibleActionFail("\n".join(f"{path}: {words}" for path, words in sorted(broken.items())))
        play = set(variables["ansible_play_hosts_all"])
        looks = [
            Look(self._read(file), play, caller)
            for file in sorted({str(place["file"]) for place in _declared(variables).values()})
        ]
        if not any(look.chosen for look in looks):
            raise AnsibleActionFail(
                "none of the hosts of this play is a target of a system: give an inventory with -i that holds a "
                "*.system.yml file (plugin: sciops.sites.system)"
            )
        return result_of(looks)

    def _read(self, file: str) -> _system.System:
        try:
            return _systemfile.read(file, self._loader)
        except (SourceError, RuntimeError) as exc:
            raise AnsibleActionFail(f"the system cannot be used, nothing was touched:\n  {exc}") from None


def _declared(variables: Json) -> dict[str, Json]:
    """What the inventory says of each target in it."""
    hosts = (variables.get("groups") or {}).get("systems") or []
    found = {name: variables["hostvars"].raw_get(name).get("sciops_sites_target") for name in hosts}
    return {name: target for name, target in found.items() if target}


class Look:
    """One system: all its targets resolved, those in `play` rendered too, and what is wrong with those."""

    def __init__(self, system: _system.System, play: t.Collection[str], caller: Json) -> None:
        self.targets: list[Json] = []
        self.chosen: list[Json] = []
        self.files: dict[str, int] = {}
        self.problems: dict[Problem, list[str]] = {}
        templates = _templates.Templates(*_systemfile.reader(pathlib.Path(system.folder)))
        for place in system.places:
            mine = place.name in play
            target, problems = _variables.resolve(
                system, place.site, place.deployment, place.name, os.environ, caller if mine else {}
            )
            self.targets.append(target)
            if mine:
                self.chosen.append(target)
                for problem in [*problems, *self._rendered(templates, target)]:
                    self.problems.setdefault(problem, []).append(place.name)
        entries = [entry for target in self.chosen for entry in target["files"]]
        self.report = _variables.report(system, self.chosen, templates.used(entries))

    def _rendered(self, templates: _templates.Templates, target: Json) -> list[Problem]:
        """The faults of the files of a target, but for what only a fault of a variable makes them say."""
        try:
            self.files[target["host"]] = len(templates.render(target))
        except _templates.Unusable as exc:
            return [problem for problem in exc.problems if problem.path not in target["faulty"]]
        return []


def result_of(looks: t.Sequence[Look]) -> Json:
    """The result of the task."""
    everything = [target for look in looks for target in look.targets]
    chosen = [target for look in looks for target in look.chosen]
    names = {target["host"] for target in chosen}
    clashes = [clash for clash in _collisions.clashes(everything) if names.intersection(clash.owners)]
    machines = sorted({target["machine"] for target in chosen})
    faults = [
        f"{problem} ({_listed(hosts)})"
        for look in looks
        for problem, hosts in sorted(look.problems.items(), key=lambda item: (item[0].file, item[0].line))
        if problem.fatal
    ] + [str(clash) for clash in clashes]
    result: Json = {
        "changed": False,
        "targets": {target["host"]: _summary(look, target) for look in looks for target in look.chosen},
        "faults": faults,
        "clashes": [clash.as_dict() for clash in clashes],
        "free_ports": {machine: _collisions.propose(everything, machine) for machine in machines},
        **{key: [row for look in looks for row in look.report[key]] for key in ("unused", "shadowed", "undefined")},
    }
    result["warnings"] = [
        f"{problem} ({_listed(hosts)})"
        for look in looks
        for problem, hosts in look.problems.items()
        if not problem.fatal
    ] + _remarks(result)
    if faults:
        lines = "".join(f"\n  {fault}" for fault in faults)
        free = [
            f"\n  free on {machine}: {_block(result['free_ports'][machine])}"
            for machine in sorted({clash.one.scope for clash in clashes if clash.kind == "port"})
            if result["free_ports"].get(machine)
        ]
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        result.update(failed=True, msg=f"{count}, nothing was touched:{lines}{''.join(free)}")
    return result


def _summary(look: Look, target: Json) -> Json:
    shown = {key: target[key] for key in ("system", "site", "deployment", "machine", "version", "root")}
    shown.update({key: target[key]["method"] for key in ("install", "launch")})
    shown["services"] = [service["name"] for service in target["services"]]
    return {**shown, "files": look.files.get(target["host"])}


def _remarks(result: Json) -> list[str]:
    """What is not wrong, and may not be what was meant."""
    unused = [row["name"] for row in result["unused"]]
    ignored = sorted({row["file"] for row in result["shadowed"] if row["layer"] == "environment"})
    same = sorted(
        {f"{row['by']['file']}:{row['by']['line']}" for row in result["shadowed"] if row["equal"] and row["by"]["line"]}
    )
    words = [
        ("variables that nothing uses", unused),
        ("of the environment, ignored because a higher layer gives a value", ignored),
        ("values that a lower layer gives too", same),
    ]
    return [f"{what}: {', '.join(found)}" for what, found in words if found]


def _listed(hosts: t.Sequence[str]) -> str:
    more = len(hosts) - _MOST_NAMES
    return ", ".join(hosts[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _block(ports: dict[str, dict[str, int]]) -> str:
    return "; ".join(
        f"{deployment} " + ", ".join(f"{name} {port}" for name, port in found.items())
        for deployment, found in ports.items()
    )
