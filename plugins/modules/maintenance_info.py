#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: maintenance_info
short_description: Tell when a cluster is in maintenance, from Slurm's reservations
version_added: 0.1.0
description:
  - Reads the reservations of Slurm, and tells which of them are windows of maintenance, whether one is under way, and
    how long it is to the next.
  - A Slurm that does not answer fails the task. It never means that there is no window.
author:
  - sciops.sites contributors (@sciops)
requirements:
  - Slurm's client on the host
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
  words:
    description:
      - A reservation is a window where C(scontrol show res -o) has one of these words in its name, its flags or its
        nodes. What else it says of it, like the users that may use it, does not count.
      - Without any, every reservation is one.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that the question to Slurm may take.
    type: float
    default: 30
"""

EXAMPLES = r"""
- name: Look for maintenance
  sciops.sites.maintenance_info:
    words: [login, workflow, MAINT]
  register: maintenance

- name: Refuse to deploy within it, or less than an hour before
  ansible.builtin.assert:
    that:
      - not maintenance.in_window
      - maintenance.next is none or maintenance.minutes_to > 60
    fail_msg: "maintenance: {{ maintenance.current or maintenance.next }}"

- name: Wait for its end
  sciops.sites.maintenance_info:
    words: [login, workflow, MAINT]
  register: maintenance
  until: maintenance is success and not maintenance.in_window
  retries: 200
  delay: 300
"""

RETURN = r"""
windows:
  description: Windows that are not over, by their start.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the reservation.
      type: str
      sample: login_node_maintenance
    start:
      description: Its start in seconds since 1970.
      type: int
      sample: 1795601400
    end:
      description: Its end in seconds since 1970.
      type: int
      sample: 1795630200
    flags:
      description: Its flags.
      type: list
      elements: str
      sample: [MAINT, IGNORE_JOBS]
    nodes:
      description: Its nodes as Slurm writes them, null where it has none.
      type: str
      sample: login[01-04]
    words:
      description: Which of O(words) it has.
      type: list
      elements: str
      sample: [login, MAINT]
current:
  description: Windows that are under way.
  returned: success
  type: list
  elements: dict
  sample: []
in_window:
  description: Whether one is under way.
  returned: success
  type: bool
  sample: false
next:
  description: The window that starts next, null where none is known.
  returned: success
  type: dict
  sample: {name: login_node_maintenance, start: 1795601400, end: 1795630200, flags: [MAINT], nodes: login01, words: []}
minutes_to:
  description: Minutes to its start, rounded down, null where none is known.
  returned: success
  type: int
  sample: 480
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _slurmctl, _squeue
from ansible_collections.sciops.sites.plugins.module_utils._manager import Silent
from ansible_collections.sciops.sites.plugins.module_utils._shim import Failed

NONE = "No reservations in the system"
LOOKED_AT = (*_squeue.SPOKEN, "Nodes")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "words": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    timeout = module.params["timeout"]
    slurm = _slurmctl.Slurm({"timeout": timeout}, time.monotonic() + timeout)
    try:
        found = windows(slurm.ask(["scontrol", "show", "res", "-o"]), module.params["words"])
    except (Silent, Failed, _squeue.Garbled) as error:
        module.fail_json(msg="maintenance_info: %s" % error)
    now = time.time()
    left = [one for one in found if one["end"] > now]
    current = [one for one in left if one["start"] <= now]
    ahead = [one for one in left if one["start"] > now]
    module.exit_json(
        changed=False,
        windows=left,
        current=current,
        in_window=bool(current),
        next=ahead[0] if ahead else None,
        minutes_to=int((ahead[0]["start"] - now) // 60) if ahead else None,
    )


def windows(text: str, words: list) -> list:
    """Return the reservations that have one of the words, by their start. Raises Garbled for any other text."""
    found = []
    for line in text.splitlines():
        if not line.strip() or line.startswith(NONE):
            continue
        said = _squeue.fields(line)
        # every reservation must be understood, also one that is no window
        if not _squeue.reservations(line, [""]) or _squeue.moment(said.get("EndTime", "")) is None:
            raise _squeue.Garbled("scontrol: a line that is not understood: %s" % line[:200])
        for start, end, name in _squeue.reservations(line, words or [""], LOOKED_AT):
            one = {"name": name, "start": start, "end": end, "words": _squeue.words_of(said, words, LOOKED_AT)}
            one["flags"] = [flag for flag in said.get("Flags", "").split(",") if flag]
            one["nodes"] = None if said.get("Nodes") in (None, "", "(null)") else said["Nodes"]
            found.append(one)
    if not found and not text.strip():
        raise _squeue.Garbled("scontrol: said nothing at all")
    return sorted(found, key=lambda one: (one["start"], one["name"]))


if __name__ == "__main__":
    main()
