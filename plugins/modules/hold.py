#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hold
short_description: Hold, drain or halt a site, a host, a pipe or a component
version_added: 0.1.0
description:
  - Keeps on the controller which parts of a site are taken out of the hands of M(sciops.sites.reconcile), by whom, why
    and until when.
  - With V(hold) nothing is started and nothing is stopped there. With V(drain) nothing is started and what runs is
    ended. With V(halt), the kill switch, a pass of the site does nothing at all.
  - It is read at the beginning of each pass. A pass that is running goes on.
author:
  - sciops.sites contributors (@sciops)
attributes:
  action:
    support: full
    description: Runs as an action plugin, on the controller.
  check_mode:
    support: full
    description: Can run in check mode and return the changed status prediction without modifying anything.
  diff_mode:
    support: full
    description: Returns the holds of each site before and after.
  idempotent:
    support: partial
    description: The same options change nothing the second time.
    details:
      - An O(until) that is a duration counts from now, so it makes the hold longer each time.
  platform:
    support: full
    platforms: posix
    description: Platforms of the controller. No host is contacted.
options:
  state:
    description:
      - With V(present), the hold is set. There is one for each O(scope) and O(mode), a new one takes the place of the
        old one.
      - With V(absent), the holds of O(scope) are taken away, whoever set them. The kill switch is only lifted with
        O(mode=halt). Holds that are declared in a site file stay, with a warning.
    type: str
    choices: [present, absent]
    default: present
  sites:
    description: Names of the sites. All sites of the inventory when it is not given.
    type: list
    elements: str
  scope:
    description:
      - What is held, V(site), C(host:NAME), C(pipe:NAME) or C(component:PIPE/NAME).
      - With V(present), every site in O(sites) must have it. With V(absent), a name that is not declared any more is
        fine.
    type: str
    default: site
  mode:
    description:
      - How it is held. V(halt) is the kill switch and needs O(scope=site). It has no expiry.
      - The default with V(present) is V(hold). With V(absent) it is V(hold) and V(drain).
    type: str
    choices: [hold, drain, halt]
  owner:
    description: Who answers for it. The login on the controller when it is not given.
    type: str
  reason:
    description: Why, in words for whoever comes next. Required with O(state=present).
    type: str
  until:
    description:
      - When it ends by itself. A duration such as C(2h) or C(1d12h), an ISO time such as C(2026-03-01T08:00:00Z)
        (without a zone it is UTC), or a unix time. Without it, it stays until it is taken away.
    type: str
  state_dir:
    description:
      - Folder on the controller that holds lock, memory, holds and history.
      - Without it, E(SCIOPS_SITES_STATE_DIR), else C(sciops.sites) below E(XDG_STATE_HOME) or C(~/.local/state).
    type: path
seealso:
  - module: sciops.sites.reconcile
  - module: sciops.sites.state_info
"""

EXAMPLES = r"""
- name: Take a host out for a day
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Drain the host
      sciops.sites.hold:
        sites: [wipac]
        scope: host:c9-1.icecube.example
        mode: drain
        reason: disk is replaced
        until: 1d
      run_once: true

- name: Pull the kill switch of every site
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Halt
      sciops.sites.hold:
        mode: halt
        owner: ana
        reason: flood in the machine room
      run_once: true
"""

RETURN = r"""
sites:
  description: The recorded holds of each site after the task, by name of the site.
  returned: always
  type: dict
  sample:
    wipac:
      holds: [{"scope": "host:c9-1", "mode": "drain", "owner": "ana", "reason": "disk", "until": null, "since": 1.0e+9}]
      halt: null
      declared: []
      expired: []
"""
