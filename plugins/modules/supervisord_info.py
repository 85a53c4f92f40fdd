#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: supervisord_info
short_description: Show what a supervisord runs
version_added: 0.1.0
description:
  - Lists the programs of a supervisord with their states, whoever declared them, and changes nothing.
  - A supervisord that does not run is told from programs that do not run. One that hangs makes the task fail, since
    nobody knows then what runs.
author:
  - sciops.sites contributors (@sciops)
requirements:
  - supervisor 4.0 or later on the host
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
  config:
    description:
      - The C(supervisord.conf), which says where supervisord listens.
      - Without it, C(/etc/supervisor/supervisord.conf) or C(/etc/supervisord.conf) for root where there is one, else
        the one that M(sciops.sites.supervisord_programs) makes.
    type: path
  names:
    description:
      - Show only these programs or groups. Shell patterns such as V(mover-*) match several.
      - Left out, all are shown.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that supervisord has to answer.
    type: float
    default: 5
seealso:
  - module: sciops.sites.supervisord_programs
"""

EXAMPLES = r"""
- name: Look at the daemons
  sciops.sites.supervisord_info:
    config: /opt/jaws/acme-prod/config/supervisor.conf
  register: daemons

- name: Name what does not run
  ansible.builtin.debug:
    msg: "{{ daemons.processes | rejectattr('state', 'eq', 'RUNNING') | map(attribute='name') | list }}"
  when: daemons.running
"""

RETURN = r"""
running:
  description: Whether supervisord itself runs. Null, with a failed task, where it hangs or has lost its socket.
  returned: always but where the input or the configuration is wrong
  type: bool
  sample: true
config:
  description: The configuration that was looked at.
  returned: success
  type: str
  sample: /etc/supervisor/supervisord.conf
address:
  description: Where it listens.
  returned: success
  type: str
  sample: unix:///var/run/supervisor.sock
version:
  description: Version of supervisor, null where it does not run.
  returned: success
  type: str
  sample: 4.3.0
pid:
  description: Process of supervisord, null where it does not run.
  returned: success
  type: int
  sample: 812
state:
  description: RUNNING, RESTARTING, SHUTDOWN or FATAL. Null where it does not run.
  returned: success
  type: str
  sample: RUNNING
processes:
  description: The programs, in the order of their names.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    group:
      description: Its group, the same for a program without one.
      type: str
    state:
      description: One of STARTING, RUNNING, BACKOFF, STOPPING, STOPPED, EXITED, FATAL and UNKNOWN.
      type: str
    pid:
      description: Its process, null where there is none.
      type: int
    uptime:
      description: Seconds since it was started, null where it is not up.
      type: int
    exit_status:
      description: How it ended, null where it runs.
      type: int
    spawnerr:
      description: Why it could not be started, else empty.
      type: str
    stdout_logfile:
      description: Where its standard output goes.
      type: str
    stderr_logfile:
      description: Where its standard error goes.
      type: str
  sample:
    - {name: mover-1, group: mover-1, state: RUNNING, pid: 4711, uptime: 86, exit_status: null, spawnerr: "",
       stdout_logfile: /var/log/mover-1.log, stderr_logfile: null}
by_state:
  description: Number of programs in each state.
  returned: success
  type: dict
  sample: {RUNNING: 4, FATAL: 1}
"""

import fnmatch

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _programs, _supervise, _supervisor


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path"},
            "names": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "float", "default": 5},
        },
        supports_check_mode=True,
    )
    if module.params["timeout"] <= 0:
        module.fail_json(msg="timeout: %s: must be more than 0" % module.params["timeout"])
    try:
        result = look(module.params)
    except _supervise.Failure as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(changed=False, **result)


def look(params: dict) -> dict:
    """Return what the supervisord says of itself and of its programs."""
    config, given = params["config"] or _supervise.default_config(), bool(params["config"])
    server = _supervise.Server(config, params["timeout"])
    if given and not server.there:
        raise _supervise.Failure("config: %s: no such file, so nobody knows where supervisord listens" % config)
    result = {"running": False, "config": server.config, "address": server.found["address"], "processes": []}
    result.update(version=None, pid=None, state=None, by_state={})
    live = server.live()
    if live is None:
        return result
    try:
        version, pid = server.rpc.many([("getSupervisorVersion",), ("getPID",)])
        result.update(running=True, version=version, pid=pid, state=server.rpc.state())
    except (_supervisor.Down, _supervisor.Silent, _supervisor.Denied, _supervisor.Fault) as error:
        raise server.trouble(error) from error
    wanted = params["names"] or ["*"]
    for info in live:
        names = (info["name"], info["group"], "%s:%s" % (info["group"], info["name"]))
        if any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in wanted):
            row = _programs.row(info)
            result["processes"].append(row)
            result["by_state"][row["state"]] = result["by_state"].get(row["state"], 0) + 1
    return result


if __name__ == "__main__":
    main()
