# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller-side action plugins share: options, declarations from the inventory, secrets, files. PRIVATE."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import time
import typing as t

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.sciops.sites.plugins.plugin_utils import _files, _gates
from ansible_collections.sciops.sites.plugins.plugin_utils._runtime import AnsibleFleet, Connector
from ansible_collections.sciops.sites.plugins.plugin_utils._store import Store, default_root

Json = dict[str, t.Any]

#: More instances than any site has.
MANY = 1_000_000


def argument_spec(documentation: str) -> Json:
    """Return the argument spec that the documentation of a module describes, so that the two cannot differ."""
    known = ("type", "elements", "default", "required", "choices", "no_log", "aliases")

    def spec(option: Json) -> Json:
        found = {key: option[key] for key in known if key in option}
        if "suboptions" in option:
            found["options"] = {name: spec(one) for name, one in option["suboptions"].items()}
        return found

    options = yaml.safe_load(documentation).get("options") or {}
    return {name: spec(option) for name, option in options.items()}


def options_of(action: ActionBase, documentation: str) -> Json:
    """Return the validated options of a task, in plain types.

    A value that came through a template carries Ansible's tags, with which writers of YAML can do nothing.
    """
    checked = action.validate_argument_spec(argument_spec=argument_spec(documentation))[1]
    plain: Json = json.loads(json.dumps(checked))
    return plain


class Task:
    """One run of an action plugin: its validated options and the inventory it runs in."""

    def __init__(self, action: ActionBase, documentation: str, task_vars: t.Mapping[str, t.Any]) -> None:
        self._action = action
        self._vars = task_vars
        self.params = options_of(action, documentation)

    def limit(self) -> frozenset[str] | None:
        """Return the hosts that `--limit` leaves, or None where it was not given."""
        if not self._vars.get("ansible_limit"):
            return None
        return frozenset(self._vars.get("ansible_play_hosts_all") or ())

    def declarations(self, names: t.Sequence[str] | None, off: bool = False) -> list[Json]:
        """Return the declarations of the named sites, or of all sites of the inventory, in the order of their names.

        With `off`, every component of theirs is declared off.
        """
        broken = self._vars.get("sciops_sites_broken") or {}
        if broken:
            raise AnsibleActionFail("\n".join(f"{path}: {words}" for path, words in sorted(broken.items())))
        groups: t.Mapping[str, t.Sequence[str]] = self._vars["groups"]
        found: dict[str, Json] = {}
        for group in sorted(groups):
            if group.startswith("site_") and groups[group]:
                declaration = self._variables(groups[group][0]).get("sciops_sites_site")
                if declaration:
                    # plain types: what comes out of the inventory carries Ansible's tags, or is marked unsafe
                    plain = json.loads(json.dumps(declaration))
                    if off:
                        for component in plain["components"].values():
                            component["state"] = "off"
                        # somebody named this site to be stopped: the budget guards against mistakes of a declaration
                        plain["policy"]["stop_budget"] = MANY
                    found[plain["site"]] = plain
        if not found:
            raise AnsibleActionFail(
                "no site in this inventory: give one with -i that holds *.site.yml files (plugin: sciops.sites.site)"
            )
        unknown = [name for name in names or [] if name not in found]
        if unknown:
            raise AnsibleActionFail(
                f"sites: {', '.join(unknown)}: not in this inventory, which has {', '.join(sorted(found))}"
            )
        return [found[name] for name in sorted(found) if not names or name in names]

    def store(self, declaration: Json) -> Store:
        """Return the state of a site on this controller."""
        root = self.params.get("state_dir")
        return Store(pathlib.Path(root) if root else default_root(), declaration["site"], declaration["deployment"])

    def fleet(self) -> AnsibleFleet:
        """Return the hosts of the inventory as a fleet."""
        action = self._action
        keys = action._task.dump_attrs()
        return AnsibleFleet(Connector(self._variables, action._loader, action._play_context, keys))

    @functools.cached_property
    def _variables(self) -> t.Callable[[str], Json]:
        hostvars = self._vars["hostvars"]
        return functools.lru_cache(maxsize=None)(hostvars.raw_get)


def gates_reader(declaration: Json) -> t.Callable[[Json], Json]:
    """Return the function that reads the gates of a site now."""
    return lambda _declaration: _gates.check(declaration["gates"], time.time())


def secret_reader(loader: t.Any) -> t.Callable[[Json], str]:
    """Return the function that turns a secret's reference into its value, on the controller, at a start."""

    def read(reference: Json) -> str:
        if "controller_env" in reference:
            name = reference["controller_env"]
            value = os.environ.get(name, "")
            if not value:
                raise ValueError(f"secret: controller_env: {name}: not set, or empty, on the controller")
            return value
        path = str(reference["controller_file"])
        try:
            real = loader.get_real_file(path, decrypt=True)
            value = pathlib.Path(real).read_text(encoding="utf-8").rstrip("\n")
            loader.cleanup_tmp_file(real)
        except Exception as exc:
            raise ValueError(f"secret: controller_file: {path}: {exc}") from exc
        if not value:
            raise ValueError(f"secret: controller_file: {path}: is empty")
        return value

    return read


def read_plan(path: str, sites: t.Sequence[str]) -> dict[str, Json]:
    """Return the saved plans of these sites.

    Fails with the file's name where it cannot be read, is not a plan, or has none for one of the sites.
    """
    try:
        plans: dict[str, Json] = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise AnsibleActionFail(f"{path}: cannot be read as a saved plan: {exc}") from exc
    good = isinstance(plans, dict) and all(
        isinstance(one, dict) and {"basis", "actions"} <= set(one) for one in plans.values()
    )
    if not good:
        raise AnsibleActionFail(f"{path}: is not a plan that plan_dest saved")
    missing = [site for site in sites if site not in plans]
    if missing:
        raise AnsibleActionFail(
            f"{path}: {', '.join(missing)}: no plan of this site is saved here, only of {', '.join(sorted(plans))}: "
            "name the sites that are meant in sites (of the playbook: sciops_sites_names)"
        )
    return plans


def write_json(path: str, data: t.Any) -> None:
    """Write JSON atomically, mode 0600. Fails with the file's name."""
    try:
        _files.write_json(pathlib.Path(path), data)
    except _files.StoreError as exc:
        raise AnsibleActionFail(str(exc)) from exc


def write_text(path: str, text: str) -> None:
    """Write a text that anybody may read, atomically. Fails with the file's name."""
    try:
        _files.write_text(pathlib.Path(path), text)
        pathlib.Path(path).chmod(0o644)
    except (OSError, _files.StoreError) as exc:
        raise AnsibleActionFail(str(exc)) from exc
