#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: reconcile
short_description: Bring every site to its declared component counts in one pass
version_added: 0.1.0
description:
  - Observes all hosts of the sites in the inventory side by side, plans, applies the plan and looks again.
  - Runs once for the whole play, on the controller. It contacts the hosts itself, over Ansible's own connection
    plugins and with each host's own connection variables.
  - A host that does not answer is unknown, never empty. Nothing is started or stopped there, and what was last seen
    there counts as possibly running.
author:
  - sciops.sites contributors (@sciops)
attributes:
  action:
    support: full
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the
      controller.
  check_mode:
    support: full
    description: Can run in check mode and predict the whole plan. Hosts are only read, and nothing is stored on the
      controller.
  diff_mode:
    support: full
    description: Returns and shows the plan as a diff of the fleet.
  idempotent:
    support: full
    description: A second pass right after the first changes nothing.
  platform:
    support: full
    platforms: posix
    description: Platforms of the hosts. They need Python 3.6 or later, and C(/proc).
options:
  sites:
    description: Names of the sites to reconcile. All sites of the inventory when it is not given.
    type: list
    elements: str
  state:
    description:
      - With V(declared), every component is brought to what its site declares.
      - With V(off), every component of O(sites) is treated as if it were declared off, so that all instances are
        stopped.
        O(sites) is then required. The next pass with V(declared) starts them again.
    type: str
    choices: [declared, "off"]
    default: declared
  by:
    description: Who answers for this pass, for the history. The login on the controller when it is not given.
    type: str
  accept_collapse:
    description: Go on although the observed total fell by more than the policy allows since the last good pass.
    type: bool
    default: false
  lift_stop_guard:
    description: Go on although the declaration would stop more than the policy allows. The stop budget still holds.
    type: bool
    default: false
  assume_lost:
    description: Hosts that a person declares lost. What was last seen there counts as gone, singletons included.
    type: list
    elements: str
    default: []
  retry_update:
    description:
      - Components (C(PIPE/NAME)) whose update failed and was taken back, to be tried again in this pass.
      - Without it a version that failed is not started again as long as it is declared.
    type: list
    elements: str
    default: []
  restart:
    description:
      - Components (C(PIPE/NAME)) of which all that runs now is replaced, as for an update, one by one unless their
        C(update) says otherwise. Later passes go on with it by themselves until the last one is replaced.
    type: list
    elements: str
    default: []
  plan_dest:
    description: File on the controller to save the plan to, as JSON, to be reviewed and given as O(plan_src) later.
    type: path
  plan_src:
    description:
      - Saved plan to apply. It is refused where anything it was based on has changed since.
      - Beyond its own actions only those starts are made that replace what it stops for an update.
    type: path
  report_dest:
    description: File on the controller that gets the result of all sites as JSON when the pass ends, in whatever way.
    type: path
  state_dir:
    description:
      - Folder on the controller that holds lock, memory, holds and history.
      - Without it, E(SCIOPS_SITES_STATE_DIR), else C(sciops.sites) below E(XDG_STATE_HOME) or C(~/.local/state).
    type: path
  fail_on:
    description: Outcomes that fail the task.
    type: list
    elements: str
    choices: [not_converged, unsafe, halted, busy, error]
    default: [not_converged, unsafe, busy, error]
  show:
    description: Show the table of components and hosts after the pass.
    type: bool
    default: true
  seed:
    description: Seed of the values that components draw. The same seed gives the same draws.
    type: int
    default: 0
seealso:
  - module: sciops.sites.process_info
  - plugin: sciops.sites.site
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Reconcile every site of the inventory
  hosts: sites
  gather_facts: false
  tasks:
    - name: Bring every component to its count
      sciops.sites.reconcile:
      run_once: true

- name: Reconcile one site, and keep what came of it
  hosts: sites
  gather_facts: false
  tasks:
    - name: Bring the components of the site to their counts
      sciops.sites.reconcile:
        sites: [demo]
        report_dest: /tmp/report.json
      run_once: true
"""

RETURN = r"""
outcome:
  description: What the pass came to, the worst of all sites.
  returned: always
  type: str
  sample: unchanged
exit_code:
  description: The exit code that the runner of the schedule gives for RV(outcome).
  returned: always
  type: int
  sample: 0
sites:
  description:
    - One report for each site, by name. It holds C(outcome), C(why), C(plan), C(planned), C(results), C(failures),
      C(number) and C(holder).
    - When the task fails, only C(outcome), C(exit_code), C(why), C(changed) and C(failures). O(report_dest) has the
      whole.
  returned: always
  type: dict
  sample: {"demo": {"outcome": "unchanged", "why": "", "changed": false}}
table:
  description: The table of components and hosts, as text.
  returned: success
  type: str
  sample: "demo (demo), pass 2: unchanged"
execs:
  description: Number of execs on hosts in this pass.
  returned: always
  type: int
  sample: 3
sent:
  description: Bytes sent to hosts in this pass.
  returned: always
  type: int
  sample: 18000
"""
