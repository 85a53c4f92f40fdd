#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: condor_job_info
short_description: Ask HTCondor for jobs, in one query for all of them
version_added: 0.1.0
description:
  - Reads the queue of one schedd or of all schedds of the pool, and the history where that is asked for. It changes
    nothing.
  - Only the attributes of O(projection) are sent, which makes 10,000 jobs a small answer.
  - A schedd that does not answer makes the task fail. Its jobs are unknown, and that is not the same as none.
author:
  - sciops.sites contributors (@sciops)
extends_documentation_fragment:
  - sciops.sites.condor
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
      Platforms of the host. It needs Python 3.8 or later, and either HTCondor's Python bindings (C(htcondor2)) or its
      commands.
options:
  key:
    description: Only jobs of this key of M(sciops.sites.condor_job).
    type: str
  owner:
    description: Only jobs of this user, as the attribute C(Owner) has it.
    type: str
  constraint:
    description: Only jobs for which this expression of HTCondor is true.
    type: str
  projection:
    description: The attributes that are returned. With an empty list, all of them.
    type: list
    elements: str
    default: [ClusterId, ProcId, Owner, JobStatus, HoldReason, HoldReasonCode, RequestMemory, SciopsKey, SciopsItem]
  limit:
    description: At most so many jobs of each queue and of each history.
    type: int
  history:
    description: Whether jobs that left the queue are returned as well. A long history takes long to be read.
    type: bool
    default: false
  all_schedds:
    description: With V(true), all schedds that the collector knows, each with one query. O(schedd) has no effect.
    type: bool
    default: false
  partial:
    description: With V(true), a schedd that does not answer is named in RV(silent), and the others are returned.
    type: bool
    default: false
seealso:
  - module: sciops.sites.condor_job
"""

EXAMPLES = r"""
- name: Look at jobs
  hosts: submit
  gather_facts: false
  tasks:
    - name: Read the jobs of one key, those that ended too
      sciops.sites.condor_job_info:
        key: align/2026-11
        history: true
      register: align

    - name: Say how far it is
      ansible.builtin.debug:
        msg: "{{ align.states.completed }} of {{ align.total }} are done, {{ align.states.held }} are held"

    - name: Read how much memory the running jobs of the pool ask for
      sciops.sites.condor_job_info:
        constraint: JobStatus == 2
        projection: [Owner, RequestMemory]
        all_schedds: true
"""

RETURN = r"""
jobs:
  description:
    - The ads of the jobs with the attributes of O(projection). An attribute that a job has not is not there. An
      expression is its text.
    - C(schedd) is the name of the schedd where O(all_schedds) is on, and C(past) is true for a job of the history.
  returned: always
  type: list
  elements: dict
  sample:
    - {ClusterId: 12, ProcId: 0, Owner: ann, JobStatus: 2, SciopsKey: align/2026-11, SciopsItem: sample-1, past: false}
total:
  description: How many they are.
  returned: always
  type: int
  sample: 1
states:
  description: How many of them are in which state.
  returned: always
  type: dict
  sample: {idle: 0, running: 1, removed: 0, completed: 0, held: 0, transferring: 0, suspended: 0, unknown: 0}
schedds:
  description: Names of the schedds that answered. Null stands for the host's own.
  returned: always
  type: list
  elements: str
  sample: [submit.example.org]
silent:
  description: Schedds that did not answer, with the reason.
  returned: always
  type: list
  elements: dict
  sample: []
way:
  description: How HTCondor was asked.
  returned: always
  type: str
  sample: bindings
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _condor, _condor_jobs

PROJECTION = "ClusterId ProcId Owner JobStatus HoldReason HoldReasonCode RequestMemory SciopsKey SciopsItem".split()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "key": {"type": "str", "no_log": False},
            "owner": {"type": "str"},
            "constraint": {"type": "str"},
            "projection": {"type": "list", "elements": "str", "default": PROJECTION},
            "limit": {"type": "int"},
            "history": {"type": "bool", "default": False},
            "all_schedds": {"type": "bool", "default": False},
            "partial": {"type": "bool", "default": False},
            **_condor.ARGUMENTS,
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        result = work(given)
    except _condor.CondorError as error:
        module.fail_json(msg="condor_job_info: %s" % error)
    except ValueError as error:
        module.fail_json(msg="condor_job_info: %s" % error)
    module.exit_json(changed=False, **result)


def work(given: dict) -> dict:
    """Ask each schedd once; returns the result of the task."""
    place = {name: given[name] for name in _condor.ARGUMENTS}
    constraint = _condor.both(
        _condor.equal(_condor_jobs.KEY, given["key"]) if given["key"] is not None else None,
        _condor.equal("Owner", given["owner"]) if given["owner"] is not None else None,
        given["constraint"],
    )
    asked = list(given["projection"])
    # the state is needed to count by it
    more = [] if not asked or "jobstatus" in {one.lower() for one in asked} else ["JobStatus"]
    names, local, silent, jobs, states = [given["schedd"]], "", [], [], []
    if given["all_schedds"]:
        with _condor.connect(**dict(place, schedd=None)) as client:
            names = [one["Name"] for one in client.schedds()]
            local = _condor.local_schedd(client)
    answered, way = [], None
    for name in names:
        own = name is not None and name.lower() == local
        with _condor.connect(**dict(place, schedd=None if own else name)) as client:
            way = client.way
            try:
                found = [dict(job, past=False) for job in client.query(constraint, asked + more, given["limit"])]
                if given["history"]:
                    past = client.history(constraint, asked + more, given["limit"])
                    found += [dict(job, past=True) for job in past]
            except _condor.Silent as error:
                if not given["partial"]:
                    raise
                silent.append({"schedd": name, "reason": str(error)})
                continue
        answered.append(name)
        states += found
        for job in found:
            shown = {key: value for key, value in job.items() if key not in more}
            jobs.append(dict(shown, schedd=name) if given["all_schedds"] else shown)
    return {
        "jobs": jobs,
        "total": len(jobs),
        "states": _condor_jobs.counts(states),
        "schedds": answered,
        "silent": silent,
        "way": way,
    }


if __name__ == "__main__":
    main()
