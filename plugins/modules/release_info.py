#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_info
short_description: What is deployed at a target, what runs of it, and what is not as it was put
version_added: 0.1.0
description:
  - Says which release is live, which were before, in which state its services are, and which of its files, link and
    installation are not as they were put.
author:
  - sciops.sites contributors (@sciops)
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
    platforms: posix
    description: Platforms of the host. It needs Python 3.8 or later.
options:
  root:
    description: The folder of the target.
    type: path
    required: true
seealso:
  - module: sciops.sites.release_switch
"""

EXAMPLES = r"""
- name: Look at what is deployed
  sciops.sites.release_info:
    root: /opt/jaws/acme-prod
  register: jaws
"""

RETURN = r"""
release:
  description: The release that is live, null where nothing was deployed yet.
  returned: success
  type: str
  sample: 2.8.1-0f3a55d21c9e
version:
  description: Its version.
  returned: success
  type: str
  sample: 2.8.1
activations:
  description: The releases that the host has, in the order in which they went live.
  returned: success
  type: list
  elements: str
  sample: [2.8.0-77ab03c1d2e4, 2.8.1-0f3a55d21c9e]
rejected:
  description: Releases that were taken back here, and why.
  returned: success
  type: dict
  sample: {}
stopped:
  description: Who stopped the services (C(by)), when (C(at), unix time) and why (C(reason)). Null where nobody did.
  returned: success
  type: dict
  sample: null
busy:
  description: Whether a change is under way.
  returned: success
  type: bool
  sample: false
cut_off:
  description: The step in which a change was cut off; the next change puts that right. Null where none was.
  returned: success
  type: str
  sample: null
services:
  description: The services, each with C(state), C(why), C(pid) and C(restarts).
  returned: success
  type: dict
  sample: {rpc-server: {state: running, why: "", pid: 4711, restarts: 0}}
drift:
  description: What is not as it was put, and what is wrong with it.
  returned: success
  type: dict
  sample: {/opt/jaws/acme-prod/config/jaws-site.conf: content}
doubtful:
  description: Services that began after a file that concerns them was changed by somebody.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _change, _switch


def main() -> None:
    module = AnsibleModule(
        argument_spec={"root": {"type": "path", "required": True}},
        supports_check_mode=True,
    )
    try:
        result = _change.inform(module.params["root"])
    except _switch.FAILURES as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
