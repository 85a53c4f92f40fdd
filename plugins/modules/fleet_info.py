#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_info
short_description: Look at every site, and say what runs, what is missing and why
version_added: 0.1.0
description:
  - Observes all hosts of the sites in the inventory side by side and plans, as M(sciops.sites.reconcile) in check
    mode does.
  - Changes nothing on any host and nothing on the controller, except O(dest).
author:
  - sciops.sites contributors (@sciops)
attributes:
  action:
    support: full
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the
      controller.
  check_mode:
    support: full
    description: Can run in check mode. O(dest) is not written then.
  diff_mode:
    support: N/A
    description: Returns details on what has changed.
  idempotent:
    support: full
    description: Reads only.
  platform:
    support: full
    platforms: posix
    description: Platforms of the hosts.
options:
  sites:
    description: Names of the sites to look at. All sites of the inventory when it is not given.
    type: list
    elements: str
  format:
    description:
      - Form of RV(text).
      - V(check_mk) are lines of a local check, V(nagios) is the line of a plugin whose exit status is RV(status),
        V(openmetrics) is
        for a text file collector, V(json) are the plans.
    type: str
    choices: [table, check_mk, nagios, openmetrics, json]
    default: table
  dest:
    description: File on the controller to write RV(text) to, atomically, so that a monitoring agent never reads half
      of it.
    type: path
  state_dir:
    description: Folder on the controller that holds the memory of passes, see M(sciops.sites.reconcile).
    type: path
  show:
    description: Show RV(text).
    type: bool
    default: true
seealso:
  - module: sciops.sites.reconcile
"""

EXAMPLES = r"""
- name: Show the state of all sites
  hosts: sites
  gather_facts: false
  tasks:
    - name: Look
      sciops.sites.fleet_info:
      run_once: true

- name: Feed a check_mk agent
  hosts: sites
  gather_facts: false
  tasks:
    - name: Write the local check
      sciops.sites.fleet_info:
        format: check_mk
        dest: /tmp/sciops_sites
        show: false
      run_once: true
"""

RETURN = r"""
text:
  description: What was asked for, in O(format).
  returned: always
  type: str
  sample: "0 sites_demo_pipe0_bundler running=2;;;0;2 2 of 2 running"
status:
  description: Exit status of a monitoring plugin, 0 all well, 2 something is short, 3 unknown hosts hide the answer.
  returned: always
  type: int
  sample: 0
sites:
  description: The plan of each site, by name.
  returned: always
  type: dict
  sample: {"demo": {"verdict": "ok", "components": {}}}
"""
