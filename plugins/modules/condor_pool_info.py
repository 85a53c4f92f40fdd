#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: condor_pool_info
short_description: What is free in an HTCondor pool, and who uses how much of it
version_added: 0.1.0
description:
  - Tells which machines have how many processors and how much memory for a job now, and for each user of running jobs
    how much was asked for, how much is used and how much of it lies idle. As rows, and as tables for people.
  - All schedds of the pool are asked. Where one does not answer, or the collector knows of nobody, the task fails
    unless O(partial=true). What is not known is null, never zero.
author:
  - sciops.sites contributors (@sciops)
extends_documentation_fragment:
  - sciops.sites.condor
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying target.
  diff_mode:
    support: none
    description: Nothing is changed, so there is no difference to show.
  idempotent:
    support: full
    description: Nothing is changed.
  platform:
    support: full
    platforms: posix
    description: Platforms of the host. It needs Python 3.8 or later and a way to speak to HTCondor, see O(way).
options:
  show:
    description: What to look at. V(available) asks the collector, V(used) the collector and all schedds.
    type: list
    elements: str
    choices: [available, used]
    default: [available, used]
  constraint:
    description: Which slots are available, as an expression of HTCondor.
    type: str
    default: regexp("^slot1@",Name) && Start == true && RemoteOwner =?= undefined
  entitlement_rules:
    description: Machines that are shown only to who holds an entitlement.
    type: list
    elements: dict
    default: []
    suboptions:
      pattern:
        description: A regular expression of Python that is searched for in the name of the machine.
        type: str
        required: true
      entitlement:
        description: What one must hold, one word, or several of which one is enough.
        type: str
        required: true
  entitlements:
    description:
      - What the user holds.
      - Without it, what the environment variable C(_CONDOR_ENTITLEMENTS) of the host says, words between commas and
        blanks.
    type: list
    elements: str
  running:
    description: Which jobs are counted in V(used), as an expression of HTCondor.
    type: str
    default: JobStatus == 2
  partial:
    description:
      - Go on where a schedd does not answer, or the collector knows of no slot or schedd at all.
      - RV(silent) names it then, and RV(complete) is false.
    type: bool
    default: false
notes:
  - With O(schedd) only that one is asked.
seealso:
  - plugin: sciops.sites.condor
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: What can I have
  hosts: submit
  gather_facts: false
  tasks:
    - name: Look at the pool
      sciops.sites.condor_pool_info:
        entitlement_rules:
          - {pattern: ksg, entitlement: kennedy}
          - {pattern: edlabs, entitlement: edlabs}
          - {pattern: nsaph, entitlement: nsaph}
      register: pool

    - name: Show it
      ansible.builtin.debug:
        msg: "{{ pool.available_table + [''] + pool.used_table }}"
"""

RETURN = r"""
available:
  description: Slots that a job could be put on, the most processors first, then the most memory.
  returned: with V(available) in O(show)
  type: list
  elements: dict
  contains:
    machine:
      description: The machine.
      type: str
    slot:
      description: Name of the slot.
      type: str
    cpus:
      description: Processors that are left, null where the collector does not say.
      type: float
    memory_mb:
      description: Memory that is left in MB.
      type: float
    memory_gb:
      description: The same in GB.
      type: float
  sample: [{machine: node7.example.org, slot: slot1@node7.example.org, cpus: 12, memory_mb: 65536, memory_gb: 64.0}]
available_totals:
  description: Sums of C(cpus) and C(memory_gb), and the number of C(machines). Null where a part is not known.
  returned: with V(available) in O(show)
  type: dict
  sample: {machines: 1, cpus: 12, memory_gb: 64.0}
available_table:
  description: The same as lines of a table.
  returned: with V(available) in O(show)
  type: list
  elements: str
  sample: ["CpusAvailable MemoryAvailable(gb) Machine", "           12                  64 node7.example.org"]
used:
  description: Users of running jobs, who leaves the most memory unused first.
  returned: with V(used) in O(show)
  type: list
  elements: dict
  contains:
    user:
      description: The owner of the jobs.
      type: str
    jobs:
      description: How many of them run.
      type: int
    cpus:
      description: Processors that they asked for.
      type: float
    requested_gb:
      description: Memory that they asked for.
      type: float
    used_gb:
      description: Memory that those use of which it is known.
      type: float
    unused_gb:
      description: What those asked for and do not use.
      type: float
    unmeasured:
      description: Jobs of which it is not known yet. They are in neither C(used_gb) nor C(unused_gb).
      type: int
  sample: [{user: ann, jobs: 2, cpus: 4, requested_gb: 16.0, used_gb: 3.5, unused_gb: 12.5, unmeasured: 0}]
used_totals:
  description: Sums of C(jobs), C(cpus), C(requested_gb) and C(unmeasured). Null where a part is not known.
  returned: with V(used) in O(show)
  type: dict
  sample: {jobs: 2, cpus: 4, requested_gb: 16.0, unmeasured: 0}
used_table:
  description: The same as lines of a table.
  returned: with V(used) in O(show)
  type: list
  elements: str
  sample: ["User Cpus Requested(gb) Used(gb) Unused(gb)", "ann     4            16      3.5       12.5"]
schedds:
  description: The schedds that were asked and answered.
  returned: with V(used) in O(show)
  type: list
  elements: str
  sample: [submit.example.org]
silent:
  description: Schedds that did not answer, each with why. V(startd) or V(schedd), where the collector knows of none.
  returned: success
  type: dict
  sample: {}
complete:
  description: Whether everybody who was asked did answer.
  returned: success
  type: bool
  sample: true
entitlements:
  description: What the user holds, as it was taken.
  returned: success
  type: list
  elements: str
  sample: []
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _condor, _condor_overview

NOBODY = "the collector knows of no %s; it may have just started"


def main() -> None:
    rule = {"pattern": {"type": "str", "required": True}, "entitlement": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            **_condor.ARGUMENTS,
            "show": {
                "type": "list",
                "elements": "str",
                "choices": ["available", "used"],
                "default": ["available", "used"],
            },
            "constraint": {"type": "str", "default": _condor_overview.AVAILABLE},
            "entitlement_rules": {"type": "list", "elements": "dict", "default": [], "options": rule},
            "entitlements": {"type": "list", "elements": "str"},
            "running": {"type": "str", "default": _condor_overview.RUNNING},
            "partial": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    faults = _condor_overview.rule_faults(module.params["entitlement_rules"])
    if faults:
        module.fail_json(msg="; ".join("condor_pool_info: " + words for words in faults))
    try:
        result = look(module.params)
    except _condor.CondorError as error:
        module.fail_json(msg="condor_pool_info: %s" % error)
    if not result["complete"] and not module.params["partial"]:
        said = "; ".join("%s: %s" % pair for pair in sorted(result["silent"].items()))
        words = "condor_pool_info: not everybody answered, so the pool is not known: %s; say partial to go on"
        module.fail_json(msg=words % said, silent=result["silent"])
    module.exit_json(changed=False, **result)


def look(given: dict) -> dict:
    """Ask the pool; returns the result of the task."""
    held = given["entitlements"]
    if held is None:
        held = os.environ.get("_CONDOR_ENTITLEMENTS", "")
    held = _condor_overview.entitlements(held)
    result = {"silent": {}, "entitlements": held}
    with _connect(given, given["schedd"]) as client:
        if "available" in given["show"]:
            slots = client.status("startd", given["constraint"], _condor_overview.SLOT_ATTRIBUTES)
            if not slots and not client.status("startd", None, ["Name"]):
                result["silent"]["startd"] = NOBODY % "slot"
            rows = _condor_overview.available(slots, given["entitlement_rules"], held)
            sums = _condor_overview.totals(rows, ("cpus", "memory_gb"))
            result.update(
                available=rows,
                available_totals=dict(sums, machines=len({row["machine"] for row in rows})),
                available_table=_condor_overview.available_table(rows),
            )
        if "used" in given["show"]:
            names = [given["schedd"]] if given["schedd"] else [str(one.get("Name")) for one in client.schedds()]
            if not names:
                result["silent"]["schedd"] = NOBODY % "schedd"
            result.update(_used(given, names, _condor.local_schedd(client), result["silent"]))
    return dict(result, complete=not result["silent"])


def _used(given: dict, names: list, local: str, silent: dict) -> dict:
    jobs, answered = [], []
    for name in names:
        with _connect(given, None if name.lower() == local else name) as client:
            try:
                jobs += client.query(given["running"], _condor_overview.JOB_ATTRIBUTES)
                answered.append(name)
            except _condor.Silent as error:
                silent[name] = str(error)
    rows = _condor_overview.used(jobs)
    return {
        "used": rows,
        "used_totals": _condor_overview.totals(rows, ("jobs", "cpus", "requested_gb", "unmeasured")),
        "used_table": _condor_overview.used_table(rows),
        "schedds": answered,
    }


def _connect(given: dict, schedd) -> _condor.Client:
    return _condor.connect(given["way"], given["pool"], schedd, given["config"], given["timeout"])


if __name__ == "__main__":
    main()
