#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_scrontab
short_description: Keep a declared block of entries in a user's scrontab, and nothing else of it
version_added: 0.1.0
description:
  - Slurm keeps one scrontab for each user. This module owns the lines between C(# BEGIN sciops.sites NAME) and
    C(# END sciops.sites NAME) in it, and no others. Those stay byte by byte, whatever they are.
  - Slurm writes into a scrontab by itself. When somebody cancels a job of it, its entry becomes C(#DISABLED:) lines and
    never runs again. In the block that is drift, and it is repaired unless O(held=true).
  - A block that is there stays where it is. A new one goes to the end of the scrontab, or to its beginning where the
    last line has no line feed, so that this line stays as it is too.
  - Slurm submits all entries of a scrontab anew whenever it changes. A job that runs goes on, and does not come back.
    Give an entry O(entries[].job_name) and the option C(--dependency=singleton) where two of it must not run side by
    side.
author:
  - sciops.sites contributors (@sciops)
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return the changed status prediction without modifying anything.
  diff_mode:
    support: full
    description: Returns the lines of the block before and after. Lines of others are never shown.
  idempotent:
    support: full
    description: A scrontab that has the block as declared is not written.
  platform:
    support: full
    platforms: posix
    description: >-
      Platforms of the host. It needs Python 3.8 or later, Slurm's client with C(scrontab) and C(squeue --json), and
      C(ScronParameters=enable) in C(slurm.conf).
options:
  name:
    description: Name of the block. Letters, digits, C(_), C(.) and C(-).
    type: str
    required: true
  state:
    description:
      - With V(present), the block is there afterwards and has O(entries).
      - With V(absent), it is not, and its jobs that are still in the queue are cancelled. A scrontab of which nothing
        is left is removed.
    type: str
    choices: [present, absent]
    default: present
  entries:
    description: What Slurm is to run, and when. Needed with O(state=present).
    type: list
    elements: dict
    suboptions:
      command:
        description:
          - The command, one line. Slurm replaces C($NAME) by variables that the scrontab defines above it.
        type: str
        required: true
      minute:
        description:
          - V(*), a number from 0 to 59, ranges like V(10-20), several of them with commas, or with a step V(*/5).
          - Slurm takes less than cron here. V(*) stands alone, a step is 2 or more and only in the last part.
        type: str
        default: "*"
      hour:
        description: Like O(entries[].minute), 0 to 23.
        type: str
        default: "*"
      day:
        description: Day of the month, like O(entries[].minute), 1 to 31.
        type: str
        default: "*"
      month:
        description: Like O(entries[].minute), 1 to 12, or one name from V(jan) to V(dec).
        type: str
        default: "*"
      weekday:
        description: Like O(entries[].minute), 0 to 7 where 0 and 7 are Sunday, or one name from V(sun) to V(sat).
        type: str
        default: "*"
      special:
        description: A time by its name, instead of the five fields.
        type: str
        choices: [yearly, annually, monthly, weekly, daily, midnight, hourly, elevenses, fika, teatime]
      job_name:
        description: Name of the job. Without it Slurm names it after the command.
        type: str
      options:
        description:
          - Options of C(sbatch) for this entry, each with its value, such as V(--partition=cron). Each becomes an
            C(#SCRON) line.
          - The comment is not free. It is how the jobs of a block are known.
        type: list
        elements: str
        default: []
  held:
    description:
      - With V(true), nothing of the block is switched on that is off. Entries that Slurm disabled stay so, and new or
        changed ones are written as disabled.
    type: bool
    default: false
  user:
    description: Whose scrontab. Only root and Slurm's own user may name another than themselves.
    type: str
  timeout:
    description: Seconds that one question to Slurm may take.
    type: float
    default: 30
seealso:
  - module: sciops.sites.slurm_scrontab_info
  - name: scrontab
    description: What Slurm itself says of it.
    link: https://slurm.schedmd.com/scrontab.html
"""

EXAMPLES = r"""
- name: Keep a service alive from a Slurm cluster
  hosts: login
  gather_facts: false
  tasks:
    - name: Look after it every five minutes
      sciops.sites.slurm_scrontab:
        name: lookout
        entries:
          - minute: "*/5"
            command: $HOME/bin/lookout.sh
            job_name: lookout
            options:
              - --partition=cron
              - --time=00:05:00
              - --dependency=singleton

- name: Leave it as it is, since somebody stopped it on purpose
  hosts: login
  gather_facts: false
  tasks:
    - name: Keep the entries, and switch none of them on
      sciops.sites.slurm_scrontab:
        name: lookout
        held: true
        entries:
          - minute: "*/5"
            command: $HOME/bin/lookout.sh

- name: Take it away
  hosts: login
  gather_facts: false
  tasks:
    - name: Remove the block and cancel its jobs
      sciops.sites.slurm_scrontab:
        name: lookout
        state: absent
"""

RETURN = r"""
name:
  description: Name of the block.
  returned: always
  type: str
  sample: lookout
entries:
  description: How many entries the block has after the task.
  returned: always
  type: int
  sample: 1
enabled:
  description: Entries that were disabled and are not any more, as C(WHEN COMMAND).
  returned: always
  type: list
  elements: str
  sample: ["*/5 * * * * $HOME/bin/lookout.sh"]
disabled:
  description: Entries that are disabled after the task, since the block is held.
  returned: always
  type: list
  elements: str
  sample: []
cancelled:
  description: Numbers of the jobs that were cancelled.
  returned: always
  type: list
  elements: int
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _scrontab


def main() -> None:
    fields = {name: {"type": "str", "default": "*"} for name, _low, _high, _names in _scrontab.FIELDS}
    entry = {
        "command": {"type": "str", "required": True},
        **fields,
        "special": {"type": "str", "choices": list(_scrontab.SPECIALS)},
        "job_name": {"type": "str"},
        "options": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "entries": {"type": "list", "elements": "dict", "options": entry},
            "held": {"type": "bool", "default": False},
            "user": {"type": "str"},
            "timeout": {"type": "float", "default": 30},
        },
        required_if=[("state", "present", ["entries"])],
        supports_check_mode=True,
    )
    given = module.params
    faults = []
    if not _scrontab.NAME.match(given["name"]):
        faults.append(
            "name: %r: must be letters, digits, _ . and -, and begin with none of the last two" % given["name"]
        )
    for i, one in enumerate(given["entries"] or []):
        faults += ["entries[%d].%s" % (i, words) for words in _scrontab.entry_faults(one)]
    if given["state"] == "present" and not given["entries"]:
        faults.append("entries: is empty; say state absent to take the block away")
    if faults:
        module.fail_json(msg="; ".join("slurm_scrontab: " + words for words in faults))
    try:
        result = work(module)
    except _scrontab.ScrontabError as error:
        module.fail_json(msg="slurm_scrontab: %s" % error)
    module.exit_json(**result)


def work(module: AnsibleModule) -> dict:
    """Bring the block to what is declared; returns the result of the task."""
    given = module.params
    name = given["name"]
    tab = _scrontab.Scrontab(given["user"], given["timeout"])

    def edit(text: str) -> str:
        if given["state"] == "absent":
            return _scrontab.put(text, name, [])
        old = _scrontab.block_of(text, name)
        return _scrontab.put(text, name, _scrontab.wanted(name, given["entries"], old, given["held"]))

    absent, left = given["state"] == "absent", []
    cancelled = tab.jobs_of(name) if absent else []
    before, after = tab.change(edit, module.check_mode)
    if absent and not module.check_mode:
        # Slurm takes away what waits; what runs goes on without an end of its own
        left = tab.jobs_of(name)
        if left:
            tab.cancel(left)
    cancelled = sorted({*cancelled, *left})
    old, new = (_scrontab.block_of(text, name) or [] for text in (before, after))
    was, now = _scrontab.entries_of(old), _scrontab.entries_of(new)
    on = [one["lines"] for one in now if one.get("disabled") is False]
    result = {
        "name": name,
        "entries": len([one for one in now if "command" in one]),
        "enabled": [shown(one) for one in was if one.get("disabled") and one["lines"] in on],
        "disabled": [shown(one) for one in now if one.get("disabled")],
        "cancelled": cancelled,
    }
    diff = {"before": "".join(old), "after": "".join(new)}
    header = "block %s of the scrontab" % name
    diff.update(before_header=header, after_header=header)
    return dict(result, changed=before != after or bool(cancelled), diff=diff)


def shown(entry: dict) -> str:
    return "%s %s" % (entry["when"], entry["command"])


if __name__ == "__main__":
    main()
