#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_instances
short_description: Keep a declared number of instances of a systemd template unit
version_added: 0.1.0
description:
  - Writes a template unit C(NAME@.service), of the system or of a user, and keeps exactly the declared instances of it
    enabled and running.
  - A change of O(count) starts or stops only the instances that are more or fewer. All others keep their process.
  - A start is confirmed. An instance that ends within O(settle) seconds fails the task, with what systemd and the
    journal say of it.
  - systemd is reloaded only where a file has changed. A definition that it refuses is taken back.
  - A run that was cut off is brought to its end by the next one.
author:
  - sciops.sites contributors (@sciops)
requirements:
  - systemd 239 or later on the host
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return the changed status prediction without modifying anything.
  diff_mode:
    support: full
    description: Returns the unit file and its drop-in before and after. They hold no secrets, only their version.
  idempotent:
    support: full
    description: Instances that run as declared are not changed.
  platform:
    support: full
    platforms: linux
    description: Platforms of the host. It needs Python 3.8 or later.
options:
  name:
    description: Name of the template, without C(@.service).
    type: str
    required: true
  state:
    description: With V(absent), all instances are stopped and disabled, and the files are removed.
    type: str
    choices: [present, absent]
    default: present
  count:
    description: Number of instances, named C(1) to C(N).
    type: int
  instances:
    description: Names of the instances, in place of O(count).
    type: list
    elements: str
  prune:
    description:
      - Stop and disable instances of this template that are not declared.
      - An instance with a unit file of its own (C(mover@debug.service)) is somebody else's and is left alone.
    type: bool
    default: true
  enabled:
    description: Whether the instances start at boot.
    type: bool
    default: true
  scope:
    description: Units of the system, which needs root, or of a user.
    type: str
    choices: [system, user]
    default: system
  owner:
    description:
      - With O(scope=user), whose units they are. Only root may name another user than itself.
      - Without it, those of the user that the module runs as.
    type: str
  linger:
    description:
      - With O(scope=user), whether the user's units run without a login and from boot on.
      - With V(true) it is turned on, by root or where polkit lets the user. With V(false) it does not matter.
      - Without it the task fails where linger is off, and changes nothing.
    type: bool
  command:
    description:
      - The words of the command, as a list, or as text that is split as a shell does. No shell runs.
      - They mean themselves, as do the values of other options. Nothing is expanded but C({instance}), the name of the
        instance. A program without a path is looked for in the usual folders.
      - Required with O(state=present).
    type: raw
  environment:
    description: Variables for the command. They stand in the unit file, which everybody may read.
    type: dict
    default: {}
  environment_file:
    description: Files with variables, absolute. One that begins with C(-) may be missing.
    type: list
    elements: str
    default: []
  secrets:
    description:
      - More variables, in a file of mode 0600 that only the manager reads.
      - A changed value restarts the instances.
    type: dict
    default: {}
  user:
    description: User that the command runs as, with O(scope=system).
    type: str
  working_directory:
    description: Where it runs.
    type: str
  type:
    description: When systemd takes it for started. V(exec) needs systemd 240.
    type: str
    choices: [simple, exec, notify, forking]
    default: simple
  description:
    description: Title of the unit.
    type: str
  after:
    description: Units that are started before, where they are started too.
    type: list
    elements: str
    default: []
  restart:
    description: When systemd starts it again.
    type: str
    choices: ['no', on-success, on-failure, on-abnormal, on-watchdog, on-abort, always]
    default: on-failure
  restart_sec:
    description: Seconds before it is started again, systemd's default is V(0.1).
    type: float
  start_limit_interval:
    description: Seconds within which O(start_limit_burst) counts, systemd's default is V(10).
    type: float
  start_limit_burst:
    description: How often it may be started within that time before systemd gives up, systemd's default is V(5).
    type: int
  kill_signal:
    description: Signal that stops it, systemd's default is C(SIGTERM).
    type: str
  timeout_stop:
    description: Seconds from that to a C(SIGKILL), systemd's default is V(90).
    type: float
  drop_in:
    description:
      - More settings, as text of a unit file in systemd's own form. They are a drop-in of the template, for what has no
        option here.
    type: str
  on_change:
    description: What becomes of running instances when the definition has changed. With V(none) they keep the old one.
    type: str
    choices: [restart, none]
    default: restart
  serial:
    description:
      - Restart changed instances in batches of this many, and see each batch run before the next. When one does not
        come up, the rest keep running as they were.
      - With V(0), all at once.
    type: int
    default: 0
  settle:
    description: Seconds that a started instance must stay up.
    type: float
    default: 2
  timeout:
    description: Seconds to wait for instances to start or stop, and for systemd to answer.
    type: float
    default: 60
  force:
    description:
      - Replace a template or a drop-in of this name that was not written by this module, and take its instances for
        ours.
      - Without it the module fails where the template of this name is somebody else's, one of the distribution for
        example, also with O(state=absent) and with O(count) 0.
    type: bool
    default: false
seealso:
  - module: sciops.sites.systemd_instances_info
"""

EXAMPLES = r"""
- name: Run four movers
  sciops.sites.systemd_instances:
    name: mover
    count: 4
    user: jadelta
    command: [/opt/mover/bin/mover, --slot, "{instance}"]
    restart: always
    restart_sec: 5
    start_limit_interval: 300
    start_limit_burst: 10

- name: Run the daemons of a site as units of its user, also without a login and after a reboot
  sciops.sites.systemd_instances:
    name: jaws-prod
    scope: user
    owner: jaws
    linger: true
    instances: [run-daemon, transfer-daemon, rpc-server, message-consumer]
    command: /opt/jaws/acme-prod/bin/{instance}
    secrets:
      ENV__RMQ_password: "{{ rmq_password }}"
    restart: always
  become: true

- name: Limit their memory, and restart one after the other
  sciops.sites.systemd_instances:
    name: mover
    count: 4
    user: jadelta
    command: [/opt/mover/bin/mover, --slot, "{instance}"]
    drop_in: |
      [Service]
      MemoryMax=2G
    serial: 1
"""

RETURN = r"""
running:
  description: Whether the manager runs. Null where it hangs, so that nobody knows.
  returned: always but where the input is wrong
  type: bool
  sample: true
unit:
  description: The template's file.
  returned: success
  type: str
  sample: /etc/systemd/system/mover@.service
files:
  description: Files that were written or removed.
  returned: success
  type: list
  elements: str
  sample: [/etc/systemd/system/mover@.service]
reloaded:
  description: Whether systemd was told to read its files again.
  returned: success
  type: bool
  sample: true
started:
  description: Instances that did not run.
  returned: success
  type: list
  elements: str
  sample: ["3", "4"]
stopped:
  description: Instances that ran and are not declared.
  returned: success
  type: list
  elements: str
  sample: []
restarted:
  description: Instances that run with a changed definition now.
  returned: success
  type: list
  elements: str
  sample: []
kept:
  description: Instances that nothing was done to.
  returned: success
  type: list
  elements: str
  sample: ["1", "2"]
enabled:
  description: Instances that were enabled.
  returned: success
  type: list
  elements: str
  sample: ["3", "4"]
disabled:
  description: Instances that were disabled.
  returned: success
  type: list
  elements: str
  sample: []
linger:
  description: Whether the user lingers, null for the system.
  returned: success
  type: bool
  sample: true
linger_enabled:
  description: Whether this task turned it on, or would.
  returned: success
  type: bool
  sample: false
units_failed:
  description: What does not run, with keys as in RV(units), and C(log_tail), the last lines of its journal.
  returned: when systemd runs and instances do not
  type: list
  elements: dict
  sample:
    - {name: mover@3.service, instance: "3", state: failed, sub_state: failed, load_state: loaded, enabled: null,
       pid: null, restarts: 5, result: start-limit-hit, exit_status: 1, signal: null, log_tail: [no such queue]}
units:
  description: The instances after the task, in check mode as they are.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the unit.
      type: str
    instance:
      description: Name of the instance.
      type: str
    state:
      description: One of active, reloading, inactive, failed, activating and deactivating.
      type: str
    sub_state:
      description: The state in systemd's finer words, such as running or auto-restart.
      type: str
    load_state:
      description: Whether there is a definition of it.
      type: str
    enabled:
      description: Whether it starts at boot.
      type: bool
    pid:
      description: Its process, null where there is none.
      type: int
    restarts:
      description: How often systemd has started it again by itself.
      type: int
    result:
      description: How it ended last, V(success) where it did not.
      type: str
    exit_status:
      description: Its exit status, null where it runs or a signal ended it.
      type: int
    signal:
      description: The signal that ended it.
      type: int
  sample:
    - {name: mover@1.service, instance: "1", state: active, sub_state: running, load_state: loaded, enabled: true,
       pid: 4711, restarts: 0, result: success, exit_status: null, signal: null}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _instances, _place, _programs, _units

RESTART = ["no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "count": {"type": "int"},
            "instances": {"type": "list", "elements": "str"},
            "prune": {"type": "bool", "default": True},
            "enabled": {"type": "bool", "default": True},
            "scope": {"type": "str", "choices": ["system", "user"], "default": "system"},
            "owner": {"type": "str"},
            "linger": {"type": "bool"},
            "command": {"type": "raw"},
            "environment": {"type": "dict", "default": {}},
            "environment_file": {"type": "list", "elements": "str", "default": []},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "user": {"type": "str"},
            "working_directory": {"type": "str"},
            "type": {"type": "str", "choices": ["simple", "exec", "notify", "forking"], "default": "simple"},
            "description": {"type": "str"},
            "after": {"type": "list", "elements": "str", "default": []},
            "restart": {"type": "str", "choices": RESTART, "default": "on-failure"},
            "restart_sec": {"type": "float"},
            "start_limit_interval": {"type": "float"},
            "start_limit_burst": {"type": "int"},
            "kill_signal": {"type": "str"},
            "timeout_stop": {"type": "float"},
            "drop_in": {"type": "str"},
            "on_change": {"type": "str", "choices": ["restart", "none"], "default": "restart"},
            "serial": {"type": "int", "default": 0},
            "settle": {"type": "float", "default": 2},
            "timeout": {"type": "float", "default": 60},
            "force": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("count", "instances")],
        required_if=[("state", "present", ("command",)), ("state", "present", ("count", "instances"), True)],
        supports_check_mode=True,
    )
    result = {"changed": False}
    try:
        if not _instances.NAME.match(module.params["name"]):
            raise _programs.Unfit("name: %r: use letters, digits and _ . -" % module.params["name"])
        for option in ("serial", "settle", "timeout"):
            if module.params[option] < 0:
                raise _programs.Unfit("%s: %s: must be 0 or more" % (option, module.params[option]))
        result.update(_units.converge(module.params, module.check_mode, result))
    except _units.Failure as error:
        result.update(error.facts)
        module.fail_json(msg=str(error), **result)
    except (_programs.Unfit, _place.Misplaced) as error:
        module.fail_json(msg=str(error), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
