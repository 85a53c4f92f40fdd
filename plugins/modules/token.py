#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: token
short_description: Take or give back a named lock with an owner, an expiry and a fencing number
version_added: 0.1.0
description:
  - A token is a lock that outlives the process that took it. At most one owner has it at any time.
  - Each new owner gets a higher number than the one before. Send it along to what the token protects, and refuse lower
    numbers there. An owner that slept past its expiry is then kept out.
  - Tokens live in a folder of the host the task runs on. Delegate the task to one host that all owners share.
author:
  - sciops.sites contributors (@sciops)
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return the changed status prediction without modifying anything.
  diff_mode:
    support: full
    description: Returns owner, number and time to live before and after.
  idempotent:
    support: full
    description: Who has the token already and takes it again keeps its number, and the task is not changed.
  platform:
    support: full
    platforms: posix
    description: Platforms of the host. It needs Python 3.8 or later, and a file system with C(flock).
options:
  name:
    description: Name of the token. Letters, digits, C(_), C(.) and C(-).
    type: str
    required: true
  owner:
    description: Who takes it or gives it back, such as a host, a job or a person.
    type: str
    required: true
  state:
    description:
      - With V(held), O(owner) has the token afterwards, else the task fails and names who has it. A token whose time to
        live is over is free. Taking it again starts the time to live again.
      - With V(released), O(owner) does not have it afterwards. The task fails when it is somebody else's.
    type: str
    choices: [held, released]
    default: held
  ttl:
    description: Seconds after which the token is free again if O(owner) does not take it again. Without it, never.
    type: float
  wait:
    description: Seconds to wait for a token that somebody else has.
    type: float
    default: 0
  path:
    description:
      - Folder of the tokens. It is created when it is missing.
      - Without it, C(/var/lib/sciops.sites/tokens) for root, else C(sciops.sites/tokens) below E(XDG_STATE_HOME) or
        C(~/.local/state).
    type: path
seealso:
  - module: sciops.sites.token_info
"""

EXAMPLES = r"""
- name: Copy to tape, one at a time
  hosts: movers
  gather_facts: false
  tasks:
    - name: Take the token
      sciops.sites.token:
        name: catalogue
        owner: "{{ inventory_hostname }}"
        ttl: 3600
        wait: 60
      delegate_to: control.example
      register: catalogue

    - name: Write under its number
      ansible.builtin.command: /opt/catalogue/add --fence {{ catalogue.number }}
      changed_when: true

    - name: Give the token back
      sciops.sites.token:
        name: catalogue
        owner: "{{ inventory_hostname }}"
        state: released
      delegate_to: control.example
"""

RETURN = r"""
held:
  description: Whether somebody has the token after the task.
  returned: always
  type: bool
  sample: true
owner:
  description: Who has it, or had it when its time was over. Null where it is free.
  returned: always
  type: str
  sample: mover-1
number:
  description: Fencing number. It grows with each new owner and never falls.
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
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils._token import Token, TokenError, clocks, give, take, view


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "owner": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
            "ttl": {"type": "float"},
            "wait": {"type": "float", "default": 0},
            "path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    if not module.params["owner"].strip():
        module.fail_json(msg="owner: is empty; name who takes the token")
    for option in ("ttl", "wait"):
        value = module.params[option]
        if value is not None and not (0 if option == "wait" else 1) <= value <= 10 * 365 * 86400:
            module.fail_json(
                msg="%s: %r: must be seconds, %s to ten years" % (option, value, "0" if option == "wait" else "1")
            )
    try:
        token = Token(module.params["name"], module.params["path"])
        deadline = time.monotonic() + module.params["wait"]
        while True:
            done, before, after = turn(token, module)
            left = deadline - time.monotonic()
            if done or left <= 0 or module.params["state"] == "released":
                break
            time.sleep(min(0.2, left))
    except TokenError as error:
        module.fail_json(msg=str(error))
    if not done:
        age = "" if after["age"] is None else " since %d s" % after["age"]
        what = "held by" if module.params["state"] == "held" else "not yours, it is held by"
        module.fail_json(msg="token %s: %s %s%s" % (token.name, what, after["owner"], age), changed=False, **after)
    words = [{key: one[key] for key in ("held", "owner", "number", "ttl")} for one in (before, after)]
    # a longer life of one's own token is not a change
    changed = any(words[0][key] != words[1][key] for key in ("held", "owner", "number"))
    module.exit_json(changed=changed, diff={"before": words[0], "after": words[1]}, **after)


def turn(token: Token, module: AnsibleModule) -> tuple:
    """Try once; return whether it went as wanted, and the token before and after."""
    owner, ttl = module.params["owner"], module.params["ttl"]
    before = view(token.read(), clocks())
    if module.check_mode:
        record, now = token.read(), clocks()
        held = module.params["state"] == "held"
        done, after = take(record, owner, ttl, now) if held else give(record, owner, now)
        return done, before, view(after, now)
    if module.params["state"] == "held":
        done, after = token.acquire(owner, ttl)
    else:
        done, after = token.release(owner)
    return done, before, after


if __name__ == "__main__":
    main()
