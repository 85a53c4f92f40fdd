#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: state_info
short_description: Tell what the controller remembers of its sites
version_added: 0.1.0
description:
  - Reads the state that M(sciops.sites.reconcile) keeps on the controller, and changes nothing. No host is contacted.
  - A file that cannot be read is told in C(problems) of its site. The rest is returned all the same.
author:
  - sciops.sites contributors (@sciops)
attributes:
  action:
    support: full
    description: Runs as an action plugin, on the controller.
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
    platforms: posix
    description: Platforms of the controller. No host is contacted.
options:
  sites:
    description: Names of the sites. All sites of the inventory when it is not given.
    type: list
    elements: str
  history:
    description: How many of the last entries of the history to return.
    type: int
    default: 20
  state_dir:
    description:
      - Folder on the controller that holds lock, memory, holds and history.
      - Without it, E(SCIOPS_SITES_STATE_DIR), else C(sciops.sites) below E(XDG_STATE_HOME) or C(~/.local/state).
    type: path
seealso:
  - module: sciops.sites.reconcile
  - module: sciops.sites.hold
"""

EXAMPLES = r"""
- name: See what the last passes did
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Read the state
      sciops.sites.state_info:
        history: 5
      register: state
      run_once: true
    - name: Show it
      ansible.builtin.debug:
        msg: "{{ state.lines }}"
      run_once: true
"""

RETURN = r"""
sites:
  description: What is remembered of each site, by its name.
  returned: always
  type: dict
  contains:
    folder:
      description: Folder that holds the state.
      returned: always
      type: str
      sample: /home/ops/.local/state/sciops.sites/wipac.prod
    number:
      description: Number of the last pass, null before the first.
      returned: always
      type: int
      sample: 26
    outcome:
      description: Outcome of the last pass, null before the first.
      returned: always
      type: str
      sample: unchanged
    at:
      description: When the last pass ended, as unix time, null before the first.
      returned: always
      type: float
      sample: 1767225600.0
    lock:
      description:
        - Who holds the lock now with C(pid), C(host), C(user), C(pass), C(since) and C(age) in seconds.
        - Null where it is free.
      returned: always
      type: dict
      sample: null
    halt:
      description: Who pulled the kill switch, C(by), C(reason) and C(since), null where it is not pulled.
      returned: always
      type: dict
      sample: null
    holds:
      description: Holds in force, those declared in the site file included.
      returned: always
      type: list
      elements: dict
      sample: []
    expired:
      description: Holds that are over and count no more.
      returned: always
      type: list
      elements: dict
      sample: []
    backoffs:
      description:
        - Components that failed, with C(level), seconds that are C(left) until the next try, and C(last), what went
          wrong.
      returned: always
      type: list
      elements: dict
      sample: [{"component": "pipe0/x", "level": 2, "left": 12.5, "last": "exit status 1"}]
    history:
      description: The last entries of the history, oldest first.
      returned: always
      type: list
      elements: dict
      sample: [{"number": 26, "outcome": "unchanged"}]
    problems:
      description: What could not be read, in words.
      returned: always
      type: list
      elements: str
      sample: []
lines:
  description: The same in a few lines for people.
  returned: always
  type: list
  elements: str
  sample: ["wipac (prod): pass 26 unchanged, 42 s ago"]
"""
