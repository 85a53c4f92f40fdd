#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: condor_job
short_description: Submit jobs to HTCondor once, and hold, release, retry or remove them
version_added: 0.1.0
description:
  - Submits jobs in one transaction, so that all of them are there afterwards or none. They carry O(key) as an attribute
    of their ads. Queue and history are looked at first, and what has the key is never submitted again. That holds after
    a lost answer, too.
  - Of a list of items, those are submitted that no job has been made for yet. So a list can grow.
  - Arguments as a list, an environment as a mapping, and attributes arrive in the job unchanged, whatever they hold.
  - A job is known by everybody who may ask the schedd. Nothing of it may be a secret.
  - The jobs belong to the user who runs the task. HTCondor takes no jobs from root.
author:
  - sciops.sites contributors (@sciops)
extends_documentation_fragment:
  - sciops.sites.condor
attributes:
  check_mode:
    support: full
    description: Returns what would be done, with the submit description and the ad of the first new job.
  diff_mode:
    support: full
    description: Shows the number of jobs, the submit description of new ones, and what becomes of the others.
  idempotent:
    support: full
    description: What was submitted once is not submitted again. Jobs in the state that is asked for are left alone.
  platform:
    support: full
    platforms: posix
    description: >-
      Platforms of the host. It needs Python 3.8 or later, and either HTCondor's Python bindings (C(htcondor2)) or its
      commands.
options:
  state:
    description:
      - With V(present), jobs of O(key) are there, or have been. Then O(prune) and O(retry) are applied.
      - With V(held), V(released) and V(removed), the jobs in the queue of O(key) or O(constraint) are brought to that.
      - With V(swept), jobs in the queue are removed whose key is none of O(keys). Jobs without a key are never touched.
    type: str
    choices: [present, held, released, removed, swept]
    default: present
  key:
    description:
      - What these jobs are known by. It is the attribute C(SciopsKey) of each of them. The keys of a schedd are shared
        by all its users.
      - "Letters, digits and C(. _ : / @ + -), 200 at most."
    type: str
  description:
    description:
      - Commands of a submit description, such as C(executable) or C(request_memory), with their values. A value is text
        in which C($(name)) stands for something, as in HTCondor.
      - With C(arguments) as a list of words and C(environment) as a mapping, each word and value arrives as it is.
      - A relative path in it begins at C(initialdir), and without that at the user's home directory.
    type: dict
  attributes:
    description: Attributes of the ads of all jobs, with their values. Text is a string there, and never an expression.
    type: dict
  items:
    description:
      - One job for each of these. A name in it stands for its value as C($(name)) in O(description), but
        C(arguments) as a list, C(environment) as a mapping and C(attributes) as a mapping are those of its job.
      - With C(key), what the item is known by. It is the attribute C(SciopsItem) of its job. Without it, that is the
        number of the item, beginning with 0.
    type: list
    elements: dict
  table:
    description: One job for each line of a table, as with C(queue a, b from) in a submit description.
    type: dict
    suboptions:
      variables:
        description: The names that stand for the cells of a line.
        type: list
        elements: str
        required: true
      text:
        description: The lines. Cells end at a comma or at blanks, and the last has the rest of its line.
        type: str
        required: true
  count:
    description: How many jobs there are, where there is neither O(items) nor O(table).
    type: int
    default: 1
  dag:
    description:
      - A file of DAGMan on the host, instead of O(description). Its DAGMan is the job that has the key.
      - DAGMan's own files go beside it. An existing submit description of it is written anew.
    type: path
  history:
    description:
      - Whether the history is looked at for jobs that left the queue. Without it, jobs that ended are submitted again.
      - A long history takes long to be read.
    type: bool
    default: true
  prune:
    description: With V(true), jobs in the queue are removed whose item is not in O(items) or O(table) any more.
    type: bool
    default: false
  retry:
    description:
      - What held jobs of the key get. The first rule that a job meets counts. The number of attempts is kept in the ad
        (C(SciopsRetry.attempts)).
      - Jobs that meet no rule stay held.
    type: list
    elements: dict
    suboptions:
      reason:
        description: A regular expression that the reason of the hold has somewhere.
        type: str
      codes:
        description: Codes of holds, such as 34 for too much memory. With O(retry[].reason), both must be met.
        type: list
        elements: int
      memory_factor:
        description: The memory asked for is multiplied by this. With O(retry[].memory_step), the greater counts.
        type: float
      memory_step:
        description: So many MB are added to the memory that is asked for.
        type: int
      memory_limit:
        description: No more MB than this are asked for. A job that had as much is given up.
        type: int
      attempts:
        description: After so many a job is given up. It stays held.
        type: int
        default: 3
  constraint:
    description: Jobs that are held, released or removed, by an expression of HTCondor instead of a key.
    type: str
  owner:
    description:
      - Whose jobs are meant, as the attribute C(Owner) has it. Without it, those of the user who runs the task. With
        V(*), those of all users that this one may change.
      - Where O(key) is that of somebody else's jobs, the task fails unless this says whose are meant.
    type: str
  keys:
    description: The keys that are declared, for O(state=swept). It may be empty only where O(prefix) is given.
    type: list
    elements: str
  prefix:
    description: Only keys that begin like this are looked at, for O(state=swept).
    type: str
  reason:
    description: Why jobs are held, released or removed. It is kept in their ads.
    type: str
seealso:
  - module: sciops.sites.condor_job_info
  - name: condor_submit
    description: The commands of a submit description.
    link: https://htcondor.readthedocs.io/en/latest/man-pages/condor_submit.html
"""

EXAMPLES = r"""
- name: Submit jobs
  hosts: submit
  gather_facts: false
  tasks:
    - name: One job for each sample, once
      sciops.sites.condor_job:
        key: align/2026-11
        description:
          executable: /bin/sleep
          arguments: "$(seconds)"
          request_memory: 128MB
          log: align.log
        items:
          - key: sample-1
            seconds: 600
          - key: sample-2
            seconds: 900
            environment:
              NOTE: 'any "text", as it is'

    - name: Give jobs that needed more memory twice as much, three times
      sciops.sites.condor_job:
        key: align/2026-11
        description:
          executable: /bin/sleep
          arguments: "$(seconds)"
          request_memory: 128MB
          log: align.log
        items:
          - key: sample-1
            seconds: 600
          - key: sample-2
            seconds: 900
        retry:
          - codes: [34]
            memory_factor: 2
            memory_limit: 64000
          - reason: "memory usage exceeded"
            memory_factor: 2
            memory_limit: 64000
            attempts: 3

    - name: Hold all of them
      sciops.sites.condor_job:
        key: align/2026-11
        state: held
        reason: The file system is read-only until Monday

    - name: Remove jobs of this family that are not declared any more
      sciops.sites.condor_job:
        state: swept
        prefix: align/
        keys:
          - align/2026-12
"""

RETURN = r"""
key:
  description: The key, null where there is none.
  returned: always
  type: str
  sample: align/2026-11
cluster:
  description: Number of the cluster that was submitted, null for none.
  returned: always
  type: int
  sample: 12
submitted:
  description: How many jobs were submitted, or would be.
  returned: always
  type: int
  sample: 2
description:
  description: The submit description of new jobs, without what only the table of items has. Null for none.
  returned: always
  type: str
  sample: "executable = /bin/sleep\n"
ad:
  description: >-
    In check mode the ad that the first new job would have, by C(condor_submit -dry-run). Null where there is none, and
    where the host has no C(condor_submit).
  returned: always
  type: dict
  sample: null
states:
  description: How many of the jobs that were meant are in which state, those in the history too where it was read.
  returned: always
  type: dict
  sample: {idle: 2, running: 0, removed: 0, completed: 0, held: 0, transferring: 0, suspended: 0, unknown: 0}
held:
  description: The held ones of them, each with its reason.
  returned: always
  type: list
  elements: dict
  sample:
    - {job: "12.1", key: align/2026-11, item: sample-2, state: held, reason: "memory usage exceeded", code: 34}
retried:
  description: Held jobs that were released, each with its C(attempt) and the C(memory) in MB that it asks for now.
  returned: always
  type: list
  elements: dict
  sample: []
given_up:
  description: Held jobs that met a rule and stay held, each with its C(why).
  returned: always
  type: list
  elements: dict
  sample: []
acted:
  description: Jobs that were held, released or removed, or would be. A row for each key and state that they had.
  returned: always
  type: list
  elements: dict
  sample:
    - {key: align/2026-11, state: idle, count: 2, jobs: ["12.0-12.1"]}
not_done:
  description: Jobs with which that could not be done. The task fails then.
  returned: always
  type: list
  elements: dict
  sample: []
differs:
  description: Whether jobs in the queue were submitted with another description. They are left as they are.
  returned: always
  type: bool
  sample: false
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _condor, _condor_batch, _condor_jobs

RULE = {
    "reason": {"type": "str"},
    "codes": {"type": "list", "elements": "int"},
    "memory_factor": {"type": "float"},
    "memory_step": {"type": "int"},
    "memory_limit": {"type": "int"},
    "attempts": {"type": "int", "default": 3},
}
TABLE = {
    "variables": {"type": "list", "elements": "str", "required": True},
    "text": {"type": "str", "required": True},
}
STATES = ["present", "held", "released", "removed", "swept"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": STATES, "default": "present"},
            "key": {"type": "str", "no_log": False},
            "description": {"type": "dict"},
            "attributes": {"type": "dict"},
            "items": {"type": "list", "elements": "dict"},
            "table": {"type": "dict", "options": TABLE},
            "count": {"type": "int", "default": 1},
            "dag": {"type": "path"},
            "history": {"type": "bool", "default": True},
            "prune": {"type": "bool", "default": False},
            "retry": {"type": "list", "elements": "dict", "options": RULE},
            "constraint": {"type": "str"},
            "owner": {"type": "str"},
            "keys": {"type": "list", "elements": "str", "no_log": False},
            "prefix": {"type": "str"},
            "reason": {"type": "str"},
            **_condor.ARGUMENTS,
        },
        supports_check_mode=True,
    )
    given = module.params
    faults = _condor_jobs.faults(given)
    if faults:
        module.fail_json(msg="; ".join("condor_job: " + words for words in faults))
    place = {name: given[name] for name in _condor.ARGUMENTS}
    try:
        with _condor.connect(**place) as client:
            result = _condor_batch.Batch(client, given, module.check_mode).run()
    except _condor.CondorError as error:
        module.fail_json(msg="condor_job: %s" % error)
    except _condor_batch.Failed as error:
        module.fail_json(msg="condor_job: %s" % error, **error.result)
    if result["differs"]:
        module.warn(
            "condor_job: jobs of %s were submitted with another description, and are left as they are; remove them or "
            "take another key to have the new one" % given["key"]
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
