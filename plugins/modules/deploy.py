#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: deploy
short_description: Deploy a system to a site, go back, start and stop it
version_added: 0.1.0
description:
  - Brings a target, one deployment of a system at one site, to what its system file declares. In this order it checks
    everything, makes the folders, builds the installation beside the one that is live, renders and validates all files
    beside those that are live, and then stops, switches, starts and verifies. Until the stop nothing that is live is
    touched, and a failure after it goes back to what was.
  - Runs on the controller, for a host of an inventory of P(sciops.sites.system#inventory). Each step is one module on
    the host; the last one, M(sciops.sites.release_switch), is a transaction that does not need the controller to end.
  - Secrets are taken from the environment of the controller or from Vault when they are needed, and go to the host on
    the standard input of the connection.
author:
  - sciops.sites contributors (@sciops)
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return the changed status prediction without modifying anything.
  diff_mode:
    support: full
    description: Returns what changes in folders, files, links and services. Secrets are masked.
  idempotent:
    support: full
    description: A target that is as declared is not changed, and nothing of it is restarted.
  platform:
    support: full
    platforms: posix
    description: Platforms of the host. It needs Python 3.8 or later.
options:
  state:
    description:
      - With V(present), the target becomes what is declared.
      - With V(checked), the variables, the templates, and on the host programs, space and connections are looked at,
        and nothing is changed.
      - With V(previous), the release before the live one is put live again.
      - With V(started), V(stopped) and V(restarted), see M(sciops.sites.release_switch).
    type: str
    choices: [present, checked, previous, started, stopped, restarted]
    default: present
  vars:
    description: Values of variables that win over all layers.
    type: dict
    default: {}
  services:
    description: Only these services, with O(state=started), V(stopped) or V(restarted). By default all.
    type: list
    elements: str
    default: []
  retry:
    description: Try a release again that had been rejected on the host.
    type: bool
    default: false
  by:
    description: Who asks, for the record on the host.
    type: str
    default: ""
  reason:
    description: Why, for the record on the host.
    type: str
    default: ""
seealso:
  - plugin: sciops.sites.system
    plugin_type: inventory
  - module: sciops.sites.system_check
  - module: sciops.sites.release_switch
  - module: sciops.sites.release_info
"""

EXAMPLES = r"""
- name: Deploy what is declared
  sciops.sites.deploy:
    vars:
      SITE_VERSION: 2.8.1

- name: Go back to the release before
  sciops.sites.deploy:
    state: previous
    reason: ticket 4711
"""

RETURN = r"""
target:
  description: The name of the target in the inventory.
  returned: success
  type: str
  sample: acme-prod
steps:
  description: The steps in their order; those of the host before the switch have C(step) and C(changed), those of the
    switch are described at M(sciops.sites.release_switch).
  returned: success
  type: list
  elements: dict
  sample: [{step: host_check, changed: false}]
failed_step:
  description: The step that failed.
  returned: failure on the host
  type: str
  sample: release_build
release:
  description: The release that is live after the task.
  returned: success, but for V(checked)
  type: str
  sample: 2.8.1-0f3a55d21c9e
previous:
  description: The release that was live before the task.
  returned: success, but for V(checked)
  type: str
  sample: 2.8.0-77ab03c1d2e4
outcome:
  description: What became of it.
  returned: success, but for V(checked)
  type: str
  sample: activated
downtime:
  description: Seconds from the first stop until all services were healthy again. Null where nothing was stopped.
  returned: success, but for V(checked)
  type: float
  sample: 1.84
"""
