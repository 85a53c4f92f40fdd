# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup plugin: where the values of a target's variables come from."""

from __future__ import annotations

DOCUMENTATION = r"""
name: variable
short_description: Where the values of the variables of a target come from
version_added: 0.1.0
author: sciops.sites contributors (@sciops)
description:
  - Resolves the variables of a target of a system as M(sciops.sites.system_check) does, and tells for each which layer,
    file and line its value comes from, and which values of lower layers it hides. Secrets are not shown.
  - The layer of the caller is the variable C(sciops_sites_vars).
options:
  _terms:
    description: Names of variables. Without any, all variables of the system.
    type: list
    elements: str
  host:
    description: Name of the target in the inventory. By default the host of the play.
    type: str
  target:
    description:
      - The target itself, a mapping with C(file), C(site), C(deployment) and C(host), as C(sciops_sites_target) of the
        inventory plugin P(sciops.sites.system#inventory) has it.
    type: dict
seealso:
  - plugin: sciops.sites.system
    plugin_type: inventory
  - plugin: sciops.sites.origin
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Where does the log level of this target come from
  ansible.builtin.debug:
    msg: "{{ lookup('sciops.sites.variable', 'LOG_LEVEL') }}"
"""

RETURN = r"""
_raw:
  description: One entry for each variable.
  type: list
  elements: dict
  contains:
    name:
      description: The name of the variable.
      type: str
    value:
      description: The value that holds, null for a secret and where there is none.
      type: raw
    secret:
      description: Whether the value is a secret, or made from one.
      type: bool
    layer:
      description: The layer that it comes from, null where no layer gives a value.
      type: str
    file:
      description: The file that it comes from; of the layer V(environment) the name of the variable there.
      type: str
    line:
      description: The line in that file, 0 where it comes from no file.
      type: int
    template:
      description: What stands there, where that is a template.
      type: str
    shadows:
      description: The values that it hides, nearest first, each with value, layer, file and line.
      type: list
      elements: dict
    why:
      description: Why it has no value, as far as there is something to say.
      type: str
"""

import json
import os

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.sciops.sites.plugins.plugin_utils import _systemfile, _variables
from ansible_collections.sciops.sites.plugins.plugin_utils._faults import hint
from ansible_collections.sciops.sites.plugins.plugin_utils._source import SourceError

_NOWHERE = {"layer": None, "file": None, "line": 0, "template": None, "shadows": []}


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        place = self._place(variables or {})
        caller = json.loads(json.dumps((variables or {}).get("sciops_sites_vars") or {}))
        where = [place[key] for key in ("file", "site", "deployment", "host")]
        try:
            system = _systemfile.read(where[0], self._loader)
            target = _variables.resolve(system, *where[1:], os.environ, caller)[0]
        except (SourceError, RuntimeError, KeyError) as exc:
            raise AnsibleLookupError(f"the system cannot be used:\n  {exc}") from None
        names = [str(term) for term in self._flatten(terms)] or list(system.variables)
        for name in names:
            if name not in system.variables:
                raise AnsibleLookupError(f"{system.file}: {name}: no such variable, {hint(name, system.variables)}")
        return [_row(name, target) for name in names]

    def _place(self, variables):
        target = self.get_option("target")
        if not target:
            host = self.get_option("host") or variables.get("inventory_hostname")
            target = (variables.get("hostvars") or {}).get(host, {}).get("sciops_sites_target")
            if not target:
                raise AnsibleLookupError(f"{host}: is no target of a system in this inventory")
        missing = [key for key in ("file", "site", "deployment", "host") if key not in target]
        if missing:
            raise AnsibleLookupError(f"target: {', '.join(missing)}: missing")
        return target


def _row(name, target):
    secret = name in target["secrets"]
    return {
        "name": name,
        "value": None if secret else target["values"].get(name),
        "secret": secret,
        **target["origins"].get(name, _NOWHERE),
        "why": target["faulty"].get(name) or target["absent"].get(name, ""),
    }
