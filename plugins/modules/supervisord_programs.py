#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: supervisord_programs
short_description: Keep a declared set of programs of a supervisord
version_added: 0.1.0
description:
  - Writes the programs of a set into one file that supervisord includes, tells supervisord exactly what changed, and
    waits until the programs run.
  - Every copy of a program is a program, and so a group, of its own. A change of O(programs[].count) therefore starts
    or stops only the copies that are more or fewer. All others keep their process, as do programs whose definition
    stays.
  - Programs, groups and files of others are not touched, not even when their files have changed since supervisord read
    them. Only V(supervisorctl update) by their owner does that.
  - A definition that supervisord refuses is taken back, so that supervisord can still read its files.
  - A run that was cut off is brought to its end by the next one.
author:
  - sciops.sites contributors (@sciops)
requirements:
  - supervisor 4.0 or later on the host
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return the changed status prediction without modifying anything.
  diff_mode:
    support: full
    description: Returns the file before and after. It holds no secrets, only the number of their version.
  idempotent:
    support: full
    description: A set that runs as declared is not changed.
  platform:
    support: full
    platforms: posix
    description: Platforms of the host. It needs Python 3.8 or later.
options:
  name:
    description:
      - Name of the set. It decides the name of the file, C(sciops.NAME.conf) where the include pattern is C(*.conf).
      - Programs that the set had and does not list any more are stopped and removed.
    type: str
    required: true
  state:
    description: With V(absent), the programs of the set are stopped, and its files are removed.
    type: str
    choices: [present, absent]
    default: present
  config:
    description:
      - The C(supervisord.conf). It says where supervisord listens, and which files it includes.
      - Without it, C(/etc/supervisor/supervisord.conf) or C(/etc/supervisord.conf) for root where there is one, else
        C(/var/lib/sciops.supervisord/supervisord.conf) for root and C(sciops.sites/supervisord/supervisord.conf) below
        E(XDG_STATE_HOME) or C(~/.local/state) for others.
    type: path
  start_supervisord:
    description:
      - Start supervisord where it does not run. Where there is no O(config) it is written first, with a unix socket
        that only its owner may use, and with C(conf.d) beside it for the programs.
      - One that runs and whose socket was removed is not started a second time; the module fails and says which it is.
      - Without it the module fails where no supervisord runs, and changes nothing.
    type: bool
    default: false
  supervisord:
    description: The program to start, a path or a name.
    type: str
    default: supervisord
  start:
    description:
      - Start programs that are known and do not run, unless their O(programs[].autostart) is V(false), and wait until
        all of them run.
      - With V(false) the definitions are loaded, which starts new programs with O(programs[].autostart), and nothing is
        waited for. Where no supervisord runs, only the file is written.
    type: bool
    default: true
  serial:
    description:
      - Restart changed programs in batches of this many, and wait for each batch to run before the next. When one does
        not come up, the rest keep running as they were.
      - With V(0), all at once.
    type: int
    default: 0
  timeout:
    description: Seconds to wait for programs to run. Give more than O(programs[].startsecs) and its retries take.
    type: float
    default: 60
  force:
    description: Replace a file of this name that was not written by this module.
    type: bool
    default: false
  programs:
    description:
      - The programs of the set.
      - All values mean themselves. A C(%) needs no doubling, and nothing is expanded but C({instance}), the number of a
        copy.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the program. Letters, digits, and any of C(_.@+=-).
        type: str
        required: true
      command:
        description: The words of the command, as a list, or as text that is split as a shell does. No shell runs.
        type: raw
        required: true
      count:
        description:
          - Number of copies, named C(NAME-1) to C(NAME-N). With V(0) there are none.
          - Without it there is one, named as the program.
        type: int
      environment:
        description: Variables for the program, beside those of supervisord. They stand in the file and in a diff.
        type: dict
        default: {}
      secrets:
        description:
          - More variables, which are in no definition. Each process has a file of its own beside the programs' file,
            mode 0600, which belongs to its user, and which C(/bin/sh) reads before it becomes the program.
          - A changed value restarts the program.
        type: dict
        default: {}
      directory:
        description: Where it runs.
        type: path
      user:
        description: User that it runs as. The supervisord must run as root.
        type: str
      umask:
        description: Umask that it runs with.
        type: str
      priority:
        description: Lower ones start first when supervisord starts, and stop last.
        type: int
      autostart:
        description: With V(false) it is neither started by supervisord nor by this module.
        type: bool
      autorestart:
        description: Whether supervisord starts it again when it ends. V(unexpected) means with another exit status than
          O(programs[].exitcodes).
        type: str
        choices: [unexpected, always, never]
      exitcodes:
        description: Exit statuses that are expected, supervisor's default is V(0).
        type: list
        elements: int
      startsecs:
        description: Seconds that it has to stay up to count as running, supervisor's default is V(1).
        type: int
      startretries:
        description: How often supervisord tries before it gives up, supervisor's default is V(3).
        type: int
      stopsignal:
        description: Signal that stops it, supervisor's default is C(TERM).
        type: str
      stopwaitsecs:
        description: Seconds from that to a C(KILL), supervisor's default is V(10).
        type: int
      stopasgroup:
        description: Send the stop signal to its whole process group.
        type: bool
      killasgroup:
        description: Send the C(KILL) to its whole process group.
        type: bool
      redirect_stderr:
        description: Write what it says on standard error to its standard output.
        type: bool
      stdout_logfile:
        description: File for its standard output, V(AUTO) or V(NONE). Several copies need C({instance}) in it.
        type: str
      stdout_logfile_maxbytes:
        description: Size from which on the file is rotated, such as V(50MB).
        type: str
      stdout_logfile_backups:
        description: How many old ones to keep.
        type: int
      stderr_logfile:
        description: File for its standard error, V(AUTO) or V(NONE).
        type: str
      stderr_logfile_maxbytes:
        description: Size from which on the file is rotated.
        type: str
      stderr_logfile_backups:
        description: How many old ones to keep.
        type: int
notes:
  - Not for the same set from two controllers at one time.
  - A supervisord that was killed leaves its programs running, and the next one starts them again. The launchers of
    M(sciops.sites.reconcile) guard against that, this module does not.
seealso:
  - module: sciops.sites.supervisord_info
"""

EXAMPLES = r"""
- name: Run four daemons, and start supervisord itself where it does not run
  sciops.sites.supervisord_programs:
    name: jaws
    config: /opt/jaws/acme-prod/config/supervisor.conf
    start_supervisord: true
    programs:
      - {name: runs, command: /opt/jaws/acme-prod/bin/run-daemon, startsecs: 3, stopasgroup: true}
      - {name: transfers, command: /opt/jaws/acme-prod/bin/transfer-daemon, startsecs: 3, stopasgroup: true}
      - {name: rpc-server, command: /opt/jaws/acme-prod/bin/rpc-server, startsecs: 3, stopasgroup: true}
      - name: message-consumer
        command: [/opt/jaws/acme-prod/bin/message-consumer, --queue, "site %1"]
        secrets:
          ENV__RMQ_password: "{{ rmq_password }}"

- name: Keep three copies of a mover, each with its own log, and restart them one after the other
  sciops.sites.supervisord_programs:
    name: movers
    serial: 1
    programs:
      - name: mover
        command: /opt/mover/bin/mover --slot {instance}
        count: 3
        user: jadelta
        stdout_logfile: /var/log/mover-{instance}.log
        redirect_stderr: true

- name: Stop and remove them
  sciops.sites.supervisord_programs:
    name: movers
    state: absent
"""

RETURN = r"""
running:
  description: Whether supervisord itself runs. Null where it hangs or has lost its socket, so that nobody knows.
  returned: always but where the input or the configuration is wrong
  type: bool
  sample: true
supervisord_started:
  description: Whether this task started supervisord, or would.
  returned: success
  type: bool
  sample: false
file:
  description: The file of the set.
  returned: success
  type: str
  sample: /etc/supervisor/conf.d/sciops.movers.conf
added:
  description: Programs that supervisord did not know.
  returned: success
  type: list
  elements: str
  sample: [mover-3]
removed:
  description: Programs that were stopped and removed.
  returned: success
  type: list
  elements: str
  sample: []
restarted:
  description: Programs that were stopped and started with their new definition.
  returned: success
  type: list
  elements: str
  sample: []
started:
  description: Programs that were known, did not run and were started.
  returned: success
  type: list
  elements: str
  sample: []
kept:
  description: Programs that nothing was done to.
  returned: success
  type: list
  elements: str
  sample: [mover-1, mover-2]
programs_failed:
  description: What does not run, with keys as in RV(processes), and C(log_tail), the last lines of its log.
  returned: when supervisord runs and programs do not
  type: list
  elements: dict
  sample:
    - {name: mover-3, group: mover-3, state: FATAL, pid: null, uptime: null, exit_status: 0,
       spawnerr: "can't find command '/opt/mover/bin/mover'", stdout_logfile: null, stderr_logfile: null, log_tail: []}
processes:
  description: The programs of the set after the task, in check mode as they are.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    group:
      description: Its group, the same.
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
"""

import re

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _place, _programs, _supervise

PROGRAM = {
    "name": {"type": "str", "required": True},
    "command": {"type": "raw", "required": True},
    "count": {"type": "int"},
    "environment": {"type": "dict", "default": {}},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "directory": {"type": "path"},
    "user": {"type": "str"},
    "umask": {"type": "str"},
    "priority": {"type": "int"},
    "autostart": {"type": "bool"},
    "autorestart": {"type": "str", "choices": ["unexpected", "always", "never"]},
    "exitcodes": {"type": "list", "elements": "int"},
    "startsecs": {"type": "int"},
    "startretries": {"type": "int"},
    "stopsignal": {"type": "str"},
    "stopwaitsecs": {"type": "int"},
    "stopasgroup": {"type": "bool"},
    "killasgroup": {"type": "bool"},
    "redirect_stderr": {"type": "bool"},
    "stdout_logfile": {"type": "str"},
    "stdout_logfile_maxbytes": {"type": "str"},
    "stdout_logfile_backups": {"type": "int"},
    "stderr_logfile": {"type": "str"},
    "stderr_logfile_maxbytes": {"type": "str"},
    "stderr_logfile_backups": {"type": "int"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "config": {"type": "path"},
            "start_supervisord": {"type": "bool", "default": False},
            "supervisord": {"type": "str", "default": "supervisord"},
            "start": {"type": "bool", "default": True},
            "serial": {"type": "int", "default": 0},
            "timeout": {"type": "float", "default": 60},
            "force": {"type": "bool", "default": False},
            "programs": {"type": "list", "elements": "dict", "default": [], "options": PROGRAM},
        },
        supports_check_mode=True,
    )
    result = {"changed": False}
    try:
        if not re.match(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z", module.params["name"]):
            raise _programs.Unfit("name: %r: use letters, digits, _ and -" % module.params["name"])
        for option in ("serial", "timeout"):
            if module.params[option] < 0:
                raise _programs.Unfit("%s: %s: must be 0 or more" % (option, module.params[option]))
        result.update(_supervise.converge(module.params, module.check_mode, result))
    except _supervise.Failure as error:
        result.update(error.facts)
        module.fail_json(msg=str(error), **result)
    except (_programs.Unfit, _place.Misplaced) as error:
        module.fail_json(msg=str(error), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
