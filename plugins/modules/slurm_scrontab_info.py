#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_scrontab_info
short_description: Tell which blocks a user's scrontab has, what is disabled in them, and when their jobs run
version_added: 0.1.0
description:
  - Reads the blocks of M(sciops.sites.slurm_scrontab) in a user's scrontab and the queue, and changes nothing.
  - Lines of others are counted and never shown.
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
    description: >-
      Platforms of the host. It needs Python 3.8 or later, Slurm's client with C(scrontab) and C(squeue --json), and
      C(ScronParameters=enable) in C(slurm.conf).
options:
  name:
    description: Name of one block. Without it, all blocks of this collection.
    type: str
  user:
    description: Whose scrontab. Only operators, root and Slurm's own user may name another than themselves.
    type: str
  timeout:
    description: Seconds that one question to Slurm may take.
    type: float
    default: 30
seealso:
  - module: sciops.sites.slurm_scrontab
"""

EXAMPLES = r"""
- name: Look at the scrontab
  hosts: login
  gather_facts: false
  tasks:
    - name: Read the blocks
      sciops.sites.slurm_scrontab_info:
      register: scrontab

    - name: Name what somebody cancelled
      ansible.builtin.debug:
        msg: "{{ item.command }} is disabled"
      loop: "{{ scrontab.blocks | map(attribute='entries') | flatten | selectattr('disabled') }}"
      loop_control:
        label: "{{ item.when }}"
"""

RETURN = r"""
blocks:
  description: The blocks, in their order in the scrontab.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the block.
      type: str
      sample: lookout
    line:
      description: Number of its first line.
      type: int
      sample: 4
    entries:
      description: Its entries, in their order.
      type: list
      elements: dict
      contains:
        when:
          description: The five fields, or a name such as C(@hourly).
          type: str
          sample: "*/5 * * * *"
        command:
          description: What is run.
          type: str
          sample: $HOME/bin/lookout.sh
        options:
          description: Options of C(sbatch), without the comment by which its jobs are known.
          type: list
          elements: str
          sample: [--partition=cron]
        disabled:
          description: Whether Slurm disabled it, because somebody cancelled its job.
          type: bool
          sample: false
        job:
          description: Number of its job in the queue. Null where it has none.
          type: int
          sample: 4711
        state:
          description: State of that job. Null where it has none.
          type: str
          sample: PENDING
        next_run:
          description: Earliest next start in seconds since 1970, null where the queue does not say.
          type: int
          sample: 1795601400
    stray:
      description: Lines in the block that are no entry. The module takes them out.
      type: list
      elements: str
      sample: []
other_lines:
  description: How many lines the scrontab has besides the blocks.
  returned: always
  type: int
  sample: 3
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _scrontab


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "user": {"type": "str"},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    tab = _scrontab.Scrontab(module.params["user"], module.params["timeout"])
    try:
        text = tab.read()
        places = _scrontab.find_all(text)
        jobs = tab.jobs() if places else []
    except _scrontab.ScrontabError as error:
        module.fail_json(msg="slurm_scrontab_info: %s" % error)
    lines, blocks, ours = _scrontab.lines_of(text), [], 0
    for name, (start, end) in places.items():
        ours += end - start
        if module.params["name"] in (None, name):
            found = _scrontab.entries_of(lines[start:end])
            block = {"name": name, "line": start + 1}
            block["entries"] = [told(one, jobs) for one in found if "command" in one]
            block["stray"] = [one["stray"] for one in found if "stray" in one]
            blocks.append(block)
    module.exit_json(changed=False, blocks=blocks, other_lines=len(lines) - ours)


def told(entry: dict, jobs: list) -> dict:
    """Return one entry with what the queue says of its job."""
    known = {key: entry[key] for key in ("when", "command", "disabled")}
    known["options"] = [one for one in entry["options"] if not one.startswith("--comment=")]
    mine = [one for one in jobs if entry["comment"] and one["comment"] == entry["comment"]]
    # what waits is what comes next; what runs may be one that was there before
    mine.sort(key=lambda one: (not one["waits"], one["id"]))
    job = mine[0] if mine else None
    known.update(job=job["id"] if job else None, state=job["word"] if job else None)
    known["next_run"] = job["start"] if job and job["waits"] else None
    return known


if __name__ == "__main__":
    main()
