#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: deploy_info
short_description: What of a system is deployed at a site, what runs of it, and what is not as it was put
version_added: 0.1.0
description:
  - Asks the host of a target what M(sciops.sites.release_info) tells, and shows it in one line for people.
  - Runs on the controller, for a host of an inventory of P(sciops.sites.system#inventory). It needs no secrets.
author:
  - sciops.sites contributors (@sciops)
attributes:
  check_mode:
    support: full
    description: This action does not modify anything.
  diff_mode:
    support: N/A
    description: This action does not modify anything.
  idempotent:
    support: full
    description: This action does not modify anything.
  platform:
    support: full
    platforms: posix
    description: Platforms of the host. It needs Python 3.8 or later.
options: {}
seealso:
  - module: sciops.sites.release_info
  - module: sciops.sites.deploy
"""

EXAMPLES = r"""
- name: Look at what is deployed
  sciops.sites.deploy_info:
  register: jaws
"""

RETURN = r"""
target:
  description: The name of the target in the inventory.
  returned: success
  type: str
  sample: acme-prod
release:
  description: The release that is live, null where nothing was deployed yet. M(sciops.sites.release_info) has the rest.
  returned: success
  type: str
  sample: 2.8.1-0f3a55d21c9e
"""
