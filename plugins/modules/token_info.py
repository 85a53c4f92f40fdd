#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: token_info
short_description: Tell who has a token, since when and under which number
version_added: 0.1.0
description:
  - Reads a token of M(sciops.sites.token) on the host the task runs on, and changes nothing.
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
  name:
    description: Name of the token.
    type: str
    required: true
  number:
    description:
      - Fencing number that somebody works under. RV(current) then says whether it still counts.
    type: int
  path:
    description:
      - Folder of the tokens.
      - Without it, C(/var/lib/sciops.sites/tokens) for root, else C(sciops.sites/tokens) below E(XDG_STATE_HOME) or
        C(~/.local/state).
    type: path
seealso:
  - module: sciops.sites.token
"""

EXAMPLES = r"""
- name: Look at a token
  hosts: control.example
  gather_facts: false
  tasks:
    - name: See who has the token
      sciops.sites.token_info:
        name: catalogue
      register: catalogue

    - name: Tell
      ansible.builtin.debug:
        msg: "{{ catalogue.owner }} has it since {{ catalogue.age }} s"
      when: catalogue.held
"""

RETURN = r"""
held:
  description: Whether somebody has the token.
  returned: always
  type: bool
  sample: true
owner:
  description: Who has it, or had it when its time was over. Null where it is free.
  returned: always
  type: str
  sample: mover-1
number:
  description: Fencing number of the last owner, 0 where nobody ever had it.
  returned: always
  type: int
  sample: 42
age:
  description: Seconds since this owner took it.
  returned: always
  type: float
  sample: 12.25
ttl:
  description: Time to live in seconds, null for ever.
  returned: always
  type: float
  sample: 3600.0
expires_in:
  description: Seconds until it is free, null for never.
  returned: always
  type: float
  sample: 3587.75
expired:
  description: Whether its time is over and nobody has taken it since.
  returned: always
  type: bool
  sample: false
current:
  description: Whether the token is held under the given O(number).
  returned: when O(number) is given
  type: bool
  sample: true
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils._token import Token, TokenError, clocks, view


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "number": {"type": "int"},
            "path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        seen = view(Token(module.params["name"], module.params["path"]).read(), clocks())
    except TokenError as error:
        module.fail_json(msg=str(error))
    if module.params["number"] is not None:
        seen["current"] = seen["held"] and seen["number"] == module.params["number"]
    module.exit_json(changed=False, **seen)


if __name__ == "__main__":
    main()
