# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: system_check
short_description: Check the variables, templates and collisions of targets before anything is touched
version_added: 0.1.0
description:
  - Resolves the variables of every target of the play, renders its files, and compares its ports, paths, units and DNS
    names with those of all other targets of the inventory, also with those that a limit leaves out.
  - Lists all faults of all targets at once and fails, before any host is contacted. Nothing is written.
  - Secrets are taken from the environment of the controller, or from Ansible Vault, and are never shown.
  - Runs on the controller, once for all targets of the play, so give the task C(run_once=true).
author:
  - sciops.sites contributors (@sciops)
attributes:
  action:
    support: full
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the
      controller.
  check_mode:
    support: full
    description: Can run in check mode.
  diff_mode:
    support: N/A
    description: Returns details on what has changed.
  idempotent:
    support: full
    description: Reads only.
  platform:
    support: full
    platforms: posix
    description: Platforms of the controller; no host is contacted.
options:
  vars:
    description: Values of the highest layer, that of the caller, by the name of the variable.
    type: dict
    default: {}
seealso:
  - plugin: sciops.sites.system
    plugin_type: inventory
  - plugin: sciops.sites.variable
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Check all targets
  hosts: systems
  gather_facts: false
  tasks:
    - name: Variables, templates, collisions
      sciops.sites.system_check:
        vars: "{{ sciops_sites_vars | default({}) }}"
      run_once: true
"""

RETURN = r"""
targets:
  description: What each target of the play is, by its name in the inventory.
  returned: always
  type: dict
  sample:
    acme-dev:
      {system: jaws, site: acme, deployment: dev, machine: login1.acme.example.org, version: "2.8",
       root: /opt/jaws/acme-dev, install: venv, launch: supervisord, services: [rpc-server], files: 14}
faults:
  description: All faults, each with file, line, place and what is right, and with the targets that have it.
  returned: always
  type: list
  elements: str
clashes:
  description: Pairs of values that two targets both claim, with V(kind), V(machine), both V(owners) and V(text).
  returned: always
  type: list
  elements: dict
free_ports:
  description: For each machine of the play's targets, ports that a new site there could have, by deployment and
    variable.
  returned: always
  type: dict
  sample: {login1.acme.example.org: {dev: {SUPERVISOR_PORT: 64104}}}
unused:
  description: Variables that no template and no other variable uses, with file and line.
  returned: always
  type: list
  elements: dict
shadowed:
  description: Values that a higher layer hides, with both places, whether they are equal, and the targets.
  returned: always
  type: list
  elements: dict
undefined:
  description: Variables that templates of files use and that have no value in the named targets. That is no fault where
    a template asks whether there is one.
  returned: always
  type: list
  elements: dict
"""
