#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: replay
short_description: Plan recorded fleet states again, offline
version_added: 0.1.0
description:
  - Reads a file with one recorded fleet state in each line, as JSON, and makes one plan for each.
  - No host is contacted. So a policy, a limit or a whole declaration can be tried on history.
author:
  - sciops.sites contributors (@sciops)
attributes:
  action:
    support: full
    description: >-
      Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
  check_mode:
    support: full
    description: Can run in check mode. O(dest) is not written then.
  diff_mode:
    support: none
    description: Returns details on what has changed.
  idempotent:
    support: full
    description: The same states give the same plans, byte for byte.
  platform:
    support: full
    platforms: posix
    description: Platforms of the controller.
options:
  src:
    description:
      - File on the controller, one JSON document in each line.
      - For O(mode=plan) a line has C(declaration), C(observations), C(now) in seconds, and where wanted C(memory),
        C(options) and C(spent), as docs/architecture.md gives them.
        A line without C(memory) goes on with what the lines before it taught.
      - For O(mode=legacy) and O(mode=strict) a line has C(config), the content of an C(Interface.json), and C(hosts).
    type: path
    required: true
  mode:
    description:
      - V(plan) plans states of this collection.
      - V(legacy) plans jadetools states exactly as its coordinator did, with its faults, to compare.
      - V(strict) plans jadetools states by the rules of this collection, with quorum 0.
    type: str
    choices: [plan, legacy, strict]
    default: plan
  site:
    description: Name of a site of the inventory whose declaration replaces that of every line. Only for O(mode=plan).
    type: str
  dest:
    description: File on the controller to write the plans to, one in each line, atomically. Nothing is shown then.
    type: path
  show:
    description: Show the plans, one in each line, unless O(dest) is given.
    type: bool
    default: true
seealso:
  - module: sciops.sites.reconcile
"""

EXAMPLES = r"""
- name: Try another declaration on history
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Plan the recorded states with the declaration that the inventory has now
      sciops.sites.replay:
        src: states.jsonl
        site: wipac
        dest: plans.jsonl

- name: Compare with the old coordinator
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Plan as it did
      sciops.sites.replay:
        src: legacy-states.jsonl
        mode: legacy
"""

RETURN = r"""
count:
  description: Number of states that were planned.
  returned: success
  type: int
  sample: 288
plans:
  description:
    - The plans, in the order of the lines.
    - For O(mode=legacy) each has C(launches), a list of host and submitter. For O(mode=strict) also C(unplaced), a text
      for each component of which not all could be placed, and C(plan).
  returned: success
  type: list
  elements: dict
  sample: [{"launches": [["c9-1", "bundlerboost"]]}]
"""
