#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: process_info
short_description: Show what runs on a host
version_added: 0.1.0
description:
  - Lists the processes of a host, counts them by user, by pattern and by the rules of a component's C(match), names the
    hot ones and the instances that sites have there.
  - It reads C(/proc) in one pass, in the same way as the reconciler looks at a host, so both count alike. Ages come
    from the kernel's uptime and do not change with the clock.
  - Instances are seen where the module may read the environment of a process, which are the processes of its own user,
    or all of them for root.
author:
  - sciops.sites contributors (@sciops)
requirements:
  - Linux with C(/proc)
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the same as without.
    support: full
  diff_mode:
    description: Returns details on what has changed when in diff mode.
    support: N/A
    details:
      - This module changes nothing.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
  platform:
    description: Target operating systems that can be operated against.
    support: full
    platforms: linux
options:
  user:
    description:
      - Show and count only the processes of this user.
      - Left out, those of all users are shown and counted; only O(match) then counts those of the user that the module
        runs as.
    type: str
  patterns:
    description:
      - Regular expressions that are searched for in whole command lines, the words joined by one space.
      - An editor or a C(tail) whose command line has the pattern in it counts too; use O(match) to count programs.
    type: list
    elements: str
    default: []
  match:
    description:
      - Names with rules for the first words of a command line, as C(match) of a component has them.
      - A rule is a list of alternatives, each a list of regular expressions; each must match one whole word, a
        pattern without C(/) the last part of the word's path.
      - Of matching processes below each other only the topmost counts. Instances that a site started do not count.
    type: dict
    default: {}
  sort:
    description: The order of the list of processes, greatest first; V(pid) has the smallest first.
    type: str
    choices: [cpu, rss, age, pid]
    default: cpu
  limit:
    description: How many processes to list at most; V(0) lists all. Counts are never cut.
    type: int
    default: 20
  sample:
    description:
      - Seconds over which the processor share of each process is measured.
      - With V(0) it is the share over the whole life of the process, and nothing is waited for.
    type: float
    default: 0
  hot_threshold:
    description: The share of one core from which on a process is hot.
    type: float
    default: 0.5
"""

EXAMPLES = r"""
- name: Show the ten largest processes
  sciops.sites.process_info:
    sort: rss
    limit: 10
  register: largest

- name: Count the deleters that somebody started by hand, whatever their options
  sciops.sites.process_info:
    user: jadelta
    match:
      deleter:
        - ["bash", "pipe0-deleter\\.sh"]
        - ["python3?", ".*/pipe0/deleter\\.py"]
    limit: 1
  register: deleters

- name: Refuse to go on where something has kept a core busy for the last two seconds
  sciops.sites.process_info:
    sample: 2
    hot_threshold: 0.9
  register: busy
  failed_when: busy.hot | length > 0
"""

RETURN = r"""
processes:
  description: The processes, in the order of O(sort), at most O(limit).
  returned: success
  type: list
  elements: dict
  contains:
    pid:
      description: The process.
      type: int
    ppid:
      description: Its parent.
      type: int
    user:
      description: Whose it is.
      type: str
    command:
      description: The kernel's name of it.
      type: str
    argv:
      description: The words of its command line.
      type: list
      elements: str
    state:
      description: The kernel's letter for its state.
      type: str
    cpu:
      description: Seconds of processor time it has used.
      type: float
    share:
      description: The part of one core it used, over O(sample) or over its life.
      type: float
    rss:
      description: Bytes of memory it holds.
      type: int
    age:
      description: Seconds since it began.
      type: float
    instance:
      description: Site, deployment, host, component and slot of the instance it belongs to, or nothing.
      type: str
  sample:
    - {pid: 812, ppid: 1, user: jadelta, command: bash, argv: [bash, /home/jadelta/pipe0-deleter.sh], state: S,
       cpu: 0.4, share: 0.0, rss: 3620864, age: 8121.5, instance: null}
total:
  description: How many processes there are, not cut by O(limit).
  returned: success
  type: int
  sample: 118
by_user:
  description: Number of processes by user.
  returned: success
  type: dict
  sample: {jadelta: 12, root: 106}
by_pattern:
  description: Number of processes by each of O(patterns).
  returned: success
  type: dict
  sample: {"pipe0": 3}
by_match:
  description: Number of processes by each name of O(match).
  returned: success
  type: dict
  sample: {deleter: 1}
hot:
  description: The processes that use at least O(hot_threshold) of a core, as in RV(processes), never cut.
  returned: success
  type: list
  elements: dict
  sample: []
instances:
  description: The instances of any site, deployment and logical host, by their marker.
  returned: success
  type: list
  elements: dict
  sample:
    - {site: wipac, deployment: prod, host: c9-1, component: pipe0/bundler, slot: 1, token: 1a-0, hash: 0f3c5a2b9d11,
       pid: 4711, start: 88123, age: 80.2, cpu: 61.0, rss: 52428800, processes: 3, leader: true,
       log: /var/log/bundler.log, log_size: 8190}
host:
  description: What the host says of itself, memory in bytes, uptime in seconds.
  returned: success
  type: dict
  sample: {boot_id: 5a0b0c9e-54a4-4d4e-9d0c-0c5a5cbb3f0f, uptime: 90011.2, user: jadelta, uid: 1000, python: 3.9.2,
    cores: 8, memory: {total: 33554432000, available: 20132659200}, loadavg: [1.2, 1.0, 0.9]}
problems:
  description: What could not be read, in words.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _table


def main():
    module = AnsibleModule(
        argument_spec={
            "user": {"type": "str"},
            "patterns": {"type": "list", "elements": "str", "default": []},
            "match": {"type": "dict", "default": {}},
            "sort": {"type": "str", "choices": ["cpu", "rss", "age", "pid"], "default": "cpu"},
            "limit": {"type": "int", "default": 20},
            "sample": {"type": "float", "default": 0},
            "hot_threshold": {"type": "float", "default": 0.5},
        },
        supports_check_mode=True,
    )
    for name, rules in module.params["match"].items():
        lists = [rules] + (rules if isinstance(rules, list) else [])
        if not all(isinstance(one, list) and one for one in lists):
            module.fail_json(
                msg="match.%s: %r: must be a list of alternatives, each a list of patterns" % (name, rules)
            )
    for name in ("limit", "sample", "hot_threshold"):
        if module.params[name] < 0:
            module.fail_json(msg="%s: %s: must be 0 or more" % (name, module.params[name]))
    try:
        table = _table.process_table(**module.params)
    except ValueError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **table)


if __name__ == "__main__":
    main()
