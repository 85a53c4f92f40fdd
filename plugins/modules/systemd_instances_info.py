#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_instances_info
short_description: Show instances of systemd template units
version_added: 0.1.0
description:
  - Asks systemd, of the system or of a user, with one call for the states of units, and changes nothing.
  - A manager that does not run is told from units that do not run. One that hangs makes the task fail, since nobody
    knows then what runs.
author:
  - sciops.sites contributors (@sciops)
requirements:
  - systemd 239 or later on the host
attributes:
  check_mode:
    support: full
    description: This module does not modify anything.
  diff_mode:
    support: N/A
    description: This module does not modify anything.
  idempotent:
    support: full
    description: This module does not modify anything.
  platform:
    support: full
    platforms: linux
    description: Platforms of the host. It needs Python 3.8 or later.
options:
  names:
    description:
      - Names of templates, without C(@.service), or whole names of units such as V(cron.service).
      - Of a template those instances are shown that are loaded or enabled.
    type: list
    elements: str
    required: true
  scope:
    description: Units of the system or of a user.
    type: str
    choices: [system, user]
    default: system
  owner:
    description:
      - With O(scope=user), whose units they are. Only root may name another user than itself.
      - Without it, those of the user that the module runs as.
    type: str
  timeout:
    description: Seconds that systemd has to answer.
    type: float
    default: 10
seealso:
  - module: sciops.sites.systemd_instances
"""

EXAMPLES = r"""
- name: Look at the movers
  sciops.sites.systemd_instances_info:
    names: [mover]
  register: movers

- name: Name what systemd has given up
  ansible.builtin.debug:
    msg: "{{ movers.units | selectattr('state', 'eq', 'failed') | map(attribute='name') | list }}"
  when: movers.running
"""

RETURN = r"""
running:
  description: Whether the manager runs. Null, with a failed task, where it hangs.
  returned: always but where the input is wrong
  type: bool
  sample: true
linger:
  description: Whether the user lingers, null for the system.
  returned: success
  type: bool
  sample: true
units:
  description: The units, in the order of their names.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the unit.
      type: str
    instance:
      description: Name of the instance, null for a unit without a template.
      type: str
    state:
      description: One of active, reloading, inactive, failed, activating and deactivating.
      type: str
    sub_state:
      description: The state in systemd's finer words, such as running or auto-restart.
      type: str
    load_state:
      description: Whether there is a definition of it.
      type: str
    enabled:
      description: Whether it starts at boot.
      type: bool
    pid:
      description: Its process, null where there is none.
      type: int
    restarts:
      description: How often systemd has started it again by itself.
      type: int
    result:
      description: How it ended last, V(success) where it did not.
      type: str
    exit_status:
      description: Its exit status, null where it runs or a signal ended it.
      type: int
    signal:
      description: The signal that ended it.
      type: int
  sample:
    - {name: mover@1.service, instance: "1", state: active, sub_state: running, load_state: loaded, enabled: true,
       pid: 4711, restarts: 0, result: success, exit_status: null, signal: null}
by_state:
  description: Number of units in each state.
  returned: success
  type: dict
  sample: {active: 4}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _programs, _units


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "scope": {"type": "str", "choices": ["system", "user"], "default": "system"},
            "owner": {"type": "str"},
            "timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    try:
        result = _units.states(module.params)
    except _units.Failure as error:
        module.fail_json(msg=str(error), **error.facts)
    except _programs.Unfit as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
